"""One process at a time: locks that end with the process that holds them, however it ends."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from vmae.errors import DataError


@contextmanager
def alone(lock: Path, busy: str | None = None) -> Iterator[None]:
    """Hold `lock` while the block runs. Its file is there while it is held.

    Args:
        busy: message of the DataError that is raised where another process holds it; None: wait for it.

    Raises:
        DataError: another process holds it, if `busy` is given.
        OSError: its file cannot be written.
    """
    while True:
        with lock.open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | (fcntl.LOCK_NB if busy else 0))
            except BlockingIOError:
                raise DataError(f"{busy} ({lock})") from None
            try:
                is_there = lock.stat().st_ino == os.fstat(file.fileno()).st_ino
            except FileNotFoundError:
                is_there = False
            if is_there:
                try:
                    yield
                finally:
                    lock.unlink(missing_ok=True)  # before others get it, who then see that it is gone
                return


@contextmanager
def alone_in(folder: Path, work: str) -> Iterator[None]:
    """Make a folder and be the only one that writes there.

    Args:
        work: what is done there, as in "packing to".

    Raises:
        DataError: another process does so now, or it cannot be written.
    """
    with ExitStack() as stack:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            busy = f"another process is {work} {folder}; wait for it, or choose another folder"
            stack.enter_context(alone(folder / ".lock", busy))
        except OSError as error:
            raise DataError(f"cannot write {folder}: {error.strerror}") from None
        yield


def clear_away(folder: Path) -> None:
    """Delete what killed processes left half written below a folder (vmae.files.write_atomic), by who is alone there."""
    for left in folder.rglob(".*.tmp"):
        left.unlink(missing_ok=True)
