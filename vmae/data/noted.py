"""The hash and counts of a long list, noted beside it, because reading 400,000 lines takes longer than all else in a plan.

A note holds while the list and its about file have the same size, inode, and times of change of content and of inode. A file that
was changed just before it was read is not noted: a second change within one step of the file system's clock would go unseen.
"""

import json
from pathlib import Path

from vmae.data.manifest import beside
from vmae.errors import VmaeError
from vmae.files import write_atomic

VERSION = 1  # of what read_manifest checks; a list that passed an older check is read again
SETTLED_NS = 5_000_000_000  # clocks of a file server differ a little


def remembered(file: Path, num_classes: int | None) -> tuple[str, dict[str, int]] | None:
    """Return the hash and the videos per split of a list that was read and checked before and has not changed; else None."""
    try:
        note = json.loads(beside(file, "noted.json").read_text(encoding="utf-8"))
        counts = {str(split): int(count) for split, count in note["counts"].items()}
        return (str(note["list_sha256"]), counts) if note["of"] == _state(file, num_classes) else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def remember(file: Path, num_classes: int | None, began_ns: int, list_sha256: str, counts: dict[str, int]) -> None:
    """Note what was found of a list whose reading began at `began_ns` since the epoch; where that cannot be, it is read again."""
    try:
        state = _state(file, num_classes)
        stats = [path.stat() for path in (file, beside(file, "about.json")) if path.exists()]
        if any(began_ns - SETTLED_NS < max(stat.st_mtime_ns, stat.st_ctime_ns) for stat in stats):
            return
        note = {"of": state, "list_sha256": list_sha256, "counts": counts}
        write_atomic(beside(file, "noted.json"), (json.dumps(note) + "\n").encode())
    except (OSError, VmaeError):  # a folder that others own
        return


def _state(file: Path, num_classes: int | None) -> list[object]:
    """Return what changes with a list, what stands beside it, and what is checked."""
    state: list[object] = [VERSION, num_classes]
    for path in (file, beside(file, "about.json")):
        stat = path.stat() if path.exists() else None
        state.append(stat and [stat.st_size, stat.st_ino, stat.st_mtime_ns, stat.st_ctime_ns])
    return state
