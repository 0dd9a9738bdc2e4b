"""Carrying a sweep out on this machine: start jobs, show progress, wait, stop gently."""

import signal
import time
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from slurm.launch import LocalLauncher, chains, check_gpus
from slurm.look import look
from slurm.profile import LocalProfile
from sweeps.commands.estimates import cost_of
from sweeps.commands.options import parents_of
from sweeps.commands.pending import prepare_runs, set_results_aside, take_up
from sweeps.commands.rows import run_names, share_done
from sweeps.commands.show import console, duration, print_states
from vmae.errors import some
from vmae.runs import FINISHED, State, Store
from vmae.runtime import visible_gpus
from vmae.study import Plan

POLL_S = 0.1
LEAST_BETWEEN_LOOKS_S, MOST_BETWEEN_LOOKS_S = 0.5, 30.0
SHARE_LOOKING = 0.02  # of the time: jobs want the cores
ENDED: tuple[State, ...] = (*FINISHED, "failed", "interrupted", "lost", "running")


def run_here(
    store: Store, made: Plan, place: LocalProfile, jobs: int | None, chosen: Collection[str], retried: Collection[str]
) -> Mapping[str, State]:
    """Prepare and run what is missing of the chosen runs, wait, and return the states of all."""
    parents = parents_of(made)
    seen = look(store, parents)
    states = seen.states
    pending = {id_: parents[id_] for id_ in take_up(store, made, states, chosen, retried)}
    if pending and place.gpus_per_job:
        check_gpus(place, visible_gpus())  # before the plan is written
    prepare_runs(store, made, place.runtime, seen)
    set_results_aside(store, made, pending)
    console.print(
        f"{made.sweep.name}: {len(pending)} of {len(made.runs)} runs to do, {sum(s == 'done' for s in states.values())} done"
    )
    if pending:
        cost = cost_of(store, made, None)
        # The longest first, so that what is left for the end is short and no job slot idles.
        waiting = sorted(chains(pending), key=lambda chain: -sum(cost.seconds(made.runs[id_]) or 0.0 for id_ in chain))
        launcher = LocalLauncher(store, place, jobs or place.num_jobs, waiting, parents)
        try:
            _wait(launcher, store, made, {id_: cost.seconds(made.runs[id_]) or 0.0 for id_ in chosen})
        finally:
            launcher.close()
    seen = look(store, parents)
    if pending:
        _say_unbegun(seen.states, launcher, run_names(made))
    print_states(made, seen, store, verbose=False)
    return seen.states


def _say_unbegun(states: Mapping[str, State], launcher: LocalLauncher, names: Mapping[str, str]) -> None:
    """Say which jobs ended before their run began, as where a GPU cannot be used: no file of the run tells."""
    first_of: dict[Path, str] = {}
    for id_, state in states.items():
        if state == "missing" and (log := launcher.log_of(id_)):
            first_of.setdefault(log, names[id_])
    logs_of: dict[str, list[Path]] = {}
    for log in first_of:
        logs_of.setdefault(_last_line(log), []).append(log)
    for words, logs in logs_of.items():
        console.print(f"  not begun   {some([first_of[log] for log in logs])}: {words}; log {logs[0]}", markup=False)


def _last_line(log: Path) -> str:
    try:
        lines = log.read_text(encoding="utf-8", errors="replace").split("\n")
    except OSError as error:
        return f"none ({error.strerror})"
    return next((line.strip() for line in reversed(lines) if line.strip()), "none")


def _wait(launcher: LocalLauncher, store: Store, made: Plan, seconds: Mapping[str, float]) -> None:
    """Move the launcher on until it is over, showing progress by estimated seconds; after Ctrl-C, until its jobs have saved."""
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    asked_to_stop = False

    def stop(*_: object) -> None:
        nonlocal asked_to_stop
        asked_to_stop = True

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    names, parents = run_names(made), parents_of(made)
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[note]}"), TimeElapsedColumn())
    known: dict[str, State] = {}
    started, already = time.monotonic(), None
    try:
        with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
            shown = bar.add_task(made.sweep.name, total=1.0, note="")
            while not launcher.is_over:
                began = time.monotonic()
                live = {id_: parent for id_, parent in parents.items() if known.get(id_) != "done"}
                states = {**known, **look(store, live).states}
                launcher.tick(states)
                if asked_to_stop:
                    console.print("stopping: running runs save first")
                    launcher.stop()
                    asked_to_stop = False
                done = sum(part * share_done(store, i, made.runs[i], states[i]) for i, part in seconds.items())
                already = done if already is None else already
                elapsed = time.monotonic() - started
                rate = (done - already) / elapsed if elapsed > 5 else 0.0
                note = f"ETA {duration((sum(seconds.values()) - done) / rate)}" if rate > 0 else ""
                bar.update(shown, completed=done / max(sum(seconds.values()), 1e-9), note=note)
                _announce(states, known, names, launcher, note)
                until = began + _pause(time.monotonic() - began)
                while time.monotonic() < until and not asked_to_stop and not launcher.has_news:
                    time.sleep(POLL_S)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _pause(looked_s: float) -> float:
    """Return the seconds from one look to the next if one takes `looked_s`."""
    return min(max(looked_s / SHARE_LOOKING, LEAST_BETWEEN_LOOKS_S), MOST_BETWEEN_LOOKS_S)


def _announce(states: Mapping[str, State], known: dict[str, State], names: Mapping[str, str], launcher: Any, note: str) -> None:
    """Print a line for each run that ended since the last look."""
    for id_, state in states.items():
        if known and state != known.get(id_) and state in ENDED:
            log = launcher.log_of(id_)
            where = f"; log {log}" if state in ("failed", "lost") and log else ""
            console.print(f"  {state:<11} {names[id_]}{where}  {note if state == 'done' else ''}".rstrip())
    known.update(states)
