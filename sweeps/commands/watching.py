"""status, logs, why and cancel: where a sweep stands, and what to do about one run of it."""

import json
import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from sweeps import registry
from sweeps.commands.options import (
    Name,
    Preset,
    Root,
    Seeds,
    Set,
    all_parents,
    declared_or_stored,
    parents_of,
    plan_of,
    store_of,
    typed,
)
from sweeps.commands.show import console, print_missing_inputs, print_states
from sweeps.commands.tidy import find_run
from sweeps.commands.watched import check_is_unwatched
from vmae.errors import ConfigError, RunDirError, near
from vmae.runs import Store

RunName = Annotated[str, typer.Argument(help="A run id, or the beginning of one; `status --all` shows them.")]


def status(
    name: Name,
    preset: Preset = None,
    runs: Root = None,
    sets: Set = None,
    seeds: Seeds = None,
    all_: Annotated[bool, typer.Option("--all", help="Every run, also those done or waiting.")] = False,
    watch: Annotated[float | None, typer.Option(min=1.0, help="Look again every so many seconds, until Ctrl-C.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One json list of all runs.")] = False,
) -> None:
    """Print the one true state of every planned run: from its directory, and from one call of squeue where SLURM has some.

    Of a sweep that is no longer declared, and of a search's round, the plan in the store is shown.

    Example: python -m sweeps status masking --watch 60
    """
    from slurm.look import look
    from sweeps.commands.rows import rows_of

    store = store_of(runs)
    made = declared_or_stored(store, name, sets, seeds, preset)
    while True:
        seen = look(store, parents_of(made))
        if as_json:
            print(json.dumps([asdict(row) for row in rows_of(made, seen, store)], indent=1), flush=True)
        else:
            if watch and console.is_terminal:
                console.clear()
            print_states(made, seen, store, verbose=all_)
            print_missing_inputs(made)
        if watch is None:
            return
        time.sleep(watch)


def logs(
    run: RunName,
    runs: Root = None,
    follow: Annotated[bool, typer.Option("-f", "--follow", help="Go on printing what is added, until Ctrl-C.")] = False,
    rank: Annotated[int, typer.Option(min=0, help="Of a run with several tasks.")] = 0,
) -> None:
    """Print the log of the job that works or last worked on a run.

    Example: python -m sweeps logs 3fa9 -f
    """
    store = store_of(runs)
    path = log_of(store, find_run(store, run), rank)
    with path.open(encoding="utf-8", errors="replace") as file:
        while True:
            if text := file.read():
                print(text, end="", flush=True)
            elif follow:
                time.sleep(1.0)
            else:
                return


def log_of(store: Store, id_: str, rank: int) -> Path:
    """Return the log file of a run's last job; RunDirError where there is none."""
    submission = store.run(id_).read_submission()
    if not submission:
        raise RunDirError(f"run {id_} was never submitted, so it has no log")
    task = submission.get("task", 0) if submission.get("pack", 1) > 1 else rank
    path = store.jobs / f"{submission['job_id']}_{task}_log.out"
    if not path.exists():
        there = sorted(p.name for p in store.jobs.glob(f"{submission['job_id']}_*_log.out"))
        raise RunDirError(f"no log {path}; there: {', '.join(there) or 'none: the job has not started'}")
    return path


def why(run: RunName, runs: Root = None) -> None:
    """Tell how a run's state comes about: its files, its job and SLURM's reason, its parents, what sets it off from the baseline.

    Example: python -m sweeps why 3fa9
    """
    from sweeps.commands.explain import explain

    store = store_of(runs)
    for line in explain(store, find_run(store, run)):
        console.print(line, markup=False)


def cancel(
    what: Annotated[str, typer.Argument(help="A sweep, a search, or a run id (or its beginning).")],
    runs: Root = None,
    sets: Set = None,
    seeds: Seeds = None,
    descendants: Annotated[bool, typer.Option("--descendants", help="Also the runs that start from this one.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Cancel SLURM jobs of a sweep, a search or a run; running ones save first, and the next submit resumes them.

    Without --descendants SLURM still drops queued children, which cannot start without their parent.

    Example: python -m sweeps cancel masking
    """
    from slurm import control
    from slurm.look import look

    store = store_of(runs)
    parents = all_parents(store)
    chosen, again = _chosen(store, parents, what, sets, seeds, descendants)
    check_is_unwatched(store, chosen)
    seen = look(store, parents | chosen)
    jobs = {id_: job for id_, job in seen.jobs.items() if id_ in chosen}
    if not jobs:
        console.print(f"nothing of {what} is in SLURM's queue")
        return
    shared = {job.id for job in jobs.values()} & {job.id for id_, job in seen.jobs.items() if id_ not in chosen}
    if shared:
        raise ConfigError(f"job {', '.join(sorted(shared))} also works on other runs (--pack); cancel the sweep, or wait")
    if not yes:
        typer.confirm(f"cancel {len(jobs)} runs of {what}?", abort=True)
    control.cancel(sorted({job.id for job in jobs.values()}))
    console.print(f"cancelled {len(jobs)} runs; {again} takes them up again", markup=False)


def _chosen(
    store: Store, parents: Mapping[str, str | None], what: str, sets: list[str] | None, seeds: str | None, descendants: bool
) -> tuple[dict[str, str | None], str]:
    """Return {run id: parent or None} of the runs that `cancel` is asked for, and the command that takes them up again.

    Args:
        parents: of all runs in the store's plans, parents first.
    """
    if registry.is_declared(what):
        return parents_of(plan_of(what, sets, seeds)), f"python -m sweeps submit {typed(what, set=sets, seeds=seeds)}"
    if sets or seeds is not None:
        raise ConfigError(f"--set and --seeds are for a declared sweep, which {what!r} is not; leave them out")
    again = "the next submit of a sweep that has them"
    if stored := [name for name in store.sweeps() if name == what or name.startswith(f"{what}.round-")]:
        search, separator, _ = stored[0].partition(".round-")
        if separator:
            _check_is_idle(store, search)
            again = f"python -m sweeps search {search}"
        return {id_: run["parent"] for name in stored for id_, run in store.read_plan(name)["runs"].items()}, again
    if not any(id_.startswith(what) for id_ in store.run_ids()):
        known = (*registry.names(), *registry.searches(), *store.sweeps())
        raise ConfigError(f"no sweep, search or run {what!r}{near(what, known)}")
    first = find_run(store, what)
    chosen = {first: parents.get(first)}
    if descendants:
        for id_, parent in parents.items():  # in their order one pass finds them all
            if parent in chosen:
                chosen[id_] = parent
    return chosen, again


def _check_is_idle(store: Store, search: str) -> None:
    """Refuse to cancel below a coordinator that would submit the runs again."""
    from sweeps.searching.coordinator import claim_of

    claim = claim_of(store, search)
    if claim.is_live():
        owner = claim.owner()
        raise RunDirError(
            f"search {search} is at work (process {owner.get('pid')} on {owner.get('host')}) and would submit its runs again; "
            f"stop it first, with Ctrl-C there"
        )
