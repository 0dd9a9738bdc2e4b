"""How many videos does a pre-training need, for the same epochs and for the same number of steps?

Subsets are nested, stratified and fixed by a seed.

Expected: fewer videos cost accuracy at the same epochs, and much less at the same steps: a quarter of SSv2 (42k videos) for
as many steps reaches 68.7 of the 69.6 of all (figure on data efficiency).

Cost: seven to nine pre-trainings (those of the same steps cost as much as the one on all videos) and as many fine-tunings,
and scratch.
"""

from typing import Any

from vmae.arms import SCRATCH, Arm, PaperRow, SameSteps, Share
from vmae.study import Ablation

HALF, QUARTER = Share(0.5), Share(0.25)
SUBSET, EPOCHS, WARMUP = "pretrain.subset.num_videos", "pretrain.optim.epochs", "pretrain.optim.warmup_epochs"
FEW = {"pretrain.optim.batch_size": 500}  # 1,000 videos fill no batch of 1,024


def _pair(
    name: str, videos: int | Share, paper: str | None, presets: tuple[str, ...] = (), more: dict[str, Any] | None = None
) -> tuple[Arm, ...]:
    subset = {SUBSET: videos} | (more or {})
    steps = SameSteps(videos, (more or {}).get("pretrain.optim.batch_size"))
    rows = [
        PaperRow("vmae.fig_data_eff", f"subset={paper};{same}") if paper else None for same in ("same_epochs", "same_iterations")
    ]
    return (
        Arm(f"{name}, same epochs", subset, rows[0], presets),
        Arm(f"{name}, same steps", subset | {EPOCHS: steps, WARMUP: steps}, rows[1], presets),
    )


ABLATION = Ablation(
    name="data_size",
    doc=__doc__,
    paper="figure on data efficiency",
    arms=(
        Arm("all videos", {}, PaperRow("vmae.fig_data_eff", "subset=169k")),
        *_pair("half", HALF, "84k"),
        *_pair("quarter", QUARTER, "42k"),
        *_pair("3,500 videos", 3500, None, ("paper",)),
        *_pair("1,000 videos", 1000, None, ("paper",), FEW),
        *_pair("1,000 videos", 1000, None, ("proxy", "quick")),
        SCRATCH,
    ),
    baseline="all videos",
    datasets=("SSV2",),
)
