"""The cells of a sweep as a table: mean, interval, n, the paper's value, difference to the baseline, compute, flags, run ids."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from analysis.collect import Study, predictions
from analysis.compare import Difference, estimate, holm, over_seeds, over_videos
from analysis.formats import is_accuracy, is_number
from analysis.paper import lookup
from vmae.config import STAGES
from vmae.errors import ResultsError, near
from vmae.results import FLOORS

GROUP = ["ablation", "dataset", "arm"]
COMPARED = ("baseline", "scratch")
MIXED_HARDWARE = "mixed hardware"
TOP1_WORDS = ("ft_acc", "ft_top1", "lin_acc", "lin_top1")  # in paper.csv: top-1 fine-tuned, and under a linear probe
SAME_SHARE = 0.005  # of hidden cubes: shares that differ by less are one
PRETRAIN_NUMBERS = (
    "loss_heldout",
    *(f"floor_{floor}" for floor in (*FLOORS, "chance")),
    "floor_gap",
    "train_s",
    "retrieval_top1",
    "peak_memory_gb",
)
PRETRAIN_COUNTS = {
    "num_visible_cubes": "num_visible_cubes",
    "pretrain_videos": "num_videos",
    "pretrain_epochs": "num_epochs",
    "pretrain_steps": "num_steps",
    "pretrain_clips": "num_clips",
    "pretrain_cubes": "num_encoder_cubes",
}


def cell_table(study: Study, metric: str | None = None) -> pd.DataFrame:
    """Return one row per cell in declared order; a cell with no finished seed has a state and no numbers.

    Args:
        metric: of evaluations, or `pretrain.<name>`, instead of what each ablation is compared by.

    Raises:
        ResultsError: no finished run has such a metric; with the near word.
    """
    if metric is not None:
        column_of(study, metric)
    rows = []
    for (ablation, dataset, arm), cell in study.replicates.groupby(GROUP, sort=False):
        asked = study.ablation(str(ablation))
        name = metric or str(asked.get("metric", "top1"))
        done = cell[cell["state"] == "done"]
        column = _column(name)
        measured = done[np.isfinite(done[column].astype(float))] if column in done else done.iloc[:0]
        stage = column.split(".")[0]
        has_stage = bool(cell[f"run.{stage}"].notna().any())
        row: dict[str, Any] = {
            "ablation": ablation,
            "dataset": dataset,
            "arm": arm,
            "metric": name,
            "state": _state(cell) if has_stage else f"has no {stage}",
            "num_seeds": len(measured),
            "num_planned": len(cell),
            "num_nan": len(done) - len(measured) if has_stage else 0,
            "mask.kind": cell["mask.kind"].iloc[0],
            "mask.ratio": cell["mask.ratio"].iloc[0],
            "method": cell["method"].iloc[0],
        } | _papers(asked.get("paper_rows", {}).get(arm), study.paper_name(str(dataset)), name)
        if len(measured):
            row |= _numbers(measured, column)
            row |= _versus(study, asked, str(dataset), measured, column)
        row["runs"] = " ".join(str(id_) for id_ in cell["run.evaluate"])
        rows.append(row)
    cells = pd.DataFrame(rows)
    for label in COMPARED:
        _correct(cells, label)
    return _flag(study, cells)


def _papers(row: Mapping[str, Any] | None, dataset: str, metric: str) -> dict[str, Any]:
    """Return the paper's number for a cell, its source, and on which other data set it is, if on another."""
    theirs = row and ("top1" if row["metric"] in TOP1_WORDS else row["metric"])
    found = lookup(row, dataset) if theirs == metric else None
    if found is None:
        return {"paper": None, "paper_source": None, "paper_dataset": None}
    other = None if found.dataset == dataset else found.dataset
    return {"paper": found.value, "paper_source": found.source, "paper_dataset": other}


def column_of(study: Study, metric: str) -> str:
    """Return the column of a metric; ResultsError with the near word where no finished run has it."""
    frame = study.replicates
    known = [c for c in frame.columns if frame[c].map(is_number).any()]
    names = sorted({c.removeprefix("evaluate.") for c in known if c.split(".")[0] in STAGES})
    if names and metric not in names:
        raise ResultsError(f"no finished run of {study.name} has metric {metric!r}{near(metric, names)}")
    return _column(metric)


def _column(metric: str) -> str:
    return metric if metric.split(".")[0] in STAGES else f"evaluate.{metric}"


