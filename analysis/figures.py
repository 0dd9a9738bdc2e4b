"""Which figures a study's results allow, drawn from the plan's content; each with a caption that says what it shows."""

import pickle
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, partial
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure
from rich.console import Console
from rich.progress import Progress

from analysis import charts, plots, style
from analysis.collect import Study
from analysis.paper import lookup
from analysis.words import seeds_note
from vmae.errors import ResultsError, near


@dataclass(frozen=True)
class Drawn:
    """A figure as files; `ablation` and `dataset` are None where it is of the whole sweep."""

    kind: str
    title: str
    caption: str
    files: tuple[Path, ...]
    ablation: str | None = None
    dataset: str | None = None


ONE_COST = 1.1  # hours that differ by less are one cost, and what differs is the machine's noise
NUM_MANY = 20  # figures that take longer to draw than processes to start
MEMORY = "gpu_mem_GB_bs16_1gpu"  # in paper.csv, Table 1a
Made = tuple[Figure, str] | None  # a figure and its caption, or nothing where there is nothing to draw
OfTable = Callable[[Study, Mapping[str, Any], pd.DataFrame], Made]
OfStudy = Callable[[Study, pd.DataFrame], Made]


@dataclass(frozen=True)
class _Task:
    """One figure that may come to something, of `cells`; `ablation` and `dataset` are None where it is of the whole sweep."""

    kind: str
    cells: pd.DataFrame
    ablation: str | None = None
    dataset: str | None = None


def draw_all(study: Study, cells: pd.DataFrame, folder: Path, only: str | None = None, num_workers: int = 1) -> list[Drawn]:
    """Draw what the results allow into `folder` as png, pdf and svg; with a progress bar where there are many.

    Args:
        only: one kind of figure.
        num_workers: processes that draw; the files are the same.

    Raises:
        ResultsError: unknown kind, with the near word.
    """
    with drawing(study, folder, only, num_workers) as begin:
        return begin(cells)()


@contextmanager
def drawing(
    study: Study, folder: Path, only: str | None = None, num_workers: int = 1
) -> Iterator[Callable[[pd.DataFrame], Callable[[], list[Drawn]]]]:
    """Start drawing processes and yield what sets them to work on `cells`, which returns what waits for them. See `draw_all`.

    The caller makes the cells while the processes start, and something else while they draw.
    """
    if only is not None and only not in (known := (*OF_TABLES, *OF_STUDIES)):
        raise ResultsError(f"no figure {only!r}{near(only, known)}")
    drawer = _Drawer(study, folder)
    kinds = [kind for kind in OF_TABLES if only in (None, kind)]
    is_many = len(study.replicates[["ablation", "dataset"]].drop_duplicates()) * len(kinds) >= NUM_MANY

    def begin(draw: Callable[..., Iterable[Drawn | None]], cells: pd.DataFrame) -> Callable[[], list[Drawn]]:
        tasks = [task for task in _tasks(study, cells) if only in (None, task.kind)]
        found = draw(tasks)

        def wait() -> list[Drawn]:
            with Progress(console=Console(stderr=True), transient=True, disable=not is_many) as bar:
                return [one for one in bar.track(found, len(tasks), description="figures") if one]

        return wait

    if num_workers > 1 and is_many:
        # Spawned, not forked: the caller may hold threads. By a file: a process that is handed a study as it starts keeps its
        # parent waiting until it has imported what it needs, and so the processes after it.
        with TemporaryDirectory(prefix="vmae-") as place, ProcessPoolExecutor(num_workers, get_context("spawn")) as pool:
            for _ in range(num_workers):
                pool.submit(style.apply)  # without a task no process starts
            (file := Path(place, "drawer")).write_bytes(pickle.dumps(drawer))
            yield partial(begin, partial(pool.map, partial(_draw_there, file)))
    else:
        yield partial(begin, partial(map, drawer.draw))


def _tasks(study: Study, cells: pd.DataFrame) -> Iterator[_Task]:
    yield from (_Task(kind, cells) for kind in OF_STUDIES)  # first: they take longest
    for ablation in study.plan["ablations"]:
        for dataset, part in cells[cells["ablation"] == ablation["name"]].groupby("dataset", sort=False):
            if (part["num_seeds"] > 0).any():
                yield from (_Task(kind, part, ablation["name"], str(dataset)) for kind in OF_TABLES)


@dataclass(frozen=True)
class _Drawer:
    study: Study
    folder: Path

    def draw(self, task: _Task) -> Drawn | None:
        """Draw one figure, None where there is nothing to draw."""
        style.apply()
        if task.ablation is None:
            return _save(self.study, task, OF_STUDIES[task.kind](self.study, task.cells), self.folder / task.kind)
        made = OF_TABLES[task.kind](self.study, self.study.ablation(task.ablation), task.cells)
        return _save(self.study, task, made, self.folder / f"{task.ablation}-{task.dataset}-{task.kind}")


