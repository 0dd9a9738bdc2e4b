"""From frames to the batches of a run. A batch is a pure function of the step, so a resumed run sees exactly what it would have.

Which videos, which start, which crop and which mask follow from (seed, epoch, sample); workers and ranks only divide the labour.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from vmae.config import ClipConfig, MaskConfig
from vmae.data.augment import centre_view, is_trivial, random_view
from vmae.data.frames import FrameSource
from vmae.data.sampling import random_start, test_starts
from vmae.errors import DataError
from vmae.grid import CubeGrid
from vmae.interrupt import ignore_stop_signals
from vmae.model.masking import draw_batch
from vmae.random import Purpose, stream


@dataclass
class ClipBatch:
    """Clips of one step on one rank: uint8 [B, C, T, H, W], hidden bool [B, N] (pre-training), labels [B] (fine-tuning)."""

    clips: Tensor
    hidden: Tensor | None
    labels: Tensor | None
    num_replaced: int

    def pin_memory(self) -> "ClipBatch":
        """Pin every tensor, so that copies to the device overlap."""
        hidden = None if self.hidden is None else self.hidden.pin_memory()
        labels = None if self.labels is None else self.labels.pin_memory()
        return ClipBatch(self.clips.pin_memory(), hidden, labels, self.num_replaced)


@dataclass(frozen=True)
class TrainBatches(Dataset[ClipBatch]):
    """The training batches of a run by step.

    Args:
        source: decoded videos of the training split.
        labels: one per video, or None for pre-training.
        batch_size: clips per step over all ranks; an epoch has floor(videos / batch_size) steps.
    """

    source: FrameSource
    labels: Sequence[int] | None
    clip: ClipConfig
    grid: CubeGrid
    mask: MaskConfig | None
    seed: int
    batch_size: int
    rank: int = 0
    num_ranks: int = 1

    @property
    def steps_per_epoch(self) -> int:
        """Whole batches of an epoch; the rest of the shuffled order is left for other epochs."""
        return len(self.source) // self.batch_size

    def __getitem__(self, step: int) -> ClipBatch:
        epoch, samples = step // self.steps_per_epoch, self._order(step)
        rngs = [stream(self.seed, Purpose.CLIP, epoch, sample) for sample in samples]
        frames: np.ndarray | list[np.ndarray]
        try:
            videos, frames = samples, self._read(samples, rngs)
        except DataError:
            rngs = [stream(self.seed, Purpose.CLIP, epoch, sample) for sample in samples]
            pairs = [self._read_or_replace(epoch, s, r) for s, r in zip(samples, rngs, strict=True)]
            videos, frames = [video for video, _ in pairs], [f for _, f in pairs]
        hidden = None if self.mask is None else draw_batch(self.mask, self.grid, self.seed, epoch, samples)
        return ClipBatch(
            clips=self._views(frames, rngs),
            hidden=None if hidden is None else torch.from_numpy(hidden),
            labels=None if self.labels is None else torch.tensor([self.labels[video] for video in videos]),
            num_replaced=sum(video != sample for video, sample in zip(videos, samples, strict=True)),
        )

    def _order(self, step: int) -> list[int]:
        """Return this rank's samples of a step: its share of one slice of the epoch's permutation."""
        epoch, position = divmod(step, self.steps_per_epoch)
        order = stream(self.seed, Purpose.ORDER, epoch).permutation(len(self.source))
        mine = slice(position * self.batch_size + self.rank, (position + 1) * self.batch_size, self.num_ranks)
        return [int(sample) for sample in order[mine]]

    def _read(self, videos: list[int], rngs: list[np.random.Generator]) -> np.ndarray:
        stride, num_frames = self.clip.frame_stride, self.grid.num_frames
        starts = [
            random_start(self.source.num_frames(video), num_frames, stride, rng) for video, rng in zip(videos, rngs, strict=True)
        ]
        return self.source.read_batch(videos, starts, num_frames, stride)

    def _read_or_replace(self, epoch: int, sample: int, rng: np.random.Generator) -> tuple[int, np.ndarray]:
        """Read `sample`; where it cannot be read, videos drawn by (seed, epoch, sample) until one can, ten at most."""
        replacement = stream(self.seed, Purpose.REPLACEMENT, epoch, sample)
        video, reasons = sample, []
        for _ in range(10):
            try:
                return video, self._read([video], [rng])[0]
            except DataError as error:
                reasons.append(str(error))
                video = int(replacement.integers(len(self.source)))
        raise DataError(f"ten videos in a row cannot be read; the first: {reasons[0]}")

    def _views(self, frames: np.ndarray | list[np.ndarray], rngs: list[np.random.Generator]) -> Tensor:
        if isinstance(frames, np.ndarray) and is_trivial(self.clip, frames.shape[2:4], self.grid.size_px):
            return torch.from_numpy(frames).permute(0, 4, 1, 2, 3)
        clips = (torch.from_numpy(f).permute(3, 0, 1, 2) for f in frames)
        return torch.stack([random_view(c, self.clip, self.grid.size_px, r) for c, r in zip(clips, rngs, strict=True)])


def load(batches: TrainBatches, steps: range, num_workers: int, device: torch.device) -> Iterator[ClipBatch]:
    """Yield the batches of `steps` in order, prepared by `num_workers` processes (0: this one)."""
    loader = DataLoader(
        batches,
        batch_size=None,
        sampler=steps,
        num_workers=num_workers,
        worker_init_fn=ignore_stop_signals if num_workers else None,
        pin_memory=device.type == "cuda",
    )
    yield from loader


def view_of(source: FrameSource, video: int, start: int, stride: int, grid: CubeGrid) -> Tensor:
    """Return the centre view of one clip, uint8 [C, T, H, W]; DataError if the video cannot be read."""
    frames = source.read_batch([video], [start], grid.num_frames, stride)[0]
    return centre_view(torch.from_numpy(frames).permute(3, 0, 1, 2), grid.size_px)


def test_views(source: FrameSource, video: int, num_clips: int, stride: int, grid: CubeGrid) -> Tensor:
    """Return `num_clips` evenly spaced centre views of one video, uint8 [num_clips, C, T, H, W]."""
    starts = test_starts(source.num_frames(video), grid.num_frames, stride, num_clips)
    return torch.stack([view_of(source, video, int(start), stride, grid) for start in starts])
