"""What else matters where pre-training is worth most: questions of `evidence_long` and `evidence_again`, on which digit it is.

Those asked them of motion, where pre-training is worth some five points; on this label it is worth nineteen. Seeds and
recipe are those of `evidence_appearance`, and VideoMAE and scratch its runs. An hour and a half on two cores.
"""

from dataclasses import replace

from ablations import (
    data_size,
    decoder_depth,
    loss,
    loss_region,
    pretrain_dataset,
    pretrain_strategy,
    quality_vs_quantity,
    target_normalisation,
)
from sweeps import evidence_appearance
from sweeps.declared import Declaration

ASKED = (
    pretrain_strategy.ABLATION.only("scratch", "VideoMAE"),
    decoder_depth.ABLATION.only("depth 1", "depth 4"),
    loss_region.ABLATION,
    data_size.ABLATION.only("all videos", "quarter, same epochs", "quarter, same steps"),
    replace(pretrain_dataset.ABLATION, baseline="SSV2"),
    quality_vs_quantity.ABLATION,
    target_normalisation.ABLATION.only("per channel", "raw"),
    loss.ABLATION.only("L1", "MSE"),
)

SWEEP = Declaration(
    name="evidence_digit",
    doc=__doc__,
    ablations=tuple(replace(asked, datasets=("UCF101",)) for asked in ASKED),
    datasets=("UCF101", "SSV2", "K400"),  # the latter two as what a pre-training comes from
    seeds=evidence_appearance.SWEEP.seeds,
    settings=evidence_appearance.SWEEP.settings,
)
