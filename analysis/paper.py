"""The numbers of the papers, from paper.csv beside this file; what is not known there stays unknown."""

import csv
import functools
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vmae.errors import ResultsError, near

FILE = Path(__file__).with_name("paper.csv")


@dataclass(frozen=True)
class PaperValue:
    """One number of a paper: `value` is None where it is not known; `text` is as the table has it."""

    table: str
    case: str
    dataset: str
    metric: str
    value: float | None
    text: str
    source: str
    confidence: str


@functools.cache
def paper_values() -> Mapping[tuple[str, str, str, str], PaperValue]:
    """Return all rows by (table, case, dataset, metric)."""
    rows = {}
    with FILE.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            key = (row["table"], row["case"], row["dataset"], row["metric"])
            rows[key] = PaperValue(*key, _number(row["value"]), row["value"], row["source"], row["confidence"])
    return rows


def lookup(row: Mapping[str, Any] | None, dataset: str) -> PaperValue | None:
    """Return the value that a plan's paper row means on the paper's `dataset`; None where the paper has no such row.

    Raises ResultsError for a table that is not in paper.csv: then the declaration is wrong, not the paper silent.
    """
    if not row:
        return None
    _check(row["table"], _cases(), "table")
    return paper_values().get((row["table"], row["case"], row["dataset"].format(dataset), row["metric"]))


def check_row(table: str, case: str) -> None:
    """Raise ResultsError for a table, or a case of it, that is not in paper.csv on any data set: mistyped, or yet to be added."""
    _check(table, _cases(), "table")
    _check(case, _cases()[table], f"case of {table}")


@functools.cache
def _cases() -> Mapping[str, set[str]]:
    cases: dict[str, set[str]] = {}
    for table, case, *_ in paper_values():
        cases.setdefault(table, set()).add(case)
    return cases


def _check(word: str, known: Collection[str], what: str) -> None:
    if word not in known:
        raise ResultsError(f"analysis/paper.csv has no {what} {word!r}{near(word, sorted(known))}")


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
