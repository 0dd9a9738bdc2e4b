"""The quarantine of a list: videos that are known to be unusable, so that nobody opens them.

A csv `path,reason,by` beside the manifest. In training such a video is replaced like any that cannot be read; in evaluation it is
named and counted as not scored. It says nothing about which videos a run is on, so it is no part of its identity.
"""

import csv
import io
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vmae.data.alone import alone
from vmae.data.frames import FrameSource
from vmae.data.manifest import Manifest, VideoRow, ancestors, beside
from vmae.data.video import Choose, Late
from vmae.errors import DataError, VmaeError
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


def write_quarantine(
    file: Path, rows: Iterable[Quarantined], replacing: Collection[str] = (), forgetting: Collection[Quarantined] = ()
) -> dict[str, Quarantined]:
    """Add `rows` to the list beside the manifest `file`, atomically, and return all of it.

    Args:
        replacing: what these set aside before is forgotten first. Others' words stay, and stand where both say something.
        forgetting: rows that are forgotten first too, if they still stand there as they are here.

    Raises:
        DataError: the list that is there is damaged, or its folder cannot be written.
    """
    lock = beside(file, "quarantine.lock")
    try:
        with alone(lock):
            kept = {path: row for path, row in read_quarantine(file).items() if row.by not in replacing and row not in forgetting}
            merged = {row.path: row for row in rows} | kept
            write_atomic(beside(file, "quarantine.csv"), _table(merged).encode("utf-8"))
    except OSError as error:
        raise DataError(f"cannot write {error.filename or lock}: {error.strerror}") from None
    return merged


def _table(rows: Mapping[str, Quarantined]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows([row.path, row.reason, row.by] for _, row in sorted(rows.items()))
    return text.getvalue()


def quarantine_late(manifest: Manifest, row: VideoRow, reason: str) -> None:
    """Set a video aside on which a decoder hung or died, on the word of `training`; say so where the list cannot be written."""
    reason = reason.removeprefix(f"{manifest.absolute(row)}: ")
    try:
        write_quarantine(manifest.file, [Quarantined(row.path, reason, "training")])
    except VmaeError as error:  # a data set that others own: the video is left out all the same
        print(f"warning: {row.path} is left out ({reason}); it cannot be put into quarantine: {error}", flush=True)


class WithoutQuarantined:
    """All videos of a split, of which only those that are not set aside are ever opened.

    A video on which a decoder hangs or crashes is set aside at once, on the word of `training`. What other processes set aside
    meanwhile is heeded too, so each such video costs one deadline and not one per process and epoch.

    Args:
        healthy: a source of those that are not in `reasons`, in order.
        reasons: by position, why a video is set aside.
        rows: all videos of the split.
    """

    def __init__(self, healthy: FrameSource, reasons: Mapping[int, str], manifest: Manifest, rows: Sequence[VideoRow]) -> None:
        self.source, self.manifest, self.rows = healthy, manifest, rows
        self._reasons = dict(reasons)
        self._positions = [position for position in range(len(rows)) if position not in reasons]
        self._where = {position: video for video, position in enumerate(self._positions)}
        self._files = [beside(file, "quarantine.csv") for file in (manifest.file, *ancestors(manifest))]
        self._seen = self._changed()

    @property
    def bad(self) -> Mapping[int, str]:
        """Reasons by position, those of the source too."""
        if (changed := self._changed()) != self._seen:
            self._seen = changed
            self._reasons |= reasons_of(self.manifest, self.rows)
        if not self.source.bad:
            return self._reasons
        return self._reasons | {self._positions[video]: reason for video, reason in self.source.bad.items()}

    @property
    def equal_frames(self) -> int | None:
        """As of the source."""
        return self.source.equal_frames

    def __len__(self) -> int:
        return len(self.rows)

    def read(self, video: int, choose: Choose) -> np.ndarray:
        """Return clips, see FrameSource; DataError for one that is set aside."""
        if reason := self.bad.get(video):
            raise DataError(reason)
        try:
            return self.source.read(self._where[video], choose)
        except Late as error:
            self._reasons[video] = str(error)
            quarantine_late(self.manifest, self.rows[video], str(error))
            raise

    def _changed(self) -> list[int]:
        """Return what differs once a quarantine was written."""
        return [file.stat().st_mtime_ns if file.exists() else 0 for file in self._files]

    def gather(self, videos: Sequence[int], indices: np.ndarray) -> np.ndarray:
        """Return clips, see FrameSource."""
        return self.source.gather([self._where[video] for video in videos], indices)


def reasons_by_path(manifest: Manifest, rows: Sequence[VideoRow]) -> dict[str, str]:
    """Return which of `rows` are in quarantine, by path, with the reason, which does not name the file."""
    quarantined = quarantine_of(manifest)
    return {row.path: f"in quarantine by {found.by}: {found.reason}" for row in rows if (found := quarantined.get(row.path))}


def reasons_of(manifest: Manifest, rows: Sequence[VideoRow]) -> dict[int, str]:
    """Return which of `rows` are in quarantine, by position, with the file's name and the reason."""
    reasons = reasons_by_path(manifest, rows)
    return {i: f"{manifest.absolute(row)}: {reasons[row.path]}" for i, row in enumerate(rows) if row.path in reasons}
