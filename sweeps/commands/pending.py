"""What a submit takes up, and the run directories that it works in."""

from collections.abc import Collection, Mapping, Sequence

from slurm.look import Look, look
from sweeps.commands.options import parents_of
from sweeps.commands.replaced import replaced
from sweeps.commands.rows import run_names
from sweeps.commands.show import console
from vmae.errors import RunDirError
from vmae.files import write_atomic
from vmae.runs import AT_WORK, FINISHED, State, Store
from vmae.runtime import RuntimeConfig
from vmae.starts import MAX_FRUITLESS
from vmae.study import Plan

KEPT: tuple[State, ...] = (*FINISHED, *AT_WORK)
RETRIED = ("failed", "lost", "weights")  # states; and what is done, but without the weights that others are to start from


def prepare_runs(store: Store, made: Plan, runtime: RuntimeConfig, seen: Look | None = None) -> Look:
    """Write the plan and what is missing of its run directories; return where the runs stand.

    A run that somebody works on or will, perhaps with other code that knows other settings, keeps its own.

    Args:
        seen: where they stand, if that is known already.
    """
    seen = seen or look(store, parents_of(made))
    for sentence in replaced(store, made):
        console.print(sentence, markup=False)
    store.write_plan(made.sweep.name, made.to_json())
    settings = runtime.model_dump_json().encode()
    for id_, run in made.runs.items():
        run_dir, is_kept = store.run(id_), seen.states[id_] in KEPT
        run_dir.create(run, may_move=not is_kept)
        if not run_dir.runtime.exists() or (not is_kept and run_dir.runtime.read_bytes() != settings):
            write_atomic(run_dir.runtime, settings)
    return seen


def take_up(
    store: Store,
    made: Plan,
    states: Mapping[str, State],
    chosen: Collection[str],
    retried: Collection[str],
    is_watched: bool = False,
) -> list[str]:
    """Return those of `pending_of` that can start, parents first, and say which parents the others lack.

    With `weights` in `retried` also the done runs without weights that they start from. RunDirError if there are such runs and
    they are not to be made again, or if nothing can start because no parent was chosen.
    """
    pending = pending_of(store, made, states, chosen, retried, is_watched)
    lacking = _without_weights(store, made, pending)
    if lacking and "weights" not in retried:
        raise RunDirError(
            f"{len(lacking)} done runs that others are to start from have no weights any more (gc --weights): "
            f"{', '.join(lacking[:5])}{' ...' if len(lacking) > 5 else ''}; submit with --retry weights (search: --retry) makes "
            f"them again"
        )
    pending = [id_ for id_ in made.runs if id_ in pending or id_ in lacking]
    able = startable(made, states, pending)
    if len(able) < len(pending) and not is_watched:
        unable = set(pending) - set(able)
        parents = [id_ for id_ in made.runs if id_ in {made.parents[id_] for id_ in unable} - unable]
        text = _why_unable(made, states, len(unable), parents)
        if not able and not set(parents) & set(chosen):
            raise RunDirError(text)
        console.print(text, markup=False)
    return able


def _why_unable(made: Plan, states: Mapping[str, State], num_unable: int, parents: Sequence[str]) -> str:
    names = run_names(made)
    shown = ", ".join(f"{names[id_]} ({id_}, {states[id_]})" for id_ in parents[:5])
    return (
        f"{made.sweep.name}: {num_unable} runs cannot start, for {len(parents)} parents are neither done nor taken up: "
        f"{shown}{' ...' if len(parents) > 5 else ''}"
    )


def set_results_aside(store: Store, made: Plan, pending: Collection[str]) -> None:
    """Have done runs made again whose weights pending ones need; what they came to stays as result.json.without-weights."""
    for id_ in _without_weights(store, made, pending):
        place = store.run(id_)
        place.result.replace(place.result.with_suffix(".json.without-weights"))


def _without_weights(store: Store, made: Plan, pending: Collection[str]) -> list[str]:
    found: set[str] = set()
    for id_ in reversed(list(made.runs)):  # children first: a parent that is made again needs its own parent's
        parent = made.parents.get(id_)
        if parent is not None and (id_ in pending or id_ in found) and not store.run(parent).weights.exists():
            result = store.run(parent).finished()
            found |= {parent} if result is not None and result.status == "done" else set()
    return [id_ for id_ in made.runs if id_ in found]


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
