"""diff, adopt, prune and gc: keeping a store of runs in order. Nothing is deleted without being listed and agreed to."""

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated

import typer

from sweeps.commands.options import Root, all_parents, store_of
from sweeps.commands.show import console
from sweeps.commands.tidy import Waste, differences, drop, find_run, unreferenced, waste
from vmae.claim import Claim
from vmae.errors import RunDirError
from vmae.runs import AT_WORK, FINISHED, State, Store

Yes = Annotated[bool, typer.Option("--yes", help="Do not ask.")]
RunId = Annotated[str, typer.Argument(help="A run id, or the beginning of one.")]


def diff(a: RunId, b: RunId, runs: Root = None) -> None:
    """Print in which settings two runs differ, one line per field, parents and seeds included.

    Example: python -m sweeps diff 3fa9 71c0
    """
    store = store_of(runs)
    lines = differences(store, find_run(store, a), find_run(store, b))
    console.print("\n".join(lines) or "the same configuration", markup=False)


def adopt(
    old: Annotated[str, typer.Argument(help="The run that has the result (with --undo: the run that adopted one).")],
    new: Annotated[str | None, typer.Argument(help="The run it shall count for.")] = None,
    runs: Root = None,
    undo: Annotated[bool, typer.Option("--undo", help="Take an adoption back.")] = False,
    yes: Yes = False,
) -> None:
    """Let the result of one run count as that of another, after a change that moved ids but not the mathematics.

    Moves nothing: the new run's directory gets a file that names the old one.

    Example: python -m sweeps adopt 3fa9 71c0
    """
    store = store_of(runs)
    if undo:
        taker = find_run(store, old)
        if store.adopted(taker) is None:
            raise RunDirError(f"run {taker} has adopted nothing")
        store.undo_adoption(taker)
        console.print(f"{taker} stands for itself again")
        return
    if new is None:
        raise typer.BadParameter("two runs are needed: OLD NEW")
    source, taker = find_run(store, old), find_run(store, new)
    lines = differences(store, source, taker)
    console.print("\n".join(lines) or "the same configuration", markup=False)
    if not yes:
        typer.confirm(f"count the result of {source} as that of {taker}?", abort=True)
    store.adopt(source, taker)
    console.print(f"{taker} has the result of {source}; take it back with: python -m sweeps adopt --undo {taker}")


def prune(
    name: Annotated[str | None, typer.Argument(help="A sweep: forget its plan, and its runs that no other plan names.")] = None,
    runs: Root = None,
    finished: Annotated[bool, typer.Option("--finished", help="Without a sweep: also runs that have a result.")] = False,
    yes: Yes = False,
) -> None:
    """Delete run directories that no sweep's plan in the store names any more. Shared runs stay as long as one plan names them.

    Without a sweep, what has a result stays unless --finished is given: a submit with other --seeds or --set takes runs out of
    their sweep's plan, and the same options put them back. Runs of a search's trials stay as long as its search.json does.

    Example: python -m sweeps prune masking
    """
    from slurm.look import submit_lock

    store = store_of(runs)
    before = _written(store, name)
    found = _prunable(store, name, finished)
    for id_ in found.going:
        console.print(f"  {id_}  {found.states[id_]:<11} {Waste(store.root / id_).size_mb:.1f} MB")
    for id_ in found.kept:
        console.print(f"  {id_}  stays: {found.states[id_]}, or another run has adopted its result")
    if found.num_spared:
        console.print(f"  {found.num_spared} runs of no plan stay, for they have a result; --finished deletes them too")
    if not found.going and not name:
        console.print("nothing to delete" if found.num_spared or found.kept else "every run is named by a plan or a trial")
        return
    also = f" and the plan of {name}" if name else ""
    if not yes:
        typer.confirm(f"delete {len(found.going)} runs{also}?", abort=True)
    with Claim(submit_lock(store)).held("the run root, for submitting,", beats=True):
        if _written(store, name) != before:
            raise RunDirError(f"{name} was submitted while this waited for an answer; nothing was deleted")
        still = set(_prunable(store, name, finished).going)
        going = [id_ for id_ in found.going if id_ in still]
        drop(store, going, name)
    taken = f"; {n} stay, taken up meanwhile" if (n := len(found.going) - len(going)) else ""
    console.print(f"deleted {len(going)} runs{also}{taken}")


@dataclass(frozen=True)
class _Prunable:
    """What a prune would delete, what it keeps for it is at work or adopted, and how many it spares for their results."""

    going: list[str]
    kept: list[str]
    num_spared: int
    states: Mapping[str, State]


def _prunable(store: Store, name: str | None, finished: bool) -> _Prunable:
    from slurm.look import look

    doomed = unreferenced(store, without=name)
    parents = all_parents(store)
    states = look(store, {id_: parents.get(id_) for id_ in (*parents, *doomed)}).states
    spared = [id_ for id_ in doomed if states[id_] in FINISHED and not (name or finished)]
    doomed = [id_ for id_ in doomed if id_ not in spared]
    kept = [id_ for id_ in doomed if states[id_] in AT_WORK or store.is_source(id_, apart_from=doomed)]
    return _Prunable([id_ for id_ in doomed if id_ not in kept], kept, len(spared), states)


def _written(store: Store, name: str | None) -> int | None:
    """Return when the plan of `name` was last written, in ns; each submit writes it."""
    file = store.plan_file(name) if name else None
    return file.stat().st_mtime_ns if file and file.exists() else None


def gc(
    runs: Root = None,
    weights: Annotated[bool, typer.Option("--weights", help="Also weights that no unfinished run starts from.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Delete; without it only a list.")] = False,
) -> None:
    """Free disk space: checkpoints of done runs, leftovers of dead writers, code and job files that nothing needs any more.

    Results, logs, predictions and plans stay, and so does the state before a divergence. Without its weights nothing new can
    start from a run; `submit --retry weights` makes such a run again.

    Example: python -m sweeps gc --weights --yes
    """
    from slurm.look import submit_lock

    store = store_of(runs)
    with contextlib.ExitStack() as stack:
        if yes:  # a submit's code is there before any run says that it needs it
            stack.enter_context(Claim(submit_lock(store)).held("the run root, for submitting,", beats=True))
        _free(waste(store, weights), yes)


def _free(found: Mapping[str, Sequence[Waste]], yes: bool) -> None:
    for kind, entries in found.items():
        console.print(f"  {kind}: {len(entries)}, {sum(entry.size_mb for entry in entries):.1f} MB")
    if not found:
        console.print("nothing to free")
    elif yes:
        for entries in found.values():
            for entry in entries:
                entry.remove()
        console.print("deleted")
    else:
        console.print("--yes deletes them")
