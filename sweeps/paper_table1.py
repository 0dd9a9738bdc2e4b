"""The paper's Table 1, a to f: decoder depth, mask sampling, reconstruction target, strategy, pre-training data, loss.

At the paper's scale its 36 cells with a pre-training of their own need 24 pre-trainings per seed.
"""

from ablations import decoder_depth, loss, mask_sampling, pretrain_dataset, pretrain_strategy, reconstruction_target
from sweeps.declared import Declaration

SWEEP = Declaration(
    name="paper_table1",
    doc=__doc__,
    ablations=(
        decoder_depth.ABLATION,
        mask_sampling.ABLATION,
        reconstruction_target.ABLATION,
        pretrain_strategy.ABLATION,
        pretrain_dataset.ABLATION,
        loss.ABLATION,
    ),
)
