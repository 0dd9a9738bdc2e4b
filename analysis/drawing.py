"""Drawing what a study's results allow into files, in several processes where there is much."""

import pickle
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, partial
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory

import pandas as pd
from rich.console import Console
from rich.progress import Progress

from analysis import style
from analysis.collect import Study
from analysis.figures import OF_STUDIES, OF_TABLES, Made
from vmae.errors import ResultsError, near

NUM_MANY = 20  # figures that take longer to draw than processes to start


@dataclass(frozen=True)
class Drawn:
    """A figure as files; `ablation` and `dataset` are None where it is of the whole sweep."""

    kind: str
    title: str
    caption: str
    files: tuple[Path, ...]
    ablation: str | None = None
    dataset: str | None = None


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
