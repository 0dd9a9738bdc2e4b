"""The official files of Something-Something v2, Kinetics-400, UCF101 and HMDB51, read as they are downloaded.

`test` is the list that papers report on: the validation list of Something-Something v2 and of Kinetics, the test list of UCF101
and HMDB51.
"""

import csv
import io
import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from vmae.data.listing import Listing, lines_of
from vmae.data.lookup import Entry
from vmae.errors import DataError, near, some

SSV2_LISTS = {"train": "train", "test": "validation"}
KINETICS_COLUMNS = ("youtube_id", "time_start", "time_end")
KINETICS_SPLITS = {"train": "train", "val": "test", "validate": "test", "validation": "test", "test": ""}
UCF101_CLIP = re.compile(r"(.+)_c\d+(?:\.\w+)?")  # v_CLASS_gGROUP_cCLIP
# FILM_CLASS, body parts, camera, people, view, quality, number: the clips of a film differ in the latter.
HMDB51_CLIP = re.compile(r"(.+?)_[hufl]_[cn]m_np\d+_(?:fr|ba|le|ri)_(?:bad|med|goo)_\d+(?:\.\w+)?")
HMDB51_CODES = {"0": "", "1": "train", "2": "test"}  # 0: in no list of this split


def ssv2(files: Sequence[Path], split_number: int) -> Listing:
    """Read Something-Something v2: lists `...train.json` and `...validation.json`, classes `...labels.json`."""
    _only_split_1("ssv2", split_number)
    lists = {split: _pick(files, rf".*{word}.*\.json", f"{word} list (...-{word}.json)") for split, word in SSV2_LISTS.items()}
    map_file = _pick(files, r".*labels.*\.json", "label map (labels.json)")
    classes = _ssv2_classes(map_file)
    labels = {name: label for label, name in enumerate(classes)}
    entries = []
    for split, file in lists.items():
        videos = _json(file, list)
        for number, video in enumerate(videos, start=1):
            where = f"{file}, video {number}"
            if not isinstance(video, dict) or "id" not in video or "template" not in video:
                raise DataError(f"{where}: expected an object with id and template, as in the official lists")
            name = _without_brackets(str(video["template"]))
            if name not in labels:
                raise DataError(f"{where}: template {name!r} is not in {map_file}{_hint(name, labels)}")
            entries.append(Entry((str(video["id"]),), labels[name], split, where))
    return Listing(entries, classes, (*lists.values(), map_file))


def _ssv2_classes(file: Path) -> tuple[str, ...]:
    found = {_without_brackets(name): label for name, label in _json(file, dict).items()}
    try:
        by_label = {int(label): name for name, label in found.items()}
    except (TypeError, ValueError):
        raise DataError(f"{file}: labels must be numbers") from None
    if sorted(by_label) != list(range(len(found))):
        raise DataError(f"{file}: labels of {len(found)} classes must be 0 to {len(found) - 1}, each once")
    return tuple(by_label[label] for label in range(len(found)))


def _without_brackets(template: str) -> str:
    return template.replace("[", "").replace("]", "").strip()


def _json(file: Path, kind: type) -> Any:
    try:
        values = json.loads(file.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"cannot read {file}: {error}") from None
    if not isinstance(values, kind) or not values:
        raise DataError(f"{file}: expected a JSON {kind.__name__} that is not empty, found {type(values).__name__}")
    return values


def k400(files: Sequence[Path], split_number: int) -> Listing:
    """Read Kinetics: csv files with label, youtube_id, time_start, time_end, split; classes in the order of the alphabet."""
    _only_split_1("k400", split_number)
    chosen = [file for file in files if file.suffix.lower() == ".csv"]
    if not chosen:
        raise DataError(f"no csv among {_some(files)}; Kinetics' lists are train.csv and val.csv")
    rows = [row for file in chosen for row in _kinetics_rows(file)]
    classes = tuple(sorted({label for label, split, _, _ in rows if split == "train"}))
    labels = {name: number for number, name in enumerate(classes)}
    entries = []
    for label, split, names, where in rows:
        if label not in labels:
            raise DataError(f"{where}: no train video has label {label!r}{_hint(label, classes)}")
        entries.append(Entry(names, labels[label], split, where))
    _need_both(entries, chosen)
    return Listing(entries, classes, chosen)


def _kinetics_rows(file: Path) -> list[tuple[str, str, tuple[str, ...], str]]:
    """Return (label, split, possible file names, where) of the videos of a csv that are in train or test."""
    try:
        reader = csv.DictReader(io.StringIO(file.read_text(encoding="utf-8-sig"), newline=""))
        fieldnames = reader.fieldnames or ()
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"cannot read {file}: {error}") from None
    if missing := [column for column in KINETICS_COLUMNS if column not in fieldnames]:
        raise DataError(
            f"{file}:1: no column {', '.join(missing)}; Kinetics' lists have label,youtube_id,time_start,time_end,split"
        )
    rows: list[tuple[str, str, tuple[str, ...], str]] = []
    for values in reader:
        where = f"{file}:{reader.line_num}"
        word = values.get("split") or re.split("[-_]", file.stem)[-1]
        if word not in KINETICS_SPLITS:
            raise DataError(f"{where}: split {word!r}{near(word, KINETICS_SPLITS)}")
        if not KINETICS_SPLITS[word]:
            continue
        try:
            times = "_".join(f"{int(float(values[column])):06d}" for column in KINETICS_COLUMNS[1:])
        except (TypeError, ValueError, OverflowError):
            raise DataError(f"{where}: time_start and time_end must be seconds") from None
        label, id_ = ((values.get(column) or "").strip() for column in ("label", "youtube_id"))
        if not label or not id_:
            raise DataError(f"{where}: {'label' if id_ else 'youtube_id'} is empty")
        rows.append((label, KINETICS_SPLITS[word], (f"{id_}_{times}", id_), where))
    return rows


