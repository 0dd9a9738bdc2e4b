"""How deep must the decoder be?

Expected: four blocks are best on SSv2 and K400 (69.6 and 80.0); one block loses 1.1 and 1.0 points, eight 0.3 and 0.3 and
need 1.6 times the memory (Table 1a: 7.9, 10.2, 14.7 and 23.7 GB at 16 clips). mae_st (arXiv:2205.09113) agrees: 83.2, 83.6,
84.4, 84.3.

Cost: four pre-trainings and four fine-tunings per data set and seed.
"""

from vmae.arms import Arm, PaperRow
from vmae.study import Ablation

ABLATION = Ablation(
    name="decoder_depth",
    doc=__doc__,
    paper="Table 1a",
    arms=tuple(
        Arm(f"depth {depth}", {"pretrain.decoder.depth": depth}, PaperRow("vmae.t1a", f"decoder_depth={depth}"))
        for depth in (1, 2, 4, 8)
    ),
    baseline="depth 4",
    datasets=("SSV2", "K400"),
)
