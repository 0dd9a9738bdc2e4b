"""The video files below a folder, found by what lists call them."""

import os
import unicodedata
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from vmae.errors import DataError

ENDINGS = ("3gp", "avi", "flv", "m4v", "mkv", "mov", "mp4", "mpeg", "mpg", "ts", "webm", "wmv")


@dataclass(frozen=True)
class Entry:
    """A video as a foreign list names it.

    Args:
        names: what its path may be, without an ending; folders above it may be left out.
        where: file and line.
        group: of videos that were cut from one recording, which a hold-out must not tear apart; empty: stands for itself.
    """

    names: tuple[str, ...]
    label: int | None
    split: str
    where: str
    group: str = ""


def without_ending(name: str) -> str:
    """Return a path without a video's ending, with / between folders, composed as NFC (a Mac's disk may hold NFD)."""
    name = _composed(name.replace("\\", "/")).removeprefix("./")
    stem, dot, ending = name.rpartition(".")
    return stem if dot and ending.lower() in ENDINGS else name


def _composed(name: str) -> str:
    return unicodedata.normalize("NFC", name)


class VideoFiles:
    """The video files below a folder; each real folder is walked once, whatever links lead to it.

    Args:
        progress: show a bar with time to go while many are looked up.
    """

    def __init__(self, root: Path, endings: Sequence[str] = ENDINGS, progress: bool = False) -> None:
        if not root.is_dir():
            raise DataError(f"no folder {root}")
        self.root, self.progress = root.absolute(), progress
        self._files: dict[str, list[str]] = defaultdict(list)  # by path without ending
        self._tails: dict[int, Mapping[str, list[str]]] = {}
        self._walked: dict[str, str] = {}  # by path of a link whose folder was walked before: where that was
        kept = tuple(f".{ending.lower().lstrip('.')}" for ending in endings)
        visited: dict[str, str] = {}
        for folder, subfolders, files in os.walk(self.root, followlinks=True):
            inner = PurePosixPath(Path(folder).relative_to(self.root).as_posix())
            real = os.path.realpath(folder)
            if real in visited:  # links may form a ring
                subfolders[:] = []
                self._walked[_composed(str(inner))] = visited[real]
                continue
            subfolders.sort()
            visited[real] = "" if inner == PurePosixPath(".") else _composed(str(inner))
            for name in sorted(files):
                if name.lower().endswith(kept):
                    path = str(inner / name)
                    self._files[without_ending(path)].append(path)
        if not self._files:
            raise DataError(f"no video below {root}; looked for {', '.join(kept)}")

    def find_all(self, entries: Sequence[Entry]) -> Iterator[tuple[Entry, str, os.stat_result | None]]:
        """Yield each entry with its path below the root and what is known of the file, None where none is there."""
        from rich.progress import track

        for entry in track(entries, f"looking for {len(entries)} videos", transient=True, disable=not self.progress):
            path = self.find(entry)
            try:
                yield entry, path or "", (self.root / path).stat() if path else None
            except OSError:  # gone by now, or a link that leads nowhere
                yield entry, "", None

    def find(self, entry: Entry) -> str | None:
        """Return the path below the root of the one file that an entry can mean; DataError if there are several."""
        for name in map(without_ending, entry.names):
            found = self._files.get(name) or self._ending_with(name) or self._files.get(self._where_walked(name), [])
            if len(found) > 1:
                raise DataError(
                    f"{entry.where}: {name!r} may be {found[0]} or {found[1]} below {self.root}; "
                    "remove one, or give --root or --ending so that one is left"
                )
            if found:
                return _utf8(found[0], entry)
        return None

    def _ending_with(self, name: str) -> Sequence[str]:
        """Return the files whose path without ending ends with the folders and the name of `name`."""
        depth = name.count("/") + 1
        if depth not in self._tails:  # an index: a list may ask for 200,000 names of one depth
            tails: dict[str, list[str]] = defaultdict(list)
            for bare, files in self._files.items():
                tails["/".join(bare.split("/")[-depth:])] += files
            self._tails[depth] = tails
        return self._tails[depth].get(name, [])

    def _where_walked(self, name: str) -> str:
        """Return a path with each link to a folder that was walked elsewhere replaced by where that was."""
        place = ""
        for part in name.split("/"):
            place = f"{place}/{part}" if place else part
            place = self._walked.get(place, place)
        return place


def _utf8(path: str, entry: Entry) -> str:
    try:
        path.encode("utf-8")
    except UnicodeEncodeError:
        raise DataError(f"{entry.where}: the file's name is not UTF-8 on disk, rename it: {os.fsencode(path)!r}") from None
    return path
