"""The decoded cache: every video of a list decoded once into one memory map, so that decoding is paid once."""

import functools
import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vmae.data.alone import alone
from vmae.data.deadline import Blamed, DeadlinePool
from vmae.data.video import backend_version, read_video
from vmae.errors import DataError
from vmae.files import UNREADABLE, write_atomic
from vmae.runtime import num_cpus


@dataclass(frozen=True)
class Cache:
    """Decoded videos, uint8 [V, T, H, W, 3], zeros where `bad` names a reason.

    `late` are those of them on which a decoder hung or died, which may go better another time: they belong into quarantine.
    """

    frames: np.memmap
    bad: dict[int, str]
    late: frozenset[int] = frozenset()


def cache_key(paths: Sequence[Path], backend: str) -> str:
    """Return a name that changes with the list, any file's size or time of change, and the decoder's version."""
    digest = hashlib.sha256(backend_version(backend).encode())
    for path in paths:
        stat = path.stat()
        digest.update(f"{path.resolve()}\0{stat.st_size}\0{stat.st_mtime_ns}\0".encode())
    return digest.hexdigest()[:16]


def build_cache(
    folder: Path,
    key: str,
    paths: Sequence[Path],
    backend: str,
    num_workers: int | None = None,
    timeout_s: float = 60.0,
    progress: bool = True,
) -> Cache:
    """Open the cache `key`, decoding it first if it is not there; of several processes one decodes, the others wait.

    Unreadable videos, and those on which a decoder hangs for `timeout_s` or dies (late ones), do not stop it: they are listed
    with their reason in `bad`. A cache that has late videos is decoded again by the next process that opens it, though not by one
    that waited while it was made; a cache that is damaged is always decoded again.

    Raises:
        DataError: no video can be read, two differ in shape, or the disk is too small.
    """
    array_file, info_file = folder / f"{key}.npy", folder / f"{key}.json"
    before = _stamp(array_file, info_file)
    if before is None or _read_info(info_file)[1]:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with alone(folder / f"{key}.building"):
                if _stamp(array_file, info_file) == before:
                    with DeadlinePool(min(num_workers or num_cpus(), len(paths))) as pool:
                        _decode_all(array_file, info_file, paths, backend, pool, timeout_s, progress)
        except OSError as error:
            raise DataError(f"cannot write the decoded cache in {folder}: {error.strerror or error}") from error
    return Cache(np.load(array_file, mmap_mode="r"), *_read_info(info_file))


def _stamp(array_file: Path, info_file: Path) -> int | None:
    """Return what differs once a cache was made again, None where none is there or it was cut since."""
    try:
        np.load(array_file, mmap_mode="r")
        _read_info(info_file)
        return info_file.stat().st_mtime_ns
    except UNREADABLE:
        return None


def _read_info(file: Path) -> tuple[dict[int, str], frozenset[int]]:
    """Return reasons of bad videos, and which are late; of a cache that does not tell, those whose process ended."""
    info = json.loads(file.read_text())
    bad = {int(video): reason for video, reason in info["bad"].items()}
    untold = [video for video, reason in bad.items() if "its process" in reason]
    return bad, frozenset(info.get("late", untold))


def _decode_all(
    array_file: Path,
    info_file: Path,
    paths: Sequence[Path],
    backend: str,
    pool: DeadlinePool,
    timeout_s: float,
    progress: bool,
) -> None:
    from rich.progress import Progress

    bad: dict[int, str] = {}
    late: list[int] = []
    shape = _first_shape(paths, backend, pool, timeout_s)
    temporary = array_file.with_suffix(f".{os.getpid()}.tmp")
    for left in array_file.parent.glob(f"{array_file.stem}.*.tmp"):  # by one that was killed, for who holds the lock is alone
        left.unlink(missing_ok=True)
    decode = functools.partial(_decode_into, str(temporary), shape, backend)
    try:
        frames = _reserve(temporary, (len(paths), *shape))
        with Progress(disable=not progress) as bar:
            shown = bar.add_task(f"decoding {len(paths)} videos once", total=len(paths))
            for (video, path), found in pool.run(decode, enumerate(paths), timeout_s):
                if isinstance(found, Blamed):
                    bad[video] = found.of(path)
                    late += [video] if found.kind != "raised" else []
                    frames[video] = 0
                elif found != shape:
                    raise DataError(
                        f"{path} is {list(found)} (frames, height, width, channels), {paths[0]} is "
                        f"{list(shape)}: a decoded cache needs equal videos; set runtime.cache = false"
                    )
                bar.advance(shown)
        frames.flush()
        temporary.replace(array_file)
    finally:
        temporary.unlink(missing_ok=True)
    info = {"backend": backend_version(backend), "shape": [len(paths), *shape], "bad": bad, "late": late}
    write_atomic(info_file, (json.dumps(info, indent=1) + "\n").encode())


def _reserve(file: Path, shape: tuple[int, ...]) -> np.memmap:
    """Return a new array in a file whose bytes are really there: on a disk that fills up later, writing to a map ends a process.

    Raises OSError where the disk is too small.
    """
    frames: np.memmap = np.lib.format.open_memmap(file, mode="w+", dtype=np.uint8, shape=shape)
    if hasattr(os, "posix_fallocate"):
        with file.open("r+b") as opened:
            os.posix_fallocate(opened.fileno(), 0, file.stat().st_size)
    return frames


def _first_shape(paths: Sequence[Path], backend: str, pool: DeadlinePool, timeout_s: float) -> tuple[int, ...]:
    reason = ""
    for path, found in pool.run(functools.partial(_shape, backend), paths, timeout_s, ahead=1):
        if not isinstance(found, Blamed):
            return found
        reason = reason or found.of(path)
    raise DataError(f"not one of {len(paths)} videos can be read; the first: {reason}")


def _shape(backend: str, path: Path) -> tuple[int, ...]:
    return read_video(path, backend).shape


def _decode_into(array_file: str, shape: tuple[int, ...], backend: str, task: tuple[int, Path]) -> tuple[int, ...]:
    """Decode a video into its place in the array, in another process, and return its shape; other shapes are not written."""
    video, path = task
    frames = read_video(path, backend)
    if frames.shape == shape:
        _opened(array_file)[video] = frames
    return frames.shape


@functools.lru_cache(maxsize=1)
def _opened(array_file: str) -> np.ndarray:
    return np.lib.format.open_memmap(array_file, mode="r+")
