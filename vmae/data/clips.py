"""From frames to the batches of a run. A batch is a pure function of the step, so a resumed run sees exactly what it would have.

Which videos, which start, which crop and which mask follow from (seed, epoch, sample); workers and ranks only divide the labour.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol, Self, TypeVar

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from vmae.data.augment import is_trivial, random_view, stack
from vmae.data.frames import FrameSource
from vmae.data.sampling import dense_indices, random_start, tsn_indices
from vmae.errors import DataError
from vmae.grid import CubeGrid
from vmae.interrupt import deaf_to_children, ignore_stop_signals
from vmae.model.masking import draw_batch, draw_kept_batch
from vmae.random import Purpose, stream
from vmae.sections import ClipConfig, DecoderMaskConfig, FinetuneClipConfig, MaskConfig


class OnDevice(Protocol):
    """A batch that can cross to a device."""

    def to(self, device: torch.device) -> Self:
        """Return it there, copied without waiting."""
        ...

    def tensors(self) -> list[Tensor]:
        """Return its tensors."""
        ...


Batch = TypeVar("Batch", bound=OnDevice)
MAX_TRIED = 10


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

    def to(self, device: torch.device) -> "ClipBatch":
        """Copy every tensor without waiting; an ordinary copy would wait until the device has done all that is queued on it."""
        hidden, kept, labels = (
            None if x is None else x.to(device, non_blocking=True) for x in (self.hidden, self.kept, self.labels)
        )
        return ClipBatch(self.clips.to(device, non_blocking=True), hidden, kept, labels, self.num_replaced)

    def tensors(self) -> list[Tensor]:
        """Return all there are."""
        return [x for x in (self.clips, self.hidden, self.kept, self.labels) if x is not None]


@dataclass(frozen=True)
class TrainBatches(Dataset[ClipBatch]):
    """The training batches of a run by step.

    Args:
        source: decoded videos of the training split.
        labels: one per video, or None for pre-training.
        reading: frames and stride of the clips that are read.
        batch_size: videos per step over all ranks; a pass has floor(videos / batch_size) steps.
        repeats: clips of each video of a step; the video is opened once for them.
        clips_per_video: clips of each video in an epoch; None: `repeats`, so that an epoch is a pass. With 1 an epoch has as many
            clips as there are videos whatever `repeats` is, and a pass lasts `repeats` epochs (repeated sampling, mae_st).
        share_frames: the clips of a video are the same frames, and differ in what else is drawn.
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
    clips_per_video: int | None = None
    share_frames: bool = False

    @property
    def clips_per_epoch(self) -> int:
        """Clips of an epoch if no rest were left over."""
        return len(self.source) * (self.clips_per_video or self.repeats)

    @property
    def steps_per_epoch(self) -> int:
        """Whole steps of an epoch."""
        return self.clips_per_epoch // self.clips_per_step

    @property
    def steps_per_pass(self) -> int:
        """Whole steps in which each video comes once at most; the rest of the shuffled order is left for other passes."""
        return len(self.source) // self.batch_size

    @property
    def clips_per_step(self) -> int:
        """Clips of a step over all ranks, repeats included."""
        return self.batch_size * self.repeats

    @property
    def are_alike(self) -> bool:
        """Whether what is computed of each batch has the same shapes."""
        return self.mask is None or self.mask.count != "bernoulli"

    def __getitem__(self, step: int) -> ClipBatch:
        number = step // self.steps_per_pass
        order, draws = self._order(step)
        videos, clips = self._gather(number, order, draws) if self.source.equal_frames else self._read(number, order, draws)
        hidden = None if self.mask is None else draw_batch(self.mask, self.grid, self.seed, number, draws)
        kept = None if self.decoder_mask is None else draw_kept_batch(self.decoder_mask, self.grid, self.seed, number, draws)
        return ClipBatch(
            clips=clips,
            hidden=None if hidden is None else torch.from_numpy(hidden),
            kept=None if kept is None else torch.from_numpy(kept),
            labels=None if self.labels is None else torch.tensor([self.labels[video] for video in videos]),
            num_replaced=sum(video != sample for video, sample in zip(videos, order, strict=True)),
        )

    def videos(self, step: int) -> list[int]:
        """Return the videos of a step over all ranks, by position in the list, each once; before any is replaced."""
        number, position = divmod(step, self.steps_per_pass)
        order = _permutation(self.seed, number, len(self.source))
        return [int(video) for video in order[position * self.batch_size : (position + 1) * self.batch_size]]

    def places(self, rank: int) -> list[int]:
        """Return where a rank's clips stand in a step; clip p is of the step's video p // repeats.

        Ranks take places from both ends, so that the first of a rank's clips and its last are the first and last of some pair of
        the whole step: mixing pairs them so. Where the videos of a step divide so, whole videos are taken, and each is opened on
        one rank; else, where the clips do, single clips.
        """
        total = self.clips_per_step
        if total % (2 * self.num_ranks):
            return list(range(rank, total, self.num_ranks))
        together = self.repeats if self.batch_size % (2 * self.num_ranks) == 0 else 1
        firsts = range(rank * together, total // 2, self.num_ranks * together)
        front = [first + clip for first in firsts for clip in range(together)]
        return front + [total - 1 - place for place in reversed(front)]

    def _order(self, step: int) -> tuple[list[int], list[int]]:
        """Return this rank's videos of a step, and the number that each of its clips draws its random choices with.

        A step is a slice of the pass's permutation, each video `repeats` times.
        """
        videos = self.videos(step)
        mine = self.places(self.rank)
        samples = [videos[place // self.repeats] for place in mine]
        draws = [s + place % self.repeats * len(self.source) for s, place in zip(samples, mine, strict=True)]
        return samples, draws

    def _gather(self, number: int, order: list[int], draws: list[int]) -> tuple[list[int], Tensor]:
        """Read the clips of a step at once; which videos cannot be read is known beforehand."""
        length, bad = self.source.equal_frames, self.source.bad
        assert length is not None
        videos = [next((v for v in self._candidates(number, s) if v not in bad), None) if bad else s for s in order]
        readable = [video for video in videos if video is not None]
        if len(readable) < len(videos):
            raise _all_bad(bad[order[videos.index(None)]])
        rngs = [stream(self.seed, Purpose.CLIP, number, draw) for draw in draws]
        frames = self.source.gather(readable, self._frame_numbers(length, number, order, rngs))
        if is_trivial(self.clip, frames.shape[2:4], self.grid.size_px):
            return readable, torch.from_numpy(frames).permute(0, 4, 1, 2, 3)
        return readable, stack([self._view(clip, rng) for clip, rng in zip(frames, rngs, strict=True)])

    def _read(self, number: int, order: list[int], draws: list[int]) -> tuple[list[int], Tensor]:
        """Read the clips of a step video by video, each opened once; another takes the place of one that cannot be read."""
        videos: list[int] = [-1] * len(order)
        views: list[Tensor] = [torch.empty(0)] * len(order)
        for sample in dict.fromkeys(order):
            places = [place for place, other in enumerate(order) if other == sample]
            video, clips, rngs = self._read_or_replace(number, sample, [draws[place] for place in places])
            for place, clip, rng in zip(places, clips, rngs, strict=True):
                videos[place], views[place] = video, self._view(clip, rng)
        return videos, stack(views)

    def _read_or_replace(self, number: int, sample: int, draws: list[int]) -> tuple[int, np.ndarray, list[np.random.Generator]]:
        """Return the video that was read for `sample`, its clips, and the generators of what else is drawn for each of them.

        The generators start anew for each video that is tried, so a replacement is the same whether a video is known to be bad,
        cannot be opened, or fails while it is read.
        """
        rngs: list[np.random.Generator] = []

        def choose(length: int) -> np.ndarray:
            rngs[:] = [stream(self.seed, Purpose.CLIP, number, draw) for draw in draws]
            return self._frame_numbers(length, number, [sample] * len(rngs), rngs)

        first = None
        for video in self._candidates(number, sample):
            try:
                return video, self.source.read(video, choose), rngs
            except DataError as error:
                first = first or str(error)
        raise _all_bad(first)

    def _candidates(self, number: int, sample: int) -> Iterator[int]:
        """Yield the video of `sample`, and those that take its place: drawn by (seed, pass, sample), nine at most."""
        yield sample
        replacement = stream(self.seed, Purpose.REPLACEMENT, number, sample)
        for _ in range(MAX_TRIED - 1):
            yield int(replacement.integers(len(self.source)))

    def _frame_numbers(self, length: int, number: int, samples: Sequence[int], rngs: Sequence[np.random.Generator]) -> np.ndarray:
        """Return the frame numbers [clips, T] of clips of videos of `length` frames; shared ones are those of the first clip.

        Each generator draws its own all the same, so that a crop does not depend on whether frames are shared.
        """
        drawn = [self._indices(length, rng) for rng in rngs]
        if self.share_frames:  # drawn anew, for another rank may have a video's first clip
            drawn = [self._indices(length, stream(self.seed, Purpose.CLIP, number, sample)) for sample in samples]
        return np.stack(drawn)

    def _indices(self, length: int, rng: np.random.Generator) -> np.ndarray:
        num_frames, stride = self.reading
        if isinstance(self.clip, FinetuneClipConfig) and self.clip.sampling == "tsn":
            return tsn_indices(length, num_frames, rng)
        return dense_indices(length, num_frames, stride, random_start(length, num_frames, stride, rng))

    def _view(self, frames: np.ndarray, rng: np.random.Generator) -> Tensor:
        return random_view(torch.from_numpy(frames).permute(3, 0, 1, 2), self.clip, self.grid.size_px, rng)


@lru_cache(maxsize=2)
def _permutation(seed: int, number: int, count: int) -> np.ndarray:
    return stream(seed, Purpose.ORDER, number).permutation(count)


def _all_bad(reason: str | None) -> DataError:
    return DataError(f"ten videos in a row cannot be read; the first: {reason}")


def load(batches: Dataset[Batch], order: Sequence[int], num_workers: int, device: torch.device) -> Iterator[Batch]:
    """Yield `batches[i]` on the device for each i of `order`, prepared by `num_workers` processes (0: this one).

    Raises RuntimeError where one of the processes was killed.
    """
    loader = DataLoader(
        batches,
        batch_size=None,
        sampler=order,
        num_workers=num_workers,
        worker_init_fn=ignore_stop_signals if num_workers else None,
        pin_memory=device.type == "cuda",
    )
    batches_in_order = iter(loader)
    # Torch's handler raises for a process that is killed wherever the program is, in the middle of a checkpoint too. While it
    # waits for a batch torch looks every five seconds whether all are there.
    with deaf_to_children():
        try:
            yield from batches_in_order if device.type == "cpu" else moved(batches_in_order, device)
        except (ConnectionError, EOFError) as error:
            raise RuntimeError("a DataLoader worker was killed while it handed over a batch") from error
        finally:
            if num_workers:
                batches_in_order._shutdown_workers()  # type: ignore[attr-defined]  # while deaf, and not when forgotten


def moved(batches: Iterable[Batch], device: torch.device) -> Iterator[Batch]:
    """Yield batches in pinned memory on a GPU, copied on a stream of their own: while the one before is computed."""
    copying = torch.cuda.Stream(device)
    for batch in batches:
        computing = torch.cuda.current_stream(device)
        with torch.cuda.stream(copying):
            there = batch.to(device)
        computing.wait_stream(copying)
        for tensor in there.tensors():
            tensor.record_stream(computing)  # else the next copy may be given its memory before it has been computed with
        yield there
