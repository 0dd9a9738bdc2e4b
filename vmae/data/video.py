"""Frames of a video file, exactly the ones asked for, through PyAV, decord or torchcodec behind one function.

PyAV is exact on every kind of file that the tests know; decord on H.264 with closed groups of pictures, VP8 and VP9 in mp4, mov,
mkv and webm, and refused elsewhere. Every failure is one DataError with the file and the reason; a frame is never silently
repeated, as decord does by default.
"""

import functools
import importlib.metadata
import importlib.util
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Protocol, TypeVar

import numpy as np

from vmae.data.decoders import READERS, Reader
from vmae.errors import DataError, near, reason_of

PACKAGES = {"pyav": "av", "decord": "decord", "torchcodec": "torchcodec"}
Choose = Callable[[int], np.ndarray]
Value = TypeVar("Value")


class Decoder(Protocol):
    """Opens a file and decodes frames of it, here or in another process."""

    def length(self, path: Path, backend: str) -> int:
        """Return the number of frames."""
        ...

    def read(self, path: Path, backend: str, numbers: Sequence[int]) -> np.ndarray:
        """Return the frames with these rising numbers, uint8 [len(numbers), H, W, 3]."""
        ...


@functools.cache
def available_backends() -> tuple[str, ...]:
    """Return the backends that are installed; looked up once, for every clip that is read asks."""
    return tuple(name for name, package in PACKAGES.items() if importlib.util.find_spec(package))


def resolve_backend(backend: str) -> str:
    """Return what `auto` stands for (PyAV, and decord where its wheel exists for what PyAV cannot read), or check the one named.

    >>> resolve_backend("auto")  # doctest: +SKIP
    'pyav,decord'
    """
    available = available_backends()
    if backend == "auto":
        return ",".join(name for name in ("pyav", "decord") if name in available)
    for name in backend.split(","):
        if name not in available:
            raise DataError(f"decode backend {name!r}{near(name, ['auto', *available])}")
    return backend


def backend_version(backend: str) -> str:
    """Return `name version` of a resolved backend; pixels depend on it, so it belongs to a result's provenance."""
    return ", ".join(f"{name} {importlib.metadata.version(PACKAGES[name])}" for name in backend.split(","))


class OwnDecoder:
    """Decodes in this process; a file whose length was asked for stays open until its frames are, so that it is opened once."""

    def __init__(self) -> None:
        self._opened: tuple[object, Reader] | None = None

    def length(self, path: Path, backend: str) -> int:
        """Return the number of frames, at least 1; DataError for a file that is missing, empty, damaged or without video."""
        try:
            count = len(self._open(path, backend))
        except DataError:
            raise
        except Exception as error:  # each backend has its own exception types, none of them documented
            raise _unreadable(path, error) from None
        if not count:
            raise DataError(f"{path}: no frame can be decoded")
        return count

    def read(
        self, path: Path, backend: str, numbers: Sequence[int], place: Callable[[tuple[int, ...]], np.ndarray] | None = None
    ) -> np.ndarray:
        """Return the frames with these rising `numbers`, uint8 [len(numbers), H, W, 3], in memory that `place(shape)` gives."""
        try:
            return self._open(path, backend).read(numbers, place or (lambda shape: np.empty(shape, np.uint8)))
        except DataError:
            raise
        except Exception as error:
            raise _unreadable(path, error) from None
        finally:
            self.close()  # decord would decode ahead

    def _open(self, path: Path, backend: str) -> Reader:
        stat = _stat(path)
        key = (path, backend, stat)
        if self._opened is None or self._opened[0] != key:
            self.close()
            self._opened = key, READERS[backend](path)
        return self._opened[1]

    def close(self) -> None:
        """Close the file that is open, if one is."""
        if self._opened is not None:
            self._opened[1].close()
        self._opened = None


def read_clips(path: Path, choose: Choose, backend: str = "auto", decoder: Decoder | None = None) -> np.ndarray:
    """Open a video once and return clips of it, uint8 [K, T, H, W, 3] RGB.

    Args:
        choose: given the number of frames, returns frame numbers int [K, T], in any order, repeats allowed. Called again where
            one backend fails and another is tried, so it must return the same for the same number.
        backend: `auto`, or names with commas: the next is tried where one cannot read the file.
        decoder: where it is done; None: in this process.

    Raises DataError for a file that is missing, empty, damaged or without video, and for a frame past the last one.
    """
    chosen = decoder or OwnDecoder()
    return _first_that_can(backend, lambda name: _read(chosen, path, name, choose))


