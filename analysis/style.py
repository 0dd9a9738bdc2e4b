"""One look for every figure: colour-blind safe, and readable in grey because each kind also has its marker and line."""

import zlib
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import matplotlib as mpl
from fontTools import subset
from matplotlib.figure import Figure
from matplotlib.font_manager import fontManager, get_font
from matplotlib.ticker import AutoLocator
from PIL import Image

from vmae.files import write_atomic

# seaborn's palette "colorblind", written out: importing seaborn takes each drawing process more than a second.
COLOURS = ("#0173b2", "#de8f05", "#029e73", "#d55e00", "#cc78bc", "#ca9161", "#fbafe4", "#949494", "#ece133", "#56b4e9")
KINDS: Mapping[str, Mapping[str, Any]] = {
    "tube": {"color": COLOURS[0], "marker": "o", "linestyle": "-"},
    "random": {"color": COLOURS[1], "marker": "s", "linestyle": "--"},
    "frame": {"color": COLOURS[2], "marker": "^", "linestyle": ":"},
    "random_per_slice": {"color": COLOURS[3], "marker": "D", "linestyle": (0, (5, 1))},
    "block": {"color": COLOURS[4], "marker": "v", "linestyle": (0, (3, 1, 1, 1))},
    "image": {"color": COLOURS[6], "marker": "*", "linestyle": (0, (4, 2, 1, 2))},
    "multi_block": {"color": COLOURS[5], "marker": "P", "linestyle": (0, (1, 1))},
}
OTHER_KINDS: tuple[Mapping[str, Any], ...] = (  # for kinds that have no look of their own
    {"color": COLOURS[7], "marker": "X", "linestyle": (0, (3, 2))},
    {"color": COLOURS[9], "marker": "<", "linestyle": (0, (6, 2, 1, 2))},
    {"color": COLOURS[8], "marker": ">", "linestyle": (0, (2, 1, 1, 1))},
)
SCRATCH: Mapping[str, Any] = {"color": "0.35", "linestyle": "-."}
PAPER: Mapping[str, Any] = {"color": "0.2", "marker": "D", "markerfacecolor": "none", "linestyle": "none", "markersize": 5}
VERDICTS: Mapping[str, str] = {"better": "#0072b2", "worse": "#d55e00", "not distinguishable": "0.5"}
CHANCE: Mapping[str, Any] = {"color": "0.6", "linestyle": ":"}
WIDTH_IN = 5.5
PAD_IN = 0.05
NUM_COLORS = 256  # of a png
NUM_INTERVALS = 5  # between an axis' ticks, at most; nine, as by default, crowd a figure and take a sixth of its time
LETTERS = (*range(0x20, 0x530), *range(0x2000, 0x2800))  # Latin, Greek, Cyrillic; punctuation, arrows, signs
KEPT_OF_FONT: Mapping[str, Any] = {"layout_features": ["kern"], "drop_tables": ["FFTM", "GDEF", "GSUB"], "name_IDs": ["*"]}

# Fixed identifiers keep the files byte-equal from one rendering to the next.
RC = {
    "figure.dpi": 120,
    "savefig.dpi": 200,
    "mathtext.fontset": "stix",
    "font.size": 10,
    "axes.grid": True,
    "grid.alpha": 0.3,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.facecolor": "white",  # a line that runs below does not strike the words through
    "legend.edgecolor": "none",
    "legend.framealpha": 0.85,
    "legend.fancybox": False,
    "pdf.fonttype": 42,
    "svg.hashsalt": "vmae",
}


def looks_of(kinds: Iterable[object]) -> dict[str, Mapping[str, Any]]:
    """Return the look of each kind of mask among `kinds`, first those of KINDS; what is no word is none."""
    there = {kind for kind in kinds if isinstance(kind, str)}
    others = sorted(there - set(KINDS))
    looks = {kind: look for kind, look in KINDS.items() if kind in there}
    return looks | {kind: OTHER_KINDS[k % len(OTHER_KINDS)] for k, kind in enumerate(others)}


def apply() -> None:
    """Set the look for what is drawn from here on; files only, no window."""
    mpl.use("Agg")
    mpl.rcParams.update(RC | {"font.family": _letters()})


@cache
def _letters() -> str:
    """Return a font of STIX's letters and signs with their kerning, made once, beside matplotlib's own cache of fonts.

    The whole font, 3,294 glyphs with their rules, would be read for each PDF, and a ligature be a PDF's second font: together a
    sixth of all drawing time.
    """
    recipe = zlib.crc32(repr((mpl.__version__, LETTERS, KEPT_OF_FONT)).encode())  # another checkout's font may differ
    file = Path(mpl.get_cachedir(), f"vmae-letters-{recipe:08x}.ttf")
    if not file.exists():
        options = subset.Options(**KEPT_OF_FONT)
        font = subset.load_font(fontManager.findfont("STIXGeneral"), options)
        subsetter = subset.Subsetter(options)
        subsetter.populate(unicodes=LETTERS)
        subsetter.subset(font)
        for record in font["name"].names:
            record.string = record.toUnicode().replace("STIXGeneral", "STIXLetters")
        write_atomic(file, font.save)
    fontManager.addfont(file)
    return str(get_font(file).family_name)


def save(figure: Figure, stem: Path) -> list[Path]:
    """Write a figure as png, pdf and svg without dates, and return the paths."""
    stem.parent.mkdir(parents=True, exist_ok=True)
    undated: Mapping[str, tuple[Mapping[str, None], Mapping[str, Any]]] = {
        "png": ({"Software": None}, {"pil_kwargs": {"compress_level": 1}}),  # read back and written smaller below
        "pdf": ({"CreationDate": None, "Producer": None, "Creator": None}, {}),
        "svg": ({"Date": None, "Creator": None}, {}),
    }
    for ax in figure.axes:
        for axis in (ax.xaxis, ax.yaxis):
            if isinstance(locator := axis.get_major_locator(), AutoLocator):
                locator.set_params(nbins=NUM_INTERVALS)
    paths = [stem.with_name(f"{stem.name}.{ending}") for ending in undated]
    # Measured once for all three: "tight" would draw each file twice.
    box = figure.get_tightbbox(figure.canvas.get_renderer()).padded(PAD_IN)  # type: ignore[attr-defined]
    for path, (metadata, more) in zip(paths, undated.values(), strict=True):
        figure.savefig(path, metadata=metadata, bbox_inches=box, **more)
    holds_pictures = any(ax.images for ax in figure.axes)
    mpl.pyplot.close(figure)
    _write_smaller(paths[0], None if holds_pictures else NUM_COLORS)
    return paths


def _write_smaller(png: Path, num_colors: int | None) -> None:
    """Write a png anew without its alpha channel, which says "opaque" everywhere, and with as many colours (None: all).

    Lines and letters on paper need few: a drawing takes two fifths of the bytes, and hardly a pixel changes.
    """
    with Image.open(png) as image:
        smaller, dpi = image.convert("RGB"), image.info["dpi"]
    if num_colors is not None:
        smaller = smaller.quantize(num_colors, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
    smaller.save(png, dpi=dpi, compress_level=6)
