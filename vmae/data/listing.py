"""From lists as others publish them to a manifest of ours: what is listed, where the files lie, what must hold."""

import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate
from pathlib import Path, PurePosixPath
from posixpath import commonpath
from typing import Any

from vmae.data.lookup import Entry, VideoFiles, without_ending
from vmae.data.manifest import About, Manifest, VideoRow, list_sha256, read_manifest, write_about, write_manifest
from vmae.data.subset import group_order, subset
from vmae.errors import DataError
from vmae.files import file_sha256


@dataclass(frozen=True)
class Listing:
    """What foreign files list: videos, class names in the order of their labels, and the files themselves."""

    entries: Sequence[Entry]
    classes: tuple[str, ...]
    files: Sequence[Path]


@dataclass(frozen=True)
class Prepared:
    """What was written: the labelled manifest if there are labels, the one for pre-training; and what is listed but not there."""

    labelled: Manifest | None
    pretraining: Manifest
    absent: Sequence[Entry] = field(default_factory=tuple)


def lines_of(file: Path) -> Iterator[tuple[str, str]]:
    """Yield (`file:line`, text) of a text file's lines that are not blank; byte-order mark, CRLF and Latin-1 are read too.

    Raises DataError for a file that cannot be read or is no text.
    """
    try:
        content = file.read_bytes()
    except OSError as error:
        raise DataError(f"cannot read {file}: {error.strerror}") from None
    if b"\0" in content:
        raise DataError(f"{file} is no text file")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = content.decode("latin-1")
    for number, line in enumerate(text.replace("\r\n", "\n").replace("\r", "\n").split("\n"), start=1):
        if line.strip():
            yield f"{file}:{number}", line.strip()


def files_among(places: Iterable[Path]) -> list[Path]:
    """Return the files named, and all below the folders named, sorted; DataError for one that is not there."""
    found: list[Path] = []
    for place in places:
        if place.is_dir():
            found += sorted(path for path in place.rglob("*") if path.is_file())
        elif place.is_file():
            found.append(place)
        else:
            raise DataError(f"no file or folder {place}")
    return found


def prepare(
    listing: Listing,
    videos: VideoFiles,
    out: Path,
    *,
    skip_absent: bool = False,
    holdout: int = 0,
    heldout: int = 1000,
    seed: int = 0,
) -> Prepared:
    """Find every listed video and write two manifests: `out` with train and test, and `<out>-pretrain` without need of labels.

    Args:
        skip_absent: leave out what is listed but not there, instead of refusing.
        holdout: labelled videos to take out of train, for selecting on; pre-training is judged on them too. Where entries have
            groups, whole ones are taken, as near to that number as they come.
        heldout: without `holdout`, test videos on which a pre-training is judged (nothing is selected on them).
        seed: of both choices, which are stratified, and a smaller one lies within each larger.

    Raises:
        DataError: labels outside the classes, videos in two splits or twice in one, videos that are not there.
    """
    _check_labels(listing)
    found = list(videos.find_all(listing.entries))
    absent = [entry for entry, _, stat in found if stat is None]
    if absent:
        _check_absent(listing, absent, videos.root, skip_absent)
    present = [(entry, path, stat) for entry, path, stat in found if stat is not None]
    _check_overlap(present)
    base = _common_folder([path for _, path, _ in present])
    rows = [_row(entry, path, base, stat) for entry, path, stat in present]
    labelled = [row for row in rows if row.split != "pretrain"]
    taken = 0
    if holdout:
        groups = {row.path: entry.group for row, (entry, *_) in zip(rows, present, strict=True)}
        labelled, taken = _hold_out(labelled, groups, holdout, seed)
    unlabelled = [row for row in rows if row.split == "pretrain"] or [row for row in labelled if row.split == "train"]
    root, near = videos.root / base, out.absolute().parent
    made = {
        "from": {file.name: file_sha256(file) for file in listing.files},
        "absent": dict(Counter(entry.split for entry in absent)),
        "holdout": holdout,
        "holdout_taken": taken,
        "seed": seed,
    }
    about = About(os.path.relpath(root, near) if root.is_relative_to(near) else str(root), listing.classes, None, made)
    for_pretraining = out.with_name(f"{out.stem}-pretrain{out.suffix}")
    if labelled:
        write_about(out, about)
        write_manifest(out, labelled)
    write_about(for_pretraining, replace(about, parent=out.name if labelled else None))
    write_manifest(for_pretraining, _pretraining(unlabelled, labelled, heldout, seed))
    return Prepared(read_manifest(out) if labelled else None, read_manifest(for_pretraining), absent)


def _check_labels(listing: Listing) -> None:
    for entry in listing.entries:
        if entry.label is not None and listing.classes and not 0 <= entry.label < len(listing.classes):
            raise DataError(f"{entry.where}: label {entry.label} of {entry.names[0]!r}; allowed: 0 to {len(listing.classes) - 1}")


