"""How far does a pre-training on many videos of another domain carry, masked or contrastive?

Expected: from K400, VideoMAE is ahead of MoCo v3 on SSv2 (68.5 against 62.4), UCF101 (96.1, 93.2) and HMDB51 (73.3, 67.9);
on the small sets it is ahead of their own pre-training (91.3 and 62.6), on SSv2 behind it (69.6) (Tables 2 and 4).

Cost: one masked and one contrastive pre-training for all data sets, one more per data set, three fine-tunings per data set
and seed.
"""

from vmae.arms import Arm, From, PaperRow
from vmae.study import Ablation

ABLATION = Ablation(
    name="transfer",
    doc=__doc__,
    paper="Table 4",
    arms=(
        Arm(
            "MoCo v3 on K400", {"pretrain": From("K400", "instead.contrast")}, PaperRow("vmae.t4", "MoCo_v3", dataset="K400->{}")
        ),
        Arm("VideoMAE on K400", {"pretrain": From("K400")}, PaperRow("vmae.t4", "VideoMAE", dataset="K400->{}")),
        Arm("VideoMAE in-domain", {}, PaperRow("vmae.t2", "VideoMAE")),
    ),
    baseline="VideoMAE on K400",
    datasets=("SSV2", "UCF101", "HMDB51"),
)
