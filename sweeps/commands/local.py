"""Carrying a sweep out on this machine: start jobs, show progress, wait, stop gently."""

import signal
import time
from collections.abc import Callable, Mapping
from typing import Any

from slurm.launch import LocalLauncher, chains
from slurm.look import look
from slurm.profile import LocalProfile
from sweeps.commands.options import cost_of, parents_of
from sweeps.commands.rows import run_names, share_done
from sweeps.commands.show import console, duration, print_states
from vmae.cost import CostModel
from vmae.runs import State, Store
from vmae.study import Plan

POLL_S = 0.5
ENDED: tuple[State, ...] = ("done", "diverged", "failed", "interrupted", "lost", "running")


def run_here(
    store: Store, made: Plan, place: LocalProfile, jobs: int | None, pending_of: Callable[[Mapping[str, State]], list[str]]
) -> bool:
    """Run what `pending_of` chooses by the states and wait for it; return whether every run has ended with a result."""
    parents = parents_of(made)
    states = look(store, parents).states
    pending = {id_: parents[id_] for id_ in pending_of(states)}
    console.print(
        f"{made.sweep.name}: {len(pending)} of {len(made.runs)} runs to do, {sum(s == 'done' for s in states.values())} done"
    )
    if pending:
        cost = cost_of(store, made, None)
        # The longest first, so that what is left for the end is short and no job slot idles.
        waiting = sorted(chains(pending), key=lambda chain: -sum(cost.seconds(made.runs[id_]) or 0.0 for id_ in chain))
        launcher = LocalLauncher(store, place, jobs or place.num_jobs, waiting, parents)
        try:
            _wait(launcher, store, made, cost)
        finally:
            launcher.close()
    seen = look(store, parents)
    print_states(made, seen, store, verbose=False)
    return seen.count("done", "diverged") == len(made.runs)


def _wait(launcher: LocalLauncher, store: Store, made: Plan, cost: CostModel) -> None:
    """Move the launcher on until it is over, showing progress; after Ctrl-C, until its jobs have saved."""
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    asked_to_stop = False

    def stop(*_: object) -> None:
        nonlocal asked_to_stop
        asked_to_stop = True

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    names, parents = run_names(made), parents_of(made)
    seconds = {id_: cost.seconds(run) or 0.0 for id_, run in made.runs.items()}
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[note]}"), TimeElapsedColumn())
    known: dict[str, State] = {}
    started, already = time.monotonic(), None
    try:
        with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
            shown = bar.add_task(made.sweep.name, total=1.0, note="")
            while not launcher.is_over:
                states = look(store, parents).states
                launcher.tick(states)
                if asked_to_stop:
                    console.print("stopping: running runs save first")
                    launcher.stop()
                    asked_to_stop = False
                done = sum(seconds[i] * share_done(store, i, made.runs[i], s) for i, s in states.items())
                already = done if already is None else already
                elapsed = time.monotonic() - started
                rate = (done - already) / elapsed if elapsed > 5 else 0.0
                note = f"ETA {duration((sum(seconds.values()) - done) / rate)}" if rate > 0 else ""
                bar.update(shown, completed=done / max(sum(seconds.values()), 1e-9), note=note)
                _announce(states, known, names, launcher, note)
                time.sleep(POLL_S)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _announce(states: Mapping[str, State], known: dict[str, State], names: Mapping[str, str], launcher: Any, note: str) -> None:
    """Print a line for each run that ended since the last look."""
    for id_, state in states.items():
        if known and state != known.get(id_) and state in ENDED:
            log = launcher.log_of(id_)
            where = f"; log {log}" if state in ("failed", "lost") and log else ""
            console.print(f"  {state:<11} {names[id_]}{where}  {note if state == 'done' else ''}".rstrip())
    known.update(states)
