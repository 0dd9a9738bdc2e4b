"""`vmae`: data, checkpoints, speed, and one run by hand."""

from pathlib import Path
from typing import Annotated

import typer

from vmae.bench_cli import app as bench_app
from vmae.cli import exit_with_message
from vmae.data.cli import app as data_app
from vmae.data.demand import bench_command
from vmae.model.cli import app as checkpoint_app

app = typer.Typer(
    help="The instrument: a small, exact, fast VideoMAE. Sweeps are run with `python -m sweeps` from the checkout.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
data_app.command("bench")(bench_command)  # here, for it stands above the model, and the other commands on data below
app.add_typer(data_app, name="data")
app.add_typer(checkpoint_app, name="checkpoint")
app.add_typer(bench_app, name="bench")


@app.command()
def run(
    run_dir: Annotated[Path, typer.Argument(help="A run directory, made by `python -m sweeps submit --prepare`.")],
    threads: Annotated[int | None, typer.Option(min=1, help="Torch threads, instead of the directory's setting.")] = None,
) -> None:
    """Bring one run to its result, resuming where it stopped; the same that a job does.

    On several GPUs: torchrun --nproc-per-node 8 -m vmae run runs/0123456789abcdef
    """
    from vmae.job import read_runtime, work
    from vmae.runs import RunDir

    place = RunDir(run_dir.absolute())
    runtime = read_runtime(place)
    result = work(place, runtime.model_copy(update={"num_threads": threads}) if threads else runtime)
    typer.echo(f"{result.run_id} {result.stage}: {result.status}")
    for name, value in result.metrics.items():
        typer.echo(f"  {name}: {value}")


def main() -> None:
    """Run the command; a VmaeError is one message and exit code 2."""
    exit_with_message(app)


if __name__ == "__main__":
    main()