def difference(study: Study, done: pd.DataFrame, other: pd.DataFrame, column: str = "evaluate.top1") -> Difference | None:
    """Compare two cells, paired by the seeds both have: over seeds if there are two or more, else over the test videos.

    Seeds are judged by the spread that all arms share, if the sweep was declared so and they do share one.
    """
    theirs = {seed: (value, id_) for seed, value, id_ in _values_of(other, column)}
    pairs = [(value, id_, *theirs[seed]) for seed, value, id_ in _values_of(done, column) if seed in theirs]
    if len(pairs) >= 2:
        spread = study.spread(str(done["dataset"].iloc[0]), column)
        shared = spread if spread and spread.is_shared else None
        step = _step(pd.concat([done, other]), column)
        return over_seeds([pair[0] for pair in pairs], [pair[2] for pair in pairs], shared, step)
    if len(pairs) == 1 and column == "evaluate.top1":
        return over_videos(*paired_predictions(study, pairs[0][1], pairs[0][3]))
    return None


def _step(rows: pd.DataFrame, column: str) -> float:
    """Return the points between two accuracies that evaluations can reach; 0 of another metric."""
    is_scored = column.startswith("evaluate.") and is_accuracy(column) and _has(rows, "evaluate.num_scored")
    return 100 / float(rows["evaluate.num_scored"].max()) if is_scored else 0.0


def _values_of(done: pd.DataFrame, column: str) -> list[tuple[int, float, str]]:
    """Return seed, value and evaluation of each replicate whose value is finite."""
    rows = zip(done["seed"], done[column].astype(float), done["run.evaluate"], strict=True)
    return [row for row in rows if np.isfinite(row[1])]


def paired_predictions(study: Study, arm: str, other: str) -> tuple[list[bool], list[bool]]:
    """Return which videos two evaluations have right, of the videos that both scored, in one order."""
    a, b = (predictions(study.run_dir(str(id_))).set_index("video")["correct"] for id_ in (arm, other))
    both = a.index.intersection(b.index)
    return list(a[both]), list(b[both])


def _state(cell: pd.DataFrame) -> str:
    open_states = cell.loc[cell["state"] != "done", "state"]
    if open_states.empty:
        return "done"
    num_done = len(cell) - len(open_states)
    return f"{open_states.iloc[0]} ({num_done} of {len(cell)} done)"


def _numbers(done: pd.DataFrame, column: str) -> dict[str, Any]:
    mean = estimate(list(done[column]))
    assert mean is not None
    values: dict[str, Any] = {
        "value": mean.mean,
        "value_half_width": mean.half_width,
        "top1": float(done["evaluate.top1"].mean()),
        "top1_half_width": getattr(estimate(list(done["evaluate.top1"])), "half_width", None),
        "top1_video_se": float(done["evaluate.top1_se"].mean()),
        "chance": float(done["evaluate.chance"].iloc[0]),
        "num_scored": int(done["evaluate.num_scored"].min()),
        "num_expected": int(done["evaluate.num_expected"].max()),
        "finetune_clips": int(done["finetune.num_clips"].iloc[0]),
        "hours": _hours(done),
        "hours_apart": _hours_apart(done),
        "hours_of": "GPU" if bool(done["finetune.on_gpu"].iloc[0]) else "core",
    }
    if done["run.pretrain"].notna().all():
        for name in PRETRAIN_NUMBERS:
            if _has(done, f"pretrain.{name}"):
                values[f"pretrain_{name}"] = float(done[f"pretrain.{name}"].astype(float).mean())
        values["pretrain_beats_floors"] = bool(done["pretrain.beats_floors"].all())
        if _has(done, "pretrain.mask_ratio_achieved"):
            values["mask_ratio_achieved"] = float(done["pretrain.mask_ratio_achieved"].iloc[0])
        for column, name in PRETRAIN_COUNTS.items():
            if _has(done, f"pretrain.{name}"):
                values[column] = int(done[f"pretrain.{name}"].iloc[0])
    return values


def _hours(done: pd.DataFrame) -> float:
    """Return what a seed took, the means of its stages; one whose evaluation was interrupted tells only of its other stages."""
    columns = [column for stage in STAGES if (column := f"{stage}.hours") in done]
    return float(done[columns].astype(float).mean().sum())


def _hours_apart(done: pd.DataFrame) -> float:
    """Return how many times as long the slowest seed took as the fastest; a machine with other work makes it large."""
    taken = done[[f"{stage}.hours" for stage in STAGES if _has(done, f"{stage}.hours")]].astype(float).sum(axis=1)
    return float(taken.max() / taken.min()) if len(taken) and taken.min() > 0 else 1.0


def _has(done: pd.DataFrame, column: str) -> bool:
    return column in done and bool(done[column].notna().all())


def _versus(study: Study, asked: Mapping[str, Any], dataset: str, done: pd.DataFrame, column: str) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for label, arm in (("baseline", asked["baseline"]), ("scratch", "scratch")):
        other = study.finished(asked["name"], dataset, arm)
        if done["arm"].iloc[0] == arm or other.empty:
            continue
        found = difference(study, done, other, column)
        if found:
            values |= {
                f"vs_{label}": found.points,
                f"vs_{label}_half_width": found.half_width,
                f"vs_{label}_p": found.p_value,
                f"vs_{label}_n": found.n,
                f"vs_{label}_over": found.over,
                f"vs_{label}_df": found.df,
                f"vs_{label}_detectable": found.detectable,
            }
    return values


