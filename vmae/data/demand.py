"""`vmae data bench`: how fast a list's videos can be read, how many workers a model on a GPU needs, and what limits."""

import itertools
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from vmae.config import PretrainConfig, PretrainRun
from vmae.cost import flops_per_clip
from vmae.data.frames import FrameSource, open_frames
from vmae.data.manifest import Manifest, read_manifest
from vmae.data.quarantine import reasons_of
from vmae.data.sampling import dense_indices, random_start
from vmae.data.video import available_backends, backend_version
from vmae.errors import ConfigError, DataError, near
from vmae.grid import CubeGrid
from vmae.runtime import num_cpus
from vmae.sections import ClipConfig, EmbeddedSet, OptimConfig
from vmae.sizes import DECODERS, encoder_of

# Dense matrix products in bf16 (V100: fp16) by the makers' data sheets, TFLOP/s.
GPUS = {"v100": 125.0, "a100": 312.0, "h100": 989.0, "h200": 989.0}
NUM_VIDEOS = 200
SHARE = 0.4  # of that peak which a well-kept training loop reaches
AS_RELEASED = ClipConfig(crop_scales=(1.0, 0.875, 0.75, 0.66), hflip=True)


@dataclass(frozen=True)
class Speed:
    """Seconds that one worker spent on `num_clips` clips, reading them and cropping them; and the videos that failed."""

    way: str
    num_clips: int
    read_s: float
    crop_s: float
    failed: tuple[str, ...]

    @property
    def clips_per_s(self) -> float:
        """Clips per second of one worker, which keeps one core busy."""
        return self.num_clips / (self.read_s + self.crop_s)

    @property
    def read_share(self) -> float:
        """The share of its time that goes into reading; the rest goes into cropping."""
        return self.read_s / (self.read_s + self.crop_s)

    def num_workers(self, needed: float) -> int:
        """Return how many workers give `needed` clips per second."""
        return int(np.ceil(needed / self.clips_per_s))


def demand(model: str, gpu: str, size_px: int, num_frames: int) -> float:
    """Return the clips per second that a masked pre-training of `model` takes on `gpu`, at 40 % of its peak.

    Raises ConfigError for an unknown model or GPU.
    """
    if gpu not in GPUS:
        raise ConfigError(f"no GPU {gpu!r}{near(gpu, GPUS)}")
    encoder = encoder_of(model)
    pretrain = PretrainConfig(data=EmbeddedSet(), decoder=DECODERS[model], optim=OptimConfig(batch_size=1))
    run = PretrainRun(grid=CubeGrid(num_frames=num_frames, size_px=size_px), encoder=encoder, pretrain=pretrain)
    return SHARE * GPUS[gpu] * 1e12 / flops_per_clip(run)


def measure(
    source: FrameSource, way: str, videos: Sequence[int], reading: tuple[int, int, int], num_clips: int, seconds: float
) -> Speed:
    """Read clips as pre-training does, `num_clips` per opening, from `videos` in turn, for about so many seconds.

    Args:
        reading: frames of a clip, their stride, side of the crop in px.
    """
    import torch

    from vmae.data.augment import random_view

    torch.set_num_threads(1)
    rng = np.random.default_rng(0)
    num_frames, stride, size_px = reading

    def choose(length: int) -> np.ndarray:
        starts = [random_start(length, num_frames, stride, rng) for _ in range(num_clips)]
        return np.stack([dense_indices(length, num_frames, stride, start) for start in starts])

    with suppress(DataError):  # it is tried again below; here it starts the decoding process
        source.read(videos[0], choose)
    count, read_s, crop_s, failed = 0, 0.0, 0.0, []
    for video in itertools.islice(itertools.cycle(videos), 1000 * len(videos)):
        began = time.perf_counter()
        try:
            clips = source.read(video, choose)
        except DataError as error:
            failed.append(str(error))
            continue
        read = time.perf_counter()
        for clip in clips:
            random_view(torch.from_numpy(clip).permute(3, 0, 1, 2), AS_RELEASED, size_px, rng)
        read_s, crop_s = read_s + read - began, crop_s + time.perf_counter() - read
        count += len(clips)
        if read_s + crop_s > seconds:
            break
    if not count:
        raise DataError(f"not one of {len(videos)} videos can be read; the first: {failed[0]}")
    return Speed(way, count, read_s, crop_s, tuple(failed))


