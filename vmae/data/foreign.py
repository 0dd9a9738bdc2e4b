"""Lists that other projects train from, and plain class folders.

    videomae   `path label`                    MCG-NJU/VideoMAE
    v2         `path label`, `path 0 -1`       OpenGVLab/VideoMAEv2: fine-tuning, pre-training
    mae_st     `path label`, `path,label`      facebookresearch/mae_st
    mmaction2  `path label`                    open-mmlab/mmaction2, VideoDataset
    csv        `path,label,split` in columns   anything
    folders    train/CLASS/VIDEO, test/CLASS/VIDEO

Numbers are taken from the end of a line, so paths may have spaces. Lists of folders of frames (`path start total label`,
`path total label`) name no video files and are refused.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from vmae.data.listing import Listing, lines_of
from vmae.data.lookup import ENDINGS, Entry, without_ending
from vmae.data.manifest import beside, read_manifest
from vmae.errors import DataError, near

NUMBER = re.compile(r"(.+?)[ \t,;]+(-?\d{1,18})")
FORMATS = ("videomae", "v2", "mae_st", "mmaction2", "csv", "folders")
MAX_CLASSES = 100_000
SPLIT_WORDS = {
    "pretrain": "pretrain",
    "unlabeled": "pretrain",
    "train": "train",
    "training": "train",
    "holdout": "holdout",
    "val": "test",
    "valid": "test",
    "validation": "test",
    "test": "test",
    "testing": "test",
}


def read_foreign(places: Sequence[Path], format: str, root: Path, split: str | None, classes_file: Path | None) -> Listing:
    """Read lists of another project, or class folders.

    Args:
        places: list files, each of the split that its name tells (train, val, test, ...), or folders that hold such files.
        root: folder that relative paths are relative to.
        split: of all files, instead of what their names tell.
        classes_file: class names, one a line in the order of their labels.

    Raises:
        DataError: with file and line for what does not fit the format.
    """
    if format not in FORMATS:
        raise DataError(f"--format {format!r}{near(format, FORMATS)}")
    if split is not None and split not in SPLIT_WORDS:
        raise DataError(f"--split {split!r}{near(split, SPLIT_WORDS)}")
    if format == "folders":
        if len(places) != 1 or classes_file:
            raise DataError("--format folders reads one folder; the class folders name the classes")
        return _folders(places[0])
    if format == "csv" and split is not None:
        raise DataError(f"--split {split!r}: a list of --format csv has a column for it")
    classes = _names(classes_file) if classes_file else ()
    if format == "csv":
        return _columns(places, root, classes, classes_file)
    chosen = _without_copies([file for place in places for file in _lists_at(place)], split)
    entries = [_entry(line, where, format, root, word) for file, word in chosen.items() for where, line in lines_of(file)]
    if not entries:
        raise DataError(f"{', '.join(map(str, chosen))}: no video is listed")
    files = [*chosen, *([classes_file] if classes_file else [])]
    return Listing(entries, classes or _numbers(entries), files)


def _names(file: Path) -> tuple[str, ...]:
    lines: dict[str, str] = {}
    for where, name in lines_of(file):
        if name in lines:
            raise DataError(f"{where}: class {name!r} stands already at {lines[name]}")
        lines[name] = where
    return tuple(lines)


def _columns(files: Sequence[Path], root: Path, classes: tuple[str, ...], classes_file: Path | None) -> Listing:
    """Read csv files with columns path, label and split; `val` is `test`, but beside a `test` what settings are chosen on."""
    rows = [(file, row) for file in files for row in read_manifest(file).rows]
    words = {row.split: SPLIT_WORDS.get(row.split.lower()) for _, row in rows}
    for file, row in rows:
        if words[row.split] is None:
            raise DataError(f"{file}:{row.line}: split {row.split!r} of {row.path!r}{near(row.split, SPLIT_WORDS)}")
        if row.label is None and words[row.split] != "pretrain":
            raise DataError(f"{file}:{row.line}: {row.path!r} has no label, and split {row.split!r} needs one")
    if any(word.lower().startswith("test") for word in words):
        words |= {word: "holdout" for word in words if word.lower().startswith("val")}
    entries = [
        Entry((_below(root, Path(row.path)),), row.label, words[row.split] or "", f"{file}:{row.line}") for file, row in rows
    ]
    return Listing(entries, classes or _numbers(entries), [*files, *([classes_file] if classes_file else [])])


def _below(root: Path, path: Path) -> str:
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else path.as_posix()


def _lists_at(place: Path) -> list[Path]:
    if place.is_file():
        return [place]
    lists = [file for file in sorted(place.glob("*")) if file.suffix in (".csv", ".txt") and _split_word(file.stem)]
    found = [file for file in lists if not beside(file, "about.json").exists()]  # those are ours
    if not found:
        raise DataError(f"no list at {place}; expected a file, or a folder with train.csv, val.csv or test.csv (or .txt)")
    return found


def _without_copies(files: Sequence[Path], split: str | None) -> dict[Path, str]:
    """Return the split of each file, test.csv left out where it is a copy of val.csv, as VideoMAE's instructions make it."""
    chosen: dict[Path, str] = {}
    for file in files:
        word = split or _split_word(file.stem)
        if word is None:
            raise DataError(
                f"{file}: its name tells no split; say which with --split {'|'.join(dict.fromkeys(SPLIT_WORDS.values()))}"
            )
        word = SPLIT_WORDS[word]
        others = [other for other, its in chosen.items() if its == word]
        if word == "test" and any(other.read_bytes() == file.read_bytes() for other in others):
            continue
        if others:
            raise DataError(f"{others[0]} and {file} would both be split {word!r} and differ; give the one that papers report on")
        chosen[file] = word
    return dict(sorted(chosen.items(), key=lambda item: list(SPLIT_WORDS.values()).index(item[1])))


