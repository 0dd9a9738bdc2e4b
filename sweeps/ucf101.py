"""UCF101 from its official files to the number: ViT-B pre-trained on 9,537 videos, against training from scratch.

Lists: `vmae data prepare ucf101`; docs/data.md has every command from the download on. Split 1, as the paper reports it.

Expected top-1 (paper, version 3): VideoMAE 91.3 (90.8 in versions 1 and 2), scratch 51.4; 5 x 3 views, 3,200 pre-training epochs,
about 30 hours on 8 GPUs by a user's account. Pre-training for 100 epochs gave a user 67 to 68.

    python -m sweeps plan ucf101
    python -m sweeps submit ucf101 --profile slurm
    python -m sweeps submit ucf101 --preset tiny      the same on embedded videos, in seconds: does everything work?
"""

from ablations import methods
from sweeps.declared import Declaration

SWEEP = Declaration(
    name="ucf101",
    doc=__doc__,
    ablations=(methods.ABLATION.only("scratch", "VideoMAE"),),
    datasets=("UCF101",),
    default="paper",
)
