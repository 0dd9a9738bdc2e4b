"""Charts of differences, data, cost and depth: axes in, axes out; numbers are the table's."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.transforms import Bbox

from analysis.collect import Study, learning_curve
from analysis.plots import accuracy_axis, band, name_missing, scratch_level
from analysis.style import KINDS, PAPER, VERDICTS, looks_of

Settings = Mapping[str, Mapping[str, Any]]  # by arm
SUBSET, EPOCHS, DEPTH = "pretrain.subset.num_videos", "pretrain.optim.epochs", "pretrain.decoder.depth"
MEMORY = "pretrain_peak_memory_gb"


def forest(ax: Axes, cells: pd.DataFrame, baseline: str) -> Axes:
    """Draw each arm's difference to the baseline with its interval; filled where the corrected test tells them apart."""
    shown = cells.dropna(subset=["vs_baseline"])
    y = np.arange(len(shown))[::-1]
    for place, cell in zip(y, shown.to_dict("records"), strict=True):
        verdict = next(word for word in VERDICTS if cell["vs_baseline_verdict"].startswith(word))
        marker, look = _look(verdict)
        ax.errorbar(cell["vs_baseline"], place, xerr=cell["vs_baseline_half_width"], capsize=3, fmt=marker, **look)
    for verdict in VERDICTS:
        marker, look = _look(verdict)
        ax.plot([], [], marker, label=verdict, **look)
    ax.axvline(0, color="0.3", linewidth=0.8)
    ax.set_yticks(y, list(shown["arm"]))
    ax.set_ylim(-0.7, len(shown) - 0.3)
    ax.set_xlabel(f"difference to {baseline} (points of accuracy, 95 % interval)")
    ax.legend(fontsize=7, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    name_missing(ax, cells)
    return ax


def _look(verdict: str) -> tuple[str, dict[str, Any]]:
    """Return the marker and the colours of a verdict."""
    color = VERDICTS[verdict]
    fill = "none" if verdict == "not distinguishable" else color
    return {"better": ">", "worse": "<"}.get(verdict, "o"), {"color": color, "markerfacecolor": fill}


def data_efficiency(ax: Axes, cells: pd.DataFrame, settings: Settings) -> Axes:
    """Draw accuracy over the number of pre-training videos, for the same epochs and for the same steps."""
    shown = cells[(cells["num_seeds"] > 0)]
    trained = shown.dropna(subset=["pretrain_videos"])
    is_all = np.array([SUBSET not in settings[arm] for arm in trained["arm"]])
    stretched = np.array([EPOCHS in settings[arm] for arm in trained["arm"]])
    looks = {"same epochs": (KINDS["tube"], ~stretched), "same steps": (KINDS["random"], stretched | is_all)}
    for name, (look, chosen) in looks.items():
        line = trained[chosen].sort_values("pretrain_videos")
        videos, top1 = line["pretrain_videos"].astype(float), line["top1"].astype(float)
        ax.plot(videos, top1, label=name, **look)
        band(ax, videos, top1, line["top1_half_width"], look["color"])
    scratch_level(ax, shown)
    ax.set_xscale("log")
    ticks = sorted(set(trained["pretrain_videos"].astype(int)))
    ax.set_xticks(ticks, [f"{tick:,}" for tick in ticks])
    ax.minorticks_off()
    ax.set_xlabel("pre-training videos (log scale)")
    ax.set_ylabel("top-1 accuracy (%)")
    accuracy_axis(ax, shown)
    ax.legend(fontsize=8)
    name_missing(ax, cells)
    return ax


def cost_and_accuracy(ax: Axes, cells: pd.DataFrame) -> Axes:
    """Draw accuracy over what an arm took in all, and the arms that none is both cheaper and better than."""
    shown = cells[cells["num_seeds"] > 0].dropna(subset=["hours"])
    best = -np.inf
    front = []
    for cell in shown.sort_values(["hours", "top1"], ascending=[True, False]).to_dict("records"):
        if cell["top1"] > best:
            best = cell["top1"]
            front.append(cell)
    ax.errorbar(
        shown["hours"], shown["top1"], yerr=shown["top1_half_width"].astype(float), fmt="o", color="0.5", markerfacecolor="none"
    )
    hours, top1 = [cell["hours"] for cell in front], [cell["top1"] for cell in front]
    ax.plot(hours, top1, "o-", color=KINDS["tube"]["color"], label="none is cheaper and better", linewidth=1)
    ax.set_xlabel(f"{shown['hours_of'].iloc[0]}-hours of pre-training, fine-tuning and evaluation")
    ax.set_ylabel("top-1 accuracy (%)")
    ax.set_xlim(0, 1.15 * shown["hours"].max())
    accuracy_axis(ax, shown)
    name_points(ax, list(zip(shown["hours"], shown["top1"], shown["arm"], strict=True)))
    ax.legend(fontsize=7, loc="lower left")
    return ax


def name_points(ax: Axes, points: Sequence[tuple[float, float, str]], size_pt: float = 6.0) -> None:
    """Write each point's name beside it, where it covers no other point or name if there is such a side; limits must stand."""
    places = [ax.transData.transform((x, y)) * 72 / ax.figure.dpi for x, y, _ in points]
    taken = [Bbox.from_bounds(left - size_pt / 2, bottom - size_pt / 2, size_pt, size_pt) for left, bottom in places]
    for (left, bottom), (x, y, name) in zip(places, points, strict=True):
        width = 0.5 * size_pt * len(name)  # of Times, mostly digits and small letters
        sides = [(dx, dy) for dx in (size_pt, -size_pt - width) for dy in (1.0, -size_pt - 1.0, size_pt, -2 * size_pt)]
        boxes = {(dx, dy): Bbox.from_bounds(left + dx, bottom + dy, width, size_pt) for dx, dy in sides}
        side = next((side for side in sides if not boxes[side].count_overlaps(taken)), sides[0])
        taken.append(boxes[side])
        ax.annotate(name, (x, y), xytext=side, textcoords="offset points", fontsize=size_pt)


def heat_map(ax: Axes, cells: pd.DataFrame) -> Axes:
    """Draw accuracy by kind of mask and hidden share; hatched: without a finished run; blank: not asked."""
    asked = cells.dropna(subset=["mask.kind"]).assign(hidden=hidden_shares(cells))
    kinds = list(looks_of(asked["mask.kind"]))
    ratios = sorted(set(asked["hidden"]))
    values = np.full((len(kinds), len(ratios)), np.nan)
    for cell in asked.to_dict("records"):
        row, column = kinds.index(cell["mask.kind"]), ratios.index(cell["hidden"])
        if cell["num_seeds"] > 0:
            values[row, column] = cell["top1"]
        else:
            ax.fill_between([column - 0.5, column + 0.5], row - 0.5, row + 0.5, facecolor="none", edgecolor="0.6", hatch="///")
    image = ax.imshow(values, cmap="cividis", aspect="auto")
    middle = np.nanmean([np.nanmin(values), np.nanmax(values)])
    for row, column in np.argwhere(np.isfinite(values)):
        color = "white" if values[row, column] < middle else "black"
        ax.text(column, row, f"{values[row, column]:.1f}", ha="center", va="center", color=color, fontsize=8)
    ax.set_xticks(range(len(ratios)), [f"{100 * ratio:.3g}" for ratio in ratios])
    ax.set_yticks(range(len(kinds)), kinds)
    ax.set_xlabel("hidden cubes (%)")
    ax.grid(False)
    ax.figure.colorbar(image, ax=ax, label="top-1 accuracy (%)")
    return ax


def hidden_shares(cells: pd.DataFrame) -> pd.Series:
    """Return the share of cubes that each cell hides (tubes and frames round coarsely); the asked one of an unfinished cell."""
    achieved = cells.get("mask_ratio_achieved", pd.Series(np.nan, cells.index))
    return achieved.astype(float).fillna(cells["mask.ratio"].astype(float)).round(4)


def has_memory(shown: pd.DataFrame) -> bool:
    """Return whether the peak memory of every cell's pre-training was measured."""
    return MEMORY in shown and bool(shown[MEMORY].notna().all())


def decoder_depth(axes: Sequence[Axes], cells: pd.DataFrame, settings: Settings, paper_memory_gb: Mapping[int, float]) -> None:
    """Draw accuracy over the blocks of the decoder, and on a second axes memory, or time where it was not measured."""
    shown = cells[cells["num_seeds"] > 0].copy()
    shown["depth"] = [int(settings[arm][DEPTH]) for arm in shown["arm"]]
    shown = shown.sort_values("depth")
    depth, top1, look = shown["depth"], shown["top1"].astype(float), KINDS["tube"]
    axes[0].plot(depth, top1, **look)
    band(axes[0], depth, top1, shown["top1_half_width"], look["color"])
    axes[0].set_ylabel("top-1 accuracy (%)")
    accuracy_axis(axes[0], shown)
    for cost in axes[1:]:
        is_memory = has_memory(shown)
        cost.plot(depth, shown[MEMORY] if is_memory else shown["pretrain_train_s"] / 60, **KINDS["random"])
        cost.set_ylabel("peak memory of pre-training (GB)" if is_memory else "pre-training time (min)")
        if paper_memory_gb:
            cost.plot(list(paper_memory_gb), list(paper_memory_gb.values()), label="paper", **PAPER)
            cost.legend(fontsize=7, loc="lower right")
        cost.set_ylim(bottom=0)
    for ax in axes:
        ax.set_xticks(list(depth))
        ax.set_xlabel("decoder blocks")
    name_missing(axes[0], cells)


def finetuning_curves(ax: Axes, study: Study, cells: pd.DataFrame) -> Axes:
    """Draw the fine-tuning loss of one ablation's arms on one data set, the mean over seeds."""
    frame = study.replicates
    part = frame[(frame["ablation"] == cells["ablation"].iloc[0]) & (frame["dataset"] == cells["dataset"].iloc[0])]
    for number, (arm, rows) in enumerate(part[part["state"] == "done"].groupby("arm", sort=False)):
        curves = [learning_curve(study.run_dir(id_)).set_index("epoch")["value"] for id_ in rows["run.finetune"]]
        curves = [curve for curve in curves if len(curve)]
        if curves:
            mean = pd.concat(curves, axis=1).mean(axis=1)
            look = list(KINDS.values())[number % len(KINDS)]
            style = ("-", "--", ":")[number // len(KINDS) % 3]
            ax.plot(mean.index, mean, color=look["color"], linestyle=style, linewidth=1, label=str(arm))
    ax.set_xlabel("fine-tuning epoch")
    ax.set_ylabel("training loss")
    if ax.lines:
        ax.legend(fontsize=6, ncols=2)
    return ax
