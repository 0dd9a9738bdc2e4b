"""How fast reading, the model and the whole step are on this device, and what share of its measured matrix peak that is.

Three clocks: the program's (all from the start of measuring, warm-up included), training's (measured steps) and the wait for
data. Warm-up steps count in the first only. Parts of a step are timed, so it is never the one CUDA graph that a training replays.
FLOPs are those of `vmae.cost`: the method's, whatever is computed beyond them.
Page faults are the minor ones, which read no disk: the kernel zeroes and hands out memory that the process had given back.
"""

import resource
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor

from vmae.config import PretrainRun
from vmae.cost import flops_per_clip
from vmae.data.augment import to_float
from vmae.data.clips import ClipBatch, load
from vmae.data.source import frames_of, manifest_of
from vmae.model.autoencoder import VideoMAE
from vmae.model.masking import draw_batch, draw_kept_batch
from vmae.peak import matrix_peak, wait_for
from vmae.runtime import RuntimeConfig
from vmae.train.distributed import World
from vmae.train.optim import make_optimizer
from vmae.train.pretrain import train_batches
from vmae.train.setup import arranged, autocast, naming_memory, seed_init


@dataclass
class Measured:
    """What was measured of one thing: seconds of each part over `num_steps` steps of `batch` clips, and what they cost."""

    what: str
    batch: int
    num_steps: int = 0
    program_s: float = 0.0
    train_s: float = 0.0
    data_wait_s: float = 0.0
    parts_s: dict[str, float] = field(default_factory=dict)
    gflops_per_clip: float = 0.0
    peak_gflops_per_s: float = 0.0
    peak_memory_gb: float = 0.0
    num_faults: int = 0

    @property
    def clips_per_s(self) -> float:
        """Clips per second of the training clock."""
        return self.num_steps * self.batch / max(self.train_s, 1e-9)

    def row(self) -> dict[str, Any]:
        """Return one row of the table; milliseconds per step, memory in 1e9 bytes."""
        per_step = 1000 / max(1, self.num_steps)
        rate = self.clips_per_s * self.gflops_per_clip
        row: dict[str, Any] = {"what": self.what, "batch": self.batch, "steps": self.num_steps, "clips_per_s": self.clips_per_s}
        row |= {"ms_per_step": self.train_s * per_step}
        row |= {f"{part}_ms": seconds * per_step for part, seconds in self.parts_s.items()}
        row |= {"program_s": self.program_s, "train_s": self.train_s, "data_wait_s": self.data_wait_s}
        if self.gflops_per_clip:
            row |= {"gflops_per_clip": self.gflops_per_clip, "gflops_per_s": rate, "peak_gflops_per_s": self.peak_gflops_per_s}
            row |= {"share_of_peak": rate / max(self.peak_gflops_per_s, 1e-9)}
        return row | {"peak_memory_gb": self.peak_memory_gb, "page_faults_per_step": self.num_faults / max(1, self.num_steps)}


def peak_memory_gb(device: torch.device) -> float:
    """Return the allocator's peak on a GPU; on a CPU the process's largest resident set so far."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e9
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9


def page_faults() -> int:
    """Return how often this process has been given a page of memory so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt


class Stepper:
    """A fresh model of a run that takes training steps and says how long their parts took."""

    def __init__(self, run: PretrainRun, runtime: RuntimeConfig, world: World) -> None:
        self.run, self.world, self.micro = run, world, runtime.micro_batch_size or run.masked.optim.batch_size
        seed_init(run.masked.seed)
        self.model = VideoMAE(run).to(world.device).train()
        self.called = arranged(self.model, runtime)
        self.optimizer = make_optimizer(self.model, run.masked.optim)
        self.seconds = dict.fromkeys(("forward", "backward", "optimiser"), 0.0)

    def step(self, batch: ClipBatch) -> None:
        """Take one step, in micro-batches as training would; every part waits for the device, which a training does not."""
        device, num_clips = self.world.device, len(batch.clips)
        assert batch.hidden is not None
        clips, hidden, kept = to_float(batch.clips, device), batch.hidden, batch.kept

        def forward(part: slice) -> Tensor:
            with autocast(self.run.masked.precision, device):
                loss = self.called(clips[part], hidden[part], None if kept is None else kept[part])
            share: Tensor = loss * ((part.stop - part.start) / num_clips)
            return share

        for first in range(0, num_clips, self.micro):
            part = slice(first, min(first + self.micro, num_clips))
            loss = self._timed("forward", part.stop - part.start, partial(forward, part))
            self._timed("backward", part.stop - part.start, loss.backward)
        self._timed("optimiser", min(self.micro, num_clips), self._update)

    def _update(self) -> None:
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)

    def _timed(self, part: str, num_clips: int, do: Callable[[], Any]) -> Any:
        started = time.perf_counter()
        with naming_memory(part, num_clips):
            done = do()
            wait_for(self.world.device)
        self.seconds[part] += time.perf_counter() - started
        return done


