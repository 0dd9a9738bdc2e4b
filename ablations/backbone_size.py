"""How does the gain grow with the size of the backbone?

Expected: larger is better: ViT-S, B and L reach 66.8, 70.8 and 74.3 on SSv2 (Table 6, 2,400 epochs), ViT-S, B, L and H
79.0, 81.5, 85.2 and 86.6 on K400 (Table 7, 1,600 epochs). Those had longer pre-training and repeated augmentation, so
levels differ from this ablation's, which varies the size alone. The default is ViT-B at the paper's scale.

Cost: four pre-trainings and four fine-tunings per data set and seed at the paper's scale, of 0.3 to 7 times ViT-B's FLOPs;
three elsewhere.
"""

from vmae.arms import Arm, PaperRow, Times
from vmae.sizes import DECODERS, ENCODERS
from vmae.study import Ablation

EMBEDDED = ("proxy", "quick", "tiny")
WIDTHS = ("encoder.width", "pretrain.decoder.width")


def _row(size: str) -> PaperRow:
    return PaperRow("vmae.t7_k400", f"ViT-{size};224;16x5x3")


def _named(size: str) -> Arm:
    name = f"vit_{size.lower()}"
    return Arm(f"ViT-{size}", {"encoder": ENCODERS[name], "pretrain.decoder": DECODERS[name]}, _row(size), ("paper",))


ABLATION = Ablation(
    name="backbone_size",
    doc=__doc__,
    paper="Tables 6 and 7",
    arms=(
        _named("S"),
        Arm("half width", {path: Times(0.5) for path in WIDTHS}, presets=EMBEDDED),
        Arm("default", {}, _row("B")),
        _named("L"),
        _named("H"),
        Arm("double width", {path: Times(2) for path in WIDTHS}, presets=EMBEDDED),
    ),
    baseline="default",
    datasets=("SSV2", "K400"),
)
