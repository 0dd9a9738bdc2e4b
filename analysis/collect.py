"""From run directories to one tidy frame: a row per cell and seed, whether its runs are done or not."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from vmae.errors import ResultsError
from vmae.results import Result, read_metrics
from vmae.runs import RunDir, Store

STAGES = ("pretrain", "finetune", "evaluate")


@dataclass(frozen=True)
class Study:
    """A sweep's plan and what has become of it.

    Attributes:
        plan: plan.json as written by submit.
        replicates: one row per cell and seed; `state` is that of the evaluation or of what stopped the chain before it.
        states: {run id: state} of every planned run.
        results: {run id: result} of the finished ones.
    """

    store: Store
    plan: Mapping[str, Any]
    replicates: pd.DataFrame
    states: Mapping[str, str]
    results: Mapping[str, Result]

    @property
    def name(self) -> str:
        """Name of the sweep."""
        return str(self.plan["sweep"])

    def run_dir(self, id_: str) -> RunDir:
        """Return the directory of a run."""
        return self.store.run(id_)


def load_study(store: Store, sweep: str) -> Study:
    """Read a sweep's plan and results; RunDirError if it was never submitted, ResultsError for a damaged or foreign result."""
    plan = store.read_plan(sweep)
    states = store.states({id_: run["parent"] for id_, run in plan["runs"].items()})
    results = {}
    for id_ in plan["runs"]:
        result = store.run(id_).read_result()
        if result is not None:
            if result.run_id != id_:
                raise ResultsError(f"{store.run(id_).result} is the result of run {result.run_id}: it was copied here")
            results[id_] = result
    rows = [_row(plan, cell, replicate, states, results) for cell in plan["cells"] for replicate in cell["replicates"]]
    return Study(store, plan, pd.DataFrame(rows), states, results)


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
    row["mask.kind"] = mask_kind(config) if config else None
    row["mask.ratio"] = config["pretrain"]["mask"]["ratio"] if config else None
    for stage in STAGES:
        result = results.get(ids.get(stage, ""))
        if result is not None and result.status == "done":
            row |= {f"{stage}.{name}": value for name, value in (result.metrics | result.compute).items()}
            row[f"{stage}.commit"] = result.provenance.get("commit")
            row[f"{stage}.dirty"] = result.provenance.get("dirty")
    return row


def mask_kind(config: Mapping[str, Any]) -> str:
    """Return the kind of mask as figures tell them apart: clips of one frame are images, whatever the mask is called."""
    return "image" if config["grid"]["num_frames"] == 1 else str(config["pretrain"]["mask"]["kind"])


def learning_curve(place: RunDir, metric: str = "loss") -> pd.DataFrame:
    """Return the columns step, epoch, value of one metric of one run."""
    rows = [row for row in read_metrics(place.metrics) if row.metric == metric]
    return pd.DataFrame([(r.step, r.epoch, r.value) for r in rows], columns=["step", "epoch", "value"])


def predictions(place: RunDir) -> pd.DataFrame:
    """Return the per-video predictions of an evaluation: video, label, predicted, label_probability, correct."""
    frame = pd.read_csv(place.predictions)
    frame["correct"] = frame["label"] == frame["predicted"]
    return frame


def hardware(study: Study) -> list[str]:
    """Return the distinct machines that results came from."""
    machines = {
        json.dumps(
            [
                r.provenance.get("gpu") or r.provenance.get("cpu"),
                r.provenance.get("packages", {}).get("torch"),
                r.provenance.get("device"),
            ]
        )
        for r in study.results.values()
    }
    return sorted("{}, torch {}, on {}".format(*json.loads(machine)) for machine in machines)
