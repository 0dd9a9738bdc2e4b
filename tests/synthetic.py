"""Synthetic finished sweeps: runs with chosen numbers, written through the same doors as real ones."""

import zlib

import numpy as np

from sweeps.presets import quick
from vmae.arms import SCRATCH, Arm, grid_arms
from vmae.files import write_atomic
from vmae.identity import cell_id
from vmae.results import FLOORS, MetricRow, MetricsLog, Result, write_result
from vmae.study import Ablation, Sweep

DOC = "Which mask?\n\nExpected: tube.\n\nCost: little."
ARMS = (
    *grid_arms({"pretrain.mask.kind": ("tube", "random"), "pretrain.mask.ratio": (0.5, 0.875)}, "{kind} {ratio:g}"),
    Arm("frame 0.875", {"pretrain.mask.kind": "frame", "pretrain.mask.ratio": 0.875}),
    SCRATCH,
)
NUM_VIDEOS = 480


def sweep(seeds=(0, 1, 2)):
    ablation = Ablation("masks", DOC, "Table 1b", ARMS, "tube 0.875")
    return Sweep("synthetic", "Numbers made up for tests.", (ablation,), {"d": quick("motion")}, seeds)


def finish(store, plan, top1_of, beats=lambda arm: True):
    """Write results of all runs: `top1_of(arm, seed)` in percent, None leaves that evaluation missing."""
    store.write_plan("synthetic", plan.to_json())
    for cell in plan.cells:
        for seed, ids in cell.replicates.items():
            top1 = top1_of(cell.arm, seed)
            for stage, id_ in ids.items():
                place, run = store.run(id_), plan.runs[id_]
                place.create(run)
                if stage == "evaluate" and top1 is None:
                    continue
                compute = {"num_clips": 100, "train_s": 10.0, "num_encoder_cubes": 3200}
                if stage == "pretrain":
                    gap = -0.01 if beats(cell.arm) else 0.01
                    floors = {f"floor_{n}": 0.04 for n in FLOORS}
                    metrics = floors | {"loss_heldout": 0.04 + gap, "floor_gap": gap, "beats_floors": beats(cell.arm)}
                    metrics |= {"mask_ratio_achieved": run.pretrain.mask.ratio, "num_visible_cubes": 32}
                    MetricsLog(place.metrics).append(MetricRow(s, s / 4, "train", "loss", 0.1 / s) for s in range(1, 9))
                    clip = np.zeros((1, 16, 32, 32, 3), np.uint8)
                    np.savez(
                        place.reconstruction,
                        original=clip,
                        reconstruction=clip,
                        hidden=clip[..., 0] > 0,
                        uses_target_statistics=np.array(False),
                    )
                elif stage == "evaluate":
                    hits = round(NUM_VIDEOS * top1 / 100)
                    rng = np.random.default_rng(zlib.crc32(f"{cell.arm} {seed}".encode()))
                    right = rng.permutation(NUM_VIDEOS) < hits
                    lines = [f"v{i}.mp4,1,{1 if ok else 2},0.5" for i, ok in enumerate(right)]
                    text = "\n".join(["video,label,predicted,label_probability", *lines]) + "\n"
                    write_atomic(place.predictions, text.encode())
                    metrics = {
                        "top1": 100 * hits / NUM_VIDEOS,
                        "top1_se": 2.0,
                        "top5": 90.0,
                        "chance": 12.5,
                        "num_scored": NUM_VIDEOS,
                        "num_expected": NUM_VIDEOS,
                    }
                else:
                    metrics = {}
                facts = {"commit": "c0ffee", "dirty": False, "cpu": "a cpu", "packages": {"torch": "2"}, "device": "cpu"}
                write_result(place.result, Result(id_, cell_id(run), stage, "done", metrics, compute, facts))
