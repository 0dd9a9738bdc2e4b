"""One look for every figure: colour-blind safe, and readable in grey because each kind also has its marker and line."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib as mpl
import seaborn as sns
from matplotlib.figure import Figure

_COLOURS = sns.color_palette("colorblind")
KINDS: Mapping[str, Mapping[str, Any]] = {
    "tube": {"color": _COLOURS[0], "marker": "o", "linestyle": "-"},
    "random": {"color": _COLOURS[1], "marker": "s", "linestyle": "--"},
    "frame": {"color": _COLOURS[2], "marker": "^", "linestyle": ":"},
    "random_per_slice": {"color": _COLOURS[3], "marker": "D", "linestyle": (0, (5, 1))},
    "block": {"color": _COLOURS[4], "marker": "v", "linestyle": (0, (3, 1, 1, 1))},
    "image": {"color": _COLOURS[6], "marker": "*", "linestyle": (0, (4, 2, 1, 2))},
    "multi_block": {"color": _COLOURS[5], "marker": "P", "linestyle": (0, (1, 1))},
}
SCRATCH: Mapping[str, Any] = {"color": "0.35", "linestyle": "-."}
PAPER: Mapping[str, Any] = {"color": "0.2", "marker": "D", "markerfacecolor": "none", "linestyle": "none", "markersize": 5}
VERDICTS: Mapping[str, str] = {"better": "#0072b2", "worse": "#d55e00", "not distinguishable": "0.5"}
CHANCE: Mapping[str, Any] = {"color": "0.6", "linestyle": ":"}
WIDTH_IN = 5.5
PAD_IN = 0.05

# Fixed identifiers keep the files byte-equal from one rendering to the next.
RC = {
    "figure.dpi": 120,
    "savefig.dpi": 200,
    "font.family": "STIXGeneral",  # Times, as papers are set; and small, where embedding DejaVu doubles a report's time
    "mathtext.fontset": "stix",
    "font.size": 10,
    "axes.grid": True,
    "grid.alpha": 0.3,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
    "pdf.fonttype": 42,
    "svg.hashsalt": "vmae",
}


def apply() -> None:
    """Set the look for what is drawn from here on; files only, no window."""
    mpl.use("Agg")
    mpl.rcParams.update(RC)


def save(figure: Figure, stem: Path) -> list[Path]:
    """Write a figure as png, pdf and svg without dates, and return the paths."""
    stem.parent.mkdir(parents=True, exist_ok=True)
    undated = {
        "png": {"Software": None},
        "pdf": {"CreationDate": None, "Producer": None, "Creator": None},
        "svg": {"Date": None, "Creator": None},
    }
    paths = [stem.with_name(f"{stem.name}.{ending}") for ending in undated]
    figure.draw_without_rendering()
    # Measured once for all three: "tight" would draw each file twice.
    box = figure.get_tightbbox(figure.canvas.get_renderer()).padded(PAD_IN)  # type: ignore[attr-defined]
    for path, metadata in zip(paths, undated.values(), strict=True):
        figure.savefig(path, metadata=metadata, bbox_inches=box)
    mpl.pyplot.close(figure)
    return paths
