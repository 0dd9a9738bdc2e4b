"""Few videos: the regime of HMDB51's 3.5k, subsets of it, and how accuracy falls with the number of videos."""

from ablations import data_size, small_data
from sweeps.declared import Declaration

SWEEP = Declaration(name="small_data", doc=__doc__, ablations=(small_data.ABLATION, data_size.ABLATION))
