"""The embedded video set: moving digits as real H.264 files, deterministic from a seed, with two label sets on the same clips.

**motion** (8 signed speeds, 4 pairs of opposites): a still frame says nothing, shuffled frames say nothing, and a clip played
backwards has the opposite label. Exactly so for clips of 16 consecutive frames, see `vmae.data.scene`.
**appearance** (10 digits): only what is shown; the motion is a nuisance. Digits of holdout and test clips are disjoint from those
of pretrain and train clips.

There are two domains. In **moving** the digit travels. In **still** it stays where it is but for its shake, so that only its look
tells clips apart: a stand-in for appearance-heavy videos beside motion-heavy ones, for pre-training in and out of domain.

This module names sizes and places; `vmae.data.make` makes the files.
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
DOMAINS = {"moving": ("motion", "appearance"), "still": ("appearance",)}  # with the label sets that mean something there


def embedded_dir(data_root: Path, size: str, seed: int, domain: str = "moving") -> Path:
    """Return the folder of one embedded set; DataError for an unknown size or domain."""
    if size not in SIZES:
        raise DataError(f"embedded set size {size!r}{near(size, SIZES)}")
    if domain not in DOMAINS:
        raise DataError(f"embedded domain {domain!r}{near(domain, DOMAINS)}")
    suffix = "" if domain == "moving" else f"-{domain}"
    return data_root / "embedded" / f"digits-{size}-seed{seed}-v{EMBEDDED_VERSION}{suffix}"


def manifest_file(data_root: Path, size: str, seed: int, labels: str, domain: str = "moving") -> Path:
    """Return the manifest of a domain's label set; all of a domain list the same videos in the same order."""
    folder = embedded_dir(data_root, size, seed, domain)
    if labels not in DOMAINS[domain]:
        raise DataError(f"domain {domain!r} has no label set {labels!r}{near(labels, DOMAINS[domain])}")
    return folder / f"{labels}.csv"


def is_embedded(manifest: Path, data_root: Path) -> bool:
    """Return whether a manifest is one of the embedded sets' below `data_root`."""
    return manifest.absolute().is_relative_to(data_root.absolute() / "embedded")


def video_path(split: str, index: int) -> str:
    """Return the path of a video, relative to the set's folder."""
    return f"videos/{split}/{index:05d}.mp4"
