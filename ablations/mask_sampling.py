"""Does it matter how the hidden cubes are drawn: as tubes, at random, or as whole frames?

Expected: tube 90 % is best, random 90 % 1.3 points behind on SSv2 and 0.5 on K400, frame 87.5 % far behind, and tube 75 %
below tube 90 % (Table 1b; on SSv2 69.6, 68.3, 61.5 and 68.0). mae_st (arXiv:2205.09113) finds random above tube on K400.

Cost: four pre-trainings and four fine-tunings per data set and seed; at the quick preset about five minutes on two cores.
"""

from vmae.arms import Arm
from vmae.study import Ablation

ABLATION = Ablation(
    name="mask_sampling",
    doc=__doc__,
    paper="Table 1b",
    arms=(
        Arm("tube 0.75", {"pretrain.mask.kind": "tube", "pretrain.mask.ratio": 0.75}),
        Arm("tube 0.9", {"pretrain.mask.kind": "tube", "pretrain.mask.ratio": 0.9}),
        Arm("random 0.9", {"pretrain.mask.kind": "random", "pretrain.mask.ratio": 0.9}),
        Arm("frame 0.875", {"pretrain.mask.kind": "frame", "pretrain.mask.ratio": 0.875}),
    ),
    baseline="tube 0.9",
)
