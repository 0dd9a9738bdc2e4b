"""Are few videos of the task's own domain worth more than many of another?

Expected: a quarter of SSv2 (42k videos) for as many steps as all of it is as good on SSv2 as 240k videos of K400 (68.7
against 68.5); all of SSv2 is best (69.6) (figure on data efficiency; Table 1e). mae_st finds quantity ahead on other data:
a million uncurated videos match K400.

Cost: three pre-trainings and three fine-tunings per seed, shared with `data_size` and `pretrain_dataset`.
"""

from vmae.arms import Arm, From, PaperRow, SameSteps, Share
from vmae.study import Ablation

QUARTER = Share(0.25)
STEPS = SameSteps(QUARTER)

ABLATION = Ablation(
    name="quality_vs_quantity",
    doc=__doc__,
    paper="figure on data efficiency; Tables 1e and 4",
    arms=(
        Arm("in-domain, all", {}, PaperRow("vmae.fig_data_eff", "subset=169k")),
        Arm(
            "in-domain, quarter",
            {"pretrain.subset.num_videos": QUARTER, "pretrain.optim.epochs": STEPS, "pretrain.optim.warmup_epochs": STEPS},
            PaperRow("vmae.fig_data_eff", "subset=42k;same_iterations"),
        ),
        Arm("out of domain, all", {"pretrain": From("K400")}, PaperRow("vmae.fig_data_eff", "K400_240k_transfer_reference")),
    ),
    baseline="out of domain, all",
    datasets=("SSV2",),
)
