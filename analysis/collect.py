"""From run directories to one tidy frame: a row per cell and seed, whether its runs are done or not."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from analysis.compare import Spread, pooled_spread
from vmae.config import STAGES
from vmae.errors import ResultsError
from vmae.files import UNREADABLE
from vmae.results import Result, read_metrics
from vmae.runs import RunDir, Store


@dataclass(frozen=True)
class Study:
    """A sweep's plan and what has become of it.

    Attributes:
        plan: plan.json as written by submit.
        replicates: one row per cell and seed; `state` is that of the evaluation or of what stopped the chain before it.
        states: {run id: state} of every planned run.
        results: {run id: result} of the finished ones.
        problems: results that are there and cannot be used, each in a sentence.
    """

    store: Store
    plan: Mapping[str, Any]
    replicates: pd.DataFrame
    states: Mapping[str, str]
    results: Mapping[str, Result]
    problems: tuple[str, ...] = ()
    _spreads: dict[tuple[str, str], Spread | None] = field(default_factory=dict, init=False, repr=False, compare=False)

    @property
    def name(self) -> str:
        """Name of the sweep."""
        return str(self.plan["sweep"])

    @property
    def is_synthetic(self) -> bool:
        """Whether the results were made up to try the analysis."""
        return any(result.provenance.get("synthetic") for result in self.results.values())

    def paper_name(self, dataset: str) -> str:
        """Return the paper's data set that `dataset` is or stands for."""
        return str(self.plan.get("stands_for", {}).get(dataset, dataset))

    def ablation(self, name: str) -> Mapping[str, Any]:
        """Return what the plan says of an ablation."""
        return next(ablation for ablation in self.plan["ablations"] if ablation["name"] == name)

    @cached_property
    def done_cells(self) -> Mapping[tuple[str, str, str], pd.DataFrame]:
        """The done replicates by ablation, data set and arm; cells without any are absent."""
        done = self.replicates[self.replicates["state"] == "done"]
        return dict(iter(done.groupby(["ablation", "dataset", "arm"], sort=False)))  # type: ignore[arg-type]

    def finished(self, ablation: str, dataset: str, arm: str) -> pd.DataFrame:
        """Return the done replicates of one cell, perhaps none."""
        return self.done_cells.get((ablation, dataset, arm), self.replicates.iloc[:0])

    def spread(self, dataset: str, column: str = "evaluate.top1") -> Spread | None:
        """Return the spread over seeds of all arms on a data set that have every seed; None if the sweep does not pool them."""
        if self.plan.get("spread") != "pooled" or column not in self.replicates:
            return None
        if (dataset, column) not in self._spreads:
            frame = self.replicates[["dataset", "state", "cell_id", "seed", column]].drop_duplicates(
                ["dataset", "cell_id", "seed"]
            )
            done = frame[(frame["dataset"] == dataset) & (frame["state"] == "done")]
            by_seed = done.pivot(index="cell_id", columns="seed", values=column).reindex(columns=self.plan["seeds"])
            values = by_seed.to_numpy(dtype=float)
            self._spreads[dataset, column] = pooled_spread(values[np.isfinite(values).all(axis=1)])
        return self._spreads[dataset, column]

    def run_dir(self, id_: str) -> RunDir:
        """Return the directory of a run."""
        return self.store.run(id_)


def load_study(store: Store, sweep: str) -> Study:
    """Read a sweep's plan and results; RunDirError if it was never submitted.

    Raises ResultsError for a result that belongs to another run, and where synthetic results stand among real ones.
    """
    plan = store.read_plan(sweep)
    states = store.states({id_: run["parent"] for id_, run in plan["runs"].items()})
    results, problems = {}, []
    for id_ in plan["runs"]:
        try:
            result = store.run(id_).read_result()
        except ResultsError as error:
            problems.append(str(error))
            continue
        if result is not None:
            if result.run_id != id_:
                raise ResultsError(f"{store.run(id_).result} is the result of run {result.run_id}: it was copied here")
            results[id_] = result
    _refuse_a_mixture(store, results)
    rows = [_row(plan, cell, replicate, states, results) for cell in plan["cells"] for replicate in cell["replicates"]]
    return Study(store, plan, pd.DataFrame(rows), states, results, tuple(problems))


def read_reconstruction(file: Path) -> dict[str, np.ndarray]:
    """Read a pre-training's held-out clips: `original`, `reconstruction` uint8 [n, T, H, W, 3], `hidden` bool [n, T, H, W].

    With them `uses_target_statistics`, bool. ResultsError where the file is damaged.
    """
    try:
        with np.load(file) as content:
            return dict(content)
    except UNREADABLE as error:
        raise ResultsError(f"{file} is damaged ({error}); without it, figures show no clip of this run") from error


def _refuse_a_mixture(store: Store, results: Mapping[str, Result]) -> None:
    """Raise ResultsError where results that were made up stand among measured ones."""
    kinds = {bool(result.provenance.get("synthetic")): id_ for id_, result in results.items()}
    if len(kinds) == 2:
        raise ResultsError(
            f"{store.run(kinds[True]).result} is synthetic and {store.run(kinds[False]).result} is measured; they are never "
            f"mixed: use another --runs folder"
        )


