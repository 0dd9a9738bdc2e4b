"""How long should a pre-training be?

Expected: longer is better, by less and less (figure on the schedule; of its numbers known without repeated augmentation in
fine-tuning only 69.6 and 80.0 at 800 epochs). AdaMAE's own model goes 66.4, 69.2, 69.5, 70.0 at 200, 500, 600 and 800
epochs on SSv2.

Cost: four pre-trainings, together 3.75 times the default one, and four fine-tunings per data set and seed.
"""

from vmae.arms import Arm, PaperRow, Times
from vmae.study import Ablation


def _arm(name: str, factor: float, case: str | None = None) -> Arm:
    row = PaperRow("vmae.fig_schedule", case) if case else None
    return Arm(name, {"pretrain.optim.epochs": Times(factor)} if factor != 1 else {}, row)


ABLATION = Ablation(
    name="schedule",
    doc=__doc__,
    paper="figure on the schedule",
    arms=(
        _arm("quarter", 0.25),
        _arm("half", 0.5),
        _arm("default", 1, "ViT-B;800ep;noRA"),
        _arm("double", 2),
    ),
    baseline="default",
    datasets=("SSV2", "K400"),
)
