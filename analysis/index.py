"""The index of all runs of a store: one tidy row per run, kept in a parquet file beside them, rebuilt from them whenever in doubt.

Only results that changed since are read again. What cannot be used is named and left out; it never stops the others.
"""

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from vmae.errors import ResultsError, near
from vmae.files import write_atomic

SCHEMA = "1"  # raising it rebuilds every index
NOT_RUNS = ("sweeps", "jobs", "code")  # folders of a store that are no runs
FORMATS = (".csv", ".parquet")
FACTS = ("commit", "dirty", "gpu", "cpu", "host", "device", "num_ranks", "at", "synthetic")


@dataclass(frozen=True)
class Index:
    """All finished runs.

    Attributes:
        frame: by run id; columns `stage`, `status`, `metrics.*`, `compute.*`, `provenance.*`, `config.*` (leaves), `stamp`.
        num_read: results that were read this time.
        problems: directories and results that cannot be used, each in a sentence.
    """

    file: Path
    frame: pd.DataFrame
    num_read: int
    problems: tuple[str, ...]

    def export(self, path: Path) -> None:
        """Write the frame as csv or parquet, by the ending; ResultsError for another one."""
        if path.suffix not in FORMATS:
            raise ResultsError(f"{path}: cannot write {path.suffix or 'a file without ending'!r}{near(path.suffix, FORMATS)}")
        if path.suffix == ".csv":
            write_atomic(path, self.frame.to_csv(lineterminator="\n").encode())
        else:
            write_atomic(path, lambda temporary: _write(self.frame, temporary))


def collect_runs(root: Path) -> Index:
    """Bring `<root>/index.parquet` up to date and return it; ResultsError if there is no such folder."""
    if not root.is_dir():
        raise ResultsError(f"no runs at {root}")
    file, known = root / "index.parquet", _read(root / "index.parquet")
    stamps = dict(zip(known.index, known["stamp"], strict=True)) if len(known) else {}
    rows: dict[str, dict[str, Any]] = {}
    kept, problems = [], []
    for id_, folder, stamp in _results(root):
        if stamps.get(id_) == stamp:
            kept.append(id_)
            continue
        try:
            rows[id_] = _row(id_, folder) | {"stamp": stamp}
        except (ResultsError, KeyError, TypeError, ValueError, OSError) as error:
            problems.append(f"{folder}: {_reason(error)}")
    problems += [f"{path}: no config.json, so it is no run" for path in _foreign(root)]
    if not rows and len(kept) == len(known):
        return Index(file, known, 0, tuple(problems))
    frame = _ordered(pd.concat([known.loc[kept], pd.DataFrame.from_dict(rows, orient="index")]) if len(kept) else _framed(rows))
    write_atomic(file, lambda temporary: _write(frame, temporary))
    return Index(file, frame, len(rows), tuple(problems))


def _results(root: Path) -> Iterator[tuple[str, str, str]]:
    """Yield run id, folder and stamp (time of change and size of result.json) of every finished run."""
    with os.scandir(root) as entries:
        for entry in entries:
            try:
                found = os.stat(f"{entry.path}/result.json")
            except (FileNotFoundError, NotADirectoryError):
                continue
            yield entry.name, entry.path, f"{found.st_mtime_ns} {found.st_size}"


def _foreign(root: Path) -> Iterator[str]:
    with os.scandir(root) as entries:
        folders = sorted(e.path for e in entries if e.is_dir() and e.name not in NOT_RUNS and not e.name.startswith("."))
    yield from (path for path in folders if not os.path.exists(f"{path}/config.json"))


def _row(id_: str, folder: str) -> dict[str, Any]:
    """Read one run; ResultsError where result and config are not those of this directory."""
    with open(f"{folder}/result.json", encoding="utf-8") as file:
        result = json.load(file)
    if result["run_id"] != id_:
        raise ResultsError(f"result.json is of run {result['run_id']}: it was copied here")
    with open(f"{folder}/config.json", encoding="utf-8") as file:
        config = json.load(file)
    row = {"cell_id": result["cell_id"], "stage": result["stage"], "status": result["status"]}
    for part in ("metrics", "compute"):
        row |= {f"{part}.{name}": _plain(value) for name, value in result[part].items()}
    row |= {f"provenance.{name}": result["provenance"][name] for name in FACTS if name in result["provenance"]}
    return row | {f"config.{path}": value for path, value in _leaves(config)}


def _leaves(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, dict):
            yield from _leaves(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", _plain(value)


def _plain(value: Any) -> Any:
    return json.dumps(value) if isinstance(value, list | dict) else value


def _reason(error: Exception) -> str:
    if isinstance(error, json.JSONDecodeError):
        return f"result.json or config.json is half-written or damaged ({error})"
    return f"has no {error}" if isinstance(error, KeyError) else str(error)


def _framed(rows: Mapping[str, Mapping[str, Any]]) -> pd.DataFrame:
    return pd.DataFrame.from_dict(rows, orient="index") if rows else pd.DataFrame({"stamp": []})


def _ordered(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the frame in an order that does not depend on when which run was read; mixed columns as text."""
    frame = frame.sort_index()[sorted(frame.columns)]
    for column in frame.columns[frame.dtypes == object]:
        kinds = {type(value) for value in frame[column] if value is not None and value == value}
        if kinds == {int} or kinds == {int, float}:
            frame[column] = frame[column].astype(float)
        elif len(kinds) > 1:
            frame[column] = [None if value is None or value != value else str(value) for value in frame[column]]
    return frame


def _write(frame: pd.DataFrame, path: Path) -> None:
    table = pa.Table.from_pandas(frame)
    pq.write_table(table.replace_schema_metadata({**(table.schema.metadata or {}), b"vmae": SCHEMA.encode()}), path)


def _read(file: Path) -> pd.DataFrame:
    """Return the index as it is on disk; empty where it is absent, damaged or of another schema."""
    try:
        table = pq.read_table(file)
    except (OSError, pa.ArrowException):
        return pd.DataFrame({"stamp": []})
    if (table.schema.metadata or {}).get(b"vmae") != SCHEMA.encode():
        return pd.DataFrame({"stamp": []})
    return table.to_pandas()
