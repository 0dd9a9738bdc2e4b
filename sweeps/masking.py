"""Masking ratio and sampling with three seeds and both label sets: about an hour on two cores.

Motion and appearance ask about the same clips, so every pre-training is shared by both.
"""

from ablations import mask_ratio_by_sampling
from sweeps.presets import quick
from vmae.study import Sweep

SWEEP = Sweep(
    name="masking",
    doc=__doc__,
    ablations=(mask_ratio_by_sampling.ABLATION,),
    recipes={"digits-motion": quick("motion"), "digits-appearance": quick("appearance")},
    seeds=(0, 1, 2),
)
