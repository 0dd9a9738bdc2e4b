"""python -m analysis: collect, table, plot, compare and report what finished runs say."""

import contextlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vmae.cli import exit_with_message
from vmae.errors import ResultsError, near
from vmae.files import default_root

if TYPE_CHECKING:
    from analysis.collect import Study
    from vmae.runs import Store

app = typer.Typer(help="Turn finished runs into tables and figures.", no_args_is_help=True, pretty_exceptions_enable=False)


@app.callback()
def _group() -> None:
    """Turn finished runs into tables and figures; no torch, no GPU."""


OPEN = contextlib.ExitStack()  # archives that are unpacked while a command runs
Name = Annotated[str, typer.Argument(help="A sweep that was submitted.")]
Runs = Annotated[
    Path | None, typer.Option(help="Where runs lie: a folder, or an archive of them. Default: $VMAE_RUNS, or ./runs")
]
Out = Annotated[Path | None, typer.Option(help="Where reports are written. Default: $VMAE_REPORTS, or ./reports")]
Question = Annotated[str | None, typer.Option(help="One ablation of the sweep.")]
Data = Annotated[str | None, typer.Option(help="One data set of the sweep.")]
Metric = Annotated[str | None, typer.Option(help="Instead of top-1: another metric of evaluations, or pretrain.NAME.")]


@app.command()
def report(name: Name, runs: Runs = None, out: Out = None) -> None:
    """Write OUT/NAME/report.md and report.html with tables and figures, and findings.md; print the tables.

    Example: python -m analysis report demo
    """
    from analysis.report import write_report

    written = write_report(_study(name, runs), _folder(name, out))
    for text in written.tables:
        typer.echo(f"\n{text}\n")
    typer.echo(f"report:     {written.file}\nin one file: {written.html}\nfindings:   {written.file.parent / 'findings.md'}")
    for plot in written.ratio_plots:
        typer.echo(f"ratio plot: {plot}")


@app.command()
def search(
    name: Annotated[str, typer.Argument(help="A search that has told a round.")], runs: Runs = None, out: Out = None
) -> None:
    """Write OUT/NAME/search.md: shared recipe beside tuned, sensitivity curves, importances, every trial.

    Example: python -m analysis search lr_per_mask
    """
    from analysis.search import write_search

    typer.echo(f"search: {write_search(_store(runs), name, _folder(name, out))}")


@app.command()
def table(
    name: Name,
    runs: Runs = None,
    ablation: Question = None,
    dataset: Data = None,
    metric: Metric = None,
    form: Annotated[str, typer.Option("--format", help="md, csv (with run ids) or latex (booktabs).")] = "md",
) -> None:
    """Print tables as the paper sets them: ours with intervals, the paper's number, the difference with its test, what it took.

    Example: python -m analysis table paper_table1 --ablation loss --format latex
    """
    from analysis.formats import FORMATS, latex, markdown, results_table
    from analysis.table import cell_table

    if form not in FORMATS:
        raise ResultsError(f"--format {form!r}{near(form, FORMATS)}")
    study = _study(name, runs)
    cells = cell_table(study, metric)
    for column, wanted in (("ablation", ablation), ("dataset", dataset)):
        if wanted is not None and wanted not in (known := sorted(set(cells[column]))):
            raise ResultsError(f"{name} has no {column} {wanted!r}{near(wanted, known)}")
        cells = cells if wanted is None else cells[cells[column] == wanted]
    if form == "csv":
        typer.echo(cells.to_csv(index=False, lineterminator="\n"), nl=False)
        return
    for (question, data), part in cells.groupby(["ablation", "dataset"], sort=False):
        shown = results_table(part, study.paper_name(str(data)))
        typer.echo(f"\n{'%' if form == 'latex' else '##'} {question}, {data}{' (SYNTHETIC)' if study.is_synthetic else ''}\n")
        typer.echo(latex(shown) if form == "latex" else markdown(shown))


@app.command()
def plot(
    name: Name,
    runs: Runs = None,
    out: Out = None,
    figure: Annotated[str | None, typer.Option(help="One kind: ratio, heat, forest, data, depth, cost, finetuning, ...")] = None,
) -> None:
    """Draw the figures that a sweep's results allow, as png, pdf and svg, into OUT/NAME/figures.

    Example: python -m analysis plot masking --figure ratio
    """
    from analysis.drawing import draw_all
    from analysis.table import cell_table

    study = _study(name, runs)
    drawn = draw_all(study, cell_table(study), _folder(name, out) / "figures", figure)
    for one in drawn:
        typer.echo(f"{one.files[0]}: {one.caption}")
    if not drawn:
        raise ResultsError(f"sweep {name}: no finished runs that such a figure could show")


