"""Fewer questions than `evidence`, asked longer: twice its pre-training and 2.5 times its fine-tuning, so that seeds differ less.

Its runs are others. Seeds 13 and 14 were added when what the first three had given was known. Some two and a half hours
on two cores.
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
from vmae.study import Ablation


def _of(ablation: Ablation, *names: str, baseline: str | None = None) -> Ablation:
    arms = tuple(arm for arm in ablation.arms if arm.name in names)
    assert len(arms) == len(names), f"{ablation.name} has {[arm.name for arm in ablation.arms]}"
    return replace(ablation, arms=arms, baseline=baseline or ablation.baseline, datasets=("SSV2",))


SWEEP = Declaration(
    name="evidence_long",
    doc=__doc__,
    ablations=(
        _of(pretrain_strategy.ABLATION, "scratch", "VideoMAE"),
        _of(mask_sampling.ABLATION, "tube 0.75", "tube 0.9", "random 0.9", "frame 0.875"),
        _of(data_size.ABLATION, "all videos", "quarter, same epochs", "quarter, same steps"),
        _of(pretrain_dataset.ABLATION, "SSV2", "K400", baseline="SSV2"),
        _of(quality_vs_quantity.ABLATION, "in-domain, all", "in-domain, quarter", "out of domain, all"),
        _of(target_normalisation.ABLATION, "per channel", "raw"),
        _of(loss.ABLATION, "L1", "MSE", "smooth L1"),
    ),
    datasets=("SSV2", "K400"),  # the second as what a pre-training comes from
    seeds=(10, 11, 12, 13, 14),
    spread="pooled",
    settings={"pretrain.optim.epochs": 18, "finetune.optim.epochs": 40},
)
