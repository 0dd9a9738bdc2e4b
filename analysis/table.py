"""The cells of a sweep as a table: mean, interval, n, difference to the baseline, floors, compute, run ids."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from analysis.collect import Study, predictions
from analysis.compare import Difference, estimate, over_seeds, over_videos
from vmae.results import FLOORS

GROUP = ["ablation", "dataset", "arm"]


def cell_table(study: Study) -> pd.DataFrame:
    """Return one row per cell in declared order; a cell with no finished seed has a state and no numbers."""
    rows = []
    for (ablation, dataset, arm), cell in study.replicates.groupby(GROUP, sort=False):
        done = cell[cell["state"] == "done"]
        row: dict[str, Any] = {
            "ablation": ablation,
            "dataset": dataset,
            "arm": arm,
            "state": _state(cell),
            "num_seeds": len(done),
            "num_planned": len(cell),
            "mask.kind": cell["mask.kind"].iloc[0],
            "mask.ratio": cell["mask.ratio"].iloc[0],
        }
        if len(done):
            row |= _numbers(study, done)
            row |= _versus(study, str(ablation), str(dataset), done)
        row["runs"] = " ".join(str(id_) for id_ in cell["run.evaluate"])
        rows.append(row)
    return pd.DataFrame(rows)


def difference(study: Study, done: pd.DataFrame, other: pd.DataFrame) -> Difference | None:
    """Compare two cells, paired by the seeds both have: over seeds if there are two or more, else over the test videos."""
    pairs = done.merge(other, on="seed", suffixes=("", ".other"))
    if len(pairs) >= 2:
        return over_seeds(list(pairs["evaluate.top1"]), list(pairs["evaluate.top1.other"]))
    if len(pairs) == 1:
        ids = pairs.iloc[0][["run.evaluate", "run.evaluate.other"]]
        arm, base = (predictions(study.run_dir(str(id_))).set_index("video")["correct"] for id_ in ids)
        both = arm.index.intersection(base.index)
        return over_videos(list(arm[both]), list(base[both]))
    return None


def finished(study: Study, ablation: str, dataset: str, arm: str) -> pd.DataFrame:
    """Return the done replicates of one cell."""
    frame = study.replicates
    chosen = (frame["ablation"] == ablation) & (frame["dataset"] == dataset) & (frame["arm"] == arm)
    return frame[chosen & (frame["state"] == "done")]


def _state(cell: pd.DataFrame) -> str:
    open_states = cell.loc[cell["state"] != "done", "state"]
    if open_states.empty:
        return "done"
    num_done = len(cell) - len(open_states)
    return f"{open_states.iloc[0]} ({num_done} of {len(cell)} done)"


def _numbers(study: Study, done: pd.DataFrame) -> dict[str, Any]:
    top1 = estimate(list(done["evaluate.top1"]))
    assert top1 is not None
    values: dict[str, Any] = {
        "top1": top1.mean,
        "top1_half_width": top1.half_width,
        "top1_video_se": float(done["evaluate.top1_se"].mean()),
        "chance": float(done["evaluate.chance"].iloc[0]),
        "num_scored": int(done["evaluate.num_scored"].min()),
        "num_expected": int(done["evaluate.num_expected"].max()),
        "finetune_clips": int(done["finetune.num_clips"].iloc[0]),
    }
    if done["run.pretrain"].notna().all():
        for name in ("loss_heldout", *(f"floor_{floor}" for floor in FLOORS), "floor_gap", "train_s"):
            values[f"pretrain_{name}"] = float(done[f"pretrain.{name}"].mean())
        values["pretrain_beats_floors"] = bool(done["pretrain.beats_floors"].all())
        values["mask_ratio_achieved"] = float(done["pretrain.mask_ratio_achieved"].iloc[0])
        values["num_visible_cubes"] = int(done["pretrain.num_visible_cubes"].iloc[0])
        values["pretrain_clips"] = int(done["pretrain.num_clips"].iloc[0])
        values["pretrain_cubes"] = int(done["pretrain.num_encoder_cubes"].iloc[0])
    return values


def _versus(study: Study, ablation: str, dataset: str, done: pd.DataFrame) -> dict[str, Any]:
    baseline = next(a["baseline"] for a in study.plan["ablations"] if a["name"] == ablation)
    values: dict[str, Any] = {}
    for label, arm in (("baseline", baseline), ("scratch", "scratch")):
        other = finished(study, ablation, dataset, arm)
        if done["arm"].iloc[0] == arm or other.empty:
            continue
        found = difference(study, done, other)
        if found:
            values |= {
                f"vs_{label}": found.points,
                f"vs_{label}_half_width": found.half_width,
                f"vs_{label}_p": found.p_value,
                f"vs_{label}_over": found.over,
                f"vs_{label}_verdict": found.verdict,
            }
    return values


def readable(cells: pd.DataFrame) -> pd.DataFrame:
    """Return the table of a report: text cells, missing ones shown as their state."""
    rows = []
    for cell in cells.to_dict("records"):
        is_shown = cell["num_seeds"] > 0
        rows.append(
            {
                "arm": cell["arm"],
                "top-1 %": _top1(cell) if is_shown else cell["state"],
                "vs baseline": _gap(cell, "baseline") if is_shown else "",
                "vs scratch": _gap(cell, "scratch") if is_shown else "",
                "pre-training loss": _text(cell.get("pretrain_loss_heldout"), ".4f"),
                "best floor": _text(_best_floor(cell), ".4f"),
                "beats floors": _yes_no(cell.get("pretrain_beats_floors")),
                "hidden": _text(cell.get("mask_ratio_achieved"), ".3f"),
                "clips seen": _text(cell.get("pretrain_clips"), ",.0f"),
            }
        )
    return pd.DataFrame(rows)


def markdown(frame: pd.DataFrame) -> str:
    """Return a frame as a markdown table."""
    lines: list[Sequence[str]] = [list(frame.columns), ["---"] * len(frame.columns), *frame.astype(str).values.tolist()]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _top1(cell: Mapping[Any, Any]) -> str:
    half = cell.get("top1_half_width")
    spread = "" if half is None or pd.isna(half) else f" ± {half:.1f}"
    note = "" if cell["state"] == "done" else f", {cell['state']}"
    return f"{cell['top1']:.1f}{spread} (n = {cell['num_seeds']}{note})"


def _gap(cell: Mapping[Any, Any], label: str) -> str:
    points = cell.get(f"vs_{label}")
    if points is None or pd.isna(points):
        return ""
    return f"{points:+.1f} ± {cell[f'vs_{label}_half_width']:.1f} {cell[f'vs_{label}_verdict']}"


def _best_floor(cell: Mapping[Any, Any]) -> float | None:
    floors = [cell.get(f"pretrain_floor_{name}") for name in FLOORS]
    present = [floor for floor in floors if floor is not None and not pd.isna(floor)]
    return min(present) if present else None


def _text(value: Any, form: str) -> str:
    return "" if value is None or pd.isna(value) else format(value, form)


def _yes_no(value: Any) -> str:
    return "" if value is None or pd.isna(value) else ("yes" if value else "no")
