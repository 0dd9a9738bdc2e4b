"""The data of a run: its manifest, checked against the config, its frames, its labels. No torch, so submit can check too."""

import time
from dataclasses import dataclass, replace
from pathlib import Path

from vmae.data.embedded import DOMAINS, is_embedded, manifest_file
from vmae.data.frames import CachedFrames, FrameSource, PartOfFrames, open_frames
from vmae.data.manifest import Manifest, VideoRow, beside, check_files, list_sha256, read_manifest
from vmae.data.noted import remember, remembered
from vmae.data.quarantine import WithoutQuarantined, quarantine_late, reasons_of
from vmae.data.subset import subset
from vmae.errors import DataError
from vmae.runtime import RuntimeConfig
from vmae.sections import EmbeddedSet, ListedSet, SubsetConfig

LABELLED_SPLITS = ("train", "holdout", "test")
TRAINING_SPLITS = ("pretrain", "train")
LONG = 10_000  # videos of a list that takes longer to read than all else a plan does
MAX_LOOKED_AT = 5_000  # files of a split before any job exists: a second or two on a network file system


def manifest_of(data: EmbeddedSet | ListedSet, runtime: RuntimeConfig) -> Manifest:
    """Read the manifest that a config names; DataError if it is absent or lists other videos than the config says."""
    if isinstance(data, EmbeddedSet):
        labels = data.labels or DOMAINS[data.domain][0]
        file = manifest_file(Path(runtime.data_root), data.size, data.seed, labels, data.domain)
        if not file.exists():
            domain = "" if data.domain == "moving" else f" --domain {data.domain}"
            raise DataError(
                f"no embedded set at {file}; make it with: "
                f"vmae data make --size {data.size}{domain} --seed {data.seed} --root {runtime.data_root}"
            )
        return read_manifest(file, num_classes=data.num_classes, labelled_splits=LABELLED_SPLITS)
    labelled = LABELLED_SPLITS if data.num_classes else ()
    manifest = read_manifest(Path(data.manifest), num_classes=data.num_classes, labelled_splits=labelled)
    if manifest.list_sha256 != data.list_sha256:
        raise DataError(
            f"{data.manifest} lists other videos than this run was planned with "
            f"(sha256 {manifest.list_sha256[:12]}, planned {data.list_sha256[:12]}); plan again to use the new list"
        )
    return manifest


def listed_set(file: Path, name: str, num_classes: int | None = None) -> ListedSet:
    """Return the config of the videos that a manifest lists now; `num_classes` None: for pre-training only.

    What was found of a long list is noted beside it, so that not every command reads it again; a run does.
    """
    file = file.absolute()
    sha256, counts = remembered(file, num_classes) or _read(file, num_classes)
    return ListedSet(name=name, list_sha256=sha256, num_classes=num_classes, manifest=str(file), counts=counts)


def _read(file: Path, num_classes: int | None) -> tuple[str, dict[str, int]]:
    began_ns = time.time_ns()
    manifest = read_manifest(file, num_classes=num_classes, labelled_splits=LABELLED_SPLITS if num_classes else ())
    found = manifest.list_sha256, manifest.counts()
    if len(manifest.rows) >= LONG:
        remember(file, num_classes, began_ns, *found)
    return found


def frames_of(manifest: Manifest, split: str, runtime: RuntimeConfig) -> FrameSource:
    """Open the videos of a split, from the decoded cache if the runtime wants one; those in quarantine are not opened.

    Raises:
        DataError: as `set_aside`, and where files are missing or empty that are not in quarantine.
    """
    is_cached = is_embedded(manifest.file, Path(runtime.data_root)) if runtime.cache is None else runtime.cache
    cache_dir = Path(runtime.data_root) / "cache" if is_cached else None
    reasons, rows = set_aside(manifest, split, runtime), manifest.select(split)
    healthy = tuple(row for position, row in enumerate(rows) if position not in reasons)
    source = open_frames(
        replace(manifest, rows=healthy),
        split,
        cache_dir=cache_dir,
        backend=runtime.decode_backend,
        timeout_s=runtime.decode_timeout_s,
    )
    if isinstance(source, CachedFrames):
        for video in sorted(source.late):
            quarantine_late(manifest, healthy[video], source.bad[video])
    return WithoutQuarantined(source, reasons, manifest, rows) if reasons or cache_dir is None else source


def set_aside(manifest: Manifest, split: str, runtime: RuntimeConfig) -> dict[int, str]:
    """Return the videos of a split that are in quarantine, by position, with the reason.

    Raises:
        DataError: they are more of a training split than `runtime.max_quarantined` allows, or all of any split.
    """
    rows = manifest.select(split)
    reasons = reasons_of(manifest, rows)
    allowed = runtime.max_quarantined if split in TRAINING_SPLITS else 1.0
    if reasons and (len(reasons) > allowed * len(rows) or len(reasons) == len(rows)):
        raise DataError(
            f"{len(reasons)} of {len(rows)} {split} videos are in quarantine ({beside(manifest.file, 'quarantine.csv')}), "
            f"{allowed:.0%} are allowed; the first: {next(iter(reasons.values()))}"
        )
    return reasons


def check_split(manifest: Manifest, split: str, runtime: RuntimeConfig, is_here: bool) -> bool:
    """Look for the files of a split, of a long list for an even sample; return whether any is seen from this machine.

    Args:
        is_here: whether runs will run on this machine; if not, the videos may all lie on disks of others.

    Raises:
        DataError: as `set_aside`, and where files are missing or empty that are not in quarantine.
    """
    reasons, rows = set_aside(manifest, split, runtime), manifest.select(split)
    healthy = [row for position, row in enumerate(rows) if position not in reasons]
    looked_at = healthy[:: -(-len(healthy) // MAX_LOOKED_AT)]
    is_seen = manifest.about.packed is not None or any(manifest.absolute(row).is_file() for row in looked_at)
    if is_seen or is_here:
        check_files(manifest, looked_at)
    return is_seen


@dataclass(frozen=True)
class Chosen:
    """The videos of a split that a run uses: frames to read, and the list's row of each, in the same order."""

    frames: FrameSource
    rows: tuple[VideoRow, ...]

    @property
    def labels(self) -> list[int]:
        """The label of each video, of a labelled split."""
        labels = [row.label for row in self.rows]
        assert all(label is not None for label in labels), "read_manifest checks labelled splits"
        return labels  # type: ignore[return-value]

    @property
    def list_sha256(self) -> str:
        """The hash of their list."""
        return list_sha256(self.rows)


def chosen_of(manifest: Manifest, split: str, config: SubsetConfig, runtime: RuntimeConfig) -> Chosen:
    """Return the chosen videos of a split, all of them where no number is set; DataError as `frames_of`.

    A subset reads through all videos of the split, so that a decoded cache serves every subset.
    """
    rows, frames = manifest.select(split), frames_of(manifest, split, runtime)
    if config.num_videos is None:
        return Chosen(frames, tuple(rows))
    paths = subset(rows, config.num_videos, config.seed)
    positions = [position for position, row in enumerate(rows) if row.path in paths]
    return Chosen(PartOfFrames(frames, positions), tuple(rows[position] for position in positions))
