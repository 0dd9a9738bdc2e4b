"""A finished sweep with chosen numbers: one table, five masks and scratch."""

from benchmarks.synthetic_runs import FACTS
from benchmarks.synthetic_runs import finish as finish_plan
from sweeps.presets import quick
from vmae.arms import SCRATCH, Arm, grid_arms
from vmae.study import Ablation, Sweep

DOC = "Which mask?\n\nExpected: tube.\n\nCost: little."
ARMS = (
    *grid_arms({"pretrain.mask.kind": ("tube", "random"), "pretrain.mask.ratio": (0.5, 0.875)}, "{kind} {ratio:g}"),
    Arm("frame 0.875", {"pretrain.mask.kind": "frame", "pretrain.mask.ratio": 0.875}),
    SCRATCH,
)
MEASURED = {name: value for name, value in FACTS.items() if name != "synthetic"}


def sweep(seeds=(0, 1, 2), ablations=None):
    ablation = Ablation("masks", DOC, "Table 1b", ARMS, "tube 0.875")
    return Sweep("synthetic", "Numbers made up for tests.", ablations or (ablation,), {"d": quick("motion")}, seeds)


def finish(store, plan, top1_of, beats=lambda arm: True, facts=MEASURED):
    """Write results of all runs: `top1_of(arm, seed)` in percent, None leaves that evaluation missing."""
    finish_plan(store, plan, lambda cell, seed: top1_of(cell.arm, seed), beats, num_videos=480, facts=facts)
