"""Which figures a study's results allow, drawn from the plan's content; each with a caption that says what it shows."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure

from analysis import charts, plots, style
from analysis.collect import Study
from analysis.paper import lookup
from analysis.table import GROUP, MIXED_HARDWARE
from analysis.words import over_what, seeds_note

ALIKE_HOURS = 1.25  # times the fastest seed's; where a seed took longer, the machine had other work
ONE_COST = 1.1  # hours that differ by less are one cost, and what differs is the machine's noise
MEMORY = "gpu_mem_GB_bs16_1gpu"  # in paper.csv, Table 1a
Made = tuple[Figure, str] | None  # a figure and its caption, or nothing where there is nothing to draw
OfTable = Callable[[Study, Mapping[str, Any], pd.DataFrame], Made]
OfStudy = Callable[[Study, pd.DataFrame], Made]


def settings_of(study: Study, ablation: str, dataset: str) -> dict[str, Mapping[str, Any]]:
    """Return what each arm sets, as planned."""
    cells = study.plan["cells"]
    return {c["arm"]: c["settings"] for c in cells if (c["ablation"], c["dataset"]) == (ablation, dataset)}


def _sized(height: float, width: float = 1.0) -> dict[str, tuple[float, float]]:
    return {"figsize": (style.WIDTH_IN * width, style.WIDTH_IN * height)}


def _ratio(study: Study, ablation: Mapping[str, Any], cells: pd.DataFrame) -> Made:
    masked = cells.dropna(subset=["mask.kind"])
    if masked["mask.ratio"].nunique() < 2 or masked.duplicated(["mask.kind", "mask.ratio"]).any():
        return None
    if "mask_ratio_achieved" not in cells:
        return None
    dataset = cells["dataset"].iloc[0]
    paper_name = study.paper_name(dataset)
    has_papers = len(plots.papers_points(cells)) >= 2
    if has_papers:
        figure, (ax, beside) = plt.subplots(1, 2, width_ratios=(3, 1), **_sized(0.62, 1.25))
        plots.paper_ratios(beside, cells, paper_name)
    else:
        figure, ax = plt.subplots(**_sized(0.62))
    plots.accuracy_vs_ratio(ax, cells)
    if (cells["state"] == "done").all():
        ax.set_title(f"{dataset} ({seeds_note(cells)})", fontsize=9)
    caption = f"Accuracy over the share of hidden cubes on {dataset}; {seeds_note(cells)}."
    scale = "" if paper_name == dataset else ", of another scale"
    return figure, caption + (f" Right: the paper's numbers on {paper_name}{scale}." if has_papers else "")


def _forest(study: Study, ablation: Mapping[str, Any], cells: pd.DataFrame) -> Made:
    if "vs_baseline" not in cells or not cells["vs_baseline"].notna().any():
        return None
    figure, ax = plt.subplots(**_sized(0.12 + 0.07 * cells["vs_baseline"].notna().sum()))
    charts.forest(ax, cells, ablation["baseline"])
    over = over_what(cells.dropna(subset=["vs_baseline"]), "baseline", "the test videos of one seed")
    return figure, f"Differences to {ablation['baseline']} {over}; filled: told apart at 5 % after Holm's correction."


def _data(study: Study, ablation: Mapping[str, Any], cells: pd.DataFrame) -> Made:
    settings = settings_of(study, ablation["name"], cells["dataset"].iloc[0])
    sizes = {s[charts.SUBSET] for s in settings.values() if charts.SUBSET in s}
    if len(sizes) < 2 or "pretrain_videos" not in cells:
        return None
    figure, ax = plt.subplots(**_sized(0.6))
    charts.data_efficiency(ax, cells, settings)
    return figure, f"Accuracy over the number of pre-training videos; {seeds_note(cells)}. Subsets are nested and stratified."


def _cost(study: Study, ablation: Mapping[str, Any], cells: pd.DataFrame) -> Made:
    shown = cells[cells["num_seeds"] > 0]
    if len(shown) < 2 or not (shown["hours"] > 0).all() or shown["hours"].max() < ONE_COST * shown["hours"].min():
        return None
    if not _times_compare(shown):
        return None
    figure, ax = plt.subplots(**_sized(0.6))
    charts.cost_and_accuracy(ax, cells)
    return figure, f"What an arm took and what it gave; {seeds_note(cells)}. Hours of different hardware are not comparable."


def _times_compare(shown: pd.DataFrame) -> bool:
    """Return whether what arms took is theirs: on one kind of machine that did nothing else, so that seeds took as long."""
    return bool((shown["hours_apart"] < ALIKE_HOURS).all()) and not shown["flags"].str.contains(MIXED_HARDWARE).any()


def _heat(study: Study, ablation: Mapping[str, Any], cells: pd.DataFrame) -> Made:
    asked = cells.dropna(subset=["mask.kind"])
    if (
        asked["mask.kind"].nunique() < 2
        or asked["mask.ratio"].nunique() < 2
        or asked.duplicated(["mask.kind", "mask.ratio"]).any()
    ):
        return None
    figure, ax = plt.subplots(**_sized(0.2 + 0.08 * asked["mask.kind"].nunique()))
    charts.heat_map(ax, cells)
    return figure, "Accuracy by kind of mask and ratio, means over seeds; hatched: not finished; blank: not asked."


def _depth(study: Study, ablation: Mapping[str, Any], cells: pd.DataFrame) -> Made:
    settings = settings_of(study, ablation["name"], cells["dataset"].iloc[0])
    shown = cells[cells["num_seeds"] > 0]
    if len(shown) < 2 or not all(charts.DEPTH in settings[arm] for arm in shown["arm"]):
        return None
    has_memory = charts.has_memory(shown)
    has_cost = has_memory or _times_compare(shown)
    figure, axes = plt.subplots(1, 2 if has_cost else 1, squeeze=False, **_sized(0.45, 1.2 if has_cost else 0.7))
    theirs = _papers_memory({int(settings[arm][charts.DEPTH]) for arm in shown["arm"]}) if has_memory else {}
    charts.decoder_depth(list(axes[0]), cells, settings, theirs)
    figure.tight_layout()
    beside = " Diamonds: the paper's memory for ViT-B with 16 clips per GPU." if theirs else ""
    return figure, f"Accuracy{' and cost' if has_cost else ''} over the depth of the decoder; {seeds_note(cells)}.{beside}"


def _papers_memory(depths: Iterable[int]) -> dict[int, float]:
    """Return the memory of Table 1a in GB, by the decoder's depth."""
    found = {
        depth: lookup({"table": "vmae.t1a", "case": f"decoder_depth={depth}", "dataset": "-", "metric": MEMORY}, "-")
        for depth in sorted(depths)
    }
    return {depth: row.value for depth, row in found.items() if row and row.value is not None}