def bench_command(
    file: Annotated[Path, typer.Argument(help="A list: csv with path,label,split; of videos or packed frames.")],
    split: Annotated[str | None, typer.Option(help="Of the list. Default: its largest.")] = None,
    frames: Annotated[int, typer.Option(min=1, help="Of a clip.")] = 16,
    stride: Annotated[int, typer.Option(min=1, help="Frames from one of a clip to the next.")] = 4,
    size_px: Annotated[int, typer.Option(min=8, help="Side of the crop.")] = 224,
    model: Annotated[str, typer.Option(help="Whose hunger is to be fed: vit_s, vit_b, vit_l, vit_h.")] = "vit_b",
    gpu: Annotated[str, typer.Option(help=f"One of {', '.join(GPUS)}.")] = "h100",
    clips_per_s: Annotated[float | None, typer.Option(help="Instead of model and GPU: clips/s that training takes.")] = None,
    seconds: Annotated[float, typer.Option(min=0.1, help="To measure each way of reading.")] = 10.0,
) -> None:
    """Measure how fast a list can be read, and say how many workers that means and what limits.

    Example: vmae data bench data/ssv2.csv --model vit_b --gpu h100
    """
    manifest = read_manifest(file)
    counts = manifest.counts()
    split = split or max(counts, key=lambda name: counts[name])
    needed = clips_per_s or demand(model, gpu, size_px, frames)
    found = list(_speeds(manifest, split, (frames, stride), size_px, seconds))
    speeds = [speed for speed in found if isinstance(speed, Speed)]
    refused = [str(error) for error in found if isinstance(error, DataError)]
    if not speeds:
        raise DataError(refused[0])
    for line in (*refused, *report(speeds, needed, size_px)):
        typer.echo(line)


def _speeds(
    manifest: Manifest, split: str, reading: tuple[int, int], size_px: int, seconds: float
) -> Iterator[Speed | DataError]:
    """Yield the speed of each way of reading, or why a decoder reads none of the videos."""
    rows = manifest.select(split)
    reasons = reasons_of(manifest, rows)
    healthy = tuple(row for position, row in enumerate(rows) if position not in reasons)
    if not healthy:
        raise DataError(f"all {len(rows)} {split} videos of {manifest.file} are in quarantine")
    videos = np.random.default_rng(0).permutation(len(healthy))[:NUM_VIDEOS].tolist()
    is_packed = manifest.about.packed is not None
    for backend in ["auto"] if is_packed else available_backends():
        source = open_frames(replace(manifest, rows=healthy), split, cache_dir=None, backend=backend)
        name = "packed frames" if is_packed else backend_version(backend)
        try:
            for num_clips in (1, 4):
                yield measure(source, f"{name}, {num_clips} per opening", videos, (*reading, size_px), num_clips, seconds)
        except DataError as error:
            yield DataError(f"{name}: {error}")


def report(speeds: Sequence[Speed], needed: float, size_px: int) -> Iterator[str]:
    """Yield the lines that are printed: a table, and what limits the fastest way."""
    yield f"needed: {needed:.0f} clips/s; this process may use {num_cpus()} cores"
    yield f"{'':32} clips/s per core   workers needed   reading   cropping"
    for speed in speeds:
        workers, share = speed.num_workers(needed), speed.read_share
        yield f"{speed.way:32} {speed.clips_per_s:16.1f} {workers:16d} {share:9.0%} {1 - share:10.0%}"
    best = max(speeds, key=lambda speed: speed.clips_per_s)
    workers, share = best.num_workers(needed), best.read_share
    what = "reading" if share > 0.5 else "cropping and scaling"
    yield f"fastest: {best.way}; {what} takes {max(share, 1 - share):.0%} of its time"
    if workers <= num_cpus():
        yield f"enough: {workers} workers of {num_cpus()} cores feed it"
    elif share > 0.5:
        yield (
            f"too slow for {num_cpus()} cores. What helps: small videos with key frames close by (vmae data transcode), packed "
            f"frames (vmae data pack; --format raw is the fastest), more clips per opening (pretrain.repeats)"
        )
    else:
        yield f"too slow for {num_cpus()} cores. What helps: frames nearer to {size_px} px (vmae data pack --short-side)"
    failed = [reason for speed in speeds for reason in speed.failed]
    if failed:
        yield f"{len(failed)} readings failed, the first: {failed[0]}"
