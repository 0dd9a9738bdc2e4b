"""reports/<sweep>/: report.md, tables (csv), figures (png, pdf); from finished runs alone, the same bytes every time."""

from dataclasses import dataclass
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd

from analysis import plots, style
from analysis.collect import Study, hardware
from analysis.table import cell_table, markdown, readable
from analysis.words import in_words
from vmae.errors import ResultsError
from vmae.runs import STATES


@dataclass(frozen=True)
class Report:
    """Where a report stands, and its tables as text."""

    file: Path
    ratio_plots: tuple[Path, ...]
    tables: tuple[str, ...]


def write_report(study: Study, folder: Path) -> Report:
    """Write the report of a sweep; ResultsError (what is missing) if no cell is finished."""
    cells = cell_table(study)
    if not (cells["num_seeds"] > 0).any():
        counts = _counts(study)
        raise ResultsError(
            f"sweep {study.name}: no cell is finished ({counts}); run it with: python -m sweeps submit {study.name}"
        )
    style.apply()
    (folder / "tables").mkdir(parents=True, exist_ok=True)
    lines = [f"# {study.name}", "", str(study.plan["purpose"]), "", f"Runs: {_counts(study)}.", ""]
    ratio_plots, tables = [], []
    for ablation in study.plan["ablations"]:
        lines += [f"## {ablation['question']}", "", f"*Expected* ({ablation['paper']}): {ablation['expected']}", ""]
        for dataset, part in cells[cells["ablation"] == ablation["name"]].groupby("dataset", sort=False):
            stem = f"{ablation['name']}-{dataset}"
            part.to_csv(folder / "tables" / f"{stem}.csv", index=False, lineterminator="\n")
            ratio_plots.append(_ratio_plot(folder, stem, part))
            text = markdown(readable(part))
            tables.append(f"{ablation['name']}, {dataset}\n\n{text}")
            lines += [
                f"### {dataset}",
                "",
                *in_words(study, ablation, part),
                "",
                text,
                "",
                _legend(part, ablation["baseline"]),
                "",
            ]
            lines += [
                f"![accuracy over masking ratio](figures/{stem}-ratio.png)",
                "",
                f"Runs per cell, csv: tables/{stem}.csv.",
                "",
            ]
    lines += _pretraining(study, folder, cells) + _provenance(study)
    file = folder / "report.md"
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return Report(file, tuple(ratio_plots), tuple(tables))


def _ratio_plot(folder: Path, stem: str, cells: pd.DataFrame) -> Path:
    figure, ax = plt.subplots(figsize=(style.WIDTH_IN, style.WIDTH_IN * 0.62))
    plots.accuracy_vs_ratio(ax, cells)
    ax.set_title(f"{cells['dataset'].iloc[0]} ({plots.seeds_note(cells)})", fontsize=9)
    return style.save(figure, folder / "figures" / f"{stem}-ratio")[0]


def _pretraining(study: Study, folder: Path, cells: pd.DataFrame) -> list[str]:
    """Draw what the pre-trainings reached; the arms of the first data set stand for all, which share them."""
    lines = ["## Pre-training", ""]
    first = cells[cells["dataset"] == cells["dataset"].iloc[0]]
    if "pretrain_loss_heldout" in first and first["pretrain_loss_heldout"].notna().any():
        figure, ax = plt.subplots(figsize=(style.WIDTH_IN, style.WIDTH_IN * 0.55))
        plots.loss_vs_floors(ax, first)
        style.save(figure, folder / "figures" / "loss-vs-floors")
        lines += ["![loss beside its trivial floors](figures/loss-vs-floors.png)", ""]
    figure, ax = plt.subplots(figsize=(style.WIDTH_IN, style.WIDTH_IN * 0.55))
    plots.pretraining_curves(ax, study)
    style.save(figure, folder / "figures" / "pretraining-curves")
    lines += ["![training loss](figures/pretraining-curves.png)", ""]
    sheet = plots.reconstruction_sheet(study)
    if sheet is not None:
        style.save(sheet, folder / "figures" / "reconstruction")
        lines += ["![original, masked input, reconstruction](figures/reconstruction.png)", ""]
    return lines


def _legend(cells: pd.DataFrame, baseline: str) -> str:
    shown = cells[cells["num_seeds"] > 0]
    se = shown["top1_video_se"].mean()
    scored, expected = shown["num_scored"].min(), shown["num_expected"].max()
    return (
        f"top-1: {plots.seeds_note(cells)}; {scored} of {expected} test videos scored, which alone gives a standard error of "
        f"about {se:.1f} points. Baseline: {baseline}. Differences: paired t test over seeds where there are two or more, else "
        "McNemar's exact test over the test videos, which says nothing about another seed. "
        "hidden: achieved masking ratio. Losses of different masks cannot be compared with each other, only with their floors."
    )


def _counts(study: Study) -> str:
    states = list(study.states.values())
    return ", ".join(f"{states.count(state)} {state}" for state in STATES if state in states)


def _provenance(study: Study) -> list[str]:
    commits = {(r.provenance.get("commit"), r.provenance.get("dirty")) for r in study.results.values()}
    names = sorted(f"{commit or 'no checkout'}{' with local changes' if dirty else ''}" for commit, dirty in commits)
    mixed = "**Runs of different code are mixed here.** " if len(names) > 1 else ""
    hours = sum(float(r.compute.get("train_s", 0.0)) for r in study.results.values()) / 3600
    return [
        "## Where this comes from",
        "",
        f"- {mixed}Code: {'; '.join(names)}",
        f"- Machine: {'; '.join(hardware(study))}",
        f"- Training time of all runs together: {hours:.2f} h; seeds: {', '.join(map(str, study.plan['seeds']))}",
        "- Each cell's run ids are in its csv; a run's config, metrics and result are in the run directory of that name.",
    ]
