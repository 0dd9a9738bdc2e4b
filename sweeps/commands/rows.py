"""One row per planned run: its state and the numbers that go with it, for `status` and its json."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from slurm.look import Look
from vmae.config import Run
from vmae.cost import num_steps
from vmae.errors import ResultsError
from vmae.results import MetricRow, read_metrics
from vmae.runs import FINISHED, State, Store
from vmae.study import Plan


@dataclass(frozen=True)
class Row:
    """What is known of one run.

    Attributes:
        step, num_steps: optimiser steps taken and to take; None for evaluations.
        loss, clips_per_s, eta_s: of a run that trains.
        gpu_hours: spent on training over all attempts, or on evaluation in one, 0 without GPUs; None where nothing is known.
        estimate_gpu_hours: as estimated when it was submitted.
        job_id, node: of the job in SLURM's queue.
        reason: why it waits, stopped or failed.
    """

    id: str
    name: str
    stage: str
    state: State
    step: int | None = None
    num_steps: int | None = None
    loss: float | None = None
    clips_per_s: float | None = None
    eta_s: float | None = None
    num_restarts: int = 0
    gpu_hours: float | None = None
    estimate_gpu_hours: float | None = None
    job_id: str = ""
    node: str = ""
    reason: str = ""


def run_names(plan: Plan) -> dict[str, str]:
    """Return a name per run, from the first cell that uses it."""
    names: dict[str, str] = {}
    for cell in plan.cells:
        for seed, runs in cell.replicates.items():
            for stage, id_ in runs.items():
                where = "" if stage == "pretrain" else f" {cell.dataset}"
                names.setdefault(id_, f"{stage} {cell.arm}{where} seed {seed}")
    return names


def rows_of(plan: Plan, seen: Look, store: Store) -> list[Row]:
    """Return a row for each run of the plan, parents first."""
    names = run_names(plan)
    return [_row(id_, names[id_], run, seen, store) for id_, run in plan.runs.items()]


def _row(id_: str, name: str, run: Run, seen: Look, store: Store) -> Row:
    place, state, job = store.run(id_), seen.states[id_], seen.jobs.get(id_)
    values: dict[str, Any] = {"id": id_, "name": name, "stage": run.stage, "state": state, "num_steps": num_steps(run)}
    if state == "missing":
        return Row(**values)
    submission = seen.submissions.get(id_) or place.read_submission()
    num_gpus = submission.get("num_gpus", 0)
    if (estimate := submission.get("estimate_s")) is not None and num_gpus:
        values["estimate_gpu_hours"] = estimate / 3600
    if state in FINISHED:
        result = place.read_result()
        assert result is not None
        values |= {"step": result.compute.get("num_steps"), "num_restarts": result.compute.get("num_restarts", 0)}
        values["reason"] = str(result.metrics.get("reason", ""))
        spent_s = result.spent_s
        values["gpu_hours"] = None if spent_s is None and num_gpus else (spent_s or 0.0) * num_gpus / 3600
        return Row(**values)
    if job is not None:
        waits = job.reason if job.is_waiting and job.reason != "None" else ""
        values |= {"job_id": job.id, "node": job.nodes, "reason": waits}
    if state in ("failed", "interrupted"):
        values["reason"] = str(place.read_stopped().get("reason", "")).partition("\n")[0]
    elif state == "lost" and place.num_unstarted():
        values["reason"] = f"its job ended before the run could start: python -m sweeps logs {id_}"
    starts = place.read_starts()
    values["num_restarts"] = max(len(starts) - 1, 0)
    return Row(**values | _training(run, store, id_, state, num_gpus))


def _training(run: Run, store: Store, id_: str, state: State, num_gpus: int) -> dict[str, Any]:
    try:
        last: Mapping[str, MetricRow] = {row.metric: row for row in read_metrics(store.run(id_).metrics)}
    except ResultsError as error:
        return {"reason": str(error)}
    total = num_steps(run)
    if "loss" not in last or total is None:
        return {}
    step, rate = last["loss"].step, last["clips_per_s"].value
    values: dict[str, Any] = {"step": step, "loss": last["loss"].value, "clips_per_s": rate}
    if "train_s" in last:
        spent_s = last["train_s"].value or 0.0
        values["gpu_hours"] = spent_s * num_gpus / 3600
        if state == "running" and step:
            values["eta_s"] = (total - step) * spent_s / step
    return values


def share_done(store: Store, id_: str, run: Run, state: State) -> float:
    """Return the share of a run's work that is done, 0 to 1."""
    if state in FINISHED:
        return 1.0
    total = num_steps(run)
    rows = read_metrics(store.run(id_).metrics) if total else []
    return min(rows[-1].step / total, 0.99) if rows and total else 0.0
