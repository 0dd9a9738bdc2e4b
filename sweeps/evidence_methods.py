"""Masked against contrastive pre-training and none, each at the rate that its search on the hold-out chose, on seeds never looked at.

Trained as long as `evidence_long`, the contrastive pre-training for as many epochs, which take several times the compute: two
clips a video, all cubes of them. Two labels of the same pre-training videos: how a digit moves, and which it is.
"""

from dataclasses import replace

from ablations import methods
from sweeps import evidence_long
from sweeps.declared import Declaration

SWEEP = Declaration(
    name="evidence_methods",
    doc=__doc__,
    ablations=(replace(methods.ABLATION, datasets=("SSV2", "UCF101")),),
    datasets=("SSV2", "UCF101"),
    seeds=tuple(range(30, 36)),
    settings={**evidence_long.SWEEP.settings, "instead.contrast.optim.epochs": 18},
)
