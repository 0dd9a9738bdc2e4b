"""What a model is tested on: the clips and crops of a video, the same for everybody; a video is opened once for all of them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from vmae.data.augment import stack, views
from vmae.data.frames import FrameSource
from vmae.data.sampling import dense_indices, test_starts, tsn_test_indices
from vmae.errors import DataError


@dataclass(frozen=True)
class Views:
    """How test clips are taken of a video: `num_clips` in time by `num_crops` in space."""

    num_frames: int
    stride: int
    size_px: int
    num_clips: int = 1
    num_crops: int = 1
    sampling: str = "dense"

    @property
    def per_video(self) -> int:
        """Views of one video."""
        return self.num_clips * self.num_crops

    def of(self, source: FrameSource, video: int) -> tuple[Tensor, np.ndarray]:
        """Return a video's views, uint8 [num_clips x num_crops, C, T, H, W], and its frame numbers int [num_clips, T].

        Raises DataError if it cannot be read.
        """
        found: list[np.ndarray] = []

        def choose(length: int) -> np.ndarray:
            found[:] = [self._indices(length)]
            return found[0]

        clips = source.read(video, choose)
        shown = [v for c in clips for v in views(torch.from_numpy(c).permute(3, 0, 1, 2), self.size_px, self.num_crops)]
        return stack(shown), found[0]

    def _indices(self, length: int) -> np.ndarray:
        if self.sampling == "tsn":
            return tsn_test_indices(length, self.num_frames, self.num_clips)
        starts = test_starts(length, self.num_frames, self.stride, self.num_clips)
        return np.stack([dense_indices(length, self.num_frames, self.stride, int(start)) for start in starts])


@dataclass
class TestBatch:
    """The views of some videos, uint8 [videos x views, C, T, H, W], with their frame numbers; those that could not be read."""

    videos: list[int]
    clips: Tensor
    frames: list[list[list[int]]]
    unread: list[tuple[int, str]]

    def pin_memory(self) -> "TestBatch":
        """Pin the clips, so that copies to the device overlap."""
        return TestBatch(self.videos, self.clips.pin_memory(), self.frames, self.unread)

    def to(self, device: torch.device) -> "TestBatch":
        """Copy the clips without waiting for the device."""
        return TestBatch(self.videos, self.clips.to(device, non_blocking=True), self.frames, self.unread)

    def tensors(self) -> list[Tensor]:
        """Return the clips."""
        return [self.clips]


@dataclass(frozen=True)
class TestBatches(Dataset[TestBatch]):
    """The views of the videos of each range of `parts`; one that cannot be read is named, never replaced."""

    source: FrameSource
    reading: Views
    parts: Sequence[range]

    def __getitem__(self, part: int) -> TestBatch:
        batch = TestBatch([], torch.empty(0), [], [])
        clips = []
        for video in self.parts[part]:
            try:
                shown, frames = self.reading.of(self.source, video)
            except DataError as error:
                batch.unread.append((video, str(error)))
                continue
            batch.videos.append(video)
            batch.frames.append(frames.tolist())
            clips.append(shown)
        batch.clips = torch.cat(clips) if clips else torch.empty(0)
        return batch