def _row(
    plan: Mapping[str, Any],
    cell: Mapping[str, Any],
    replicate: Mapping[str, Any],
    states: Mapping[str, str],
    results: Mapping[str, Result],
) -> dict[str, Any]:
    ids = replicate["runs"]
    unfinished = [states[ids[stage]] for stage in STAGES if stage in ids and states[ids[stage]] != "done"]
    row: dict[str, Any] = {
        "ablation": cell["ablation"],
        "arm": cell["arm"],
        "dataset": cell["dataset"],
        "cell_id": cell["cell_id"],
        "seed": replicate["seed"],
        "state": unfinished[0] if unfinished else "done",
        **{f"run.{stage}": ids.get(stage) for stage in STAGES},
    }
    config = plan["runs"][ids["pretrain"]]["config"] if "pretrain" in ids else None
    mask = config["pretrain"].get("mask") if config else None
    row["mask.kind"] = mask_kind(config) if config and mask else None
    row["mask.ratio"] = mask["ratio"] if mask else None
    row["method"] = config["pretrain"].get("method", "masked") if config else None
    for stage in STAGES:
        result = results.get(ids.get(stage, ""))
        if result is not None and result.status == "done":
            row |= {f"{stage}.{name}": value for name, value in (result.metrics | result.compute).items()}
            row[f"{stage}.commit"] = result.provenance.get("commit")
            row[f"{stage}.dirty"] = result.provenance.get("dirty")
            row[f"{stage}.hours"] = hours(result)
            row[f"{stage}.hardware"] = processor(result)
            row[f"{stage}.on_gpu"] = "gpu" in result.provenance
    return row


def hours(result: Result) -> float | None:
    """Return what a run took, in hours of GPUs, or else of cores, restarts included; None where it is not known."""
    cores = 1 if "gpu" in result.provenance else int(result.provenance.get("torch_threads") or 1)
    return None if result.device_s is None else cores * result.device_s / 3600


def mask_kind(config: Mapping[str, Any]) -> str:
    """Return the kind of mask as figures tell them apart: clips of one frame are images, whatever the mask is called."""
    return "image" if config["grid"]["num_frames"] == 1 else str(config["pretrain"]["mask"]["kind"])


def learning_curve(place: RunDir) -> pd.DataFrame:
    """Return the columns step, epoch, value of the training loss of one run."""
    rows = [row for row in read_metrics(place.metrics) if row.metric == "loss"]
    return pd.DataFrame([(r.step, r.epoch, r.value) for r in rows], columns=["step", "epoch", "value"])


def predictions(place: RunDir) -> pd.DataFrame:
    """Return the per-video predictions of an evaluation: video, label, predicted, label_probability, correct.

    Raises ResultsError for a file that is damaged, or that has not as many rows as the result says were scored.
    """
    try:
        with np.errstate(invalid="raise"):
            frame = pd.read_csv(place.predictions, dtype={"label": int, "predicted": int, "label_probability": float})
        frame["correct"] = frame["label"] == frame["predicted"]
        is_whole = frame["video"].is_unique
    except (ValueError, KeyError, OSError, ArithmeticError) as error:
        raise ResultsError(f"{place.predictions}: no predictions: {error}; remove the run directory to make it again") from None
    result = place.read_result()
    if not is_whole or (result and len(frame) != result.metrics["num_scored"]):
        raise ResultsError(f"{place.predictions} has not one row per scored video; remove the run directory to make it again")
    return frame


def where_from(results: Iterable[Result], seeds: Iterable[int]) -> list[str]:
    """Return what code and which machines results came from, how long they took together, and their seeds: a sentence each."""
    found = list(results)
    commits = {(r.provenance.get("commit"), r.provenance.get("dirty")) for r in found}
    names = sorted(f"{commit or 'no checkout'}{' with local changes' if dirty else ''}" for commit, dirty in commits)
    mixed = "**Runs of different code are mixed here.** " if len(names) > 1 else ""
    trained_h = sum(float(r.compute.get("train_s", 0.0)) for r in found) / 3600
    return [
        f"{mixed}Code: {'; '.join(names)}",
        f"Machine: {'; '.join(hardware(found))}",
        f"Training time of all runs together: {trained_h:.2f} h; seeds: {', '.join(map(str, seeds))}",
    ]


def processor(result: Result) -> str | None:
    """Return the GPU that a run used, or the CPU with what it can do and its system: CPUs of one name differ."""
    facts = result.provenance
    return facts.get("gpu") or ", ".join(str(facts[key]) for key in ("cpu", "cpu_capability", "platform") if key in facts) or None


def hardware(results: Iterable[Result]) -> list[str]:
    """Return the distinct machines that results came from."""
    return sorted(
        {
            f"{processor(r)}, torch {r.provenance.get('packages', {}).get('torch')}, on {r.provenance.get('device')}"
            for r in results
        }
    )
