"""Decoding that can never hang a run: each file is opened in another process, which is killed when its time is up.

Pixels come back through memory that both processes map, which costs one copy.
"""

import functools
import mmap
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vmae.data.deadline import Blamed, DeadlinePool
from vmae.data.video import Late, OwnDecoder
from vmae.errors import DataError

Lent = tuple[str, tuple[int, ...]]  # name of a mapped file, and the shape of the frames in it
SHARED = Path("/dev/shm") if Path("/dev/shm").is_dir() else Path(tempfile.gettempdir())


class GuardedDecoder:
    """One decoding process, started when it is first needed and again after it was killed; a forked copy starts its own.

    Args:
        timeout_s: seconds for opening a file, and again for decoding its frames.
    """

    def __init__(self, timeout_s: float) -> None:
        self.timeout_s = timeout_s
        self._owner = os.getpid()
        self._pool: DeadlinePool | None = None
        self._maps: dict[str, np.ndarray] = {}

    def __getstate__(self) -> dict[str, Any]:
        return {"timeout_s": self.timeout_s, "_owner": 0, "_pool": None, "_maps": {}}

    def length(self, path: Path, backend: str) -> int:
        """Return the number of frames; DataError as OwnDecoder, Late where the process had to be killed or died."""
        found: int = self._ask((path, backend, None))
        return found

    def read(self, path: Path, backend: str, numbers: Sequence[int]) -> np.ndarray:
        """Return frames, see Decoder; errors as `length`."""
        name, shape = self._ask((path, backend, list(numbers)))
        if name not in self._maps:
            self._maps = {name: _map(Path(name))}
            Path(name).unlink()  # both have it open, so nobody needs its name, and it cannot be left behind
        count = int(np.prod(shape))
        return self._maps[name][:count].reshape(shape).copy()  # the next request overwrites it

    def close(self) -> None:
        """End the process."""
        if self._pool is not None and self._owner == os.getpid():
            self._pool.close()
        self._pool, self._maps = None, {}

    def _ask(self, request: tuple[Path, str, list[int] | None]) -> Any:
        if self._pool is None or self._owner != os.getpid():
            self._owner, self._pool, self._maps = os.getpid(), DeadlinePool(1), {}
        work = functools.partial(_work, _prefix(os.getpid()))
        ((_, answer),) = self._pool.run(work, [request], self.timeout_s)
        if not isinstance(answer, Blamed):
            return answer
        if answer.kind == "raised":
            raise DataError(answer.of(request[0]))
        self._maps = {}
        for left in SHARED.glob(f"{_prefix(os.getpid())}*"):
            left.unlink(missing_ok=True)
        raise Late(answer.of(request[0]))


def _prefix(owner: int) -> str:
    return f"vmae-frames-{owner}-"


def _map(path: Path) -> np.ndarray:
    with path.open("r+b") as file:
        return np.frombuffer(mmap.mmap(file.fileno(), 0), np.uint8)


class _Place:
    """Memory that another process can map, made larger when frames need it."""

    def __init__(self, prefix: str) -> None:
        self.prefix, self.name, self.memory = prefix, "", np.empty(0, np.uint8)

    def __call__(self, shape: tuple[int, ...]) -> np.ndarray:
        size = int(np.prod(shape))
        if size > self.memory.size:
            self.name, self.memory = _reserve(self.prefix, size)
        return self.memory[:size].reshape(shape)


def _reserve(prefix: str, size: int) -> tuple[str, np.ndarray]:
    """Return the name of a new file of `size` bytes, all of them really there, and its memory."""
    for folder in (SHARED, Path(tempfile.gettempdir())):
        descriptor, name = tempfile.mkstemp(prefix=prefix, dir=folder)
        try:
            _fill(descriptor, size)
            return name, _map(Path(name))
        except OSError:  # shared memory is small in many containers, and writing past its end would kill this process
            Path(name).unlink()
        finally:
            os.close(descriptor)
    raise DataError(f"no {size} bytes left in {SHARED} or {tempfile.gettempdir()} for frames")


def _fill(descriptor: int, size: int) -> None:
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(descriptor, 0, size)
    else:
        os.write(descriptor, b"\0" * size)


_decoder = OwnDecoder()
_place: _Place | None = None


def _work(prefix: str, request: tuple[Path, str, list[int] | None]) -> int | Lent:
    """Answer a request in the decoding process."""
    global _place
    path, backend, numbers = request
    if numbers is None:
        return _decoder.length(path, backend)
    if _place is None:
        _place = _Place(prefix)
    shape = _decoder.read(path, backend, numbers, _place).shape
    return _place.name, shape
