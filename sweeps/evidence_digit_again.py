"""What surprised on which digit it is, once more: normalised targets, a loss over all cubes, still digits to pre-train on.

`evidence_digit` told the first and the last from VideoMAE against what was expected, on five seeds; these eight no study has
seen. Recipe and label are its own. An hour and a half on two cores.
"""

from dataclasses import replace

from ablations import loss_region, pretrain_dataset, pretrain_strategy, target_normalisation
from sweeps import evidence_digit
from sweeps.declared import Declaration

ASKED = (
    pretrain_strategy.ABLATION.only("scratch", "VideoMAE"),
    loss_region.ABLATION,
    replace(pretrain_dataset.ABLATION.only("K400", "SSV2"), baseline="SSV2"),
    target_normalisation.ABLATION.only("per channel", "raw"),
)

SWEEP = Declaration(
    name="evidence_digit_again",
    doc=__doc__,
    ablations=tuple(replace(asked, datasets=("UCF101",)) for asked in ASKED),
    datasets=evidence_digit.SWEEP.datasets,
    seeds=tuple(range(60, 68)),
    settings=evidence_digit.SWEEP.settings,
)
