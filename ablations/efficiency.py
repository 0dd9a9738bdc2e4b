"""What does a pre-training cost for what it gives, fine-tuned and under a linear probe?

Expected: VideoMAE is ahead of MoCo v3 fine-tuned (69.6 against 54.2) and probed (38.9 against 33.7), at 800 epochs in a
third of the time that 300 epochs of MoCo v3 take (19.5 against 61.7 hours on 64 V100; Table 3, SSv2).

Cost: two pre-trainings, two fine-tunings and two linear probes per data set and seed.
"""

from vmae.arms import Arm, As, PaperRow
from vmae.study import Ablation

MOCO = {"pretrain": As("instead.contrast")}
PROBE = {"finetune": As("instead.linear_probe")}

ABLATION = Ablation(
    name="efficiency",
    doc=__doc__,
    paper="Table 3",
    arms=(
        Arm("MoCo v3, fine-tuned", MOCO, PaperRow("vmae.t3", "MoCo_v3", "ft_acc")),
        Arm("VideoMAE, fine-tuned", {}, PaperRow("vmae.t3", "VideoMAE", "ft_acc")),
        Arm("MoCo v3, linear probe", MOCO | PROBE, PaperRow("vmae.t3", "MoCo_v3", "lin_acc")),
        Arm("VideoMAE, linear probe", PROBE, PaperRow("vmae.t3", "VideoMAE", "lin_acc")),
    ),
    baseline="VideoMAE, fine-tuned",
    datasets=("SSV2",),
)
