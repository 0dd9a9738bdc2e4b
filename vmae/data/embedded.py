"""The embedded video set: moving digits as real H.264 files, deterministic from a seed, with two label sets on the same clips.

**motion** (8 signed speeds, 4 pairs of opposites): a still frame says nothing, shuffled frames say nothing, and a clip played
backwards has the opposite label. Exactly so for clips of 16 consecutive frames, see `vmae.data.scene`.
**appearance** (10 digits): only what is shown; the motion is a nuisance. Digits of holdout and test clips are disjoint from those
of pretrain and train clips. This module names sizes and places; `vmae.data.make` makes the files.
"""

from pathlib import Path

from vmae.errors import DataError, near

EMBEDDED_VERSION = 1
SIZES: dict[str, dict[str, int]] = {
    "tiny": {"pretrain": 64, "train": 32, "holdout": 32, "test": 32},
    "quick": {"pretrain": 3000, "train": 400, "holdout": 240, "test": 480},
    "full": {"pretrain": 7000, "train": 3500, "holdout": 1000, "test": 2000},
}
LABEL_SETS = {"motion": 8, "appearance": 10}


def embedded_dir(data_root: Path, size: str, seed: int) -> Path:
    """Return the folder of one embedded set; DataError for an unknown size."""
    if size not in SIZES:
        raise DataError(f"embedded set size {size!r}{near(size, SIZES)}")
    return data_root / "embedded" / f"digits-{size}-seed{seed}-v{EMBEDDED_VERSION}"


def manifest_file(data_root: Path, size: str, seed: int, labels: str) -> Path:
    """Return the manifest of a label set, `motion` or `appearance`; both list the same videos in the same order."""
    if labels not in LABEL_SETS:
        raise DataError(f"label set {labels!r}{near(labels, LABEL_SETS)}")
    return embedded_dir(data_root, size, seed) / f"{labels}.csv"


def video_path(split: str, index: int) -> str:
    """Return the path of a video, relative to the set's folder."""
    return f"videos/{split}/{index:05d}.mp4"
