"""Frames of a video file, exactly the ones asked for, through decord or PyAV behind one function.

Every failure is one DataError with the file and the reason; a frame is never silently repeated, as decord does by default.
"""

import importlib.metadata
import importlib.util
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vmae.errors import DataError, near

BACKENDS = ("decord", "pyav")


def resolve_backend(backend: str) -> str:
    """Return the backend that `auto` stands for (decord where its wheel exists, else PyAV), or check the one named."""
    available = [name for name in BACKENDS if importlib.util.find_spec({"pyav": "av"}.get(name, name))]
    if backend == "auto":
        return available[0]
    if backend not in available:
        raise DataError(f"decode backend {backend!r}{near(backend, ['auto', *available])}")
    return backend


def backend_version(backend: str) -> str:
    """Return `name version` of a resolved backend; pixels depend on it, so it belongs to a result's provenance."""
    return f"{backend} {importlib.metadata.version({'pyav': 'av'}.get(backend, backend))}"


def read_frames(path: Path, indices: Sequence[int] | np.ndarray, backend: str = "auto") -> np.ndarray:
    """Return the frames at `indices` (any order, repeats allowed), uint8 [len(indices), H, W, 3] RGB.

    Raises DataError for a file that is missing, empty, damaged or without video, and for an index past the last frame.
    """
    wanted = [int(i) for i in indices]
    return _open(path, backend, lambda reader: reader(wanted))


def read_video(path: Path, backend: str = "auto") -> np.ndarray:
    """Return all frames, uint8 [T, H, W, 3]."""
    return _open(path, backend, lambda reader: reader(None))


def num_frames(path: Path, backend: str = "auto") -> int:
    """Return the number of frames that can be decoded."""
    return len(read_video(path, backend)) if resolve_backend(backend) == "pyav" else _decord_length(path)


def _decord_length(path: Path) -> int:
    from decord import VideoReader

    _check_file(path)
    try:
        return len(VideoReader(str(path), num_threads=1))
    except Exception as error:
        raise _unreadable(path, error) from None


def _open(path: Path, backend: str, use: Callable[[Callable[[list[int] | None], np.ndarray]], np.ndarray]) -> np.ndarray:
    _check_file(path)
    decode = {"decord": _decord, "pyav": _pyav}[resolve_backend(backend)]
    try:
        return use(lambda wanted: decode(path, wanted))
    except DataError:
        raise
    except Exception as error:  # each backend has its own exception types, none of them documented
        raise _unreadable(path, error) from None


def _decord(path: Path, wanted: list[int] | None) -> np.ndarray:
    import decord  # imported late: loading it before torch in a parent of workers can freeze them (decord issue 251)

    reader = decord.VideoReader(str(path), ctx=decord.cpu(0), num_threads=1, fault_tol=1)
    _check_indices(path, wanted, len(reader))
    batch: Any = reader.get_batch(list(range(len(reader))) if wanted is None else wanted)
    frames: np.ndarray = batch.asnumpy()
    return frames


def _pyav(path: Path, wanted: list[int] | None) -> np.ndarray:
    import av

    last = None if wanted is None or min(wanted) < 0 else max(wanted)
    kept: dict[int, np.ndarray] = {}
    count = 0
    with av.open(str(path)) as container:
        if not container.streams.video:
            raise DataError(f"{path}: no video stream")
        stream = container.streams.video[0]
        stream.thread_type = "NONE"
        for frame in container.decode(stream):
            if wanted is None or count in wanted:
                kept[count] = frame.to_ndarray(format="rgb24")
            count += 1
            if last is not None and count > last:
                break
        promised = stream.frames
    if wanted is None:
        if promised and count < promised:
            raise DataError(f"{path}: {count} of {promised} frames can be decoded; the file is damaged")
        if not count:
            raise DataError(f"{path}: no frame can be decoded")
        return np.stack([kept[i] for i in range(count)])
    _check_indices(path, wanted, count)
    return np.stack([kept[i] for i in wanted])


def _check_indices(path: Path, wanted: list[int] | None, count: int) -> None:
    if count == 0:
        raise DataError(f"{path}: no frame can be decoded")
    if wanted and not 0 <= min(wanted) <= max(wanted) < count:
        raise DataError(f"{path}: frames {min(wanted)} to {max(wanted)} asked for; it has 0 to {count - 1}")


def _check_file(path: Path) -> None:
    if not path.is_file():
        raise DataError(f"{path}: no such file")
    if path.stat().st_size == 0:
        raise DataError(f"{path}: the file is empty")


def _unreadable(path: Path, error: Exception) -> DataError:
    reason = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
    return DataError(f"{path}: cannot be decoded: {reason}")
