"""Does it matter which videos the pre-training sees: those of the task, those of another domain, or single images?

Expected: in-domain is best (69.6 on SSv2, 80.0 on K400), the other video data set is 1.1 and 0.4 points behind, images of
ImageNet 4.8 and 1.3 (Table 1e). On the embedded videos the images are single frames of the task's own.

Cost: two pre-trainings on videos and, but for the paper's scale, one on frames; three fine-tunings per data set and seed.
"""

from vmae.arms import Arm, As, From, PaperRow
from vmae.study import Ablation

IMAGES = PaperRow("vmae.t1e", "pretrain=IN-1K;ImageMAE")

ABLATION = Ablation(
    name="pretrain_dataset",
    doc=__doc__,
    paper="Table 1e",
    arms=(
        Arm("images", {"pretrain": None, "weights": As("instead.image_weights")}, IMAGES, ("paper",)),
        Arm(
            "images",
            {"pretrain_grid": As("image_grid"), "pretrain.mask.kind": "random", "pretrain.mask.ratio": 0.75},
            IMAGES,
            ("proxy", "quick", "tiny"),
        ),
        Arm("K400", {"pretrain": From("K400")}, PaperRow("vmae.t1e", "pretrain=K400;VideoMAE")),
        Arm("SSV2", {"pretrain": From("SSV2")}, PaperRow("vmae.t1e", "pretrain=SSV2;VideoMAE")),
    ),
    baseline="images",
    datasets=("SSV2", "K400"),
)
