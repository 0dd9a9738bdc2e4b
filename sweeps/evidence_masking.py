"""How much to hide, and which cubes: every sampling at every ratio, trained as long as in `evidence_long`, five seeds.

The headline of the study. Three and a half hours on two cores; it shares ten pre-trainings with `evidence_long`.
"""

from dataclasses import replace

from ablations import mask_ratio_by_sampling
from sweeps import evidence_long
from sweeps.declared import Declaration

SWEEP = Declaration(
    name="evidence_masking",
    doc=__doc__,
    ablations=(replace(mask_ratio_by_sampling.ABLATION, datasets=("SSV2",)),),
    datasets=("SSV2",),
    seeds=(10, 11, 12, 13, 14),
    settings=evidence_long.SWEEP.settings,
)