def _finetuning(study: Study, ablation: Mapping[str, Any], cells: pd.DataFrame) -> Made:
    figure, ax = plt.subplots(**_sized(0.55))
    charts.finetuning_curves(ax, study, cells)
    if not ax.lines:
        plt.close(figure)
        return None
    return figure, "Fine-tuning loss, means over seeds; with mixing or smoothing a loss says little about accuracy."


def _floors(study: Study, cells: pd.DataFrame) -> Made:
    if "pretrain_loss_heldout" not in cells:
        return None
    asked = _pretrainings(study, cells[cells["mask.kind"].notna()])
    if not asked["pretrain_loss_heldout"].notna().any():
        return None
    figure, ax = plt.subplots(**_sized(0.2 + 0.045 * len(asked)))
    plots.loss_vs_floors(ax, asked)
    return figure, "Held-out pre-training loss beside what trivial predictors reach under the same masks, of which the best is 1."


def _pretrainings(study: Study, cells: pd.DataFrame) -> pd.DataFrame:
    """Return one cell of each pre-training; arms name the data set where there are several, and the ablation if need be."""
    by_cell = study.replicates.drop_duplicates(GROUP).set_index(GROUP)["run.pretrain"]
    kept = cells.assign(pretrain=list(by_cell.loc[list(cells[GROUP].itertuples(index=False, name=None))]))
    kept = kept.drop_duplicates("pretrain")
    if kept["dataset"].nunique() > 1:
        kept = kept.assign(arm=kept["dataset"] + ": " + kept["arm"])
    is_double = kept.duplicated("arm", keep=False)
    return kept.assign(arm=kept["arm"].where(~is_double, kept["ablation"] + ": " + kept["arm"]))


def _pretraining(study: Study, cells: pd.DataFrame) -> Made:
    figure, ax = plt.subplots(**_sized(0.55))
    plots.pretraining_curves(ax, study)
    if not ax.lines:
        plt.close(figure)
        return None
    return figure, "Training loss of the masked pre-trainings; only curves of one mask and target can be compared."


def _sheet_kinds(study: Study, cells: pd.DataFrame) -> Made:
    sheet = plots.reconstruction_sheet(study)
    return None if sheet is None else (sheet, "A held-out clip: original, masked input and reconstruction, by kind of mask.")


def _sheet_ratios(study: Study, cells: pd.DataFrame) -> Made:
    sheet = plots.reconstruction_sheet(study, by="ratio")
    return (
        None if sheet is None else (sheet, "A held-out clip: original, masked input and reconstruction, by ratio of tube masks.")
    )


OF_TABLES: Mapping[str, OfTable] = {
    "ratio": _ratio,
    "heat": _heat,
    "forest": _forest,
    "data": _data,
    "depth": _depth,
    "cost": _cost,
    "finetuning": _finetuning,
}
OF_STUDIES: Mapping[str, OfStudy] = {
    "loss-vs-floors": _floors,
    "pretraining-curves": _pretraining,
    "reconstruction": _sheet_kinds,
    "reconstruction-ratios": _sheet_ratios,
}
