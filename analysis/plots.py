"""Figures: axes in, axes out; what is missing is said in the figure."""

from collections.abc import Mapping
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.transforms import Transform, offset_copy

from analysis.collect import Study, learning_curve, read_reconstruction
from analysis.formats import best_floor
from analysis.style import CHANCE, SCRATCH, WIDTH_IN, looks_of

APART_PT = 4.0
MANY_FOLD = 8.0  # losses that differ more are of different targets or kinds, and are drawn on a log axis
MARGIN = 3.0  # points of ratio beside the first and the last
NUM_FRAMES = 8  # of a clip that is shown
FLOOR_MARKS = {"constant": "|", "visible_mean": "_", "nearest_copy": "x", "average": "+"}


def accuracy_vs_ratio(ax: Axes, cells: pd.DataFrame) -> Axes:
    """Draw top-1 over the achieved masking ratio, a line per mask kind, the scratch level and chance.

    Bands are t intervals over seeds; a cell of one seed has none. Kinds stand a little apart, so that each interval is seen.
    """
    shown = cells[cells["num_seeds"] > 0]
    looks = looks_of(shown["mask.kind"])
    for place, (kind, look) in enumerate(looks.items()):
        line = shown[shown["mask.kind"] == kind].sort_values("mask_ratio_achieved")
        ratio, top1 = 100 * line["mask_ratio_achieved"].astype(float), line["top1"].astype(float)
        apart = offset_copy(ax.transData, ax.get_figure(root=True), x=APART_PT * (place - (len(looks) - 1) / 2), units="points")
        ax.plot(ratio, top1, label=kind, transform=apart, **look)
        band(ax, ratio, top1, line["top1_half_width"], look["color"], apart)
    scratch_level(ax, shown)
    ax.set_xlabel("hidden cubes (%)")
    ax.set_ylabel("top-1 accuracy (%)")
    if len(shown):
        accuracy_axis(ax, shown)
    if "mask_ratio_achieved" in shown:
        ratios = 100 * shown["mask_ratio_achieved"].dropna()
        ax.set_xlim(ratios.min() - MARGIN, ratios.max() + MARGIN)
        _ratio_ticks(ax, shown["mask_ratio_achieved"])
    ax.legend(ncols=2, fontsize=8, loc="lower left")
    name_missing(ax, cells)
    return ax


def paper_ratios(ax: Axes, cells: pd.DataFrame, paper_name: str) -> Axes:
    """Draw the paper's own points over their masking ratio, beside ours and never among them: other videos, another scale."""
    known = papers_points(cells)
    for kind, look in looks_of(known["mask.kind"]).items():
        points = known[known["mask.kind"] == kind].sort_values("mask.ratio")
        ax.plot(100 * points["mask.ratio"], points["paper"], label=kind, **{**look, "markerfacecolor": "none", "linewidth": 0.8})
    ax.set_title(f"the paper, {paper_name}", fontsize=9)
    ax.set_xlabel("masking ratio (%)")
    ax.set_xticks(sorted(set(100 * known["mask.ratio"])))
    ax.xaxis.set_major_formatter("{x:.3g}")
    ax.tick_params(axis="x", labelrotation=60)
    low, high = known["paper"].min(), known["paper"].max()
    ax.set_ylim(low - 1, high + 1)
    ax.legend(fontsize=7)
    return ax


def papers_points(cells: pd.DataFrame) -> pd.DataFrame:
    """Return the masked cells that have a number of the paper on the data set that this table stands for."""
    known = cells.dropna(subset=["paper", "mask.kind"])
    return known[known["paper_dataset"].isna()]


def band(ax: Axes, x: pd.Series, y: pd.Series, half_width: pd.Series, color: object, where: Transform | None = None) -> None:
    """Shade the interval around a line where there is one, and mark its ends, so that it shows in print."""
    where = where or ax.transData
    half = half_width.astype(float).to_numpy()
    known = np.isfinite(half)
    if known.any():
        xs, ys = x.to_numpy()[known], y.to_numpy()[known]
        ax.fill_between(xs, ys - half[known], ys + half[known], color=color, alpha=0.1, linewidth=0, transform=where)
        ax.errorbar(xs, ys, yerr=half[known], fmt="none", ecolor=color, elinewidth=0.9, capsize=2, transform=where)