@app.command()
def compare(
    name: Name,
    arm: Annotated[str, typer.Argument(help="An arm, for example 'tube 0.9'.")],
    other: Annotated[str, typer.Argument(help="The arm to compare it with.")],
    runs: Runs = None,
    ablation: Question = None,
    dataset: Data = None,
) -> None:
    """Compare two arms: means, difference over seeds and over videos, what could have been detected, and their settings.

    Example: python -m analysis compare demo "tube 0.75" scratch
    """
    from analysis.pairs import compare_arms

    for line in compare_arms(_study(name, runs), arm, other, ablation, dataset):
        typer.echo(line)


@app.command()
def claims(
    names: Annotated[list[str], typer.Argument(help="Submitted sweeps; of a comparison on a data set the first speaks.")],
    runs: Runs = None,
    reports: Annotated[str, typer.Option(help="The folder of their reports, as links name it.")] = "reports",
) -> None:
    """Print, as markdown, what sweeps together say of each claim of the paper, and what would settle it.

    Example: python -m analysis claims evidence_long evidence --runs results/evidence/runs.zip --reports ../results
    """
    from analysis.formats import markdown
    from analysis.overview import overview

    links = [f"[{name}]({reports}/{name}/report.md)" for name in names]
    typer.echo(markdown(overview([_study(name, runs) for name in names], links)))


@app.command()
def collect(
    runs: Annotated[Path | None, typer.Option(help="The folder where runs lie. Default: $VMAE_RUNS, or ./runs")] = None,
    out: Annotated[Path | None, typer.Option(help="Also write the index there, as .csv or .parquet.")] = None,
) -> None:
    """Bring the index of all finished runs up to date (RUNS/index.parquet), and say what cannot be used.

    Example: python -m analysis collect --out all.csv
    """
    from analysis.index import collect_runs

    found = collect_runs((runs or default_root()).absolute())
    typer.echo(f"{len(found.table)} runs in {found.file}: {found.num_read} read now, {len(found.table) - found.num_read} known")
    for problem in found.problems:
        typer.echo(f"cannot be used: {problem}")
    if out:
        found.export(out)
        typer.echo(f"written: {out}")


@app.command()
def archive(
    names: Annotated[list[str], typer.Argument(help="Sweeps that were submitted, and searches.")],
    to: Annotated[Path, typer.Option(help="The zip file.")],
    runs: Runs = None,
) -> None:
    """Keep what reports need of finished runs (configurations, results, curves, predictions; no weights) in one small file.

    Example: python -m analysis archive masking --to results/masking/runs.zip
    """
    from analysis.archive import write_archive

    num_runs = write_archive(_store(runs), names, to)
    typer.echo(f"{to}: {num_runs} runs, {to.stat().st_size / 1e6:.1f} MB; reports: python -m analysis render {to}")


@app.command()
def render(
    file: Annotated[Path, typer.Argument(help="What `archive` wrote.")],
    out: Out = None,
) -> None:
    """Write the reports of everything in an archive into OUT; the same runs give the same bytes.

    Example: python -m analysis render results/evidence/runs.zip --out results
    """
    from analysis.archive import names_in
    from analysis.collect import load_study
    from analysis.report import write_report
    from analysis.search import write_search

    store = _store(file)
    for name in names_in(store):
        if store.search_file(name).exists():
            typer.echo(f"search: {write_search(store, name, _folder(name, out))}")
        else:
            typer.echo(f"report: {write_report(load_study(store, name), _folder(name, out)).file}")


def _store(runs: Path | None) -> "Store":
    """Return the store for as long as the command lasts."""
    from analysis.archive import opened

    return OPEN.enter_context(opened(runs or default_root()))


def _study(name: str, runs: Path | None) -> "Study":
    from analysis.collect import load_study

    return load_study(_store(runs), name)


def _folder(name: str, out: Path | None) -> Path:
    return (out or Path(os.environ.get("VMAE_REPORTS", "reports"))) / name


def main() -> None:
    """Run the command."""
    with OPEN:
        exit_with_message(app)


if __name__ == "__main__":
    main()
