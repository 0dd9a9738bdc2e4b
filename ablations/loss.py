"""Which loss: squared, absolute, or smooth absolute error?

Expected: little between them, squared error best (Table 1f: 69.6, 69.1 and 68.9 on SSv2; 80.0, 79.7 and 79.6 on K400).

Cost: three pre-trainings and three fine-tunings per data set and seed.
"""

from vmae.arms import Arm, PaperRow
from vmae.study import Ablation

ABLATION = Ablation(
    name="loss",
    doc=__doc__,
    paper="Table 1f",
    arms=(
        Arm("L1", {"pretrain.loss": "l1"}, PaperRow("vmae.t1f", "L1")),
        Arm("MSE", {"pretrain.loss": "mse"}, PaperRow("vmae.t1f", "MSE")),
        Arm("smooth L1", {"pretrain.loss": "smooth_l1"}, PaperRow("vmae.t1f", "SmoothL1")),
    ),
    baseline="MSE",
    datasets=("SSV2", "K400"),
)
