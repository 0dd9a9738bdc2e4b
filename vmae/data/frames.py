"""Where clips are read from: files decoded on demand, or a cache in which each video was decoded once.

Both give the same frames. The cache is a memory-mapped array uint8 [V, T, H, W, 3] for small sets of equal videos, where reading
mp4 costs more than training on it.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

from vmae.data.cache import Cache, build_cache, cache_key
from vmae.data.manifest import Manifest, VideoRow, check_files
from vmae.data.video import num_frames, read_frames, resolve_backend
from vmae.errors import DataError


class FrameSource(Protocol):
    """The videos of one split by position in the list; `bad` holds the known unreadable ones with the reason."""

    @property
    def bad(self) -> Mapping[int, str]:
        """Reasons by position."""
        ...

    def __len__(self) -> int:
        """Return the number of videos, unreadable ones included."""
        ...

    def num_frames(self, video: int) -> int:
        """Return the frames of a video."""
        ...

    def read_batch(self, videos: Sequence[int], indices: np.ndarray) -> np.ndarray:
        """Return the frames at `indices` int [B, T], uint8 [B, T, H, W, 3]; DataError names the first unreadable video."""
        ...


class DecodedFrames:
    """Decodes from the files at every reading."""

    def __init__(self, manifest: Manifest, rows: Sequence[VideoRow], backend: str) -> None:
        self.paths = [manifest.absolute(row) for row in rows]
        self.backend = resolve_backend(backend)
        self.bad: Mapping[int, str] = {}
        self._lengths: dict[int, int] = {}

    def __len__(self) -> int:
        return len(self.paths)

    def num_frames(self, video: int) -> int:
        """Return the frames of a video, asking the file once."""
        if video not in self._lengths:
            self._lengths[video] = num_frames(self.paths[video], self.backend)
        return self._lengths[video]

    def read_batch(self, videos: Sequence[int], indices: np.ndarray) -> np.ndarray:
        """Return clips, uint8 [B, T, H, W, 3]; all videos of a batch must have one frame size."""
        clips = [read_frames(self.paths[v], when, self.backend) for v, when in zip(videos, indices, strict=True)]
        shapes = {clip.shape[1:3] for clip in clips}
        if len(shapes) > 1:
            raise DataError(f"videos of one batch have frame sizes {sorted(shapes)}; bring them to one size first")
        return np.stack(clips)


class CachedFrames:
    """Reads from the decoded cache."""

    def __init__(self, cache: Cache, paths: Sequence[Path]) -> None:
        self.frames, self.paths = cache.frames, list(paths)
        self.bad: Mapping[int, str] = cache.bad

    def __len__(self) -> int:
        return len(self.paths)

    def num_frames(self, video: int) -> int:
        """Return the frames of a video; all have the same number. DataError before anything is drawn for an unreadable one."""
        if video in self.bad:
            raise DataError(self.bad[video])
        return int(self.frames.shape[1])

    def read_batch(self, videos: Sequence[int], indices: np.ndarray) -> np.ndarray:
        """Return clips, uint8 [B, T, H, W, 3], in one gather."""
        for video in videos if self.bad else ():
            if video in self.bad:
                raise DataError(self.bad[video])
        clips: np.ndarray = self.frames[np.asarray(videos)[:, None], indices]
        return clips


class PartOfFrames:
    """Some videos of a source, in the order of `positions`."""

    def __init__(self, source: FrameSource, positions: Sequence[int]) -> None:
        self.source, self.positions = source, np.asarray(positions)
        where = {int(position): video for video, position in enumerate(positions)}
        self.bad: Mapping[int, str] = {where[p]: reason for p, reason in source.bad.items() if p in where}

    def __len__(self) -> int:
        return len(self.positions)

    def num_frames(self, video: int) -> int:
        """Return the frames of a video."""
        return self.source.num_frames(int(self.positions[video]))

    def read_batch(self, videos: Sequence[int], indices: np.ndarray) -> np.ndarray:
        """Return clips, uint8 [B, T, H, W, 3]."""
        return self.source.read_batch([int(self.positions[video]) for video in videos], indices)


def open_frames(
    manifest: Manifest, split: str, *, cache_dir: Path | None, backend: str = "auto", num_workers: int | None = None
) -> FrameSource:
    """Open the videos of a split; with `cache_dir`, decode each once first (DataError if they differ in shape)."""
    rows = manifest.select(split)
    check_files(manifest, rows)
    if cache_dir is None:
        return DecodedFrames(manifest, rows, backend)
    paths = [manifest.absolute(row) for row in rows]
    backend = resolve_backend(backend)
    return CachedFrames(build_cache(cache_dir, cache_key(paths, backend), paths, backend, num_workers), paths)
