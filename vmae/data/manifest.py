"""Manifests: a csv with the header `path,label,split`, one video per line; paths relative to the manifest's folder."""

import csv
import hashlib
import io
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from vmae.errors import DataError, near
from vmae.files import write_atomic

COLUMNS = ("path", "label", "split")


@dataclass(frozen=True)
class VideoRow:
    """One video; a label may be absent where no split that needs it contains the video."""

    path: str
    label: int | None
    split: str


@dataclass(frozen=True)
class Manifest:
    """The videos of a data set."""

    file: Path
    rows: tuple[VideoRow, ...]
    list_sha256: str

    def select(self, split: str) -> tuple[VideoRow, ...]:
        """Return the videos of a split in file order; DataError for one that is not there."""
        chosen = tuple(row for row in self.rows if row.split == split)
        if not chosen:
            splits = sorted({row.split for row in self.rows})
            raise DataError(f"{self.file} has no split {split!r}{near(split, splits)}")
        return chosen

    def absolute(self, row: VideoRow) -> Path:
        """Return where the video lies."""
        return self.file.parent / row.path

    def counts(self) -> dict[str, int]:
        """Return the videos per split."""
        splits = [row.split for row in self.rows]
        return {split: splits.count(split) for split in dict.fromkeys(splits)}


def list_sha256(rows: Iterable[VideoRow]) -> str:
    """Return the hash of what is listed; quoting, line ends and the folder's place do not enter."""
    digest = hashlib.sha256()
    for row in rows:
        digest.update(repr((row.path, row.label, row.split)).encode())
    return digest.hexdigest()


def write_manifest(file: Path, rows: Sequence[VideoRow]) -> None:
    """Write a manifest atomically."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows([row.path, "" if row.label is None else row.label, row.split] for row in rows)
    write_atomic(file, text.getvalue().encode("utf-8"))


def read_manifest(file: Path, num_classes: int | None = None, labelled_splits: Collection[str] = ()) -> Manifest:
    """Read and check a manifest.

    Args:
        num_classes: labels must lie in 0..num_classes-1; None checks only that they are not negative.
        labelled_splits: splits in which every video needs a label.

    Raises:
        DataError: with file and line: no file, missing column, no label, label that is no integer or outside the classes, a path
            listed twice (in two splits it would leak), no video at all.
    """
    try:
        text = file.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise DataError(f"no manifest at {file}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"cannot read {file}: {error}") from None
    reader = csv.DictReader(io.StringIO(text, newline=""))
    missing = [column for column in COLUMNS if column not in (reader.fieldnames or ())]
    if missing:
        raise DataError(f"{file}:1: no column {', '.join(missing)}; the header must be {','.join(COLUMNS)}")
    rows: list[VideoRow] = []
    first_line: dict[str, int] = {}
    for values in reader:
        where = f"{file}:{reader.line_num}"
        row = _row(values, where, num_classes, labelled_splits)
        if row.path in first_line:
            raise DataError(f"{where}: {row.path!r} is listed already on line {first_line[row.path]}")
        first_line[row.path] = reader.line_num
        rows.append(row)
    if not rows:
        raise DataError(f"{file} lists no video")
    return Manifest(file, tuple(rows), list_sha256(rows))


def _row(values: dict[str, str | None], where: str, num_classes: int | None, labelled_splits: Collection[str]) -> VideoRow:
    path, text, split = (values[column] for column in COLUMNS)
    if not path or not split:
        raise DataError(f"{where}: {'path' if not path else 'split'} is empty")
    if not text:
        if split in labelled_splits:
            raise DataError(f"{where}: {path!r} has no label, and split {split!r} needs one")
        return VideoRow(path, None, split)
    try:
        label = int(text)
    except ValueError:
        raise DataError(f"{where}: label {text!r} of {path!r} is not an integer") from None
    if label < 0 or (num_classes is not None and label >= num_classes):
        allowed = f"0 to {num_classes - 1}" if num_classes else "0 or more"
        raise DataError(f"{where}: label {label} of {path!r}; allowed: {allowed}")
    return VideoRow(path, label, split)


def check_files(manifest: Manifest, rows: Sequence[VideoRow]) -> None:
    """Raise DataError if files are missing or empty: how many, and the first."""
    bad = []
    for row in rows:
        path = manifest.absolute(row)
        if not path.is_file():
            bad.append(f"{path} is missing")
        elif path.stat().st_size == 0:
            bad.append(f"{path} is empty")
    if bad:
        raise DataError(f"{len(bad)} of {len(rows)} videos of {manifest.file} cannot be used; the first: {bad[0]}")
