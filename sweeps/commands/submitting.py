"""submit and watch: bring a sweep to its end, on this machine or as SLURM jobs; twice is the same as once."""

import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sweeps.commands.options import (
    Name,
    Only,
    Preset,
    ProfileName,
    Root,
    Seeds,
    Set,
    parents_of,
    plan_of,
    selected,
    store_of,
    typed,
)
from sweeps.commands.pending import RETRIED, pending_of, prepare_runs, startable
from sweeps.commands.replaced import is_stored
from sweeps.commands.show import console, print_states
from sweeps.commands.watched import watching
from vmae.config import Run
from vmae.errors import Busy, ConfigError, SchedulerError, near
from vmae.runs import AT_WORK, FINISHED, State, Store
from vmae.study import Plan

if TYPE_CHECKING:
    from slurm.look import Look
    from sweeps.commands.cluster import Order

# Options of submit that go only with SLURM, only with this machine, and of which one at most is asked for.
FOR_SLURM = ("--dry-run", "--test-only", "--pack", "--max-running", "--max-gpu-hours")
FOR_HERE = ("--jobs",)
MODES = ("--prepare", "--dry-run", "--test-only")
MAX_REFUSALS = 30  # looks in a row at which SLURM does not answer or refuses, or another submit is at work

RETRY = "Also runs that are `failed` or `lost`, or done without the `weights` that others need (several: failed,lost)."
Retry = Annotated[list[str] | None, typer.Option("--retry", help=RETRY)]
Pack = Annotated[int, typer.Option("--pack", min=1, help="SLURM: small runs per job, each with one task, GPU or core set.")]
MaxRunning = Annotated[int | None, typer.Option("--max-running", min=1, help="SLURM: elements of an array at a time.")]
MaxGpuHours = Annotated[float | None, typer.Option("--max-gpu-hours", min=0.0, help="SLURM: refuse to submit more, by estimate.")]


def submit(
    name: Name,
    preset: Preset = None,
    runs: Root = None,
    sets: Set = None,
    seeds: Seeds = None,
    profile: ProfileName = "local",
    jobs: Annotated[int | None, typer.Option(min=1, help="Here: jobs at a time.")] = None,
    retry: Retry = None,
    only: Only = None,
    pack: Pack = 1,
    max_running: MaxRunning = None,
    max_gpu_hours: MaxGpuHours = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="SLURM: print the sbatch scripts and submit nothing.")] = False,
    test_only: Annotated[bool, typer.Option("--test-only", help="SLURM: ask when jobs would start; submit nothing.")] = False,
    prepare: Annotated[bool, typer.Option("--prepare", help="Only write the run directories.")] = False,
) -> None:
    """Bring a sweep to its end. What is done, running or queued is kept, so twice is the same as once.

    Here (--profile local) it waits, and Ctrl-C lets running runs save and stops. On SLURM it submits and returns; parents,
    children and arrays wait for each other there. A run that failed is left alone without --retry failed, and so is one that
    vanished twice without getting further, without --retry lost.

    Example: python -m sweeps submit masking --profile slurm --max-running 8
    """
    from slurm.profile import LocalProfile, load_profile

    made, store = plan_of(name, sets, seeds, preset), store_of(runs)
    place, chosen, retried = load_profile(profile), selected(made, only), _retried(retry)
    is_here = isinstance(place, LocalProfile)
    options = {
        "--prepare": prepare,
        "--dry-run": dry_run,
        "--test-only": test_only,
        "--pack": pack > 1,
        "--max-running": max_running,
        "--max-gpu-hours": max_gpu_hours is not None,
        "--only": only,
        "--retry": retry,
        "--jobs": jobs,
    }
    _check_options([option for option, value in options.items() if value], is_here, profile)
    check_data(made, place.runtime, is_here, chosen)
    for remark in made.overruled:
        console.print(remark, markup=False)
    if prepare:
        prepare_runs(store, made, place.runtime)
        console.print(f"{len(made.runs)} run directories in {store.root}")
        return
    see = typed(made.sweep.name, set=sets, seeds=seeds, runs=runs)
    if isinstance(place, LocalProfile):
        from sweeps.commands.local import run_here

        states = run_here(store, made, place, jobs, chosen, retried)
        again = typed(see, only=only, retry="failed", profile=None if profile == "local" else profile)
        _say_what_is_left({states[id_] for id_ in chosen} - set(FINISHED), see, again)
        return
    from sweeps.commands.cluster import Order, submit_to_slurm

    watched = typed(see, only=only, pack=pack if pack > 1 else None, max_running=max_running, profile=profile)
    order = Order(
        profile_name=profile,
        profile=place,
        chosen=chosen,
        retried=retried,
        see=f"python -m sweeps status {see}",
        rest=f"the same command later, or python -m sweeps watch {watched}",
        pack=pack,
        max_running=max_running,
        max_gpu_hours=max_gpu_hours,
    )
    if dry_run or test_only:
        order.rehearse(store, made, test_only)
    else:
        submit_to_slurm(store, made, order)