class Late(DataError):
    """A file on which a decoder hung or crashed; no other is tried, for that would cost another deadline."""


def _read(decoder: Decoder, path: Path, backend: str, choose: Choose) -> np.ndarray:
    length = decoder.length(path, backend)
    numbers, where = each_once(choose(length), length, str(path))
    clips: np.ndarray = decoder.read(path, backend, numbers.tolist())[where]
    return clips


def each_once(wanted: np.ndarray, length: int, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the frame numbers that are `wanted` [K, T], each once and rising, and the place [K, T] of each among them.

    Raises DataError, which begins with `name`, for a frame that a video of `length` frames does not have.
    """
    if wanted.size and not 0 <= wanted.min() <= wanted.max() < length:
        raise DataError(f"{name}: frames {wanted.min()} to {wanted.max()} asked for; it has 0 to {length - 1}")
    numbers, where = np.unique(wanted, return_inverse=True)
    return numbers, where.reshape(wanted.shape)


def read_frames(path: Path, indices: Sequence[int] | np.ndarray, backend: str = "auto") -> np.ndarray:
    """Return the frames at `indices` (any order, repeats allowed), uint8 [len(indices), H, W, 3]; errors as read_clips."""
    frames: np.ndarray = read_clips(path, lambda _: np.asarray(indices, dtype=int)[None], backend)[0]
    return frames


def read_video(path: Path, backend: str = "auto") -> np.ndarray:
    """Return all frames, uint8 [T, H, W, 3]; errors as read_clips."""
    frames: np.ndarray = read_clips(path, lambda length: np.arange(length)[None], backend)[0]
    return frames


def through_frames(path: Path, consume: Callable[[Iterator[np.ndarray]], Value], backend: str = "auto") -> Value:
    """Return `consume(frames)`, given a video's frames one after the other, uint8 [H, W, 3]: as many as it keeps are in memory.

    It is called anew where one backend fails and another is tried. Errors as read_clips, and for frames of unequal sizes.
    """
    return _first_that_can(backend, lambda name: consume(_frame_by_frame(path, name)))


def _frame_by_frame(path: Path, backend: str) -> Iterator[np.ndarray]:
    _stat(path)
    first: tuple[int, ...] | None = None
    try:
        with closing(READERS[backend](path)) as reader:
            for frame in reader:
                first = first or frame.shape
                if frame.shape != first:
                    raise DataError(f"{path}: cannot be decoded: frames of {first[:2]} and of {frame.shape[:2]} px")
                yield frame
    except DataError:
        raise
    except Exception as error:
        raise _unreadable(path, error) from None
    if first is None:
        raise DataError(f"{path}: no frame can be decoded")


def num_frames(path: Path, backend: str = "auto") -> int:
    """Return the number of frames; errors as read_clips."""
    decoder = OwnDecoder()
    try:
        return _first_that_can(backend, lambda name: decoder.length(path, name))
    finally:
        decoder.close()


def _first_that_can(backend: str, use: Callable[[str], Value]) -> Value:
    reason: DataError | None = None
    for name in resolve_backend(backend).split(","):
        try:
            return use(name)
        except Late:
            raise
        except DataError as error:
            reason = reason or error
    assert reason is not None
    raise reason


def _stat(path: Path) -> tuple[int, int]:
    try:
        stat = path.stat()
    except OSError as error:
        raise DataError(
            f"{path}: no such file" if isinstance(error, FileNotFoundError) else f"{path}: {error.strerror}"
        ) from None
    if not path.is_file():
        raise DataError(f"{path}: no such file")
    if stat.st_size == 0:
        raise DataError(f"{path}: the file is empty")
    return stat.st_size, stat.st_mtime_ns


def _unreadable(path: Path, error: Exception) -> DataError:
    return DataError(f"{path}: cannot be decoded: {reason_of(error)}")
