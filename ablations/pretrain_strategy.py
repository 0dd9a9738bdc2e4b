"""What is pre-training on the videos themselves worth, against none and against supervised pre-training on images?

Expected: from scratch 32.6 on SSv2 and 68.8 on K400, supervised on ImageNet-21k 61.8 and 78.9, VideoMAE 69.6 and 80.0
(Table 1d). Its fourth row, ImageNet-21k and K400 labels (65.2 on SSv2), is another architecture and is not asked again.

Cost: one pre-training and up to three fine-tunings per data set and seed; scratch takes twice the fine-tuning epochs at the
paper's scale.
"""

from vmae.arms import FROM_SCRATCH, Arm, As, PaperRow
from vmae.study import Ablation

ABLATION = Ablation(
    name="pretrain_strategy",
    doc=__doc__,
    paper="Table 1d",
    arms=(
        Arm("scratch", FROM_SCRATCH, PaperRow("vmae.t1d", "from_scratch")),
        Arm(
            "ImageNet-21k, supervised",
            {"pretrain": None, "weights": As("instead.supervised_weights")},
            PaperRow("vmae.t1d", "ImageNet-21k_sup"),
            presets=("paper",),
        ),
        Arm("VideoMAE", {}, PaperRow("vmae.t1d", "VideoMAE")),
    ),
    baseline="VideoMAE",
    datasets=("SSV2", "K400"),
)
