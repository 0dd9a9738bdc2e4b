"""How much to hide, on which digit it is: tubes and random cubes from a half to 15/16, where pre-training is worth most.

`evidence_masking` asked it of motion, where ratios and kinds hardly differed. Seeds, recipe and four of the eight cells are
those of `evidence_appearance`. Three quarters of an hour on two cores.
"""

from dataclasses import replace

from ablations import mask_ratio_by_sampling
from sweeps import evidence_appearance
from sweeps.declared import Declaration

ARMS = tuple(f"{kind} {ratio:g}" for kind in ("tube", "random") for ratio in (0.5, 0.75, 0.875, 0.9375))

SWEEP = Declaration(
    name="evidence_ratios",
    doc=__doc__,
    ablations=(replace(mask_ratio_by_sampling.ABLATION.only(*ARMS, "scratch"), datasets=("UCF101",)),),
    datasets=("UCF101",),
    seeds=evidence_appearance.SWEEP.seeds,
    settings=evidence_appearance.SWEEP.settings,
)
