"""The main job in one sitting: masking ratio and sampling on the embedded videos, on two cores, one seed.

One seed shows that everything works; it proves no ordering. `masking` asks the same with three.
"""

from ablations import mask_ratio_by_sampling
from sweeps.presets import quick
from vmae.study import Sweep

RATIOS = (0.5, 0.75, 0.875, 0.9375)
ARMS = (*(f"{kind} {ratio:g}" for kind in ("tube", "random") for ratio in RATIOS), "frame 0.875", "scratch")

SWEEP = Sweep(
    name="demo",
    doc=__doc__,
    ablations=(mask_ratio_by_sampling.ABLATION.only(*ARMS),),
    recipes={"digits-motion": quick("motion")},
    seeds=(0,),
    stands_for={"digits-motion": "SSV2"},
    preset="quick",
)
