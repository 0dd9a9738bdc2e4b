"""status, logs and why: where a sweep stands, and what became of one run of it."""

import json
import time
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from sweeps.commands.options import Name, Preset, Root, Seeds, Set, declared_or_stored, parents_of, store_of
from sweeps.commands.show import console, print_missing_inputs, print_states
from sweeps.commands.tidy import find_run
from vmae.errors import RunDirError
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
