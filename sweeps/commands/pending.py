"""What a submit takes up, and the run directories that it works in."""

from collections.abc import Collection, Mapping

from slurm.look import Look, look
from sweeps.commands.options import parents_of
from vmae.files import write_atomic
from vmae.runs import AT_WORK, FINISHED, MAX_FRUITLESS, State, Store
from vmae.runtime import RuntimeConfig
from vmae.study import Plan

KEPT: tuple[State, ...] = (*FINISHED, *AT_WORK)
RETRIED: tuple[State, ...] = ("failed", "lost")


def prepare_runs(store: Store, made: Plan, runtime: RuntimeConfig) -> Look:
    """Write the plan and what is missing of its run directories; return where the runs stand.

    A run that somebody works on or will, perhaps with other code that knows other settings, keeps its own.
    """
    seen = look(store, parents_of(made))
    store.write_plan(made.sweep.name, made.to_json())
    settings = runtime.model_dump_json().encode()
    for id_, run in made.runs.items():
        run_dir = store.run(id_)
        run_dir.create(run)
        if not run_dir.runtime.exists() or (seen.states[id_] not in KEPT and run_dir.runtime.read_bytes() != settings):
            write_atomic(run_dir.runtime, settings)
    return seen


def startable(made: Plan, states: Mapping[str, State], pending: Collection[str]) -> list[str]:
    """Return those of the pending runs, parents first, whose parent is done, at work or among them."""
    found: list[str] = []
    for id_ in pending:
        parent = made.parents.get(id_)
        if parent is None or states[parent] in ("done", *AT_WORK) or parent in found:
            found.append(id_)
    return found


def pending_of(
    store: Store,
    made: Plan,
    states: Mapping[str, State],
    chosen: Collection[str],
    retried: Collection[str],
    is_watched: bool = False,
) -> list[str]:
    """Return the runs that a submit takes up, parents first.

    Args:
        is_watched: whether nobody asked for just this submit, so that interrupted runs which got nowhere twice are left alone.
    """
    pending: list[str] = []
    for id_ in made.runs:
        state = states[id_]
        if state == "blocked":  # only with the parent that blocks it
            wanted = made.parents.get(id_) in pending
        elif state == "lost" or (state == "interrupted" and is_watched):
            wanted = state in retried or store.run(id_).fruitless_starts() < MAX_FRUITLESS
        else:
            wanted = state in ("missing", "interrupted") or state in retried
        if wanted and id_ in chosen:
            pending.append(id_)
    return pending
