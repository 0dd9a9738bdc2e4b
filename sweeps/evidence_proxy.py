"""Which cubes to hide, once more on one GPU: on which digit it is, and with 64 positions at the paper's own nine in ten.

Nine pre-trainings of 238,000 clips and twelve fine-tunings, three seeds that no study has seen; minutes on one GPU.
"""

from dataclasses import replace

from ablations import mask_ratio_by_sampling
from sweeps.declared import Declaration

ARMS = ("tube 0.9", "random 0.9", "tube 0.875", "random 0.875", "frame 0.875", "scratch")  # on coarse grids 7/8, else 0.9

SWEEP = Declaration(
    name="evidence_proxy",
    doc=__doc__,
    ablations=(replace(mask_ratio_by_sampling.ABLATION.only(*ARMS), datasets=("UCF101",)),),
    datasets=("UCF101",),
    default="proxy",
    seeds=(50, 51, 52),
)