@cache
def _drawer_in(file: Path) -> _Drawer:
    drawer: _Drawer = pickle.loads(file.read_bytes())
    return drawer


def _draw_there(file: Path, task: _Task) -> Drawn | None:
    return _drawer_in(file).draw(task)


def _save(study: Study, task: _Task, made: Made, stem: Path) -> Drawn | None:
    if made is None:
        return None
    figure, caption = made
    if study.is_synthetic:
        figure.text(0.5, 0.5, "SYNTHETIC", fontsize=40, color="0.5", alpha=0.25, rotation=25, ha="center", va="center")
        caption = f"SYNTHETIC. {caption}"
    title = " ".join(word for word in (task.kind.replace("-", " "), task.ablation, task.dataset) if word)
    return Drawn(task.kind, title, caption, tuple(style.save(figure, stem)), task.ablation, task.dataset)


def settings_of(study: Study, ablation: str, dataset: str) -> dict[str, Mapping[str, Any]]:
    """Return what each arm sets, as planned."""
    cells = study.plan["cells"]
    return {c["arm"]: c["settings"] for c in cells if (c["ablation"], c["dataset"]) == (ablation, dataset)}


def _sized(height: float, width: float = 1.0) -> dict[str, tuple[float, float]]:
    return {"figsize": (style.WIDTH_IN * width, style.WIDTH_IN * height)}


def _ratio(study: Study, ablation: Mapping[str, Any], cells: pd.DataFrame) -> Made:
    masked = cells.dropna(subset=["mask.kind"])
    if masked[["mask.kind", "mask.ratio"]].drop_duplicates().shape[0] < 2 or "mask_ratio_achieved" not in cells:
        return None
    paper_name, dataset = study.paper_name(cells["dataset"].iloc[0]), cells["dataset"].iloc[0]
    num_known = len(cells.dropna(subset=["paper", "mask.kind"]).drop_duplicates(["mask.kind", "mask.ratio"]))
    if num_known >= 2:
        figure, (ax, beside) = plt.subplots(1, 2, width_ratios=(3, 1), **_sized(0.62, 1.25))
        plots.paper_ratios(beside, cells, paper_name)
    else:
        figure, ax = plt.subplots(**_sized(0.62))
    plots.accuracy_vs_ratio(ax, cells)
    if (cells["state"] == "done").all():
        ax.set_title(f"{dataset} ({seeds_note(cells)})", fontsize=9)
    caption = f"Accuracy over the share of hidden cubes on {dataset}; {seeds_note(cells)}."
    return figure, caption + (f" Right: the paper's numbers on {paper_name}, of another scale." if num_known >= 2 else "")


def _forest(study: Study, ablation: Mapping[str, Any], cells: pd.DataFrame) -> Made:
    if "vs_baseline" not in cells or not cells["vs_baseline"].notna().any():
        return None
    figure, ax = plt.subplots(**_sized(0.12 + 0.07 * cells["vs_baseline"].notna().sum()))
    charts.forest(ax, cells, ablation["baseline"])
    over = "seeds" if set(cells["vs_baseline_over"].dropna()) == {"seeds"} else "the test videos of one seed"
    return figure, f"Differences to {ablation['baseline']} over {over}; filled: told apart at 5 % after Holm's correction."


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
    figure, ax = plt.subplots(**_sized(0.6))
    charts.cost_and_accuracy(ax, cells)
    return figure, f"What an arm took and what it gave; {seeds_note(cells)}. Hours of different hardware are not comparable."


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
    figure, axes = plt.subplots(1, 2, **_sized(0.45, 1.2))
    depths = sorted({int(settings[arm][charts.DEPTH]) for arm in shown["arm"]})
    memory = {
        depth: lookup({"table": "vmae.t1a", "case": f"decoder_depth={depth}", "dataset": "-", "metric": MEMORY}, "-")
        for depth in depths
    }
    theirs = {depth: found.value for depth, found in memory.items() if found and found.value is not None}
    charts.decoder_depth(tuple(axes), cells, settings, theirs)
    figure.tight_layout()
    beside = " Diamonds: the paper's memory for ViT-B with 16 clips per GPU." if theirs else ""
    return figure, f"Accuracy and cost over the depth of the decoder; {seeds_note(cells)}.{beside}"


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
    first = cells[(cells["dataset"] == cells["dataset"].iloc[0]) & cells["mask.kind"].notna()].drop_duplicates("arm")
    if not first["pretrain_loss_heldout"].notna().any():
        return None
    figure, ax = plt.subplots(**_sized(0.2 + 0.045 * len(first)))
    plots.loss_vs_floors(ax, first)
    return figure, "Held-out pre-training loss beside what trivial predictors reach under the same masks."


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
