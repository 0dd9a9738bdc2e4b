"""Manifests: a csv with the header `path,label,split`, one video per line; docs/data.md has the format.

Paths are relative to the manifest's folder, or to the root that a file beside it, NAME.about.json, gives; that file also names
the classes in the order of their labels. Other columns (id, frames, ...) say more about a video and do not count as what is
listed: the list's hash is of path, label and split.
"""

import csv
import difflib
import hashlib
import io
import json
import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from posixpath import normpath
from stat import S_ISREG
from typing import Any

from vmae.errors import DataError, near
from vmae.files import write_atomic

COLUMNS = ("path", "label", "split")
SPLITS = ("pretrain", "train", "holdout", "test")  # those that runs read unless told otherwise
FACTS: Mapping[str, type] = {
    "id": str,
    "frames": int,
    "fps": float,
    "width": int,
    "height": int,
    "bytes": int,
    "mtime": int,  # of the last change, ns
}

MISSING = "missing"
NUM_LOOKERS = 16  # threads that ask for files at a time: a network file system answers 240,000 questions in turn in minutes


@dataclass(frozen=True)
class VideoRow:
    """One video; a label may be absent where no split that needs it contains the video. `facts` holds the columns of FACTS."""

    path: str
    label: int | None
    split: str
    facts: Mapping[str, Any] = field(default_factory=dict, hash=False)
    line: int = field(default=0, compare=False)  # in the file it was read from


@dataclass(frozen=True)
class About:
    """What stands beside a manifest.

    Args:
        root: folder that paths are relative to; itself relative to the manifest's folder, or absolute.
        classes: names in the order of their labels; empty: not known.
        parent: manifest in the same folder that this one was taken from; its quarantine counts here.
        made: how the manifest came about.
        packed: folder of packed frames, relative to the manifest's, where the videos are no files.
    """

    root: str = "."
    classes: tuple[str, ...] = ()
    parent: str | None = None
    made: Mapping[str, Any] = field(default_factory=dict, hash=False)
    packed: str | None = None


@dataclass(frozen=True)
class Manifest:
    """The videos of a data set."""

    file: Path
    rows: tuple[VideoRow, ...]
    list_sha256: str
    about: About = About()

    def select(self, split: str) -> tuple[VideoRow, ...]:
        """Return the videos of a split in file order; DataError for one that is not there."""
        chosen = tuple(row for row in self.rows if row.split == split)
        if not chosen:
            splits = sorted({row.split for row in self.rows})
            raise DataError(f"{self.file} has no split {split!r}{near(split, splits)}")
        return chosen

    @property
    def root(self) -> Path:
        """The folder that paths are relative to."""
        return self.file.parent / self.about.root

    def absolute(self, row: VideoRow) -> Path:
        """Return where the video lies."""
        return self.root / row.path

    def counts(self) -> dict[str, int]:
        """Return the videos per split."""
        return dict(Counter(row.split for row in self.rows))


def list_sha256(rows: Iterable[VideoRow]) -> str:
    """Return the hash of what is listed; quoting, line ends and the folder's place do not enter."""
    digest = hashlib.sha256()
    for row in rows:
        digest.update(repr((row.path, row.label, row.split)).encode())
    return digest.hexdigest()


def write_manifest(file: Path, rows: Sequence[VideoRow]) -> None:
    """Write a manifest atomically, with those columns of FACTS that any row has."""
    facts = [name for name in FACTS if any(name in row.facts for row in rows)]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*COLUMNS, *facts])
    for row in rows:
        known = [row.facts.get(name, "") for name in facts]
        writer.writerow([row.path, "" if row.label is None else row.label, row.split, *known])
    write_atomic(file, text.getvalue().encode("utf-8"))


def beside(file: Path, ending: str) -> Path:
    """Return the file that belongs to a manifest: `ssv2.csv` -> `ssv2.about.json`."""
    return file.with_suffix(f".{ending}")


