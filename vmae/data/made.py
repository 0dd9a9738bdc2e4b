"""Lists that are made of another by packing or transcoding its videos, and of the lists that were taken from it."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vmae.data.manifest import About, Manifest, VideoRow, read_about, read_manifest, write_about, write_manifest
from vmae.data.quarantine import Quarantined, reasons_by_path, write_quarantine
from vmae.errors import DataError
from vmae.files import write_atomic


@dataclass(frozen=True)
class Made:
    """What was made of a list: its new rows in the same order, what stands beside them, and why videos are set aside, by path.

    Args:
        by: whose word `reasons` are.
    """

    about: About
    rows: Sequence[VideoRow]
    reasons: Mapping[str, str]
    by: str


def source_of(path: Path) -> list[int] | None:
    """Return size and time of change (ns) of a video's file, by which a change is noticed; None where it is not there."""
    try:
        stat = path.stat()
    except OSError:
        return None
    return [stat.st_size, stat.st_mtime_ns]


def begin(out: Path, made: Mapping[str, Any], source: Manifest) -> None:
    """Note in a folder what is being made there of `source`.

    Raises DataError if something else was begun there, naming what differs, or if a list is there already that would be lost.
    """
    note, names = out / "made.json", [source.file.name, *(child.file.name for child in lists_taken(source))]
    if lost := [name for name in names if (out / name).exists() and not (note.exists() and _was_made(out / name))]:
        raise DataError(f"{out / lost[0]} is a list that was not made here and would be lost; choose another folder")
    try:
        before = json.loads(note.read_text(encoding="utf-8"))
    except FileNotFoundError:
        write_atomic(note, (json.dumps(made, indent=1) + "\n").encode())
        return
    except (OSError, ValueError) as error:
        raise DataError(f"cannot read {note}: {error}") from None
    keys = [key for key in {**before, **made} if before.get(key) != made.get(key)]
    differs = [f"{key} = {before.get(key)!r}, now {made.get(key)!r}" for key in keys]
    if differs:
        raise DataError(f"{out} was begun with other settings: {'; '.join(differs)}; choose another folder, or delete this one")


def _was_made(file: Path) -> bool:
    return read_about(file).made.get("source") == file.name


def lists_taken(source: Manifest) -> list[Manifest]:
    """Return the lists beside `source` that name it as their parent and its videos as theirs, by name.

    Subsets are left out: their names hold a hash that would no longer be theirs, and they are quickly taken anew.
    """
    own = {row.path for row in source.rows}
    found = []
    for file in sorted(source.file.parent.glob(f"*{source.file.suffix}")):
        about = read_about(file)
        if about.parent != source.file.name or "subset" in about.made:
            continue
        child = read_manifest(file)
        if about.root == source.about.root and own.issuperset(row.path for row in child.rows):
            found.append(child)
    return found


def finish(source: Manifest, out: Path, made: Made) -> Manifest:
    """Write the list that was made of `source`, out/NAME.csv, and those that were taken from it, and return the first."""
    new = {old.path: row for old, row in zip(source.rows, made.rows, strict=True)}
    for child in lists_taken(source):
        rows = [VideoRow(new[row.path].path, row.label, row.split, new[row.path].facts) for row in child.rows]
        own = {new[path].path: reason for path, reason in reasons_by_path(child, child.rows).items()}
        own = {path: reason for path, reason in own.items() if path not in made.reasons}
        notes = {**made.about.made, "source": child.file.name, "source_sha256": child.list_sha256}
        about = About(made.about.root, child.about.classes, source.file.name, notes, made.about.packed)
        _write(out / child.file.name, Made(about, rows, own, made.by))
    _write(out / source.file.name, made)
    return read_manifest(out / source.file.name)


def _write(file: Path, made: Made) -> None:
    write_about(file, made.about)
    write_manifest(file, made.rows)
    write_quarantine(file, [Quarantined(path, reason, made.by) for path, reason in made.reasons.items()], replacing=(made.by,))
