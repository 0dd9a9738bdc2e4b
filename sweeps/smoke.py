"""Does everything work on this machine? Twelve runs of a second each; their numbers mean nothing.

Needs `vmae data make --size tiny`.
"""

from ablations import mask_sampling
from sweeps.presets import tiny
from vmae.study import Sweep

SWEEP = Sweep(
    name="smoke",
    doc=__doc__,
    ablations=(mask_sampling.ABLATION,),
    recipes={"digits-motion": tiny("motion")},
    seeds=(0,),
    stands_for={"digits-motion": "SSV2"},
    preset="tiny",
)
