"""Six questions on six seeds never looked at: what `evidence_long` left open, and what `evidence` asked too briefly.

Trained as long as `evidence_long`, whose runs it shares none of. Some two hours on two cores.
"""

from dataclasses import replace

from ablations import data_size, decoder_depth, loss, loss_region, pretrain_strategy, target_normalisation
from sweeps import evidence_long
from sweeps.declared import Declaration

ASKED = (
    pretrain_strategy.ABLATION,
    decoder_depth.ABLATION.only("depth 1", "depth 4"),
    loss_region.ABLATION,
    data_size.ABLATION.only("all videos", "1,000 videos, same epochs", "1,000 videos, same steps", "scratch"),
    target_normalisation.ABLATION.only("per channel", "raw"),
    loss.ABLATION.only("L1", "MSE"),
)

SWEEP = Declaration(
    name="evidence_again",
    doc=__doc__,
    ablations=tuple(replace(asked, datasets=("SSV2",)) for asked in ASKED),
    datasets=("SSV2",),
    seeds=tuple(range(20, 26)),
    settings=evidence_long.SWEEP.settings,
)
