"""On which digit it is, once more: are tubes ahead of random cubes and of frames, and is it the ratio that holds the former back?

`evidence_appearance` told frames from tubes and hinted at random cubes; these seeds no study has seen. Random cubes at 3/4 too:
a review's hypothesis (B24) is that they want a lower ratio than tubes. Trained as long as `evidence_long`. An hour on two cores.
"""

from dataclasses import replace

from ablations import mask_ratio_by_sampling
from sweeps import evidence_long
from sweeps.declared import Declaration

ARMS = ("tube 0.875", "random 0.875", "random 0.75", "frame 0.875")

SWEEP = Declaration(
    name="evidence_kinds",
    doc=__doc__,
    ablations=(replace(mask_ratio_by_sampling.ABLATION.only(*ARMS), datasets=("UCF101",)),),
    datasets=("UCF101",),
    seeds=tuple(range(40, 48)),
    settings=evidence_long.SWEEP.settings,
)