def _split_word(stem: str) -> str | None:
    return next((word for word in re.split(r"[^a-z]+", stem.lower()) if word in SPLIT_WORDS), None)


def _entry(line: str, where: str, format: str, root: Path, split: str) -> Entry:
    numbers: list[int] = []
    path = line
    while len(numbers) < 3 and (match := NUMBER.fullmatch(path)):
        path = match[1]
        numbers.insert(0, int(match[2]))
        if path.strip("\"'").lower().endswith(tuple(f".{ending}" for ending in ENDINGS)):
            break
    path = path.strip().strip("\"'")
    is_video = "." in path and path.rpartition(".")[2].lower() in ENDINGS
    if not is_video and len(numbers) > 1:
        raise DataError(f"{where}: {path!r} with {len(numbers)} numbers is a folder of frames; only video files are read")
    if not numbers and split != "pretrain":
        raise DataError(f"{where}: {line!r} has no label; format {format} is `path label`")
    if len(numbers) > 1 and not (format == "v2" and numbers == [0, -1]):
        raise DataError(f"{where}: {line!r} has {len(numbers)} numbers behind the path; format {format} is `path label`")
    label = numbers[0] if len(numbers) == 1 else None
    if split != "pretrain" and (label is None or label < 0):
        raise DataError(f"{where}: {line!r} has no label, and split {split!r} needs one")
    return Entry((_below(root, Path(path)),), label if label is None or label >= 0 else None, split, where)


def _numbers(entries: Sequence[Entry]) -> tuple[str, ...]:
    """Return class names for labels without any: the numbers; DataError for one that can only be an id or a slip."""
    for entry in entries:
        if (entry.label or 0) >= MAX_CLASSES:
            raise DataError(f"{entry.where}: label {entry.label} of {entry.names[0]!r}; allowed: 0 to {MAX_CLASSES - 1}")
    labels = [entry.label for entry in entries if entry.label is not None]
    return tuple(str(label) for label in range(max(labels) + 1)) if labels else ()


def _folders(root: Path) -> Listing:
    if not root.is_dir():
        raise DataError(f"no folder {root}")
    splits: Mapping[str, str] = {
        path.name: SPLIT_WORDS[path.name.lower()]
        for path in sorted(root.iterdir())
        if path.is_dir() and path.name.lower() in SPLIT_WORDS
    }
    if not splits:
        raise DataError(f"{root} has no folder {', '.join(SPLIT_WORDS)}; expected {root.name}/train/CLASS/VIDEO")
    _check_one_folder_each(root, splits)
    videos = [(folder, path) for folder in splits for path in _videos(root / folder, "*/*")]
    elsewhere = [path for folder in splits for depth in ("*", "*/*/**/*") for path in _videos(root / folder, depth)]
    if elsewhere:
        raise DataError(f"{len(elsewhere)} videos are not in a class folder, as SPLIT/CLASS/VIDEO; the first: {elsewhere[0]}")
    classes = tuple(sorted({path.parent.name for folder, path in videos if splits[folder] == "train"}))
    entries = []
    for folder, path in videos:
        split, name = splits[folder], path.parent.name
        if split != "pretrain" and name not in classes:
            raise DataError(f"{path}: no class {name!r} in train{near(name, classes[:20])}")
        label = classes.index(name) if name in classes else None
        entries.append(Entry((without_ending(path.relative_to(root).as_posix()),), label, split, str(path)))
    if not entries:
        raise DataError(f"no video in {root}/{next(iter(splits))}/CLASS/")
    return Listing(entries, classes, ())


def _check_one_folder_each(root: Path, splits: Mapping[str, str]) -> None:
    for split in dict.fromkeys(splits.values()):
        first, *others = (root / folder for folder, its in splits.items() if its == split)
        if others:
            raise DataError(
                f"{first} and {others[0]} would both be split {split!r}; leave the one that papers report on, move the other away"
            )


def _videos(folder: Path, pattern: str) -> list[Path]:
    return [path for path in sorted(folder.glob(pattern)) if path.suffix.lower().lstrip(".") in ENDINGS and not path.is_dir()]
