"""The decoded cache: every video of a list decoded once into one memory map, so that decoding is paid once."""

import hashlib
import json
import os
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import numpy as np

from vmae.data.video import backend_version, read_video
from vmae.errors import DataError
from vmae.files import write_atomic
from vmae.runtime import num_cpus

VIDEOS_PER_TASK = 64
STALE_LOCK_S = 60.0


@dataclass(frozen=True)
class Cache:
    """Decoded videos, uint8 [V, T, H, W, 3], zeros where `bad` names a reason."""

    frames: np.ndarray
    bad: dict[int, str]


def cache_key(paths: Sequence[Path], backend: str) -> str:
    """Return a name that changes with the list, any file's size or time of change, and the decoder's version."""
    digest = hashlib.sha256(backend_version(backend).encode())
    for path in paths:
        stat = path.stat()
        digest.update(f"{path.resolve()}\0{stat.st_size}\0{stat.st_mtime_ns}\0".encode())
    return digest.hexdigest()[:16]


def build_cache(
    folder: Path, key: str, paths: Sequence[Path], backend: str, num_workers: int | None = None, progress: bool = True
) -> Cache:
    """Open the cache `key`, decoding it first if it is not there; of several processes one decodes, the others wait.

    Unreadable videos do not stop it: they are listed with their reason in `bad`. Raises DataError if none can be read or two
    differ in shape.
    """
    array_file, info_file = folder / f"{key}.npy", folder / f"{key}.json"
    if not info_file.exists():
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with _lock(folder / f"{key}.lock"):
                if not info_file.exists():
                    _decode_all(array_file, info_file, paths, backend, num_workers or num_cpus(), progress)
        except OSError as error:
            raise DataError(f"cannot write the decoded cache in {folder}: {error.strerror or error}") from error
    bad = {int(video): reason for video, reason in json.loads(info_file.read_text())["bad"].items()}
    return Cache(np.load(array_file, mmap_mode="r"), bad)


def _decode_all(array_file: Path, info_file: Path, paths: Sequence[Path], backend: str, num_workers: int, progress: bool) -> None:
    from rich.progress import Progress

    bad: dict[int, str] = {}
    shape = _first_shape(paths, backend)
    temporary = array_file.with_suffix(f".{os.getpid()}.tmp")
    frames = np.lib.format.open_memmap(temporary, mode="w+", dtype=np.uint8, shape=(len(paths), *shape))
    starts = range(0, len(paths), VIDEOS_PER_TASK)
    parts = [(paths[first : first + VIDEOS_PER_TASK], backend) for first in starts]
    try:
        with Progress(disable=not progress) as bar, _pool(min(num_workers, len(parts))) as pool:
            shown = bar.add_task(f"decoding {len(paths)} videos once", total=len(paths))
            for first, decoded in zip(starts, pool.map(_decode_some, *zip(*parts, strict=True)), strict=True):
                for video, content in enumerate(decoded, start=first):
                    if isinstance(content, str):
                        bad[video] = content
                    elif content.shape != shape:
                        raise DataError(
                            f"{paths[video]} is {list(content.shape)} (frames, height, width, channels), {paths[0]} is "
                            f"{list(shape)}: a decoded cache needs equal videos; set runtime.cache = false"
                        )
                    else:
                        frames[video] = content
                bar.advance(shown, len(decoded))
        frames.flush()
        temporary.replace(array_file)
    finally:
        temporary.unlink(missing_ok=True)
    info = {"backend": backend_version(backend), "shape": [len(paths), *shape], "bad": bad}
    write_atomic(info_file, (json.dumps(info, indent=1) + "\n").encode())


def _first_shape(paths: Sequence[Path], backend: str) -> tuple[int, ...]:
    reason = ""
    for path in paths:
        try:
            return read_video(path, backend).shape
        except DataError as error:
            reason = reason or str(error)
    raise DataError(f"not one of {len(paths)} videos can be read; the first: {reason}")


def _decode_some(paths: Sequence[Path], backend: str) -> list[np.ndarray | str]:
    decoded: list[np.ndarray | str] = []
    for path in paths:
        try:
            decoded.append(read_video(path, backend))
        except DataError as error:
            decoded.append(str(error))
    return decoded


def _pool(num_workers: int) -> ProcessPoolExecutor:
    # Spawned, not forked: the caller may hold torch's threads.
    return ProcessPoolExecutor(num_workers, mp_context=get_context("spawn"))


@contextmanager
def _lock(folder: Path) -> Iterator[None]:
    """Hold a lock directory; wait for another holder, and take over from one whose heartbeat (mtime) stopped."""
    from threading import Event, Thread

    while True:
        try:
            folder.mkdir()
            break
        except FileExistsError:
            try:
                if time.time() - folder.stat().st_mtime > STALE_LOCK_S:
                    folder.rmdir()
            except FileNotFoundError:
                pass
            else:
                time.sleep(0.2)
    done = Event()

    def beat() -> None:
        while not done.wait(STALE_LOCK_S / 6):
            os.utime(folder)

    Thread(target=beat, daemon=True).start()
    try:
        yield
    finally:
        done.set()
        folder.rmdir()
