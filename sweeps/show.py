"""What the sweeps command prints: the plan, the states, and a live view of running jobs."""

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Table

from vmae.config import PretrainRun, Run
from vmae.cost import START_S, CostModel, num_clips
from vmae.results import read_metrics
from vmae.runs import STATES, State, Store
from vmae.study import Plan

console = Console(highlight=False, soft_wrap=True)


def duration(seconds: float) -> str:
    """Return seconds as 45 s, 12 min or 3.4 h."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def run_names(plan: Plan) -> dict[str, str]:
    """Return a name per run, from the first cell that uses it."""
    names: dict[str, str] = {}
    for cell in plan.cells:
        for seed, runs in cell.replicates.items():
            for stage, id_ in runs.items():
                where = "" if stage == "pretrain" else f" {cell.dataset}"
                names.setdefault(id_, f"{stage} {cell.arm}{where} seed {seed}")
    return names


def print_plan(plan: Plan, states: Mapping[str, State], model: CostModel, num_jobs: int) -> None:
    """Print arms, runs, what is shared and what is still to be paid."""
    sweep = plan.sweep
    console.print(f"[bold]{sweep.name}[/]: {sweep.purpose}")
    for ablation in sweep.ablations:
        console.print(f"  {ablation.name}: {ablation.question} ({ablation.paper}; baseline {ablation.baseline})")
    table = Table("stage", "runs", "done", "clips", "estimate", "from", box=None, header_style="bold")
    left = 0.0
    for stage in dict.fromkeys(run.stage for run in plan.runs.values()):
        runs = {id_: run for id_, run in plan.runs.items() if run.stage == stage}
        seconds = {id_: model.seconds(run) for id_, run in runs.items()}
        left += sum(s for id_, s in seconds.items() if states[id_] != "done")
        source = "finished runs here" if stage in model.measured else "reference machine"
        num_done = sum(states[id_] == "done" for id_ in runs)
        clips = sum(num_clips(run) for run in runs.values())
        table.add_row(stage, str(len(runs)), str(num_done), f"{clips:,}", duration(sum(seconds.values())), source)
    console.print(table)
    jobs = sum(isinstance(run, PretrainRun) and states[id_] != "done" for id_, run in plan.runs.items())
    console.print(
        f"{len(plan.cells)} cells x {len(sweep.seeds)} seeds = {plan.num_declared} runs declared, "
        f"{plan.num_shared} shared, {len(plan.runs)} to exist"
    )
    console.print(
        f"still to run: about {duration(left + jobs * START_S)} of compute, "
        f"{duration((left + jobs * START_S) / num_jobs)} with {num_jobs} jobs at a time (estimate)"
    )


def print_states(plan: Plan, states: Mapping[str, State], store: Store, verbose: bool) -> None:
    """Print how many runs are in each state, and each run that is neither done nor merely waiting."""
    counts = {state: sum(s == state for s in states.values()) for state in STATES}
    console.print(f"{plan.sweep.name}: " + ", ".join(f"{n} {state}" for state, n in counts.items() if n))
    names = run_names(plan)
    for id_, state in states.items():
        if not verbose and state in ("done", "queued", "missing"):
            continue
        console.print(f"  {id_}  {state:<11} {names[id_]}{_detail(store, id_, state)}")


def _detail(store: Store, id_: str, state: State) -> str:
    place = store.run(id_)
    if state == "running":
        return f"  {progress_of(store, id_)}"
    if state == "diverged":
        result = place.read_result()
        return f"  {result.metrics.get('reason', '')}" if result else ""
    reason = place.read_stopped().get("reason", "") if state in ("failed", "interrupted") else ""
    return f"  {reason.splitlines()[0]}" if reason else ""


def progress_of(store: Store, id_: str) -> str:
    """Return `step 120, loss 0.031, 412 clips/s` of a running run, from its last metrics rows."""
    last: dict[str, Any] = {row.metric: row for row in read_metrics(store.run(id_).metrics)}
    if "loss" not in last:
        return "starting"
    return (
        f"step {last['loss'].step}, epoch {last['loss'].epoch:.1f}, loss {last['loss'].value:.4f}, "
        f"{last['clips_per_s'].value:.0f} clips/s"
    )


def share_done(store: Store, id_: str, run: Run, state: State) -> float:
    """Return the share of a run's work that is done, 0 to 1."""
    if state in ("done", "diverged"):
        return 1.0
    if isinstance(run, PretrainRun):
        epochs = run.pretrain.optim.epochs
    elif run.stage == "finetune":
        epochs = run.finetune.optim.epochs
    else:
        return 0.0
    rows = read_metrics(store.run(id_).metrics)
    return min(rows[-1].epoch / epochs, 0.99) if rows else 0.0
