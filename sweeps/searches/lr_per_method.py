"""Which pre-training rate does each method want, masked and contrastive, so that neither is compared at a bad one?

Expected: contrastive pre-training in batches of 50 wants a lower base rate than masked pre-training in batches of 8, and
either is flat within a factor of four of its best.

Cost: six pre-trainings and fine-tunings per method, the contrastive ones several times as long as the masked.
"""

from ablations import methods
from sweeps.searching.declared import Search
from sweeps.searching.space import Range

SEARCH = Search(
    name="lr_per_method",
    doc=__doc__,
    ablation=methods.ABLATION.only("MoCo v3", "VideoMAE"),
    datasets=("SSV2",),
    space={"pretrain.optim.base_lr": Range(1e-3, 0.256, log=True, points=5)},
    sampler="grid",
    trials=None,
)
