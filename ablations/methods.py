"""Is masked pre-training better than contrastive pre-training and than none, and how does that depend on the number of videos?

Expected: VideoMAE above MoCo v3 above scratch on all four data sets, by more the fewer videos there are (Table 2, VideoMAE
/ MoCo v3 / scratch: K400 80.0 / 74.2 / 68.8, SSv2 69.6 / 54.2 / 32.6, UCF101 91.3 / 81.7 / 51.4, HMDB51 62.6 / 39.2 /
18.0).

Cost: two pre-trainings, one of them contrastive (on all cubes of two clips), and three fine-tunings per data set and seed.
"""

from vmae.arms import FROM_SCRATCH, Arm, As, PaperRow
from vmae.study import Ablation

ABLATION = Ablation(
    name="methods",
    doc=__doc__,
    paper="Table 2",
    arms=(
        Arm("scratch", FROM_SCRATCH, PaperRow("vmae.t2", "from_scratch")),
        Arm("MoCo v3", {"pretrain": As("instead.contrast")}, PaperRow("vmae.t2", "MoCo_v3")),
        Arm("VideoMAE", {}, PaperRow("vmae.t2", "VideoMAE")),
    ),
    baseline="VideoMAE",
    datasets=("SSV2", "K400", "UCF101", "HMDB51"),
)
