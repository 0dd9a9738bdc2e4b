"""Finished runs that nobody ran, to try the analysis on: marked synthetic in their provenance, and refused among measured ones.

    python benchmarks/synthetic_runs.py paper_table1 --preset paper --runs /tmp/synthetic
    VMAE_RUNS=/tmp/synthetic python -m analysis report paper_table1-paper

Every cell gets the paper's own accuracy; one that the paper does not give, or only as a curve, stays missing.
"""

import argparse
import sys
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent))

from analysis.paper import lookup
from sweeps import registry
from vmae.config import PretrainConfig, Run
from vmae.cost import V100, CostModel
from vmae.files import write_atomic
from vmae.identity import cell_id
from vmae.results import FLOORS, MetricRow, MetricsLog, Result, write_result
from vmae.runs import RunDir, Store
from vmae.study import Cell, Plan, make_plan

FACTS: Mapping[str, Any] = {
    "commit": "c0ffee",
    "dirty": False,
    "cpu": "a cpu",
    "packages": {"torch": "2"},
    "device": "cpu",
    "synthetic": True,
}
COST = CostModel(V100)
STEPS = range(1, 9)
Top1 = Callable[[Cell, int], float | None]  # of a cell and seed, in percent; None: leave that evaluation unfinished


def finish(
    store: Store,
    plan: Plan,
    top1_of: Top1,
    beats: Callable[[str], bool] = lambda arm: True,
    num_videos: int = 1000,
    facts: Mapping[str, Any] = FACTS,
) -> None:
    """Write the plan and the results of its runs through the doors that real ones take; a shared run is its first cell's.

    Args:
        beats: whether an arm's pre-training beats its trivial floors.
    """
    store.write_plan(plan.sweep.name, plan.to_json())
    for cell in plan.cells:
        for seed, ids in cell.replicates.items():
            top1 = top1_of(cell, seed)
            for stage, id_ in ids.items():
                place, run = store.run(id_), plan.runs[id_]
                if place.result.exists():
                    continue
                place.create(run)
                if stage == "evaluate" and top1 is None:
                    continue
                metrics = _STAGES[stage](place, run, beats(cell.arm), top1, num_videos, zlib.crc32(f"{cell.arm} {seed}".encode()))
                compute = {"num_clips": 100, "train_s": COST.seconds(run), "num_encoder_cubes": 3200}
                write_result(place.result, Result(id_, cell_id(run), stage, "done", metrics, compute, dict(facts)))


def _pretrained(place: RunDir, run: Run, beats: bool, top1: float | None, num_videos: int, seed: int) -> dict[str, Any]:
    MetricsLog(place.metrics).append(MetricRow(s, s / 4, "train", "loss", 0.1 / s) for s in STEPS)
    if not isinstance(run.pretrain, PretrainConfig):
        return {"retrieval_top1": 50.0}
    clip = np.zeros((2, 16, 32, 32, 3), np.uint8)
    clip[1] = 255
    np.savez(
        place.reconstruction, original=clip, reconstruction=clip, hidden=clip[..., 0] > 0, uses_target_statistics=np.array(False)
    )
    gap = -0.01 if beats else 0.01
    return {
        **{f"floor_{name}": 0.04 for name in FLOORS},
        "loss_heldout": 0.04 + gap,
        "floor_gap": gap,
        "beats_floors": beats,
        "mask_ratio_achieved": run.pretrain.mask.ratio,
        "num_visible_cubes": 32,
        "num_videos": run.pretrain.num_videos,
    }


def _finetuned(place: RunDir, run: Run, beats: bool, top1: float | None, num_videos: int, seed: int) -> dict[str, Any]:
    MetricsLog(place.metrics).append(MetricRow(s, s / 4, "train", "loss", 2.0 / s) for s in STEPS)
    return {}


def _evaluated(place: RunDir, run: Run, beats: bool, top1: float | None, num_videos: int, seed: int) -> dict[str, Any]:
    hits = round(num_videos * top1 / 100)
    right = np.random.default_rng(seed).permutation(num_videos) < hits
    lines = [f"v{i}.mp4,1,{1 if ok else 2},0.5" for i, ok in enumerate(right)]
    write_atomic(place.predictions, ("\n".join(["video,label,predicted,label_probability", *lines]) + "\n").encode())
    share = hits / num_videos
    return {
        "top1": 100 * share,
        "top1_se": 100 * (share * (1 - share) / num_videos) ** 0.5,
        "top5": 90.0,
        "chance": 100 / run.parent.finetune.data.num_classes,
        "num_scored": num_videos,
        "num_expected": num_videos,
    }


_STAGES = {"pretrain": _pretrained, "finetune": _finetuned, "evaluate": _evaluated}


def of_the_paper(plan: Plan) -> Top1:
    """Return the paper's accuracy of each cell, with tenths added per seed that add up to nothing over all seeds."""
    by_question = {(a.name, arm.name): arm.paper for a in plan.sweep.ablations for arm in plan.sweep.arms_of(a)}
    assert any(by_question.values()), "some arm has a row in the paper"
    centre = (len(plan.sweep.seeds) - 1) / 2

    def top1_of(cell: Cell, seed: int) -> float | None:
        row = by_question[cell.ablation, cell.arm]
        named = plan.sweep.stands_for.get(cell.dataset, cell.dataset)
        known = lookup(vars(row), named) if row else None
        if known is None or known.value is None:
            return None
        # Tenths in an order of the arm's own, so that paired differences vary.
        order = np.random.default_rng(zlib.crc32(cell.arm.encode())).permutation(len(plan.sweep.seeds))
        return known.value + 0.2 * (order[plan.sweep.seeds.index(seed)] - centre)

    return top1_of


def main() -> None:
    """Write them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sweep")
    parser.add_argument("--preset", default=None)
    parser.add_argument("--runs", type=Path, required=True, help="a folder for these alone")
    given = parser.parse_args()
    plan = make_plan(registry.load(given.sweep, given.preset))
    finish(Store(given.runs.absolute()), plan, of_the_paper(plan))
    print(f"{len(plan.runs)} synthetic runs of {plan.sweep.name} in {given.runs}")


if __name__ == "__main__":
    main()
