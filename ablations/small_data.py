"""With some 3,500 videos, is a lower masking ratio better, and how much hangs on which videos they are?

The paper pre-trains on HMDB51's 3.5k videos (and UCF101's 9.5k) at 75 % instead of 90 % and reaches 62.6 against 18.0 from
scratch (Table 2); it does not say what 90 % gives.

Expected: 75 % at least as good as 90 % on few videos; both far above scratch.

Cost: two pre-trainings for 4,800 epochs, six on subsets, as many fine-tunings and scratch, per seed; the list is small.
"""

from vmae.arms import FROM_SCRATCH, Arm, PaperRow, Share
from vmae.study import Ablation

RATIOS = (0.75, 0.9)
SEEDS = (0, 1, 2)

ABLATION = Ablation(
    name="small_data",
    doc=__doc__,
    paper="Table 2, HMDB51; appendix",
    arms=(
        Arm("scratch", FROM_SCRATCH, PaperRow("vmae.t2", "from_scratch")),
        Arm("all, ratio 0.75", {"pretrain.mask.ratio": 0.75}, PaperRow("vmae.t2", "VideoMAE")),
        Arm("all, ratio 0.9", {"pretrain.mask.ratio": 0.9}),
        *(
            Arm(
                f"subset {seed}, ratio {ratio:g}",
                {
                    "pretrain.subset.num_videos": Share(0.5),
                    "pretrain.subset.seed": seed,
                    "pretrain.mask.ratio": ratio,
                },
            )
            for ratio in RATIOS
            for seed in SEEDS
        ),
    ),
    baseline="all, ratio 0.75",
    datasets=("HMDB51",),
)
