"""Masked against contrastive pre-training and none, each at the rate that its search chose on the hold-out, on fresh seeds.

Trained as long as `evidence_long`, the contrastive pre-training for as many epochs, which take several times the compute: two
clips a video, all cubes of them. Two labels of the same pre-training videos: how a digit moves, and which it is. VideoMAE also
at the rate of the other studies. Two hours on two cores.
"""

from dataclasses import replace

from ablations import methods
from sweeps import evidence_long
from sweeps.declared import Declaration
from vmae.arms import Arm

SHARED = Arm("VideoMAE, shared rate", {"pretrain.optim.base_lr": 64e-3}, presets=("quick",))
LENGTH = evidence_long.SWEEP.settings
RATES = {"pretrain.optim.base_lr": 16e-3, "instead.contrast.optim.base_lr": 1e-3}  # found by lr_per_method, MoCo's under algo 1

SWEEP = Declaration(
    name="evidence_methods",
    doc=__doc__,
    ablations=(replace(methods.ABLATION, arms=(*methods.ABLATION.arms, SHARED), datasets=("SSV2", "UCF101")),),
    datasets=("SSV2", "UCF101"),
    seeds=tuple(range(30, 35)),
    settings={**LENGTH, **RATES, "instead.contrast.optim.epochs": LENGTH["pretrain.optim.epochs"]},
)