def synthetic(run: PretrainRun, num_steps: int, device: torch.device) -> Iterator[ClipBatch]:
    """Yield `num_steps` times one batch of noise with masks of the run, which lies on the device: nothing is read or moved."""
    config, grid = run.masked, run.grid
    samples, num_frames = range(config.optim.batch_size), config.reading(grid)[0]
    clips = torch.randint(256, (len(samples), 3, num_frames, grid.size_px, grid.size_px), dtype=torch.uint8)
    hidden = torch.from_numpy(draw_batch(config.mask, grid, 0, 0, samples))
    kept = None
    if config.decoder_mask.kind != "none":
        kept = torch.from_numpy(draw_kept_batch(config.decoder_mask, grid, 0, 0, samples))
    batch = ClipBatch(clips, hidden, kept, None, 0).to(device)
    for _ in range(num_steps):
        yield batch


def read(run: PretrainRun, runtime: RuntimeConfig, world: World, num_steps: int) -> Iterator[ClipBatch]:
    """Yield the run's first batches, as training would get them."""
    videos = frames_of(manifest_of(run.masked.data, runtime), "pretrain", runtime)
    yield from load(train_batches(run, videos, world), range(num_steps), runtime.num_workers, world.device)


@dataclass(frozen=True)
class Bench:
    """What is measured: `num_steps` steps of `run` after `num_warmup` that do not count."""

    run: PretrainRun
    runtime: RuntimeConfig
    world: World
    num_steps: int
    num_warmup: int

    def measure(self, what: str, reads: bool) -> Measured:
        """Measure the "model" or the "step" (with clips read if `reads`), or the "loader" alone."""
        found = Measured(what, self.run.masked.optim.batch_size, self.num_steps)
        began = time.perf_counter()
        stepper = None if what == "loader" else Stepper(self.run, self.runtime, self.world)
        total = self.num_warmup + self.num_steps
        batches = read(self.run, self.runtime, self.world, total) if reads else synthetic(self.run, total, self.world.device)
        for number in range(total):
            if number == self.num_warmup:
                found.train_s = found.data_wait_s = 0.0
                found.num_faults = page_faults()
                if stepper:
                    stepper.seconds = dict.fromkeys(stepper.seconds, 0.0)
            started = time.perf_counter()
            batch = next(batches)
            found.data_wait_s += time.perf_counter() - started
            if stepper:
                stepper.step(batch)
            found.train_s += time.perf_counter() - started
        found.num_faults = page_faults() - found.num_faults
        found.program_s = time.perf_counter() - began
        found.peak_memory_gb = peak_memory_gb(self.world.device)
        if stepper:
            found.parts_s = stepper.seconds
            found.gflops_per_clip = flops_per_clip(self.run) / 1e9
            found.peak_gflops_per_s = matrix_peak(self.run.masked.precision, self.world.device)
        return found


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Return rows one value a line, as wide tables do not fit a terminal."""
    lines = []
    for row in rows:
        width = max(map(len, row))
        lines += [
            f"{key:<{width}}  {value:.4g}" if isinstance(value, float) else f"{key:<{width}}  {value}"
            for key, value in row.items()
        ]
    return "\n".join(lines)
