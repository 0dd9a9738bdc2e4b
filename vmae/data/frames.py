"""Where clips are read from: files decoded on demand, packed frames, or a cache in which each video was decoded once.

The cache gives the frames of the files: a memory-mapped array uint8 [V, T, H, W, 3] for small sets of equal videos, where reading
mp4 costs more than training on it. Packed frames are resized, so a data set of their own.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from vmae.data.cache import Cache, build_cache, cache_key
from vmae.data.guarded import GuardedDecoder
from vmae.data.manifest import Manifest, VideoRow, check_files
from vmae.data.packed import PackedFrames
from vmae.data.video import Choose, read_clips, resolve_backend
from vmae.errors import DataError

SECONDS_PER_CLIP = 60.0


class FrameSource(Protocol):
    """The videos of one split by position in the list; `bad` holds the known unreadable ones with the reason."""

    @property
    def bad(self) -> Mapping[int, str]:
        """Reasons by position."""
        ...

    @property
    def equal_frames(self) -> int | None:
        """The frames of each video where all have the same number and `gather` reads many at once; else None."""
        ...

    def __len__(self) -> int:
        """Return the number of videos, unreadable ones included."""
        ...

    def read(self, video: int, choose: Choose) -> np.ndarray:
        """Return clips of a video that is opened once, uint8 [K, T, H, W, 3]; DataError names it and the reason.

        Args:
            choose: as for read_clips: from the number of frames to frame numbers int [K, T].
        """
        ...

    def gather(self, videos: Sequence[int], indices: np.ndarray) -> np.ndarray:
        """Return the frames at `indices` int [B, T] of readable `videos`, uint8 [B, T, H, W, 3]; only with `equal_frames`."""
        ...


class DecodedFrames:
    """Decodes from the files at every reading.

    Args:
        timeout_s: for opening a file and again for decoding its frames; the process that does it is killed then, and Late raised.
    """

    equal_frames = None

    def __init__(self, manifest: Manifest, rows: Sequence[VideoRow], backend: str, timeout_s: float = SECONDS_PER_CLIP) -> None:
        self.paths = [manifest.absolute(row) for row in rows]
        self.backend = resolve_backend(backend)
        self.bad: Mapping[int, str] = {}
        self._decoder = GuardedDecoder(timeout_s)

    def __len__(self) -> int:
        return len(self.paths)

    def read(self, video: int, choose: Choose) -> np.ndarray:
        """Return clips, see FrameSource."""
        return read_clips(self.paths[video], choose, self.backend, self._decoder)

    def gather(self, videos: Sequence[int], indices: np.ndarray) -> np.ndarray:
        """Files are read one by one."""
        raise NotImplementedError


class CachedFrames:
    """Reads from the decoded cache."""

    def __init__(self, cache: Cache, paths: Sequence[Path]) -> None:
        self.frames, self.paths = cache.frames, list(paths)
        self.bad: Mapping[int, str] = cache.bad
        self.late = cache.late

    def __getstate__(self) -> dict[str, Any]:
        """Name the map's file: a loader process that is not forked (Python 3.14's default) opens it, and is not sent it."""
        return self.__dict__ | {"frames": self.frames.filename}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__ |= state | {"frames": np.load(state["frames"], mmap_mode="r")}

    @property
    def equal_frames(self) -> int:
        """The frames of each video."""
        return int(self.frames.shape[1])

    def __len__(self) -> int:
        return len(self.paths)

    def read(self, video: int, choose: Choose) -> np.ndarray:
        """Return clips, see FrameSource."""
        if video in self.bad:
            raise DataError(self.bad[video])
        clips: np.ndarray = self.frames[video][choose(self.equal_frames)]
        return clips

    def gather(self, videos: Sequence[int], indices: np.ndarray) -> np.ndarray:
        """Return clips, see FrameSource."""
        clips: np.ndarray = self.frames[np.asarray(videos)[:, None], indices]
        return clips


class PartOfFrames:
    """Some videos of a source, in the order of `positions`."""

    def __init__(self, source: FrameSource, positions: Sequence[int]) -> None:
        self.source, self.positions = source, [int(position) for position in positions]
        self._where = {position: video for video, position in enumerate(self.positions)}

    @property
    def bad(self) -> Mapping[int, str]:
        """Reasons by position."""
        return {self._where[p]: reason for p, reason in self.source.bad.items() if p in self._where}

    @property
    def equal_frames(self) -> int | None:
        """As of the whole source."""
        return self.source.equal_frames

    def __len__(self) -> int:
        return len(self.positions)

    def read(self, video: int, choose: Choose) -> np.ndarray:
        """Return clips, see FrameSource."""
        return self.source.read(self.positions[video], choose)

    def gather(self, videos: Sequence[int], indices: np.ndarray) -> np.ndarray:
        """Return clips, see FrameSource."""
        return self.source.gather([self.positions[video] for video in videos], indices)


def open_frames(
    manifest: Manifest,
    split: str,
    *,
    cache_dir: Path | None,
    backend: str = "auto",
    num_workers: int | None = None,
    timeout_s: float = SECONDS_PER_CLIP,
) -> FrameSource:
    """Open the videos of a split; with `cache_dir`, decode each once first (DataError if they differ in shape).

    Packed frames are read where they are, and cached by nobody.
    """
    rows = manifest.select(split)
    if manifest.about.packed is not None:
        return PackedFrames(manifest, rows)
    check_files(manifest, rows)
    if cache_dir is None:
        return DecodedFrames(manifest, rows, backend, timeout_s)
    paths = [manifest.absolute(row) for row in rows]
    backend = resolve_backend(backend)
    return CachedFrames(build_cache(cache_dir, cache_key(paths, backend), paths, backend, num_workers, timeout_s), paths)
