"""python -m analysis report SWEEP: tables, figures and sentences from finished runs."""

import os
from pathlib import Path
from typing import Annotated

import typer

from vmae.cli import exit_with_message
from vmae.runs import Store, default_root

app = typer.Typer(help="Turn finished runs into tables and figures.", no_args_is_help=True, pretty_exceptions_enable=False)


@app.callback()
def _group() -> None:
    """Turn finished runs into tables and figures; no torch, no GPU."""


@app.command()
def report(
    name: Annotated[str, typer.Argument(help="A sweep that was submitted.")],
    runs: Annotated[Path | None, typer.Option(help="Where runs lie. Default: $VMAE_RUNS, or ./runs")] = None,
    out: Annotated[Path | None, typer.Option(help="Where reports are written. Default: $VMAE_REPORTS, or ./reports")] = None,
) -> None:
    """Write OUT/NAME/report.md with tables and figures, and print the table."""
    from analysis.collect import load_study
    from analysis.report import write_report

    folder = (out or Path(os.environ.get("VMAE_REPORTS", "reports"))) / name
    written = write_report(load_study(Store((runs or default_root()).absolute()), name), folder)
    for table in written.tables:
        typer.echo(f"\n{table}\n")
    typer.echo(f"report:     {written.file}")
    for plot in written.ratio_plots:
        typer.echo(f"ratio plot: {plot}")


def main() -> None:
    """Run the command."""
    exit_with_message(app)


if __name__ == "__main__":
    main()