def watch(
    name: Name,
    preset: Preset = None,
    runs: Root = None,
    sets: Set = None,
    seeds: Seeds = None,
    profile: ProfileName = "slurm",
    only: Only = None,
    pack: Pack = 1,
    max_running: MaxRunning = None,
    every: Annotated[float, typer.Option(min=1.0, help="Seconds between looks.")] = 60.0,
) -> None:
    """Submit to SLURM again whenever something is missing, until nothing is: for clusters that forbid requeue or limit the queue.

    Failed runs, and runs that got nowhere twice, are left alone. Ctrl-C stops watching, not the jobs. Ends with 0 if all of the
    runs that were asked for have a result. Where SLURM does not answer for a while, it is asked again. Where another submit
    of the sweep replaces its plan, watching ends, and says how that one is watched.

    Example: python -m sweeps watch masking --profile slurm
    """
    from slurm import control
    from slurm.profile import LocalProfile, load_profile
    from sweeps.commands.cluster import Order

    made, store, place = plan_of(name, sets, seeds, preset), store_of(runs), load_profile(profile)
    if isinstance(place, LocalProfile):
        raise ConfigError(f"profile {profile} is local, where submit itself waits; watch is for SLURM")
    chosen = selected(made, only)
    check_data(made, place.runtime, is_here=False, chosen=chosen)
    order = Order(
        profile_name=profile,
        profile=place,
        chosen=chosen,
        retried=frozenset(),
        see=f"python -m sweeps status {typed(made.sweep.name, set=sets, seeds=seeds, runs=runs)}",
        rest="this",
        pack=pack,
        max_running=max_running,
        is_watched=True,
    )
    control.queue()  # is there a SLURM that answers?
    seen = keep_submitting(store, made, order, every)
    print_states(made, seen, store, verbose=False)
    raise typer.Exit(0 if all(seen.states[id_] in FINISHED for id_ in order.chosen) else 1)


def keep_submitting(store: Store, made: Plan, order: "Order", every_s: float) -> "Look":
    """Submit to SLURM whenever something is missing and there is room, until nothing is to come; return the last look.

    After the first submit nothing is retried, what got nowhere twice is left alone, and a plan that replaced this one stays:
    RunDirError.
    """
    from slurm.look import look
    from sweeps.commands.cluster import submit_to_slurm

    num_refusals = 0
    with watching(store, made.sweep.name, order.chosen):
        while True:
            try:
                submit_to_slurm(store, made, order, quiet=True)
                order = replace(order, retried=frozenset(), is_watched=True, has_plan=True)
                seen = look(store, parents_of(made))
            except (SchedulerError, Busy) as error:
                if (num_refusals := num_refusals + 1) > MAX_REFUSALS:
                    raise
                order = replace(order, has_plan=order.has_plan or is_stored(store, made))
                console.print(f"{error}; looking again in {every_s:g} s, {num_refusals} of {MAX_REFUSALS} times", markup=False)
            else:
                num_refusals = 0
                if not _is_to_come(store, made, seen.states, order):
                    return seen
            time.sleep(every_s)


