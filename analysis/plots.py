"""Figures: axes in, axes out; what is missing is said in the figure."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.collect import Study, learning_curve
from analysis.style import CHANCE, KINDS, SCRATCH, WIDTH_IN

FLOOR_MARKS = {"constant": "|", "visible_mean": "_", "nearest_copy": "x", "average": "+"}


def accuracy_vs_ratio(ax: Axes, cells: pd.DataFrame) -> Axes:
    """Draw top-1 over the achieved masking ratio, a line per mask kind, the scratch level and chance.

    Error bars are t intervals over seeds; a cell of one seed has none.
    """
    shown = cells[cells["num_seeds"] > 0]
    for kind, look in KINDS.items():
        line = shown[shown["mask.kind"] == kind].sort_values("mask_ratio_achieved" if len(shown) else "mask.ratio")
        if line.empty:
            continue
        half = line["top1_half_width"].astype(float).to_numpy()
        bars = None if np.isnan(half).all() else np.nan_to_num(half)
        ax.errorbar(100 * line["mask_ratio_achieved"], line["top1"], yerr=bars, label=kind, capsize=3, **look)
    scratch = shown[shown["arm"] == "scratch"]
    if not scratch.empty:
        level, half_width = scratch["top1"].iloc[0], scratch["top1_half_width"].astype(float).iloc[0]
        ax.axhline(level, label="from scratch", **SCRATCH)
        if np.isfinite(half_width):
            ax.axhspan(level - half_width, level + half_width, color=SCRATCH["color"], alpha=0.12, linewidth=0)
    ax.set_xlabel("hidden cubes (%)")
    ax.set_ylabel("top-1 accuracy (%)")
    if len(shown):
        _accuracy_axis(ax, shown)
    if "mask_ratio_achieved" in shown:
        ax.set_xticks(sorted(set(100 * shown["mask_ratio_achieved"].dropna())))
        ax.xaxis.set_major_formatter("{x:.4g}")
    ax.legend(ncols=2, fontsize=8, loc="lower left")
    missing = list(cells.loc[cells["state"] != "done", "arm"])
    if missing:
        ax.annotate(f"missing: {', '.join(missing)}", (0.01, 0.01), xycoords="axes fraction", fontsize=7, color="firebrick")
    return ax


def _accuracy_axis(ax: Axes, shown: pd.DataFrame) -> None:
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


def seeds_note(cells: pd.DataFrame) -> str:
    """Return what the error bars of a figure are."""
    counts = sorted(set(cells.loc[cells["num_seeds"] > 0, "num_seeds"]))
    if not counts:
        return "no finished cell"
    if counts == [1]:
        return "one seed: no interval over seeds"
    return f"bars: 95 % t interval over {' or '.join(map(str, counts))} seeds"


def loss_vs_floors(ax: Axes, cells: pd.DataFrame) -> Axes:
    """Draw each arm's held-out pre-training loss beside what the trivial predictors reach under the same masks."""
    shown = cells[cells["num_seeds"] > 0].dropna(subset=["pretrain_loss_heldout"])
    y = np.arange(len(shown))[::-1]
    for name, mark in FLOOR_MARKS.items():
        ax.plot(shown[f"pretrain_floor_{name}"], y, mark, color="0.45", markersize=8, label=f"floor: {name.replace('_', ' ')}")
    for kind, look in KINDS.items():
        chosen = (shown["mask.kind"] == kind).to_numpy()
        if chosen.any():
            ax.plot(shown["pretrain_loss_heldout"][chosen], y[chosen], look["marker"], color=look["color"], label=kind)
    ax.set_yticks(y, list(shown["arm"]))
    ax.set_xlabel("held-out pre-training loss (left of all grey marks: learned more than copying)")
    ax.set_xlim(left=0)
    ax.legend(fontsize=7, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return ax


def pretraining_curves(ax: Axes, study: Study) -> Axes:
    """Draw the training loss of every finished pre-training; only curves of one mask can be compared with each other."""
    rows = study.replicates.dropna(subset=["run.pretrain"]).drop_duplicates("run.pretrain")
    for row in rows.to_dict("records"):
        curve = learning_curve(study.run_dir(row["run.pretrain"]))
        if curve.empty:
            continue
        look = {k: v for k, v in KINDS[row["mask.kind"]].items() if k in ("color", "linestyle")}
        ax.plot(curve["epoch"], curve["value"], alpha=0.3 + 0.7 * row["mask.ratio"] ** 3, linewidth=1, **look)
    for kind in [kind for kind in KINDS if kind in set(rows["mask.kind"])]:
        ax.plot([], [], color=KINDS[kind]["color"], linestyle=KINDS[kind]["linestyle"], label=f"{kind} (darker: more hidden)")
    ax.set_xlabel("epoch")
    ax.set_ylabel("training loss")
    ax.set_ylim(*_after_the_drop(ax))
    ax.legend(fontsize=8)
    return ax


def _after_the_drop(ax: Axes) -> tuple[float, float]:
    """Return limits for the curves from their second tenth on: the first steps dwarf all that tells arms apart."""
    curves = [np.asarray(line.get_ydata(), dtype=float) for line in ax.lines]
    values = np.concatenate([curve[len(curve) // 10 :] for curve in curves] or [np.zeros(0)])
    finite = values[np.isfinite(values)]
    low, high = (finite.min(), finite.max()) if len(finite) else (0.0, 1.0)
    margin = 0.15 * (high - low) or 0.1 * abs(high) or 1.0
    return float(low - margin), float(high + 3 * margin)


def reconstruction_sheet(study: Study, num_frames: int = 8) -> Figure | None:
    """Draw original, masked input and reconstruction of one held-out clip for each mask kind; None if no run left any.

    Of each kind the arm with the ratio nearest 0.875 is shown, so that kinds are seen at one ratio.
    """
    rows = study.replicates.dropna(subset=["run.pretrain"])
    sheets = []
    for kind in KINDS:
        of_kind = rows[rows["mask.kind"] == kind]
        for row in of_kind.iloc[(of_kind["mask.ratio"] - 0.875).abs().argsort(kind="stable")].to_dict("records"):
            file = study.run_dir(row["run.pretrain"]).reconstruction
            if file.exists():
                sheets.append((row["arm"], np.load(file)))
                break
    if not sheets:
        return None
    figure, axes = plt.subplots(
        3 * len(sheets), num_frames, figsize=(WIDTH_IN * 1.2, WIDTH_IN * 0.16 * 3 * len(sheets)), squeeze=False
    )
    for part, (arm, content) in enumerate(sheets):
        original, rebuilt, hidden = content["original"][0], content["reconstruction"][0], content["hidden"][0]
        masked = np.where(hidden[..., None], 128, original).astype(np.uint8)
        note = "uses target statistics" if content["uses_target_statistics"] else "pixels as predicted"
        when = np.linspace(0, len(original) - 1, num_frames).round().astype(int)
        for line, (name, frames) in enumerate((("original", original), ("masked", masked), (f"rebuilt\n({note})", rebuilt))):
            for column, frame in enumerate(when):
                ax = axes[3 * part + line, column]
                ax.imshow(frames[frame], interpolation="nearest")
                ax.set_xticks([])
                ax.set_yticks([])
                ax.grid(False)
                ax.spines[:].set_visible(False)
                if column == 0:
                    label = f"{arm}\n{name}" if line == 0 else name
                    ax.set_ylabel(label, rotation=0, ha="right", va="center", fontsize=7)
                if part == 0 and line == 0:
                    ax.set_title(f"frame {frame}", fontsize=6)
    figure.subplots_adjust(wspace=0.04, hspace=0.04)
    assert isinstance(figure, Figure)
    return figure