def _check_absent(listing: Listing, absent: Sequence[Entry], root: Path, skip_absent: bool) -> None:
    listed, gone = (Counter(entry.split for entry in entries) for entries in (listing.entries, absent))
    counts = ", ".join(f"{gone[split]} of {listed[split]} {split} videos" for split in gone)
    first = f"the first: {absent[0].names[0]!r} ({absent[0].where})"
    if empty := [split for split in gone if gone[split] == listed[split]]:
        raise DataError(f"{counts} are not below {root}, so {' and '.join(empty)} would be empty; is --root right? {first}")
    if not skip_absent:
        raise DataError(f"{counts} are not below {root}; {first}; --skip-absent leaves them out and records how many")


def _check_overlap(present: Sequence[tuple[Entry, str, os.stat_result]]) -> None:
    """Refuse a video in two splits, under whatever name, or listed twice in one; pre-training may use the videos of train."""
    before: dict[Any, list[tuple[Entry, str]]] = defaultdict(list)
    for entry, path, stat in present:
        # Links lead to one file; some file systems number none.
        file = (stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns) if stat.st_ino else path
        before[file].append((entry, path))
    across, twice = [], []
    for found in before.values():
        splits = {entry.split for entry, _ in found}
        if len(splits) > 1 and splits - {"train", "pretrain"}:
            across.append(found)
        elif len({(entry.split, path) for entry, path in found}) < len(found):
            twice.append(found)
    for clashes, kind in ((across, "in more than one split"), (twice, "more than once")):
        if clashes:
            names = " and ".join(dict.fromkeys(repr(path) for _, path in clashes[0]))
            places = " and ".join(f"{entry.split} ({entry.where})" for entry, _ in clashes[0])
            raise DataError(f"{len(clashes)} videos are listed {kind}; the first: {names} in {places}")


def _common_folder(paths: Sequence[str]) -> str:
    """Return the folder that all paths lie in, so that a list does not depend on how far up its root was given."""
    return commonpath([str(PurePosixPath(path).parent) for path in paths]) or "."


def _row(entry: Entry, path: str, base: str, stat: os.stat_result) -> VideoRow:
    inner = PurePosixPath(path).relative_to(base)
    facts = {"id": without_ending(entry.names[0]), "bytes": stat.st_size, "mtime": stat.st_mtime_ns}
    return VideoRow(str(inner), entry.label, entry.split, facts)


def _hold_out(rows: Sequence[VideoRow], groups: Mapping[str, str], num_videos: int, seed: int) -> tuple[list[VideoRow], int]:
    """Return the rows with about `num_videos` of train as `holdout`, no group torn apart, and how many they are."""
    train = [row for row in rows if row.split == "train"]
    if num_videos >= len(train):
        raise DataError(f"--holdout {num_videos} of {len(train)} train videos leaves none; allowed: 0 to {len(train) - 1}")
    together: dict[str, list[VideoRow]] = defaultdict(list)
    for row in train:
        together[groups[row.path] or f"/{row.path}"].append(row)
    if len(together) == 1:
        raise DataError(f"--holdout {num_videos}: all {len(train)} train videos were cut from one recording")
    order = group_order(list(together.values()), seed)[:-1]
    counts = list(accumulate(len(group) for group in order))
    taken = min(counts, key=lambda count: abs(count - num_videos))
    chosen = {row.path for group in order[: counts.index(taken) + 1] for row in group}
    return [replace(row, split="holdout") if row.split == "train" and row.path in chosen else row for row in rows], taken


def _pretraining(unlabelled: Sequence[VideoRow], labelled: Sequence[VideoRow], heldout: int, seed: int) -> list[VideoRow]:
    """Return the pre-training videos, and as `holdout` those it is judged on: the hold-out, some of test, or some of its own."""
    judged = [row for row in labelled if row.split == "holdout"]
    if not judged and (test := [row for row in labelled if row.split == "test"]):
        chosen = subset(test, heldout, seed)
        judged = [row for row in test if row.path in chosen]
    if not judged:
        chosen = subset(unlabelled, max(1, min(heldout, len(unlabelled) // 10)), seed)
        judged = [row for row in unlabelled if row.path in chosen]
    away = {row.path for row in judged}
    kept = [replace(row, split="pretrain") for row in unlabelled if row.path not in away]
    return kept + [replace(row, split="holdout") for row in judged]


def subset_list(file: Path, sizes: Sequence[int], seed: int, split: str) -> list[Manifest]:
    """Write, per size, the list with that many videos of `split` and all of its other splits; its name holds its hash.

    They are the videos that `subset.num_videos` takes in a run. Raises DataError for a size that the split does not have.
    """
    manifest = read_manifest(file)
    rows = manifest.select(split)
    made = []
    for size in sorted(sizes):
        if not 1 <= size <= len(rows):
            raise DataError(f"{size} of {len(rows)} {split} videos of {file}; allowed: 1 to {len(rows)}")
        chosen = subset(rows, size, seed)
        kept = [row for row in manifest.rows if row.split != split or row.path in chosen]
        path = file.with_name(f"{file.stem}-{size}-seed{seed}-{list_sha256(kept)[:12]}{file.suffix}")
        about = replace(manifest.about, parent=file.name, made={"subset": {"split": split, "num_videos": size, "seed": seed}})
        write_about(path, about)
        write_manifest(path, kept)
        made.append(read_manifest(path))
    return made
