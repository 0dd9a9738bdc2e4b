"""What the sweeps command prints: the plan with its cost, and the states with their numbers."""

from collections import Counter
from collections.abc import Mapping

from rich.console import Console
from rich.table import Table

from slurm.look import Look
from slurm.profile import LocalProfile, SlurmProfile
from sweeps.commands.rows import Row, rows_of
from sweeps.scales import missing_inputs
from vmae.config import STAGES, PretrainRun
from vmae.cost import START_S, CostModel, num_clips
from vmae.remarks import remarks
from vmae.runs import STATES, State, Store
from vmae.study import Plan

console = Console(highlight=False, soft_wrap=True)
QUIET: tuple[State, ...] = ("done", "queued", "missing")


def duration(seconds: float) -> str:
    """Return seconds as 45 s, 12 min or 3.4 h."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def print_plan(
    plan: Plan, states: Mapping[str, State], model: CostModel, place: LocalProfile | SlurmProfile, on_gpu: bool
) -> None:
    """Print arms, runs, what is shared and what is still to be paid, in GPU-hours or in the time of cores."""
    sweep = plan.sweep
    console.print(f"[bold]{sweep.name}[/]: {sweep.purpose}")
    for ablation in sweep.ablations:
        console.print(f"  {ablation.name}: {ablation.question} ({ablation.paper}; baseline {sweep.baseline_of(ablation)})")
    unit = "GPU-hours" if on_gpu else "core time"
    table = Table("stage", "runs", "done", "clips", unit, "from", box=None, header_style="bold")
    for stage in STAGES:
        runs = {id_: run for id_, run in plan.runs.items() if run.stage == stage}
        if not runs:
            continue
        spent = [model.seconds(run) for run in runs.values()]
        sources = ", ".join(dict.fromkeys(model.source(run) for run in runs.values()))
        num_done = sum(states[id_] == "done" for id_ in runs)
        clips = sum(num_clips(run) for run in runs.values())
        estimate = "unknown" if None in spent else _amount(sum(s or 0.0 for s in spent), unit).removesuffix(f" {unit}")
        table.add_row(stage, str(len(runs)), str(num_done), f"{clips:,}", estimate, sources)
    console.print(table)
    console.print(
        f"{len(plan.cells)} cells x {len(sweep.seeds)} seeds: {plan.num_declared} runs declared, "
        f"{plan.num_shared} shared, {len(plan.runs)} to exist"
    )
    for remark in remarks(plan):
        console.print(remark, markup=False)
    _print_cost(plan, states, model, place, unit)


def print_missing_inputs(plan: Plan) -> None:
    """Print which lists and weights are not there: ids of runs on them are others once they are."""
    if missing := missing_inputs(plan):
        console.print(f"not there yet, so counted as their makers say: {', '.join(missing)}", markup=False)


def _print_cost(plan: Plan, states: Mapping[str, State], model: CostModel, place: LocalProfile | SlurmProfile, unit: str) -> None:
    seconds = {id_: model.seconds(run) for id_, run in plan.runs.items()}
    if None in seconds.values():
        console.print("cost: unknown until a run of each stage and shape has finished here")
        return
    known = {id_: s or 0.0 for id_, s in seconds.items()}
    uses = Counter(id_ for cell in plan.cells for runs in cell.replicates.values() for id_ in runs.values())
    saved = sum((count - 1) * known[id_] for id_, count in uses.items())
    left = sum(s for id_, s in known.items() if states[id_] != "done")
    path: dict[str, float] = {}
    for id_, run in plan.runs.items():
        ranks = place.resources(run.stage).num_ranks if isinstance(place, SlurmProfile) else 1
        own = 0.0 if states[id_] == "done" else known[id_] / ranks
        path[id_] = path.get(plan.parents.get(id_, ""), 0.0) + own
    console.print(f"sharing saves {_amount(saved, unit)}; critical path {duration(max(path.values(), default=0.0))}")
    if isinstance(place, LocalProfile) and unit != "GPU-hours":
        num_starts = sum(isinstance(run, PretrainRun) and states[id_] != "done" for id_, run in plan.runs.items())
        left += num_starts * START_S
        note = f", {duration(left / place.num_jobs)} with {place.num_jobs} jobs at a time"
    else:
        note = ""
    console.print(f"still to run: about {_amount(left, unit)}{note} (estimate)")


def _amount(seconds: float, unit: str) -> str:
    if unit != "GPU-hours":
        return duration(seconds)
    hours = seconds / 3600
    return f"{hours:,.0f} {unit}" if hours >= 100 else f"{hours:.2f} {unit}"


def print_states(plan: Plan, seen: Look, store: Store, verbose: bool) -> None:
    """Print how many runs are in each state, and each run that is neither done nor merely waiting."""
    counts = {state: seen.count(state) for state in STATES}
    where = f" in {store.root}{'' if store.root.is_dir() else ' (no such folder)'}" if counts["missing"] else ""
    console.print(f"{plan.sweep.name}: " + ", ".join(f"{n} {state}" for state, n in counts.items() if n) + where, markup=False)
    rows = rows_of(plan, seen, store)
    for row in rows:
        if verbose or row.state not in QUIET:
            console.print(f"  {row.id}  {row.state:<11} {row.name}{_detail(row)}", markup=False)
    finished = [row for row in rows if row.state == "done" and row.estimate_gpu_hours is not None and row.gpu_hours is not None]
    if finished:
        actual, estimated = (sum(getattr(row, f) for row in finished) for f in ("gpu_hours", "estimate_gpu_hours"))
        console.print(f"{len(finished)} done runs with an estimate: {actual:.2f} GPU-hours, estimated {estimated:.2f}")


def _detail(row: Row) -> str:
    words = []
    if row.step is not None and row.state != "done":
        words.append(f"step {row.step}/{row.num_steps}")
    if row.state == "running" and row.loss is not None:
        words.append(f"loss {row.loss:.4f}, {row.clips_per_s:.0f} clips/s")
        if row.eta_s is not None:
            words.append(f"ETA {duration(row.eta_s)}")
    elif row.state == "running":
        words.append("starting")
    words += [f"{row.num_restarts} restarts"] if row.num_restarts else []
    words += [f"job {row.job_id}"] if row.job_id else []
    words += [f"on {row.node}"] if row.node else []
    words += [row.reason] if row.reason else []
    return "  " + ", ".join(words) if words else ""