def ucf101(files: Sequence[Path], split_number: int) -> Listing:
    """Read UCF101: classInd.txt, trainlist0N.txt and testlist0N.txt of split N."""
    index = _pick(files, r"classInd\.txt", "class index (classInd.txt)")
    numbers: dict[str, int] = {}
    for where, line in lines_of(index):
        number, _, name = line.partition(" ")
        if number != str(len(numbers) + 1) or not name:
            raise DataError(f"{where}: {line!r}; expected '{len(numbers) + 1} ClassName'")
        numbers[name.strip()] = len(numbers)
    lists = {
        split: _pick(files, rf"{split}list{split_number:02d}\.txt", f"{split} list ({split}list{split_number:02d}.txt)")
        for split in ("train", "test")
    }
    entries = []
    for split, file in lists.items():
        for where, line in lines_of(file):
            match = re.fullmatch(r"(.+?)(?:\s+(\d{1,9}))?", line)
            assert match, "a line that is not blank"
            name, label = match.groups()
            folder = name.partition("/")[0]
            if folder not in numbers or "/" not in name:
                raise DataError(
                    f"{where}: {line!r} is not in a class folder{_hint(folder, numbers)}; {index} names {len(numbers)} classes"
                )
            if label and int(label) != numbers[folder] + 1:
                raise DataError(f"{where}: label {label} of {name!r}; {index} says {numbers[folder] + 1}")
            clip = UCF101_CLIP.fullmatch(name)
            entries.append(Entry((name,), numbers[folder], split, where, clip[1] if clip else ""))
    _need_both(entries, list(lists.values()))
    return Listing(entries, tuple(numbers), (index, *lists.values()))


def hmdb51(files: Sequence[Path], split_number: int) -> Listing:
    """Read HMDB51: CLASS_test_splitN.txt of split N, lines `name code` with 1 for train, 2 for test; names may hold anything."""
    pattern = re.compile(r"(.+)_test_split(\d+)\.txt")
    parsed = {file: match for file in files if (match := pattern.fullmatch(file.name))}
    chosen = [(match[1], file) for file, match in parsed.items() if int(match[2]) == split_number]
    of_split = dict(chosen)
    if not of_split:
        there = ", ".join(sorted({match[2] for match in parsed.values()})) or "none"
        raise DataError(f"no list CLASS_test_split{split_number}.txt among {_some(files)}; splits there: {there}")
    if twice := [(file, of_split[name]) for name, file in chosen if file != of_split[name]]:
        raise DataError(f"{twice[0][0]} and {twice[0][1]} could both be the list of their class; {len(twice)} such; leave one")
    classes = tuple(sorted(of_split))
    entries = []
    for label, name in enumerate(classes):
        for where, line in lines_of(of_split[name]):
            video, _, code = line.rpartition(" ")
            if code not in HMDB51_CODES or not video:
                raise DataError(f"{where}: {line!r}; expected a file name and 0, 1 or 2")
            if HMDB51_CODES[code]:
                path = f"{name}/{video.strip()}"
                clip = HMDB51_CLIP.fullmatch(path)
                entries.append(Entry((path,), label, HMDB51_CODES[code], where, clip[1] if clip else ""))
    _need_both(entries, list(of_split.values()))
    return Listing(entries, classes, tuple(of_split.values()))


DATASETS: Mapping[str, Callable[[Sequence[Path], int], Listing]] = {
    "ssv2": ssv2,
    "k400": k400,
    "ucf101": ucf101,
    "hmdb51": hmdb51,
}


def read_official(dataset: str, files: Sequence[Path], split_number: int = 1) -> Listing:
    """Read the official lists of a data set; DataError for an unknown one, and with file and line for what does not fit."""
    if dataset not in DATASETS:
        raise DataError(f"data set {dataset!r}{near(dataset, DATASETS)}")
    return DATASETS[dataset](files, split_number)


def _only_split_1(dataset: str, split_number: int) -> None:
    if split_number != 1:
        raise DataError(f"--split-number {split_number}: {dataset} has only one split")


def _need_both(entries: Sequence[Entry], files: Sequence[Path]) -> None:
    missing = {"train", "test"} - {entry.split for entry in entries}
    if missing:
        raise DataError(f"no {' and no '.join(sorted(missing))} video in {_some(files)}")


def _pick(files: Sequence[Path], pattern: str, what: str) -> Path:
    found = [file for file in files if re.fullmatch(pattern, file.name, flags=re.IGNORECASE)]
    if len(found) != 1:
        several = f"{len(found)} files could be the {what}: {_some(found)}" if found else f"no {what} among {_some(files)}"
        raise DataError(several)
    return found[0]


def _hint(word: str, allowed: Iterable[str]) -> str:
    """Return the near word without the list of all, which is long."""
    return near(word, allowed).partition(" Allowed:")[0].rstrip(".")


def _some(files: Sequence[Path]) -> str:
    return some([file.name for file in files]) or "no files"
