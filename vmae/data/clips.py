"""From frames to the batches of a run. A batch is a pure function of the step, so a resumed run sees exactly what it would have.

Which videos, which start, which crop and which mask follow from (seed, epoch, sample); workers and ranks only divide the labour.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from vmae.data.augment import is_trivial, random_view, views
from vmae.data.frames import FrameSource
from vmae.data.sampling import dense_indices, random_start, test_starts, tsn_indices, tsn_test_indices
from vmae.errors import DataError
from vmae.grid import CubeGrid
from vmae.interrupt import ignore_stop_signals
from vmae.model.masking import draw_batch, draw_kept_batch
from vmae.random import Purpose, stream
from vmae.sections import ClipConfig, DecoderMaskConfig, FinetuneClipConfig, MaskConfig


@dataclass
class ClipBatch:
    """Clips of one step on one rank: uint8 [B, C, T, H, W]; hidden and kept bool [B, N], or labels [B]."""

    clips: Tensor
    hidden: Tensor | None
    kept: Tensor | None
    labels: Tensor | None
    num_replaced: int

    def pin_memory(self) -> "ClipBatch":
        """Pin every tensor, so that copies to the device overlap."""
        hidden, kept, labels = (None if x is None else x.pin_memory() for x in (self.hidden, self.kept, self.labels))
        return ClipBatch(self.clips.pin_memory(), hidden, kept, labels, self.num_replaced)


@dataclass(frozen=True)
class TrainBatches(Dataset[ClipBatch]):
    """The training batches of a run by step.

    Args:
        source: decoded videos of the training split.
        labels: one per video, or None for pre-training.
        reading: frames and stride of the clips that are read.
        batch_size: clips per step over all ranks; an epoch has floor(videos / batch_size) steps.
    """

    source: FrameSource
    labels: Sequence[int] | None
    clip: ClipConfig
    grid: CubeGrid
    reading: tuple[int, int]
    mask: MaskConfig | None
    decoder_mask: DecoderMaskConfig | None
    seed: int
    batch_size: int
    rank: int = 0
    num_ranks: int = 1
    repeats: int = 1

    @property
    def steps_per_epoch(self) -> int:
        """Whole batches of an epoch; the rest of the shuffled order is left for other epochs."""
        return len(self.source) // self.batch_size

    @property
    def clips_per_step(self) -> int:
        """Clips of a step over all ranks, repeats included."""
        return self.batch_size * self.repeats

    def __getitem__(self, step: int) -> ClipBatch:
        epoch = step // self.steps_per_epoch
        order, draws = self._order(step)
        frames: np.ndarray | list[np.ndarray]
        rngs = self._streams(epoch, draws)
        try:
            videos, frames = order, self._read(order, rngs)
        except DataError:
            rngs = self._streams(epoch, draws)
            pairs = [self._read_or_replace(epoch, s, r) for s, r in zip(order, rngs, strict=True)]
            videos, frames = [video for video, _ in pairs], [f for _, f in pairs]
        hidden = None if self.mask is None else draw_batch(self.mask, self.grid, self.seed, epoch, draws)
        kept = None if self.decoder_mask is None else draw_kept_batch(self.decoder_mask, self.grid, self.seed, epoch, draws)
        return ClipBatch(
            clips=self._views(frames, rngs),
            hidden=None if hidden is None else torch.from_numpy(hidden),
            kept=None if kept is None else torch.from_numpy(kept),
            labels=None if self.labels is None else torch.tensor([self.labels[video] for video in videos]),
            num_replaced=sum(video != sample for video, sample in zip(videos, order, strict=True)),
        )

    def places(self, rank: int) -> list[int]:
        """Return where a rank's clips stand in a step; clip p is of the step's video p // repeats.

        Ranks take places from both ends, so that the first of a rank's clips and its last are the first and last of some pair of
        the whole step: mixing pairs them so.
        """
        total = self.clips_per_step
        if total % (2 * self.num_ranks) == 0:
            front = list(range(rank, total // 2, self.num_ranks))
            return front + [total - 1 - place for place in reversed(front)]
        return list(range(rank, total, self.num_ranks))

    def _order(self, step: int) -> tuple[list[int], list[int]]:
        """Return this rank's videos of a step, and the number that each of its clips draws its random choices with.

        A step is a slice of the epoch's permutation, each video `repeats` times.
        """
        epoch, position = divmod(step, self.steps_per_epoch)
        order = stream(self.seed, Purpose.ORDER, epoch).permutation(len(self.source))
        videos = order[position * self.batch_size : (position + 1) * self.batch_size]
        mine = self.places(self.rank)
        samples = [int(videos[place // self.repeats]) for place in mine]
        draws = [s + place % self.repeats * len(self.source) for s, place in zip(samples, mine, strict=True)]
        return samples, draws

    def _streams(self, epoch: int, draws: Sequence[int]) -> list[np.random.Generator]:
        return [stream(self.seed, Purpose.CLIP, epoch, draw) for draw in draws]

    def _read(self, videos: list[int], rngs: list[np.random.Generator]) -> np.ndarray:
        num_frames, stride = self.reading
        indices = []
        for video, rng in zip(videos, rngs, strict=True):
            length = self.source.num_frames(video)
            if isinstance(self.clip, FinetuneClipConfig) and self.clip.sampling == "tsn":
                indices.append(tsn_indices(length, num_frames, rng))
            else:
                indices.append(dense_indices(length, num_frames, stride, random_start(length, num_frames, stride, rng)))
        return self.source.read_batch(videos, np.stack(indices))

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

    def of(self, source: FrameSource, video: int) -> Tensor:
        """Return the views of one video, uint8 [num_clips x num_crops, C, T, H, W]; DataError if it cannot be read."""
        length = source.num_frames(video)
        if self.sampling == "tsn":
            indices = tsn_test_indices(length, self.num_frames, self.num_clips)
        else:
            starts = test_starts(length, self.num_frames, self.stride, self.num_clips)
            indices = np.stack([dense_indices(length, self.num_frames, self.stride, int(start)) for start in starts])
        clips = source.read_batch([video] * self.num_clips, indices)
        return torch.stack(
            [v for c in clips for v in views(torch.from_numpy(c).permute(3, 0, 1, 2), self.size_px, self.num_crops)]
        )
