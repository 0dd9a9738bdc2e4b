"""Tables as people read them: text cells, as markdown, csv and LaTeX; what is missing shows as its state."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pandas as pd

from vmae.results import FLOORS

METRIC_NAMES = {"top1": "top-1 %", "top5": "top-5 %"}
FORMATS = ("md", "csv", "latex")
_LATEX = str.maketrans(
    {
        "&": r"\&",
        "%": r"\%",
        "$": r"\$",
        "#": r"\#",
        "_": r"\_",
        "{": r"\{",
        "}": r"\}",
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        "\\": r"\textbackslash{}",
        "±": r"$\pm$",
        "<": r"$<$",
        ">": r"$>$",
        "[": "{[}",  # of a row's first cell, `\\` before it would take either for an option of its own
        "*": "{*}",
    }
)


def results_table(cells: pd.DataFrame, paper_name: str) -> pd.DataFrame:
    """Return the table that stands beside the paper's: ours, theirs, differences with corrected verdicts, what it took, flags."""
    metric = METRIC_NAMES.get(cells["metric"].iloc[0], cells["metric"].iloc[0])
    rows = [
        {
            "arm": cell["arm"],
            metric: _ours(cell) if cell["num_seeds"] > 0 else cell["state"] + _nan(cell),
            f"paper, {paper_name}": _paper(cell),
            "vs baseline": _gap(cell, "baseline"),
            "vs scratch": _gap(cell, "scratch"),
            "epochs": _text(cell.get("pretrain_epochs"), ",.0f"),
            "clips seen": _text(cell.get("pretrain_clips"), ",.0f"),
            "hours": _hours(cell),
            "flags": cell["flags"],
        }
        for cell in cells.to_dict("records")
    ]
    return _without_empty(pd.DataFrame(rows), ("vs baseline", "vs scratch", "epochs", "flags", f"paper, {paper_name}"))


def pretraining_table(cells: pd.DataFrame) -> pd.DataFrame:
    """Return what the pre-trainings reached beside their trivial floors; empty where there is none."""
    rows = [
        {
            "arm": cell["arm"],
            "held-out loss": _text(cell.get("pretrain_loss_heldout"), ".4f"),
            "best floor": _text(best_floor(cell), ".4f"),
            "beats floors": _yes_no(cell.get("pretrain_beats_floors")),
            "hidden": _text(cell.get("mask_ratio_achieved"), ".3f"),
            "videos": _text(cell.get("pretrain_videos"), ",.0f"),
            "steps": _text(cell.get("pretrain_steps"), ",.0f"),
            "visible cubes seen": _text(cell.get("pretrain_cubes"), ",.0f"),
            "retrieval %": _text(cell.get("pretrain_retrieval_top1"), ".1f"),
        }
        for cell in cells.to_dict("records")
        if not _absent(cell.get("pretrain_loss_heldout"))
    ]
    return _without_empty(pd.DataFrame(rows), ("hidden", "retrieval %", "videos", "steps")) if rows else pd.DataFrame()


def markdown(frame: pd.DataFrame) -> str:
    """Return a frame as a markdown table."""
    lines: list[Sequence[str]] = [list(frame.columns), ["---"] * len(frame.columns), *frame.astype(str).values.tolist()]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def latex(frame: pd.DataFrame) -> str:
    """Return a frame as a LaTeX tabular for the package booktabs."""
    lines = [r"\begin{tabular}{l" + "r" * (len(frame.columns) - 1) + "}", r"\toprule", _latex_row(frame.columns), r"\midrule"]
    lines += [_latex_row(row) for row in frame.astype(str).values.tolist()]
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}"])


def best_floor(cell: Mapping[Any, Any]) -> float | None:
    """Return the lowest trivial floor of a cell's pre-training, None without one."""
    floors = [cell.get(f"pretrain_floor_{name}") for name in (*FLOORS, "chance")]
    present = [floor for floor in floors if not _absent(floor)]
    return min(present) if present else None  # type: ignore[type-var]


def is_accuracy(metric: str) -> bool:
    """Return whether a metric is a share of hits in percent, of which more is better."""
    return metric.endswith(tuple(METRIC_NAMES))


def is_number(value: Any) -> bool:
    """Return whether a value is a number that a metric can be: True and False are none."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def _latex_row(values: Iterable[str]) -> str:
    return " & ".join(str(value).translate(_LATEX) for value in values) + r" \\"


def _without_empty(frame: pd.DataFrame, columns: Sequence[str]) -> pd.DataFrame:
    return frame.drop(columns=[c for c in columns if c in frame and not frame[c].astype(bool).any()])


def _ours(cell: Mapping[Any, Any]) -> str:
    digits = _digits(cell)
    half = cell.get("value_half_width")
    spread = "" if _absent(half) else f" ± {half:.{digits}f}"
    note = "" if cell["state"] == "done" else f", {cell['state']}"
    return f"{cell['value']:.{digits}f}{spread} (n = {cell['num_seeds']}{note}{_nan(cell)})"


def _digits(cell: Mapping[Any, Any]) -> int:
    return 1 if is_accuracy(cell["metric"]) else 4


def _paper(cell: Mapping[Any, Any]) -> str:
    """Return the paper's number with one or two digits, as it has, and its data set where the column names another."""
    number, dataset = _text(cell.get("paper"), ".2f").removesuffix("0"), cell.get("paper_dataset")
    return f"{number} ({dataset})" if number and not _absent(dataset) else number


def _nan(cell: Mapping[Any, Any]) -> str:
    return f", {cell['num_nan']} NaN" if cell["num_nan"] else ""


def _gap(cell: Mapping[Any, Any], label: str) -> str:
    points = cell.get(f"vs_{label}")
    if _absent(points):
        return ""
    digits = _digits(cell)
    return f"{points:+.{digits}f} ± {cell[f'vs_{label}_half_width']:.{digits}f} {cell[f'vs_{label}_verdict']}"


def _hours(cell: Mapping[Any, Any]) -> str:
    hours: Any = cell.get("hours")
    return "" if _absent(hours) else f"{hours:.{2 if hours < 100 else 0}f} {cell['hours_of']}"


def _absent(value: Any) -> bool:
    return value is None or bool(pd.isna(value))


def _text(value: Any, form: str) -> str:
    return "" if _absent(value) else format(value, form)


def _yes_no(value: Any) -> str:
    return "" if _absent(value) else ("yes" if value else "no")
