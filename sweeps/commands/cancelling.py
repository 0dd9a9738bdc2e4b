"""cancel: take jobs out of SLURM's queue, but not those that other sweeps wait for."""

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Annotated

import typer

from slurm import control
from slurm.look import Look, look
from sweeps import registry
from sweeps.commands.options import (
    Root,
    Seeds,
    Set,
    all_parents,
    parents_of,
    plan_of,
    root_option,
    store_of,
    typed,
    typed_plan,
)
from sweeps.commands.replaced import last_plan
from sweeps.commands.show import console
from sweeps.commands.tidy import find_run, unreferenced
from sweeps.commands.watched import check_is_unwatched
from vmae.errors import ConfigError, ResultsError, RunDirError, near
from vmae.runs import Store


@dataclass(frozen=True)
class Chosen:
    """What `cancel` is asked for.

    Attributes:
        name: how it is called.
        runs: {run id: parent or None}.
        sweeps: whose plans were asked for; others may have some of the runs too.
        again: the words of the command that takes them up again, but for --profile and --runs; empty: there is no one command.
    """

    name: str
    runs: Mapping[str, str | None]
    sweeps: Collection[str] = ()
    again: str = ""


def cancel(
    what: Annotated[str | None, typer.Argument(help="A sweep, a search, or a run id (or its beginning).")] = None,
    runs: Root = None,
    sets: Set = None,
    seeds: Seeds = None,
    descendants: Annotated[bool, typer.Option("--descendants", help="Also the runs that start from this one.")] = False,
    shared: Annotated[bool, typer.Option("--shared", help="Also runs of the sweep that other sweeps have too.")] = False,
    unplanned: Annotated[bool, typer.Option("--unplanned", help="Instead of a sweep: the runs that no plan names.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Cancel SLURM jobs of a sweep, a search or a run; running ones save first, and the next submit resumes them.

    Of a sweep these are the runs of its declaration and of its last submit, or with --seeds and --set those asked for. Without
    --descendants SLURM still drops queued children, which cannot start without their parent.

    Example: python -m sweeps cancel masking
    """
    store = store_of(runs)
    chosen = _chosen(store, what, sets, seeds, descendants, unplanned)
    others = _others(store, chosen)
    is_exact = shared or not (chosen.sweeps or unplanned)
    mine = [id_ for id_ in chosen.runs if is_exact or id_ not in others]
    check_is_unwatched(store, mine)
    seen = look(store, {**all_parents(store), **chosen.runs})
    jobs = _jobs(seen, mine, is_exact)
    if stay := [id_ for id_ in chosen.runs if id_ in seen.jobs and id_ not in jobs]:
        console.print(_why_they_stay(stay, others), markup=False)
    if not jobs:
        console.print(f"nothing {'else ' if stay else ''}of {chosen.name} is in SLURM's queue")
        return
    if not yes:
        also = _counted(jobs, others)
        typer.confirm(f"cancel {len(jobs)} runs of {chosen.name}{f', also of {also}' if also else ''}?", abort=True)
    control.cancel(sorted({job.id for job in jobs.values()}))
    again = "the next submit of a sweep that has them"
    if chosen.again:
        profile = max((seen.submissions[id_] for id_ in jobs), key=lambda submitted: str(submitted.get("at"))).get("profile")
        again = f"python -m sweeps {typed(chosen.again, profile=profile, runs=root_option(store))}"
    console.print(f"cancelled {len(jobs)} runs; {again} takes them up again", markup=False)


def _jobs(seen: Look, runs: Collection[str], is_exact: bool) -> dict[str, control.Job]:
    """Return the job of each of the runs that has one which works on nothing else.

    Args:
        is_exact: whether a job that works on something else is refused (ConfigError) instead of left out.
    """
    mine = {id_: seen.jobs[id_] for id_ in runs if id_ in seen.jobs}
    elsewhere = {job.id for id_, job in seen.jobs.items() if id_ not in mine}
    jobs = {id_: job for id_, job in mine.items() if job.id not in elsewhere}
    if is_exact and len(jobs) < len(mine):
        packed = sorted({job.id for job in mine.values()} & elsewhere)
        raise ConfigError(f"job {', '.join(packed)} also works on other runs (--pack); cancel the sweep, or wait")
    return jobs


def _others(store: Store, chosen: Chosen) -> dict[str, list[str]]:
    """Return {run id: sweeps}: of the chosen runs those that other sweeps' plans name too."""
    found: dict[str, list[str]] = {}
    for sweep in store.sweeps():
        if sweep not in chosen.sweeps:
            for id_ in store.read_plan(sweep)["runs"].keys() & chosen.runs.keys():
                found.setdefault(id_, []).append(sweep)
    return found


def _counted(ids: Collection[str], others: Mapping[str, list[str]]) -> str:
    """Return the other sweeps that have some of the runs, each with their number."""
    counts = Counter(sweep for id_ in ids for sweep in others.get(id_, ()))
    return ", ".join(f"{sweep} ({n})" for sweep, n in sorted(counts.items()))


def _why_they_stay(stay: Collection[str], others: Mapping[str, list[str]]) -> str:
    if shared := _counted(stay, others):
        return (
            f"{len(stay)} runs stay, for other sweeps have them too, or runs in their jobs: {shared}; --shared cancels them too"
        )
    return f"{len(stay)} runs stay, for their jobs also work on runs that a plan names (--pack)"


def _chosen(
    store: Store, what: str | None, sets: list[str] | None, seeds: str | None, descendants: bool, unplanned: bool
) -> Chosen:
    if unplanned == (what is not None):
        raise ConfigError("cancel what? allowed: a sweep, a search, a run id, or --unplanned alone")
    if what is not None and registry.is_declared(what):
        return _of_sweep(store, what, sets, seeds)
    if sets or seeds is not None:
        raise ConfigError(f"--set and --seeds are for a declared sweep, which {what or '--unplanned'!r} is not; leave them out")
    if what is None:
        return Chosen("no plan", dict.fromkeys(unreferenced(store)))
    if stored := [name for name in store.sweeps() if name == what or name.startswith(f"{what}.round-")]:
        search, separator, _ = stored[0].partition(".round-")
        if separator:
            _check_is_idle(store, search)
        runs = {id_: run["parent"] for name in stored for id_, run in store.read_plan(name)["runs"].items()}
        return Chosen(what, runs, stored, _search_again(store, search) if separator else "")
    if not any(id_.startswith(what) for id_ in store.run_ids()):
        known = (*registry.names(), *registry.searches(), *store.sweeps())
        raise ConfigError(f"no sweep, search or run {what!r}{near(what, known)}")
    parents, first = all_parents(store), find_run(store, what)
    chosen = {first: parents.get(first)}
    if descendants:
        for id_, parent in parents.items():  # in their order one pass finds them all
            if parent in chosen:
                chosen[id_] = parent
    return Chosen(what, chosen)


def _of_sweep(store: Store, what: str, sets: list[str] | None, seeds: str | None) -> Chosen:
    made = plan_of(what, sets, seeds)
    name, runs = made.sweep.name, parents_of(made)
    stored = last_plan(store, name) if not sets and seeds is None else {}
    if not stored:
        return Chosen(what, runs, (name,), f"submit {typed(what, set=sets, seeds=seeds)}")
    return Chosen(
        what, runs | {id_: run["parent"] for id_, run in stored["runs"].items()}, (name,), f"submit {typed_plan(stored)}"
    )


def _search_again(store: Store, search: str) -> str:
    try:
        trials = store.read_search(search)["num_trials"]
    except ResultsError:  # its first round is not over
        trials = None
    return f"search {typed(search, trials=trials)}"


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
