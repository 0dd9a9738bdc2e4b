"""How much of a clip should be hidden, and does the answer depend on how the hidden cubes are drawn?

Expected: tube masking is best around 0.9 and falls off below 0.75 (Figure on masking ratio); at 0.9 tube beats random by
1.3 points on SSv2 and 0.5 on K400, and frame masking at 7/8 is far behind (Table 1b: 69.6, 68.3, 61.5 on SSv2).
Whether random masking prefers a lower ratio the paper does not say.

Cost: nine pre-trainings and ten fine-tunings per data set and seed; at the quick preset about thirteen minutes on two cores.
"""

from vmae.arms import SCRATCH, Arm, grid_arms
from vmae.study import Ablation

ABLATION = Ablation(
    name="mask_ratio_by_sampling",
    doc=__doc__,
    paper="Table 1b; figure on masking ratio",
    arms=(
        *grid_arms(
            {"pretrain.mask.kind": ("tube", "random"), "pretrain.mask.ratio": (0.5, 0.75, 0.875, 0.9375)}, "{kind} {ratio:g}"
        ),
        Arm("frame 0.875", {"pretrain.mask.kind": "frame", "pretrain.mask.ratio": 0.875}),
        SCRATCH,
    ),
    baseline="tube 0.875",
)