def _say_what_is_left(left: Collection[State], see: str, again: str) -> None:
    """Say what brings a sweep on whose chosen runs here are not all finished, and exit with 1; nothing where none is left."""
    if not left:
        return
    if {"failed", "lost", "blocked"} & set(left):
        words = f"after mending: python -m sweeps submit {again}"
    elif set(AT_WORK) & set(left):
        words = f"the rest is at work elsewhere; see python -m sweeps status {see}"
    else:
        words = "the same command goes on"
    console.print(f"not everything is done; {words}", markup=False)
    raise typer.Exit(1)


def _check_options(given: Sequence[str], is_here: bool, profile_name: str) -> None:
    """Refuse options of submit that contradict each other or would do nothing."""
    for option in given:
        if is_here and option in FOR_SLURM:
            raise ConfigError(f"{option} is for SLURM, but profile {profile_name} is this machine; add --profile slurm")
        if not is_here and option in FOR_HERE:
            raise ConfigError(f"{option} is for this machine, but profile {profile_name} is SLURM; see --max-running and --pack")
    modes = [option for option in given if option in MODES]
    if len(modes) > 1:
        raise ConfigError(f"{' and '.join(modes)} contradict each other; allowed: one of them")
    if modes == ["--prepare"] and len(given) > 1:
        other = next(option for option in given if option != "--prepare")
        raise ConfigError(f"{other} would do nothing: --prepare writes the directories of all runs and starts none")


def _is_to_come(store: Store, made: Plan, states: Mapping[str, State], order: "Order") -> bool:
    """Return whether a chosen run is at work, or could be submitted as soon as the queue has room."""
    pending = pending_of(store, made, states, order.chosen, order.retried, order.is_watched)
    return bool(startable(made, states, pending)) or any(states[id_] in AT_WORK for id_ in order.chosen)


def _retried(words: list[str] | None) -> frozenset[str]:
    found = [word for text in words or () for word in text.split(",")]
    for word in found:
        if word not in RETRIED:
            raise ConfigError(f"--retry {word!r}{near(word, RETRIED)}")
    return frozenset(found)


def check_data(made: Plan, runtime: Any, is_here: bool = True, chosen: Collection[str] | None = None) -> None:
    """Look at every manifest, split, quarantine, video and weights file that runs of the plan read, before any job exists.

    Args:
        is_here: whether runs will run on this machine; if not, it need not see their videos.
        chosen: the runs that are asked for: what others than they and their ancestors read may be absent; None: all.
    """
    from vmae.data.source import check_split, manifest_of
    from vmae.files import file_sha256

    sets: dict[str, tuple[Any, set[str]]] = {}
    weights = {}
    for run in _with_ancestors(made, made.runs if chosen is None else chosen):
        if run.stage == "pretrain":
            data, splits = run.pretrain.data, {"pretrain", run.pretrain.heldout_split}
        elif run.stage == "finetune":
            data, splits = run.finetune.data, {"train"}
        else:
            data, splits = run.parent.finetune.data, {run.evaluate.split}
        sets.setdefault(data.model_dump_json(), (data, set()))[1].update(splits)
        if run.stage == "finetune" and run.weights is not None:
            weights[run.weights.path] = run.weights
    for data, asked in sets.values():
        manifest = manifest_of(data, runtime)
        for split in sorted(asked, reverse=True):  # what is trained on before what judges it
            if not check_split(manifest, split, runtime, is_here):
                seen = f"no {split} video of {manifest.file} is seen from here, below {manifest.root}"
                console.print(f"{seen}; the nodes must see them", markup=False)
    for imported in weights.values():
        if file_sha256(Path(imported.path)) != imported.sha256:
            raise ConfigError(f"{imported.path} is another file than the plan was made with; plan again to use it")


def _with_ancestors(made: Plan, chosen: Collection[str]) -> list[Run]:
    """Return the chosen runs and all that they start from, parents first."""
    wanted = set(chosen)
    for id_ in reversed(list(made.runs)):  # children first
        if id_ in wanted and id_ in made.parents:
            wanted.add(made.parents[id_])
    return [run for id_, run in made.runs.items() if id_ in wanted]
