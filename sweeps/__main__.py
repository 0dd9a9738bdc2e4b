"""python -m sweeps list | plan | submit | status: declared work, checked, carried out, watched."""

import signal
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from sweeps import registry
from sweeps.show import console, duration, print_plan, print_states, run_names, share_done
from vmae.cli import exit_with_message
from vmae.cost import CostModel, fit
from vmae.errors import ConfigError
from vmae.files import write_atomic
from vmae.recipe import parse_setting
from vmae.runs import State, Store, default_root
from vmae.runtime import num_cpus
from vmae.study import Plan, Sweep, make_plan

app = typer.Typer(
    help="Declared sweeps: look at one (plan), run what is missing of it (submit), see where it stands (status).\n\n"
    "Then: python -m analysis report NAME",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
Name = Annotated[str, typer.Argument(help="A sweep; `list` shows them.")]
Root = Annotated[Path | None, typer.Option("--runs", help="Where runs lie. Default: $VMAE_RUNS, or ./runs")]
Set = Annotated[list[str] | None, typer.Option("--set", help="Override of the base recipe, for example finetune.optim.epochs=5.")]
Seeds = Annotated[str | None, typer.Option(help="Instead of the sweep's own, for example 0,1,2.")]
ProfileName = Annotated[str, typer.Option("--profile", help="Where to run: a file of slurm/profiles/.")]
POLL_S = 0.5


@app.command("list")
def list_sweeps() -> None:
    """List the declared sweeps."""
    for name in registry.names():
        console.print(f"{name:<12} {registry.load(name).purpose}")


@app.command()
def plan(name: Name, runs: Root = None, sets: Set = None, seeds: Seeds = None, profile: ProfileName = "local") -> None:
    """Check every arm of a sweep; print runs, shared runs and cost. Changes nothing, imports no torch."""
    from slurm.profile import load_profile

    made, store = _plan(name, sets, seeds), _store(runs)
    place = load_profile(profile)
    num_jobs = place.jobs or max(1, num_cpus() // (place.runtime.num_threads or num_cpus()))
    print_plan(made, _states(store, made), _cost(store, made), num_jobs)


@app.command()
def submit(
    name: Name,
    runs: Root = None,
    sets: Set = None,
    seeds: Seeds = None,
    profile: ProfileName = "local",
    jobs: Annotated[int | None, typer.Option(min=1, help="Jobs at a time.")] = None,
    retry: Annotated[bool, typer.Option("--retry", help="Run failed runs again too.")] = False,
    prepare: Annotated[bool, typer.Option("--prepare", help="Only write the run directories.")] = False,
) -> None:
    """Run what is missing of a sweep and wait for it. Done runs are kept, so twice is the same as once.

    Ctrl-C lets running runs save and stops; the same command goes on from there.
    """
    from slurm.launch import LocalLauncher, chains
    from slurm.profile import load_profile

    made, store = _plan(name, sets, seeds), _store(runs)
    place = load_profile(profile)
    _check_data(made.sweep, made, place.runtime)
    store.write_plan(name, made.to_json())
    for id_, run in made.runs.items():
        run_dir = store.run(id_)
        run_dir.create(run)
        write_atomic(run_dir.runtime, place.runtime.model_dump_json().encode())
    if prepare:
        console.print(f"{len(made.runs)} run directories in {store.root}")
        return
    states = _states(store, made)
    wanted: set[State] = {"missing", "interrupted", *({"failed", "blocked"} if retry else ())}
    pending = {id_: made.parents.get(id_) for id_ in made.runs if states[id_] in wanted}
    console.print(f"{name}: {len(pending)} of {len(made.runs)} runs to do, {sum(s == 'done' for s in states.values())} done")
    if pending:
        num_jobs = jobs or place.jobs or max(1, num_cpus() // (place.runtime.num_threads or num_cpus()))
        parents = {id_: made.parents.get(id_) for id_ in made.runs}
        cost = _cost(store, made)
        # The longest first, so that what is left for the end is short and no job slot idles.
        waiting = sorted(chains(pending), key=lambda chain: -sum(cost.seconds(made.runs[id_]) for id_ in chain))
        launcher = LocalLauncher(store, place, num_jobs, waiting, parents)
        try:
            _wait(launcher, store, made, cost)
        finally:
            launcher.close()
    states = _states(store, made)
    print_states(made, states, store, verbose=False)
    if any(state in ("failed", "blocked", "interrupted", "missing") for state in states.values()):
        console.print(f"not everything is done; after mending: python -m sweeps submit {name} --retry")
        raise typer.Exit(1)


@app.command()
def status(
    name: Name,
    runs: Root = None,
    sets: Set = None,
    seeds: Seeds = None,
    all_: Annotated[bool, typer.Option("--all", help="Every run, also those done or waiting.")] = False,
) -> None:
    """Print the state of every planned run; read from the run directories, so it needs no scheduler."""
    made, store = _plan(name, sets, seeds), _store(runs)
    print_states(made, _states(store, made), store, verbose=all_)


def _plan(name: str, sets: list[str] | None, seeds: str | None) -> Plan:
    sweep = registry.load(name)
    if seeds is not None:
        try:
            chosen = tuple(int(seed) for seed in seeds.split(","))
        except ValueError:
            raise ConfigError(f"--seeds {seeds!r}: expected integers separated by commas, for example 0,1,2") from None
        sweep = Sweep(sweep.name, sweep.doc, sweep.ablations, sweep.recipes, chosen)
    return make_plan(sweep, dict(parse_setting(text) for text in sets or ()))


def _store(runs: Path | None) -> Store:
    return Store((runs or default_root()).absolute())


def _states(store: Store, made: Plan) -> dict[str, State]:
    from slurm.launch import states

    return states(store, {id_: made.parents.get(id_) for id_ in made.runs})


def _cost(store: Store, made: Plan) -> CostModel:
    results = ((run, store.run(id_).read_result()) for id_, run in made.runs.items())
    return fit((run, result) for run, result in results if result)


def _check_data(sweep: Sweep, made: Plan, runtime: Any) -> None:
    """Read every manifest that the plan names, before any job exists."""
    from vmae.data.source import manifest_of

    sets = {}
    for run in made.runs.values():
        if run.stage != "evaluate":
            data = run.pretrain.data if run.stage == "pretrain" else run.finetune.data
            sets[data.model_dump_json()] = data
    for data in sets.values():
        manifest_of(data, runtime)


def _wait(launcher: Any, store: Store, made: Plan, cost: CostModel) -> None:
    """Move the launcher on until it is over, showing progress; after Ctrl-C, until its jobs have saved."""
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    asked_to_stop = False

    def stop(*_: object) -> None:
        nonlocal asked_to_stop
        asked_to_stop = True

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    names = run_names(made)
    seconds = {id_: cost.seconds(run) for id_, run in made.runs.items()}
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[note]}"), TimeElapsedColumn())
    seen: dict[str, State] = {}
    started, already = time.monotonic(), None
    try:
        with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
            shown = bar.add_task(made.sweep.name, total=1.0, note="")
            while not launcher.is_over:
                states = _states(store, made)
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
                _announce(states, seen, names, launcher, note)
                time.sleep(POLL_S)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _announce(states: Mapping[str, State], seen: dict[str, State], names: Mapping[str, str], launcher: Any, note: str) -> None:
    """Print a line for each run that ended since the last look."""
    for id_, state in states.items():
        if seen and state != seen.get(id_) and state in ("done", "diverged", "failed", "interrupted", "running"):
            log = launcher.log_of(id_)
            where = f"; log {log}" if state == "failed" and log else ""
            console.print(f"  {state:<11} {names[id_]}{where}  {note if state == 'done' else ''}".rstrip())
    seen.update(states)


def main() -> None:
    """Run the command."""
    exit_with_message(app)


if __name__ == "__main__":
    main()
