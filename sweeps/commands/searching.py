"""search NAME, search status, search best and search export: tuning each cell of an ablation alike."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from sweeps.commands.options import Preset, ProfileName, Root, store_of, typed
from sweeps.commands.pending import RETRIED
from sweeps.commands.show import console
from sweeps.commands.submitting import check_data, keep_submitting
from vmae.errors import ConfigError, RunDirError
from vmae.runs import State, Store
from vmae.study import Plan

SearchName = Annotated[str, typer.Argument(help="A search: a file of sweeps/searches/.")]


class _RunByDefault(TyperGroup):
    """`search NAME` is `search run NAME`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if args and args[0] not in self.commands and not args[0].startswith("-"):
            args = ["run", *args]
        return super().parse_args(ctx, args)


app = typer.Typer(
    cls=_RunByDefault,
    help="Tune each cell of an ablation alike: `search NAME` runs one, a file of sweeps/searches/; then status, best, export.",
    no_args_is_help=True,
)


@dataclass(frozen=True)
class Here:
    """Runs on this machine."""

    store: Store
    place: Any
    jobs: int | None
    retried: frozenset[str]

    def bring(self, made: Plan) -> Mapping[str, State]:
        """Run what is missing, wait, and return the states."""
        from sweeps.commands.local import run_here

        check_data(made, self.place.runtime)
        return run_here(self.store, made, self.place, self.jobs, made.runs, self.retried)


@dataclass(frozen=True)
class OnSlurm:
    """Runs as SLURM jobs, submitted again while any is missing."""

    store: Store
    profile_name: str
    place: Any
    retried: frozenset[str]
    every_s: float
    see: str

    def bring(self, made: Plan) -> Mapping[str, State]:
        """Submit as the queue has room, until nothing is to come, and return the states; a preempted run is waited for."""
        from sweeps.commands.cluster import Order

        check_data(made, self.place.runtime, is_here=False)
        order = Order(
            profile_name=self.profile_name,
            profile=self.place,
            chosen=set(made.runs),
            retried=self.retried,
            see=self.see,
            rest="this",
        )
        return keep_submitting(self.store, made, order, self.every_s).states


@app.command()
def run(
    name: SearchName,
    preset: Preset = None,
    runs: Root = None,
    profile: ProfileName = "local",
    jobs: Annotated[int | None, typer.Option(min=1, help="Here: jobs at a time.")] = None,
    trials: Annotated[int | None, typer.Option(min=1, help="Per cell, instead of the declared number; may grow later.")] = None,
    retry: Annotated[
        bool, typer.Option("--retry", help="Also runs of open trials that failed, vanished or lack weights.")
    ] = False,
    fresh: Annotated[bool, typer.Option("--fresh", help="Set the old journal aside and begin anew.")] = False,
    storage: Annotated[str | None, typer.Option(help="Instead of the journal: a database, postgresql+psycopg://...")] = None,
    every: Annotated[float, typer.Option(min=1.0, help="SLURM: seconds between looks.")] = 30.0,
) -> None:
    """Bring a search to its budget; killed or stopped anywhere, the same command goes on.

    Example: python -m sweeps search lr_per_mask
    """
    from slurm import control
    from slurm.profile import LocalProfile, load_profile
    from sweeps.searching.coordinator import Coordinator
    from sweeps.searching.declared import load

    if fresh and storage:
        raise ConfigError("--fresh sets a journal aside; in a database delete the studies (optuna delete-study), or use another")
    asked, store, place = load(name, preset, trials), store_of(runs), load_profile(profile)
    retried = frozenset(RETRIED) if retry else frozenset()
    if not isinstance(place, LocalProfile):
        control.queue()  # is there a SLURM that answers?
    local, see = isinstance(place, LocalProfile), f"python -m sweeps search status {typed(asked.name, runs=runs)}"
    execution = Here(store, place, jobs, retried) if local else OnSlurm(store, profile, place, retried, every, see)
    with Coordinator(store, asked, lambda text: console.print(text, markup=False), storage).held(fresh) as coordinator:
        coordinator.carry_out(execution)
    _print_best(store, asked.name)


@app.command()
def status(name: SearchName, preset: Preset = None, runs: Root = None) -> None:
    """Print how many trials of each cell were told, after the last whole round; opens no journal."""
    from sweeps.searching.declared import load

    summary = store_of(runs).read_search(load(name, preset).name)
    console.print(f"{summary['search']}: {summary['num_trials']} trials per cell, sampler {summary['sampler']}, {summary['at']}")
    for cell in summary["cells"]:
        states = [trial["state"] for trial in cell["trials"]]
        console.print(f"  {cell['dataset']}, {cell['arm']}: {states.count('COMPLETE')} completed, {states.count('FAIL')} failed")


@app.command()
def best(name: SearchName, preset: Preset = None, runs: Root = None) -> None:
    """Print the best trial of each cell beside the shared recipe; values are of the hold-out."""
    from sweeps.searching.declared import load

    _print_best(store_of(runs), load(name, preset).name)


@app.command()
def export(
    name: SearchName,
    preset: Preset = None,
    runs: Root = None,
    to: Annotated[Path | None, typer.Option(help="A new file. Default: sweeps/tuned_NAME.py")] = None,
) -> None:
    """Write the winners as a sweep with fresh seeds, beside the shared recipe; submit it as any other."""
    from sweeps.searching.declared import load
    from sweeps.searching.winner import declaration
    from vmae.runs import winners_of

    asked = load(name, preset)
    store = store_of(runs)
    file = to or Path(__file__).parent.parent / f"{winners_of(asked.name)}.py"
    if file.exists():
        raise RunDirError(f"{file} is there already; remove it, or choose another file with --to")
    module = asked.search.name if asked.search.recipes else ""
    file.write_text(declaration(store.read_search(asked.name), store, module), encoding="utf-8")
    console.print(f"{file}: python -m sweeps submit {file.stem}", markup=False)


def _print_best(store: Store, name: str) -> None:
    summary = store.read_search(name)
    what = f"{summary['metric']} on {summary['split']}"
    for cell in summary["cells"]:
        where, shared = f"{cell['dataset']}, {cell['arm']}", cell["trials"][0]["value"]
        if cell["best"] is None:
            console.print(f"{where}: no trial completed")
            continue
        won = cell["trials"][cell["best"]]
        values = ", ".join(f"{path} = {value}" for path, value in won["params"].items())
        beside = "failed" if shared is None else f"{shared:.2f}"
        console.print(
            f"{where}: trial {won['number']}, {what} {won['value']:.2f} (shared recipe {beside}): {values}", markup=False
        )
