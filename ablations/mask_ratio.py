"""How much of a clip should be hidden, in tubes?

Expected: 90 % is best and 95 % still good on both data sets; of the curve only 75 % (68.0 and 79.8) and 90 % (69.6 and
80.0) are known as numbers (figure on the masking ratio; Table 1b). On images 75 % is best (He et al. 2022, figure 5).

Cost: eight pre-trainings and eight fine-tunings per data set and seed.
"""

from vmae.arms import Arm, PaperRow
from vmae.study import Ablation


def _arm(ratio: float, *presets: str) -> Arm:
    settings = {"pretrain.mask.kind": "tube", "pretrain.mask.ratio": ratio}
    return Arm(f"tube {ratio:g}", settings, PaperRow("vmae.fig_mask_ratio", f"tube/{100 * ratio:g}"), presets)


FINE = ("paper", "proxy")  # on 16 positions several ratios would be one mask

ABLATION = Ablation(
    name="mask_ratio",
    doc=__doc__,
    paper="figure on the masking ratio",
    arms=(
        _arm(0.5),
        _arm(0.6, *FINE),
        _arm(0.75),
        _arm(0.8, *FINE),
        _arm(0.85, *FINE),
        _arm(0.9),
        _arm(0.95, *FINE),
        _arm(0.98, *FINE),
    ),
    baseline="tube 0.9",
    datasets=("SSV2", "K400"),
)
