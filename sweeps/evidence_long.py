"""Fewer questions than `evidence`, asked longer: twice its pre-training and 2.5 times its fine-tuning, so that seeds differ less.

Its runs are others. Seeds 13 and 14 were added when what the first three had given was known. Some two hours on
two cores.
"""

from dataclasses import replace

from ablations import (
    data_size,
    loss,
    mask_sampling,
    pretrain_dataset,
    pretrain_strategy,
    quality_vs_quantity,
    target_normalisation,
)
from sweeps.declared import Declaration

ASKED = (
    pretrain_strategy.ABLATION.only("scratch", "VideoMAE"),
    mask_sampling.ABLATION.only("tube 0.75", "tube 0.9", "random 0.9", "frame 0.875"),
    data_size.ABLATION.only("all videos", "quarter, same epochs", "quarter, same steps"),
    replace(pretrain_dataset.ABLATION.only("SSV2", "K400"), baseline="SSV2"),
    quality_vs_quantity.ABLATION.only("in-domain, all", "in-domain, quarter", "out of domain, all"),
    target_normalisation.ABLATION.only("per channel", "raw"),
    loss.ABLATION.only("L1", "MSE", "smooth L1"),
)

SWEEP = Declaration(
    name="evidence_long",
    doc=__doc__,
    ablations=tuple(replace(asked, datasets=("SSV2",)) for asked in ASKED),
    datasets=("SSV2", "K400"),  # the second as what a pre-training comes from
    seeds=(10, 11, 12, 13, 14),
    spread="pooled",
    settings={"pretrain.optim.epochs": 18, "finetune.optim.epochs": 40},
)