def scratch_level(ax: Axes, shown: pd.DataFrame) -> None:
    """Draw the level of training from scratch, with its interval."""
    scratch = shown[shown["arm"] == "scratch"]
    if not scratch.empty:
        level, half_width = scratch["top1"].iloc[0], scratch["top1_half_width"].astype(float).iloc[0]
        ax.axhline(level, label="from scratch", **SCRATCH)
        if np.isfinite(half_width):
            ax.axhspan(level - half_width, level + half_width, color=SCRATCH["color"], alpha=0.12, linewidth=0)


def name_missing(ax: Axes, cells: pd.DataFrame) -> None:
    """Say in the figure which arms it lacks."""
    missing = list(cells.loc[cells["state"] != "done", "arm"])
    if missing:
        text = f"missing: {', '.join(missing)}"
        ax.annotate(text, (0.0, 1.01), xycoords="axes fraction", fontsize=6, color="firebrick", va="bottom")


def _ratio_ticks(ax: Axes, achieved: pd.Series) -> None:
    """Label each ratio once, leaving out those that would overlap their left neighbour."""
    ticks: list[float] = []
    for ratio in sorted(set(100 * achieved.dropna())):
        if not ticks or ratio - ticks[-1] > 2.4:
            ticks.append(ratio)
    ax.set_xticks(ticks)
    ax.xaxis.set_major_formatter("{x:.3g}")


def accuracy_axis(ax: Axes, shown: pd.DataFrame) -> None:
    """Frame what is compared, ten points high at least so that noise looks small; chance as a line or in words."""
    half = shown["top1_half_width"].astype(float).fillna(0)
    low, high, chance = (shown["top1"] - half).min(), (shown["top1"] + half).max(), shown["chance"].iloc[0]
    margin = max(0.3 * (high - low), (10 - (high - low)) / 2, 1.0)
    if chance >= low - 2 * margin:
        low = min(low, chance)
        ax.axhline(chance, label="chance", **CHANCE)
    else:
        note = {"xycoords": "axes fraction", "fontsize": 7, "color": CHANCE["color"], "ha": "right"}
        ax.annotate(f"axis cut; chance is {chance:.3g} %", (0.99, 0.01), **note)
    ax.set_ylim(max(0.0, low - 1.5 * margin), min(100.0, high + margin))


