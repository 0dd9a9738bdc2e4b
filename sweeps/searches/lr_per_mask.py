"""Which fine-tuning learning rate does each kind of mask want, and does the order of the masks survive tuning each alike?

Expected: the best rates lie within a factor of four of each other, and tube 90 % stays best. A fixed rate would favour the masks
whose features happen to suit it.

Cost: eight fine-tunings per cell; the pre-training is that of `mask_sampling`, once per cell. At the quick preset four cells come
to 32 fine-tunings.
"""

from ablations import mask_sampling
from sweeps.searching.declared import Search
from sweeps.searching.space import Range

# A grid: under some 15 trials it is as good as any sampler, and the curve over the rate is what is wanted.
SEARCH = Search(
    name="lr_per_mask",
    doc=__doc__,
    ablation=mask_sampling.ABLATION,
    datasets=("SSV2",),
    space={"finetune.optim.base_lr": Range(5e-4, 6.4e-2, log=True, points=7)},
    sampler="grid",
    trials=None,
)
