"""Does it matter which cubes are hidden where pre-training is worth most: telling which digit it is?

On how a digit moves, `evidence_masking` told no two kinds of mask apart, but pre-training itself was worth five to eight points
there; on which digit it is, `evidence_methods` found nineteen. Every kind of mask at 7/8, near the paper's ratios, and tubes at
two lower ones. Trained as long as `evidence_long`; scratch and tube 0.75 are runs of `evidence_methods`, whose seeds these are.
An hour and a half on two cores.
"""

from dataclasses import replace

from ablations import mask_ratio_by_sampling
from sweeps import evidence_long
from sweeps.declared import Declaration

ARMS = ("tube 0.5", "tube 0.75", "tube 0.875", "random 0.875", "frame 0.875", "block 0.875", "scratch")

SWEEP = Declaration(
    name="evidence_appearance",
    doc=__doc__,
    ablations=(replace(mask_ratio_by_sampling.ABLATION.only(*ARMS), datasets=("UCF101",)),),
    datasets=("UCF101",),
    seeds=tuple(range(30, 35)),
    settings=evidence_long.SWEEP.settings,
)
