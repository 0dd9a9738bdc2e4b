"""python -m sweeps: declared work, checked, carried out here or on SLURM, watched, tidied up."""

from collections.abc import Callable, Sequence

import typer

from sweeps import registry
from sweeps.commands import cancelling, manage, searching, submitting, watching
from sweeps.commands.estimates import cost_of
from sweeps.commands.options import Name, Only, Preset, ProfileName, Root, Seeds, Set, narrowed, parents_of, plan_of, store_of
from sweeps.commands.show import console, print_missing_inputs, print_plan
from sweeps.scales import ON_GPUS
from sweeps.searching import declared
from vmae.cli import exit_with_message
from vmae.errors import ConfigError

app = typer.Typer(
    help="Declared sweeps: look at one (plan), run what is missing of it (submit), see where it stands (status).\n\n"
    "Then: python -m analysis report NAME",
    no_args_is_help=True,
    rich_markup_mode="markdown",  # joins the lines of a paragraph
    pretty_exceptions_enable=False,
)


@app.command("list")
def list_declared() -> None:
    """List the declared sweeps, then the searches; in the row of one that cannot be read, why."""
    _print_purposes(registry.names(), lambda name: registry.load(name).purpose)
    console.print("\nsearches, each run by `python -m sweeps search NAME`:", markup=False)
    _print_purposes(registry.searches(), lambda name: declared.load(name).search.purpose)


def _print_purposes(names: Sequence[str], purpose_of: Callable[[str], str]) -> None:
    width = max(map(len, names), default=0)
    for name in names:
        try:
            words = purpose_of(name)
        except ConfigError as error:
            words = f"error: {error}"
        console.print(f"{name:<{width}}  {words}", markup=False)


@app.command()
def plan(
    name: Name,
    preset: Preset = None,
    runs: Root = None,
    sets: Set = None,
    seeds: Seeds = None,
    only: Only = None,
    profile: ProfileName = "local",
) -> None:
    """Check every arm of a sweep; print runs, shared runs and cost. Changes nothing, imports no torch.

    Costs are estimated from finished runs of the same shape in the store, else from a reference machine; where neither is known
    they are unknown. The presets paper and proxy are too large for two cores, so they are counted in GPU-hours with any profile.

    Example: python -m sweeps plan paper_table1 --preset paper
    """
    from slurm.look import look
    from slurm.profile import SlurmProfile, load_profile
    from vmae.config import STAGES

    whole, store, place = plan_of(name, sets, seeds, preset), store_of(runs), load_profile(profile)
    made = narrowed(whole, only)
    on_gpu = place.gpu_stages if isinstance(place, SlurmProfile) else STAGES if made.sweep.preset in ON_GPUS else None
    print_plan(made, look(store, parents_of(whole)).states, cost_of(store, made, on_gpu), place, bool(on_gpu))
    print_missing_inputs(made)


for command in (
    submitting.submit,
    submitting.watch,
    watching.status,
    watching.logs,
    watching.why,
    cancelling.cancel,
    manage.diff,
    manage.adopt,
    manage.prune,
    manage.gc,
):
    app.command()(command)
app.add_typer(searching.app, name="search")


def main() -> None:
    """Run the command."""
    exit_with_message(app)


if __name__ == "__main__":
    main()
