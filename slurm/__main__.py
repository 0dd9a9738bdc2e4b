"""python -m slurm doctor: what a cluster allows, before the first sweep is sent to it."""

import shutil
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from slurm import doctor
from vmae.cli import exit_with_message
from vmae.files import default_root

console = Console(highlight=False, soft_wrap=True)
COLOURS = {"ok": "green", "note": "yellow", "problem": "red"}
app = typer.Typer(help="SLURM as this project sees it.", no_args_is_help=True, pretty_exceptions_enable=False)


@app.callback()
def _group() -> None:
    """SLURM as this project sees it."""


@app.command("doctor")
def examine(
    partition: Annotated[str | None, typer.Option(help="Where the smoke job runs. Default: the cluster's default.")] = None,
    account: Annotated[str | None, typer.Option(help="That is charged. The shell's $SBATCH_ACCOUNT does not count.")] = None,
    qos: Annotated[str | None, typer.Option(help="Quality of service.")] = None,
    constraint: Annotated[str | None, typer.Option(help="Features of nodes, as a100|h100.")] = None,
    runs: Annotated[Path | None, typer.Option("--runs", help="Where runs lie. Default: $VMAE_RUNS, or ./runs")] = None,
    job: Annotated[bool, typer.Option("--job/--no-job", help="Run a job of one task, to see what nodes see.")] = True,
    limit: Annotated[float, typer.Option(help="Seconds to wait for that job.")] = 300.0,
) -> None:
    """Look at the cluster, the run root and, with a small job, at a node; say what will work and which profile fields follow.

    Exits with 1 if there is a problem. Example: python -m slurm doctor --partition gpu --account vision
    """
    root = (runs or default_root()).absolute()
    doctor.chosen(partition)
    given = {"partition": partition, "account": account, "qos": qos, "constraint": constraint}
    asked = {field: value for field, value in given.items() if value}
    num_problems = 0
    found = [*doctor.cluster(account), *doctor.run_root(root)]
    for finding in found:
        num_problems += _print(finding)
    if job and not num_problems:
        with console.status("smoke job") as status:
            for finding in doctor.smoke_job(root, asked, limit, lambda words: status.update(words)):
                num_problems += _print(finding)
    for folder in (root / "jobs").glob("doctor-*"):
        shutil.rmtree(folder, ignore_errors=True)
    console.print("a profile to start from (slurm/profiles/<name>.toml; slurm.toml explains every field):")
    console.print(doctor.suggestion(asked), markup=False)
    if num_problems:
        raise typer.Exit(1)


def _print(finding: doctor.Finding) -> bool:
    console.print(f"[{COLOURS[finding.kind]}]{finding.kind:<8}[/]", end="")
    console.print(finding.text, markup=False)
    return finding.kind == "problem"


def main() -> None:
    """Run the command."""
    exit_with_message(app)


if __name__ == "__main__":
    main()
