"""The main job in one sitting: masking ratio and sampling on the embedded videos, on two cores, one seed.

One seed shows that everything works; it proves no ordering. `masking` asks the same with three.
"""

from ablations import mask_ratio_by_sampling
from sweeps.presets import quick
from vmae.study import Sweep

SWEEP = Sweep(
    name="demo",
    doc=__doc__,
    ablations=(mask_ratio_by_sampling.ABLATION,),
    recipes={"digits-motion": quick("motion")},
    seeds=(0,),
)
