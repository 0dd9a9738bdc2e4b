"""Replicates made up by hand, as analysis.collect would make them of finished runs."""

import pandas as pd

from analysis.collect import Study
from vmae.config import STAGES
from vmae.runs import Store

QUESTIONS = {
    "mask_sampling": ("tube 0.9", "tube 0.75", "random 0.9", "frame 0.875", "scratch"),
    "loss": ("MSE", "L1"),
}
FACTS = {"commit": "c0ffee", "dirty": False, "hours": 0.5, "hardware": "a cpu", "on_gpu": False}
SEEDS = (3, 4, 5, 9)


def replicate(question, arm, seed, state, top1, data="d"):
    """A row as analysis.collect makes it; top1 in percent of 480 videos."""
    stages = STAGES if arm != "scratch" else tuple(stage for stage in STAGES if stage != "pretrain")
    row = {"ablation": question, "arm": arm, "dataset": data, "cell_id": arm, "seed": seed, "state": state, "method": None}
    row |= {f"run.{stage}": f"{arm}/{seed}/{stage}" if stage in stages else None for stage in STAGES}
    kind, _, ratio = arm.partition(" ")
    row |= {"mask.kind": kind if ratio else None, "mask.ratio": float(ratio) if ratio else None}
    if state == "done":
        row |= {f"{stage}.{name}": value for stage in stages for name, value in (FACTS | {"num_clips": 100}).items()}
        row |= {"evaluate.top1": top1, "evaluate.top1_se": 2.0, "evaluate.chance": 12.5}
        row |= {"evaluate.num_scored": 480, "evaluate.num_expected": 480, "evaluate.list_sha256": "0"}
        if "pretrain" in stages:
            row |= {"pretrain.beats_floors": True, "pretrain.loss_heldout": 0.5, "pretrain.mask_ratio_achieved": 0.875}
    return row


def study_of(rows, spread="own"):
    frame = pd.DataFrame(rows)
    arms = {question: list(dict.fromkeys(part["arm"])) for question, part in frame.groupby("ablation", sort=False)}
    ablations = [
        {
            "name": question,
            "question": "Which?",
            "expected": "x",
            "paper": "",
            "baseline": names[0],
            "metric": "top1",
            "arms": names,
        }
        for question, names in arms.items()
    ]
    plan = {"sweep": "s", "purpose": "S.", "seeds": sorted(set(frame["seed"])), "stands_for": {}, "ablations": ablations}
    return Study(Store("/nowhere"), plan | {"spread": spread}, frame, {}, {})
