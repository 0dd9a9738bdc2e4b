"""The quarantine of a list: videos that are known to be unusable, so that nobody opens them.

A csv `path,reason,by` beside the manifest. In training such a video is replaced like any that cannot be read; in evaluation it is
named and counted as not scored. It says nothing about which videos a run is on, so it is no part of its identity.
"""

import csv
import fcntl
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vmae.data.frames import FrameSource
from vmae.data.manifest import Manifest, ancestors, beside
from vmae.errors import DataError
from vmae.files import write_atomic

COLUMNS = ("path", "reason", "by")


@dataclass(frozen=True)
class Quarantined:
    """Why a video is set aside, and on whose word: `scan`, `training`, `hand`."""

    path: str
    reason: str
    by: str


def quarantine_of(manifest: Manifest) -> dict[str, Quarantined]:
    """Return what is set aside of a manifest's videos, by path: by its own list and by those of the lists it was taken from."""
    found: dict[str, Quarantined] = {}
    for file in (manifest.file, *ancestors(manifest)):
        found = read_quarantine(file) | found
    return found


def read_quarantine(file: Path) -> dict[str, Quarantined]:
    """Read the list beside the manifest `file`, empty if there is none; DataError with file and line if it is damaged."""
    path = beside(file, "quarantine.csv")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"cannot read {path}: {error}") from None
    reader = csv.DictReader(io.StringIO(text, newline=""))
    missing = [column for column in COLUMNS if column not in (reader.fieldnames or ())]
    if missing:
        raise DataError(f"{path}:1: no column {', '.join(missing)}; the header must be {','.join(COLUMNS)}")
    found = {}
    for values in reader:
        if not all(values[column] for column in COLUMNS):
            raise DataError(f"{path}:{reader.line_num}: path, reason or by is empty")
        found[values["path"]] = Quarantined(*(values[column] for column in COLUMNS))
    return found


def write_quarantine(file: Path, rows: Iterable[Quarantined], replacing: str | None = None) -> dict[str, Quarantined]:
    """Add `rows` to the list beside the manifest `file`, atomically, and return all of it.

    Args:
        replacing: what this one set aside before is forgotten first. Others' words stay, and stand where both say something.
    """
    with _alone(beside(file, "quarantine.lock")):
        kept = {path: row for path, row in read_quarantine(file).items() if row.by != replacing}
        merged = {row.path: row for row in rows} | kept
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(COLUMNS)
        writer.writerows([row.path, row.reason, row.by] for _, row in sorted(merged.items()))
        write_atomic(beside(file, "quarantine.csv"), text.getvalue().encode("utf-8"))
    return merged


@contextmanager
def _alone(lock: Path) -> Iterator[None]:
    try:
        file = lock.open("w")
    except OSError as error:
        raise DataError(f"cannot write {lock}: {error.strerror}") from None
    with file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


class WithoutQuarantined:
    """All videos of a split, of which only those that are not set aside are ever opened.

    Args:
        healthy: a source of the others, in order.
        reasons: by position, why a video is set aside.
    """

    def __init__(self, healthy: FrameSource, reasons: Mapping[int, str]) -> None:
        self.source = healthy
        self._reasons = dict(reasons)
        total = len(healthy) + len(reasons)
        self._positions = [position for position in range(total) if position not in reasons]
        self._where = {position: video for video, position in enumerate(self._positions)}

    @property
    def bad(self) -> Mapping[int, str]:
        """Reasons by position, those of the source too."""
        return self._reasons | {self._positions[video]: reason for video, reason in self.source.bad.items()}

    def __len__(self) -> int:
        return len(self._positions) + len(self._reasons)

    def num_frames(self, video: int) -> int:
        """Return the frames of a video; DataError for one that is set aside."""
        return self.source.num_frames(self._healthy(video))

    def read_batch(self, videos: Sequence[int], indices: np.ndarray) -> np.ndarray:
        """Return clips, uint8 [B, T, H, W, 3]; DataError names the first that is set aside."""
        return self.source.read_batch([self._healthy(video) for video in videos], indices)

    def _healthy(self, video: int) -> int:
        if video in self._reasons:
            raise DataError(self._reasons[video])
        return self._where[video]
