"""Finished runs in one small file, from which their report is made again anywhere: what analysis reads, and no weights."""

import contextlib
import io
import json
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from analysis.collect import read_reconstruction
from vmae.errors import ResultsError, near
from vmae.files import UNREADABLE, write_atomic
from vmae.results import lines_of, read_metrics, runs_of_search
from vmae.runs import Store, winners_of

CONTENTS = "archive.json"
LONG = (".jsonl", ".csv")  # rows upon rows, a fifth smaller by bzip2; what is short is not
LOGGED = {"loss", "grad_norm"}  # learning rates follow from the config, and result.json sums up speeds and times
LONG_AGO = (1980, 1, 1, 0, 0, 0)  # so that the same runs give the same bytes


def write_archive(store: Store, names: Sequence[str], file: Path) -> int:
    """Write the plans, searches and run records of `names` to a zip file; return how many runs it holds.

    Of runs without a result it keeps why they ended, so that what failed is not told as missing.

    A search brings its winners' sweep with it, if that was submitted. Of held-out clips the file keeps what figures show, the
    first of each cell's first seed; of logs what was learned, losses and norms of gradients.

    Raises:
        ResultsError: a name that is neither a submitted sweep nor a search, with the near word; damaged clips or logs.
    """
    known = sorted(path.name for path in (store.root / "sweeps").glob("*") if ".round-" not in path.name)
    if unknown := [name for name in names if name not in known]:
        raise ResultsError(f"{store.root} has no sweep or search {unknown[0]!r}{near(unknown[0], known)}")
    records: dict[Path, None] = {}
    pictured: dict[str, None] = {}
    runs: dict[str, None] = {}
    for name in [*names, *(winners_of(name) for name in names if store.plan_file(winners_of(name)).exists())]:
        if store.plan_file(name).exists():
            records[store.plan_file(name)] = None
            plan = store.read_plan(name)
            runs |= dict.fromkeys(plan["runs"])
            first = [cell["replicates"][0]["runs"] for cell in plan["cells"]]
            pictured |= dict.fromkeys(ids["pretrain"] for ids in first if "pretrain" in ids)
        if store.search_file(name).exists():
            records[store.search_file(name)] = None
            runs |= dict.fromkeys(runs_of_search(store.read_search(name)))
    runs |= dict.fromkeys(source for id_ in runs if (source := store.adopted(id_)))
    for place in map(store.own, runs):
        left = (place.result, place.metrics, place.predictions) if place.result.exists() else (place.stopped,)
        records |= dict.fromkeys((place.config, place.adoption, *left))
    records |= dict.fromkeys(store.run(id_).reconstruction for id_ in pictured)
    write_atomic(file, lambda temporary: _write(store, names, sorted(records), temporary))
    return len(runs)


def _write(store: Store, names: Sequence[str], records: Sequence[Path], file: Path) -> None:
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        archive.writestr(zipfile.ZipInfo(CONTENTS, LONG_AGO), json.dumps({"names": list(names)}) + "\n")
        for path in records:
            if path.exists():
                entry = zipfile.ZipInfo(path.relative_to(store.root).as_posix(), LONG_AGO)
                entry.compress_type = zipfile.ZIP_BZIP2 if path.suffix in LONG else zipfile.ZIP_DEFLATED
                archive.writestr(entry, KEPT.get(path.suffix, Path.read_bytes)(path))


def _what_was_learned(log: Path) -> bytes:
    return lines_of(row for row in read_metrics(log) if row.metric in LOGGED)


def _first_clip(file: Path) -> bytes:
    clips, kept = read_reconstruction(file), io.BytesIO()
    first = {name: values[:1] if values.ndim else values for name, values in clips.items()}
    np.savez_compressed(kept, **first)  # type: ignore[arg-type]  # before numpy 2.1 allow_pickle would be one more array
    return kept.getvalue()


KEPT: Mapping[str, Callable[[Path], bytes]] = {".npz": _first_clip, ".jsonl": _what_was_learned}


@contextlib.contextmanager
def opened(runs: Path) -> Iterator[Store]:
    """Yield the store at `runs`: a folder, or an archive, unpacked for as long as it is needed."""
    if runs.suffix == ".zip" and not runs.exists():
        raise ResultsError(f"no archive of runs at {runs.absolute()}")
    if not runs.is_file():
        yield Store(runs.absolute())
        return
    with tempfile.TemporaryDirectory(prefix="vmae-") as folder:
        try:
            with zipfile.ZipFile(runs) as archive:
                archive.extractall(folder)
        except UNREADABLE as error:
            raise ResultsError(f"{runs} is no archive of runs: {error}; --runs is a folder, or what `archive` wrote") from None
        yield Store(Path(folder))


def names_in(store: Store) -> list[str]:
    """Return what an unpacked archive was made of; ResultsError for another folder."""
    contents = store.root / CONTENTS
    if not contents.exists():
        raise ResultsError(f"{store.root} holds no {CONTENTS}: it is not what `python -m analysis archive` wrote")
    names: list[str] = json.loads(contents.read_text(encoding="utf-8"))["names"]
    return names
