"""The index of all runs of a store: a row per run, in a parquet file beside them, rebuilt from them whenever in doubt.

Only results that changed since are read again. What cannot be used is named and left out; it never stops the others.
"""

import functools
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from vmae.errors import ResultsError, near
from vmae.files import write_atomic

if TYPE_CHECKING:
    import pandas as pd

SCHEMA = "2"  # raising it rebuilds every index
NOT_RUNS = ("sweeps", "jobs", "code")  # folders of a store that are no runs
FORMATS = (".csv", ".parquet")
INDEX = "run_id"
FACTS = ("commit", "dirty", "gpu", "cpu", "host", "device", "num_ranks", "at", "synthetic")


@dataclass(frozen=True)
class Index:
    """All finished runs.

    Attributes:
        table: a row per run.
        num_read: results that were read this time.
        problems: directories and results that cannot be used, each in a sentence.
    """

    file: Path
    table: pa.Table
    num_read: int
    problems: tuple[str, ...]

    @functools.cached_property
    def frame(self) -> "pd.DataFrame":
        """By run id; columns `stage`, `status`, `metrics.*`, `compute.*`, `provenance.*`, `config.*` (leaves), `stamp`."""
        frame: pd.DataFrame = self.table.to_pandas()
        return frame

    def export(self, path: Path) -> None:
        """Write the frame as csv or parquet, by the ending; ResultsError for another one."""
        if path.suffix not in FORMATS:
            raise ResultsError(f"{path}: cannot write {path.suffix or 'a file without ending'!r}{near(path.suffix, FORMATS)}")
        if path.suffix == ".csv":
            write_atomic(path, self.frame.to_csv(lineterminator="\n").encode())
        else:
            write_atomic(path, lambda temporary: pq.write_table(_table(self.frame), temporary))


def collect_runs(root: Path) -> Index:
    """Bring `<root>/index.parquet` up to date and return it; ResultsError if there is no such folder."""
    if not root.is_dir():
        raise ResultsError(f"no runs at {root}")
    # Without pandas until something changed: importing it is half of what a warm index takes.
    file, known = root / "index.parquet", _read(root / "index.parquet")
    stamps = dict(zip(known[INDEX].to_pylist(), known["stamp"].to_pylist(), strict=True)) if known else {}
    rows: dict[str, dict[str, Any]] = {}
    kept, problems = [], []
    for id_, stamp in sorted(_runs(root)):
        if stamp is not None and stamps.get(id_) == stamp:
            kept.append(id_)
            continue
        folder = root / id_
        if stamp is None:
            problems.append(f"{folder}: no config.json, so it is no run")
            continue
        try:
            rows[id_] = _row(folder) | {"stamp": stamp}
        except (ResultsError, KeyError, TypeError, ValueError, AttributeError, RecursionError, OSError) as error:
            problems.append(f"{folder}: {_reason(error)}")
    if known is None or rows or len(kept) != len(stamps):
        known = _table(_ordered(_joined(known, kept, rows)))
        write_atomic(file, lambda temporary: pq.write_table(known, temporary))
    return Index(file, known, len(rows), tuple(problems))


def _runs(root: Path) -> Iterator[tuple[str, str | None]]:
    """Yield id and stamp (time of change and size of result.json) of every finished run; None for a folder that is no run."""
    with os.scandir(root) as entries:
        folders = [e.name for e in entries if e.is_dir() and e.name not in NOT_RUNS and not e.name.startswith(".")]
    for name in folders:
        try:
            # Not through Path, which takes three times as long, ten thousand times.
            found = os.stat(f"{root}/{name}/result.json")  # noqa: PTH116
        except FileNotFoundError:
            if not any((root / name / file).exists() for file in ("config.json", "adopted.json")):
                yield name, None
        else:
            yield name, f"{found.st_mtime_ns} {found.st_size}"


def _row(folder: Path) -> dict[str, Any]:
    """Read one run; ResultsError where the result is not of this directory."""
    result = json.loads((folder / "result.json").read_text(encoding="utf-8"))
    if result["run_id"] != folder.name:
        raise ResultsError(f"result.json is of run {result['run_id']}: it was copied here")
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
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
    if isinstance(error, TypeError | AttributeError | RecursionError):
        return f"result.json or config.json is of another shape ({error})"
    return f"has no {error}" if isinstance(error, KeyError) else str(error)


def _joined(known: pa.Table | None, kept: list[str], rows: dict[str, dict[str, Any]]) -> "pd.DataFrame":
    import pandas as pd

    new = pd.DataFrame.from_dict(rows, orient="index") if rows else pd.DataFrame({"stamp": []})
    return pd.concat([known.to_pandas().loc[kept], new]) if known and kept else new


def _ordered(frame: "pd.DataFrame") -> "pd.DataFrame":
    """Return the frame in an order that does not depend on when which run was read; mixed columns as text."""
    import pandas as pd

    frame = frame.sort_index()[sorted(frame.columns)]
    frame[frame.columns[frame.isna().all()]] = None  # NaN would make columns of numbers of them
    for column in (name for name in frame if pd.api.types.is_object_dtype(frame[name])):
        kinds = {type(value) for value in frame[column] if value is not None and value == value}
        if kinds == {int} or kinds == {int, float}:
            frame[column] = frame[column].astype(float)
        elif len(kinds) > 1:
            frame[column] = [None if value is None or value != value else _text(value) for value in frame[column]]
    return frame


def _text(value: Any) -> str:
    """Return a value of a mixed column; 1.0 as 1, for a column of whole numbers with gaps was kept as floats."""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def _table(frame: "pd.DataFrame") -> pa.Table:
    table = pa.Table.from_pandas(frame.rename_axis(INDEX))
    return table.replace_schema_metadata({**(table.schema.metadata or {}), b"vmae": SCHEMA.encode()})


def _read(file: Path) -> pa.Table | None:
    """Return the index as it is on disk; None where it is absent, damaged or of another schema."""
    try:
        table = pq.ParquetFile(file).read()  # read_table imports pandas
    except (OSError, pa.ArrowException):
        return None
    return table if (table.schema.metadata or {}).get(b"vmae") == SCHEMA.encode() else None
