"""How far apart in time should the frames of a pre-training clip be?

Expected: the paper takes stride 2 on SSv2 and 4 on K400 and does not vary it but for Table 1c (half of it: -0.7 and -0.2).
Larger strides leave less to copy in time and more motion per clip.

Cost: three pre-trainings (two on the embedded videos, 20 frames long) and as many fine-tunings per data set and seed.
"""

from vmae.arms import Arm, PaperRow, Times
from vmae.study import Ablation

STRIDE = "pretrain.clip.frame_stride"

ABLATION = Ablation(
    name="frame_stride",
    doc=__doc__,
    paper="section 3.3; Table 1c",
    arms=(
        Arm("half", {STRIDE: Times(0.5)}, PaperRow("vmae.t1c", "input=Tx_tau/2;target=Tx_tau/2"), ("paper",)),
        Arm("default", {}, PaperRow("vmae.t1c", "input=Tx_tau;target=Tx_tau")),
        Arm("double", {STRIDE: Times(2)}),
    ),
    baseline="default",
    datasets=("SSV2", "K400"),
)
