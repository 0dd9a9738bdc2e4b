"""With 15 of 16 cubes hidden, on which digit it is, once more: do tubes hold where random cubes lose?

`evidence_ratios` hinted so on five seeds; these eight are those of `evidence_kinds`, whose runs at 7/8 are shared. Half an hour
on two cores.
"""

from dataclasses import replace

from ablations import mask_ratio_by_sampling
from sweeps import evidence_kinds
from sweeps.declared import Declaration

ARMS = ("tube 0.9375", "random 0.9375", "tube 0.875", "random 0.875")
ASKED = replace(mask_ratio_by_sampling.ABLATION.only(*ARMS), baseline="tube 0.9375", datasets=("UCF101",))

SWEEP = Declaration(
    name="evidence_most",
    doc=__doc__,
    ablations=(ASKED,),
    datasets=("UCF101",),
    seeds=evidence_kinds.SWEEP.seeds,
    settings=evidence_kinds.SWEEP.settings,
)