def write_about(file: Path, about: About) -> None:
    """Write what stands beside the manifest `file`, atomically."""
    values = {"root": about.root, "parent": about.parent, "made": dict(about.made), "classes": list(about.classes)}
    values |= {} if about.packed is None else {"packed": about.packed}
    write_atomic(beside(file, "about.json"), (json.dumps(values, indent=1, ensure_ascii=False) + "\n").encode("utf-8"))


def read_about(file: Path) -> About:
    """Read what stands beside the manifest `file`, if anything does; DataError if it is damaged."""
    path = beside(file, "about.json")
    try:
        values = json.loads(path.read_text(encoding="utf-8-sig"))
        classes, made = tuple(values["classes"]), values.get("made", {})
        return About(str(values["root"]), classes, values.get("parent"), made, values.get("packed"))
    except FileNotFoundError:
        return About()
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"cannot read {path}: {type(error).__name__}: {error}") from None


def ancestors(manifest: Manifest) -> list[Path]:
    """Return the lists that a manifest was taken from, nearest first; DataError if they form a ring."""
    found: list[Path] = []
    parent = manifest.about.parent
    while parent is not None:
        file = manifest.file.with_name(parent)
        if file in (*found, manifest.file):
            raise DataError(f"{beside(manifest.file, 'about.json')}: the lists it was taken from form a ring at {parent}")
        found.append(file)
        parent = read_about(file).parent
    return found


def descendants(file: Path) -> list[Path]:
    """Return the lists in the folder of `file` that were taken from it or from one that was; DataError if an about is damaged."""
    parents = {other: read_about(other).parent for other in sorted(file.parent.glob(f"*{file.suffix}"))}
    found = [file]
    for ancestor in found:  # which grows
        found += [other for other, parent in parents.items() if parent == ancestor.name and other not in found]
    return found[1:]


def read_manifest(file: Path, num_classes: int | None = None, labelled_splits: Collection[str] = ()) -> Manifest:
    """Read and check a manifest.

    Args:
        num_classes: labels must lie in 0..num_classes-1; None checks only that they are not negative.
        labelled_splits: splits in which every video needs a label.

    Raises:
        DataError: with file and line: no file, missing column, no label, label that is no integer or outside the classes, a path
            listed twice, however it is written (in two splits it would leak), a split with spaces around it or nearly a known
            word, no video at all; another number of classes than are named beside it.
    """
    about = read_about(file)
    if num_classes and about.classes and num_classes != len(about.classes):
        raise DataError(f"{beside(file, 'about.json')} names {len(about.classes)} classes, {num_classes} are asked for")
    num_classes = num_classes or len(about.classes) or None
    reader = _table(file)
    rows: list[VideoRow] = []
    first_line: dict[str, int] = {}
    try:
        for values in reader:
            row = _row(values, file, reader.line_num, num_classes, labelled_splits)
            place = normpath(row.path)
            if place in first_line:
                raise DataError(f"{file}:{row.line}: {row.path!r} is listed already on line {first_line[place]}")
            first_line[place] = row.line
            rows.append(row)
    except csv.Error as error:  # a quote that nothing closes takes the rest of the file into one value
        raise DataError(f"{file}:{reader.line_num}: {error}") from None
    if not rows:
        raise DataError(f"{file} lists no video")
    return Manifest(file, tuple(rows), list_sha256(rows), about)


def _table(file: Path) -> "csv.DictReader[str]":
    """Open a manifest's table; DataError if the file cannot be read or its header is not a manifest's."""
    try:
        text = file.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise DataError(f"no manifest at {file}; `vmae data prepare` makes one (docs/data.md)") from None
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"cannot read {file}: {error}") from None
    reader = csv.DictReader(io.StringIO(text, newline=""))
    missing = [column for column in COLUMNS if column not in (reader.fieldnames or ())]
    if missing:
        header = text.partition("\n")[0].strip()[:80]
        raise DataError(f"{file}:1: no column {', '.join(missing)} in {header!r}; the header must be {','.join(COLUMNS)}")
    if twice := [column for column in COLUMNS if list(reader.fieldnames or ()).count(column) > 1]:
        raise DataError(f"{file}:1: {len(twice)} columns stand twice in the header, the first: {twice[0]}")
    return reader


