"""Masking ratio and sampling with three seeds, on motion and on appearance."""

from ablations import mask_ratio_by_sampling
from sweeps.declared import Declaration

SWEEP = Declaration(name="masking", doc=__doc__, ablations=(mask_ratio_by_sampling.ABLATION,))
