"""Should the pixels to be predicted be normalised in each cube, and over which values?

Expected: normalised is better (mae_st on K400, ViT-L: 84.4 against 83.8 raw; AdaMAE on SSv2: 70.0 against 68.9); VideoMAE
does not ask. Its code normalises each channel of a cube by itself, mae_st all channels of a cube together.

Cost: three pre-trainings and three fine-tunings per data set and seed.
"""

from vmae.arms import Arm, PaperRow
from vmae.study import Ablation

ABLATION = Ablation(
    name="target_normalisation",
    doc=__doc__,
    paper="section 3.1; mae_st, Table 2b",
    arms=(
        Arm("per channel", {"pretrain.target": "normalised"}),
        Arm("per cube", {"pretrain.target": "normalised_pooled"}, PaperRow("maest.t2", "target=pixel_norm")),
        Arm("raw", {"pretrain.target": "raw"}, PaperRow("maest.t2", "target=pixel_nonorm")),
    ),
    baseline="per channel",
    datasets=("SSV2", "K400"),
)