def _row(
    values: dict[str | None, Any], file: Path, line: int, num_classes: int | None, labelled_splits: Collection[str]
) -> VideoRow:
    where = f"{file}:{line}"
    if None in values:
        raise DataError(f"{where}: {len(values[None])} values more than columns; a path with a comma stands in quotes")
    path, text, split = (values[column] for column in COLUMNS)
    if not path or not split:
        raise DataError(f"{where}: {'path' if not path else 'split'} is empty")
    if split != split.strip():
        raise DataError(f"{where}: split {split!r} of {path!r} has spaces around it; write {split.strip()!r}")
    if meant := _mistyped(split):
        raise DataError(f"{where}: split {split!r} would be read by no run. Did you mean {meant!r}? If not, choose another word")
    facts = {name: _fact(name, values[name], where) for name in FACTS if values.get(name)}
    if not text:
        if split in labelled_splits:
            raise DataError(f"{where}: {path!r} has no label, and split {split!r} needs one")
        return VideoRow(path, None, split, facts, line)
    if not re.fullmatch(r"\s*[+-]?[0-9]{1,18}\s*", text):  # int() takes 1_0 too
        raise DataError(f"{where}: label {text!r} of {path!r} is not an integer")
    label = int(text)
    if label < 0 or (num_classes is not None and label >= num_classes):
        allowed = f"0 to {num_classes - 1}" if num_classes else "0 or more"
        raise DataError(f"{where}: label {label} of {path!r}; allowed: {allowed}")
    return VideoRow(path, label, split, facts, line)


def _mistyped(split: str) -> str | None:
    """Return the known split that a word of letters nearly is."""
    if not split.isalpha() or split.startswith(SPLITS):  # `test2`, `training`: other words
        return None
    return next(iter(difflib.get_close_matches(split, SPLITS, n=1, cutoff=0.75)), None)


def _fact(name: str, text: str | None, where: str) -> Any:
    try:
        return FACTS[name](text)
    except ValueError:
        raise DataError(f"{where}: {name} {text!r} is no {FACTS[name].__name__}") from None


def check_files(manifest: Manifest, rows: Sequence[VideoRow]) -> None:
    """Raise DataError if files are missing or empty: how many, and the first. Packed frames are checked where they are opened."""
    if manifest.about.packed is not None:
        return

    def look(first: int) -> list[tuple[int, str]]:
        return [(i, fault) for i in range(first, len(rows), NUM_LOOKERS) if (fault := _fault(manifest.absolute(rows[i])))]

    with ThreadPoolExecutor(NUM_LOOKERS) as lookers:
        bad = sorted(found for part in lookers.map(look, range(NUM_LOOKERS)) for found in part)
    if len(bad) == len(rows) and all(fault == MISSING for _, fault in bad):
        raise _moved(manifest, rows)
    if bad:
        first, fault = bad[0]
        raise DataError(
            f"{len(bad)} of {len(rows)} videos of {manifest.file} cannot be used; the first: {manifest.absolute(rows[first])} is "
            f"{fault}; `vmae data scan {manifest.file}` finds all such and sets them aside"
        )


def check_root(manifest: Manifest) -> None:
    """Raise DataError if not one file of the list is there: then the root is wrong, rather than every video."""
    if all(_fault(manifest.absolute(row)) == MISSING for row in manifest.rows):
        raise _moved(manifest, manifest.rows)


def _moved(manifest: Manifest, rows: Sequence[VideoRow]) -> DataError:
    about = beside(manifest.file, "about.json")
    said = f"`root` in {about.name}" if about.exists() else f"the list's own folder; `root` in {about.name} may name another"
    return DataError(
        f"none of {len(rows)} videos of {manifest.file} is below {manifest.root} ({said}); have the videos moved? "
        f"The first: {manifest.absolute(rows[0])}"
    )


def _fault(path: Path) -> str:
    """Return why a file cannot be a video; its size is asked for once, which on a network is a way there and back."""
    try:
        stat = path.stat()
    except (OSError, ValueError):
        return MISSING
    if not S_ISREG(stat.st_mode):
        return MISSING
    return "" if stat.st_size else "empty"
