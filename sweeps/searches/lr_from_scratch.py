"""Is training from scratch held back by a fine-tuning rate that suits pre-trained encoders?

Expected: scratch wants a rate of its own, and tuned with the budget of the pre-trained arm it stays well below it.

Cost: eight fine-tunings per cell; the pre-trained cell is tube masking at 75 %, whose trials `lr_per_mask` shares.
"""

from ablations import pretrain_strategy
from sweeps.searches import lr_per_mask
from sweeps.searching.declared import Search

SEARCH = Search(
    name="lr_from_scratch",
    doc=__doc__,
    ablation=pretrain_strategy.ABLATION,
    datasets=("SSV2",),
    space=lr_per_mask.SEARCH.space,
    sampler="grid",
    trials=None,
)