def _correct(cells: pd.DataFrame, label: str) -> None:
    """Add Holm's p values, verdicts and what these would find: the comparisons with one arm on one data set are one family."""
    if f"vs_{label}_p" not in cells:
        return
    for _, part in cells.groupby(["ablation", "dataset"], sort=False):
        cells.loc[part.index, f"vs_{label}_p_holm"] = holm(list(part[f"vs_{label}_p"]))
        made = part[part[f"vs_{label}_p"].notna()]
        found = [_difference_of(cell, label).detectable_among(len(made)) for cell in made.to_dict("records")]
        cells.loc[made.index, f"vs_{label}_detectable"] = found
    known = cells[f"vs_{label}_p"].notna()
    cells[f"vs_{label}_verdict"] = None
    cells.loc[known, f"vs_{label}_verdict"] = [_verdict(cell, label) for cell in cells[known].to_dict("records")]


def _verdict(cell: Mapping[Any, Any], label: str) -> str:
    """Return the verdict on a cell's difference; only of accuracies is more known to be better."""
    verdict = _difference_of(cell, label).verdict_at(cell[f"vs_{label}_p_holm"])
    return verdict if is_accuracy(cell["metric"]) else verdict.replace("better", "higher").replace("worse", "lower")


def _difference_of(cell: Mapping[Any, Any], label: str) -> Difference:
    """Return a cell's difference as it was compared."""
    values = {name: cell[f"vs_{label}_{name}"] for name in ("half_width", "p", "n", "over", "detectable", "df")}
    known = {name: None if value is None or value != value else value for name, value in values.items()}
    df = None if known["df"] is None else int(known["df"])
    points, detectable = cell[f"vs_{label}"], known["detectable"]
    return Difference(points, known["half_width"], values["p"], int(values["n"]), values["over"], detectable, df)


def _flag(study: Study, cells: pd.DataFrame) -> pd.DataFrame:
    """Add `flags`: in what a cell's seeds differ, from each other and from its baseline, besides the question."""
    flags = []
    for cell in cells.to_dict("records"):
        baseline = study.ablation(cell["ablation"])["baseline"]
        mine, base = (study.finished(cell["ablation"], cell["dataset"], arm) for arm in (cell["arm"], baseline))
        flags.append("; ".join(_differing(mine, base)) if len(mine) else "")
    cells["flags"] = flags
    return cells


def _differing(mine: pd.DataFrame, base: pd.DataFrame) -> Iterator[str]:
    for stage, what in (("pretrain", "pre-training"), ("finetune", "fine-tuning")):
        own, others = (_values(part, [f"{stage}.num_clips"]) for part in (mine, base))
        if len(own) > 1:
            yield f"mixed {what} budgets"
        elif len(own) == len(others) == 1 and own != others:
            yield f"{what} budget x {own.pop() / others.pop():.3g}"
    if apart := hidden_apart(mine, base):
        yield apart
    for columns, what in (
        (["evaluate.list_sha256"], "other test list"),
        ([f"{stage}.commit" for stage in STAGES], "mixed code"),
        ([f"{stage}.hardware" for stage in STAGES], MIXED_HARDWARE),
    ):
        if len(_values(mine, columns) | _values(base, columns)) > 1:
            yield what
    if any(_values(mine, [f"{stage}.dirty" for stage in STAGES])):
        yield "uncommitted code"
    if _values(mine, [f"{stage}.num_left_out" for stage in STAGES]):
        yield "steps left out"


def hidden_apart(mine: pd.DataFrame, other: pd.DataFrame) -> str:
    """Return in words that two cells of one ratio hide different shares (tubes and frames round coarsely), or ""."""
    asked, hidden = (
        [_values(part, [column]) for part in (mine, other)] for column in ("mask.ratio", "pretrain.mask_ratio_achieved")
    )
    if asked[0] != asked[1] or len(hidden[0]) != 1 or len(hidden[1]) != 1:
        return ""
    own, others = hidden[0].pop(), hidden[1].pop()
    return f"hidden {own:.3f} against {others:.3f}" if abs(own - others) > SAME_SHARE else ""


def _values(part: pd.DataFrame, columns: Sequence[str]) -> set[Any]:
    return {value for column in columns if column in part for value in _known(part[column])}


def _known(values: pd.Series) -> Iterator[Any]:
    """Yield what is not missing; pandas' own way takes a tenth of a table's time for so few values."""
    return (value for value in values.tolist() if value is not None and value == value)