def loss_vs_floors(ax: Axes, cells: pd.DataFrame) -> Axes:
    """Draw each arm's held-out pre-training loss and what the trivial predictors reach under the same masks, the best as 1."""
    shown = cells[(cells["num_seeds"] > 0) & cells["mask.kind"].notna()].dropna(subset=["pretrain_loss_heldout"])
    y = np.arange(len(shown))[::-1]
    best = np.array([best_floor(cell) for cell in shown.to_dict("records")], dtype=float)
    for name, mark in FLOOR_MARKS.items():
        floor = shown[f"pretrain_floor_{name}"] / best
        ax.plot(floor, y, mark, color="0.45", markersize=8, label=f"floor: {name.replace('_', ' ')}")
    for kind, look in looks_of(shown["mask.kind"]).items():
        chosen = (shown["mask.kind"] == kind).to_numpy()
        loss = (shown["pretrain_loss_heldout"] / best)[chosen]
        ax.plot(loss, y[chosen], look["marker"], color=look["color"], label=kind)
    ax.axvline(1, color="0.3", linewidth=0.8)
    ax.set_yticks(y, list(shown["arm"]))
    ax.set_xlabel("held-out pre-training loss by the best trivial one (below 1: learned more than copying)")
    ax.set_xlim(left=0)
    ax.legend(fontsize=7, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return ax


def pretraining_curves(ax: Axes, study: Study) -> Axes:
    """Draw the training loss of every finished pre-training; only curves of one mask can be compared with each other."""
    rows = study.replicates.dropna(subset=["run.pretrain", "mask.kind"]).drop_duplicates("run.pretrain")
    rows = rows[rows["run.pretrain"].map(study.states) == "done"]
    looks = looks_of(rows["mask.kind"])
    for row in rows.to_dict("records"):
        curve = learning_curve(study.run_dir(row["run.pretrain"]))
        if curve.empty:
            continue
        line = {k: v for k, v in looks[row["mask.kind"]].items() if k in ("color", "linestyle")}
        ax.plot(curve["step"], curve["value"], alpha=0.3 + 0.7 * row["mask.ratio"] ** 3, linewidth=1, **line)
    for kind, look in looks.items():
        ax.plot([], [], color=look["color"], linestyle=look["linestyle"], label=f"{kind} (darker: more hidden)")
    ax.set_xlabel("optimiser steps")
    ax.set_ylabel("training loss")
    _frame_after_the_drop(ax)
    ax.legend(fontsize=8, ncols=1 if len(looks) <= 3 else 2)
    return ax


def _frame_after_the_drop(ax: Axes) -> None:
    """Frame the curves from their second tenth on: the first steps dwarf all that tells arms apart; other losses need a log."""
    curves = [np.asarray(line.get_ydata(), dtype=float) for line in ax.lines]
    values = np.concatenate([curve[len(curve) // 10 :] for curve in curves] or [np.zeros(0)])
    finite = values[np.isfinite(values)]
    low, high = (finite.min(), finite.max()) if len(finite) else (0.0, 1.0)
    if low > 0 and high > MANY_FOLD * low:
        ax.set_yscale("log")
        ax.set_ylim(low / 1.2, 8 * high)
    else:
        margin = 0.15 * (high - low) or 0.1 * abs(high) or 1.0
        ax.set_ylim(low - margin, high + 3 * margin)


def reconstruction_sheet(study: Study, by: str = "kind") -> Figure | None:
    """Draw original, masked input and reconstruction of one held-out clip; None if fewer runs left any than make a comparison.

    Args:
        by: "kind": one run of each kind of mask, at the ratio nearest 0.875; "ratio": one tube run of each ratio.
    """
    rows = study.replicates.dropna(subset=["run.pretrain", "mask.kind"])
    if by == "ratio":
        groups = [part for _, part in rows[rows["mask.kind"] == "tube"].groupby("mask.ratio")]
    else:
        of_kinds = (rows[rows["mask.kind"] == kind] for kind in looks_of(rows["mask.kind"]))
        groups = [part.iloc[(part["mask.ratio"] - 0.875).abs().argsort(kind="stable")] for part in of_kinds]
    sheets = []
    for group in groups:
        files = ((f"{row['mask.kind']} {row['mask.ratio']:g}", row["run.pretrain"]) for row in group.to_dict("records"))
        found = next(((name, file) for name, id_ in files if (file := study.run_dir(id_).reconstruction).exists()), None)
        if found:
            sheets.append((found[0], read_reconstruction(found[1])))
    if len(sheets) < (2 if by == "ratio" else 1):
        return None
    return _sheet(sheets)


def _spread(content: Mapping[str, Any]) -> list[int]:
    """Return which of a clip's frames are shown: evenly spread, the first and the last among them."""
    return [round(frame) for frame in np.linspace(0, content["original"].shape[1] - 1, NUM_FRAMES).tolist()]


def _sheet(sheets: list[tuple[str, Any]]) -> Figure:
    """Draw all frames as one picture: an axes for each would take ten times as long."""
    figure, ax = plt.subplots(figsize=(WIDTH_IN * 1.2, WIDTH_IN * 0.16 * 3 * len(sheets)))
    size = max(content["original"].shape[2] for _, content in sheets)
    pitch = size + max(1, size // 24)
    picture = np.full((3 * len(sheets) * pitch, NUM_FRAMES * pitch, 3), 255, dtype=np.uint8)
    labels = []
    for part, (arm, content) in enumerate(sheets):
        original, rebuilt, hidden = content["original"][0], content["reconstruction"][0], content["hidden"][0]
        masked = np.where(hidden[..., None], 128, original).astype(np.uint8)
        note = "uses target statistics" if content["uses_target_statistics"] else "pixels as predicted"
        for line, (name, frames) in enumerate((("original", original), ("masked", masked), (f"rebuilt\n({note})", rebuilt))):
            labels.append(f"{arm}\n{name}" if line == 0 else name)
            for column, frame in enumerate(_spread(content)):
                top, left = (3 * part + line) * pitch, column * pitch
                picture[top : top + frames.shape[1], left : left + frames.shape[2]] = frames[frame]
    ax.imshow(picture, interpolation="nearest")
    middle = (size - 1) / 2
    ax.set_yticks([row * pitch + middle for row in range(len(labels))], labels, fontsize=7)
    ax.set_xticks(
        [column * pitch + middle for column in range(NUM_FRAMES)],
        [f"frame {frame}" for frame in _spread(sheets[0][1])],
        fontsize=6,
    )
    ax.tick_params(length=0, labeltop=True, labelbottom=False)
    ax.grid(False)
    ax.spines[:].set_visible(False)
    assert isinstance(figure, Figure)
    return figure
