"""Rows and results: `metrics.jsonl` while a run goes on, `result.json` once it is done. The only door to analysis."""

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from vmae.errors import ResultsError, RunDirError
from vmae.files import write_atomic
from vmae.sealed import read_sealed, write_sealed

# The trivial predictors of vmae.model.floors; a pre-training's metrics hold `floor_<name>` for each.
FLOORS = ("constant", "visible_mean", "nearest_copy", "average")


@dataclass(frozen=True)
class MetricRow:
    """One number of a run: after `step` optimiser steps (`epoch` in epochs), on `split`."""

    step: int
    epoch: float
    split: str
    metric: str
    value: float | None
    unit: str = ""


@dataclass(frozen=True)
class Result:
    """What a finished run leaves; written last, so that its presence means done.

    Attributes:
        metrics: final numbers by name, for example `top1` (percent) or `loss_heldout`.
        compute: what was spent: steps, clips, visible cubes, training seconds.
        provenance: config hash scheme, seeds, commit, versions, hardware.
    """

    run_id: str
    cell_id: str
    stage: str
    status: Literal["done", "diverged"]
    metrics: dict[str, Any]
    compute: dict[str, Any]
    provenance: dict[str, Any]

    @property
    def spent_s(self) -> float | None:
        """Seconds that training or evaluation took, restarts included; None: not known."""
        return self.compute.get("train_s", self.compute.get("evaluate_s"))

    @property
    def device_s(self) -> float | None:
        """`spent_s` of GPUs or processes, over all ranks; of a GPU that jobs share each has its part."""
        if self.spent_s is None:
            return None
        return float(self.spent_s) * int(self.provenance.get("num_ranks", 1)) / int(self.provenance.get("num_sharing_gpu", 1))


class MetricsLog:
    """Appends rows to `metrics.jsonl`; only rank 0 writes."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def append(self, rows: Iterable[MetricRow]) -> None:
        """Write rows, whole lines at once; a value that is not finite becomes null."""
        lines = []
        for row in rows:
            values = asdict(row)
            if row.value is not None and not math.isfinite(row.value):
                values["value"] = None
            lines.append(json.dumps(values) + "\n")
        try:
            with self.path.open("a", encoding="utf-8") as file:
                file.write("".join(lines))
        except OSError as error:
            raise RunDirError(f"cannot write {self.path}: {error.strerror}") from error

    def truncate_after(self, step: int) -> None:
        """Drop rows past `step`, and a half-written last line, so that a resumed run logs nothing twice."""
        if self.path.is_file():
            kept = lines_of(row for row in read_metrics(self.path) if row.step <= step)
            write_atomic(self.path, kept, make_folder=False)


def lines_of(rows: Iterable[MetricRow]) -> bytes:
    """Return rows as `metrics.jsonl` holds them."""
    return "".join(json.dumps(asdict(row)) + "\n" for row in rows).encode()


def read_metrics(path: Path) -> list[MetricRow]:
    """Read the rows; an unfinished last line (a writer killed mid-line) is left out, any other damage is a ResultsError."""
    if not path.is_file():
        return []
    lines = path.read_bytes().splitlines(keepends=True)
    rows = []
    for number, line in enumerate(lines, start=1):
        if number == len(lines) and not line.endswith(b"\n"):
            break
        try:
            rows.append(MetricRow(**json.loads(line)))
            if not isinstance(rows[-1].step, int) or not isinstance(rows[-1].epoch + (rows[-1].value or 0), int | float):
                raise TypeError("a step, an epoch or a value is no number")
        except (ValueError, TypeError, RecursionError) as error:
            raise ResultsError(f"{path}:{number}: not a metrics row: {error}") from None
    return rows


def write_result(path: Path, result: Result) -> None:
    """Write `result.json` atomically."""
    write_sealed(path, dict(sorted(asdict(result).items())))


def read_result(path: Path) -> Result:
    """Read `result.json`; ResultsError names a file that is damaged or of another schema."""
    content = read_sealed(path, "remove it to run again", is_required=False)
    try:
        result = Result(**content)
    except TypeError as error:
        raise ResultsError(f"{path}: not a result: {error}; remove it to run again") from None
    parts = (result.metrics, result.compute, result.provenance)
    if result.status not in ("done", "diverged") or not all(isinstance(part, dict) for part in parts):
        raise ResultsError(f"{path}: not a result: status {result.status!r}; remove it to run again")
    return result


def runs_of_search(summary: Mapping[str, Any]) -> list[str]:
    """Return the ids of all runs of the trials in a search.json, each once."""
    trials = (trial for cell in summary["cells"] for trial in cell["trials"])
    return list(dict.fromkeys(id_ for trial in trials for id_ in trial["runs"].values()))
