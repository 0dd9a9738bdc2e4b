"""What a researcher sees while a run trains: one line per log interval, with speed, data-wait share and time to go."""

import math
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from vmae.data.clips import ClipBatch
from vmae.errors import DataError, DivergedError
from vmae.results import MetricRow, MetricsLog, read_metrics
from vmae.train.checkpoint import Progress


@dataclass
class Clock:
    """Times the loop: training seconds and, of those, seconds spent waiting for data, added to `progress`.

    `num_replaced` counts this rank's replaced clips that are not in `progress` yet.
    """

    progress: Progress
    num_replaced: int = 0
    _last: float = field(default_factory=time.perf_counter)

    def waiting(self, batches: Iterator[ClipBatch]) -> Iterator[ClipBatch]:
        """Yield the batches, timing the wait for each."""
        while True:
            asked = time.perf_counter()
            try:
                batch = next(batches)
            except StopIteration:
                return
            self.progress.data_wait_s += time.perf_counter() - asked
            self.num_replaced += batch.num_replaced
            yield batch

    def lap(self) -> float:
        """Return the seconds since the last lap and add them to the training time."""
        now = time.perf_counter()
        elapsed, self._last = now - self._last, now
        self.progress.train_s += elapsed
        return elapsed


@dataclass
class TrainingLog:
    """Collects losses on the device and, every `every` steps, checks, records and prints their mean.

    Args:
        log: where rows are written; None on other ranks than 0.
        batch_size: clips of a step over all ranks, repeats included.
        mean_over_ranks: returns the means of a list's values over ranks, on all of them together.
        clips_per_epoch: of which at most the share `max_replaced` may come from replaced videos.
    """

    log: MetricsLog | None
    progress: Progress
    name: str
    batch_size: int
    steps_per_epoch: int
    total_steps: int
    every: int
    mean_over_ranks: Callable[[list[float]], list[float]]
    clips_per_epoch: int
    max_replaced: float
    _losses: list[Tensor] = field(default_factory=list)
    _since: tuple[int, float, float] = (0, 0.0, 0.0)

    def __post_init__(self) -> None:
        """Start the interval where the checkpoint left off."""
        self._since = (self.progress.step, self.progress.train_s, self.progress.data_wait_s)
        self._losses = [torch.tensor(value) for value in self.progress.pending_losses]

    def pending(self) -> list[float]:
        """Return the losses of the interval so far, so that a resumed run logs the same mean."""
        return [float(loss) for loss in self._losses]

    def last_loss(self) -> float | None:
        """Return the last mean loss recorded (rank 0)."""
        rows = read_metrics(self.log.path) if self.log else []
        return next((row.value for row in reversed(rows) if row.metric == "loss"), None)

    def add(self, loss: Tensor, grad_norm: Tensor) -> None:
        """Take the loss of one step, without waiting for the device; it becomes NaN where the gradient's norm is not finite."""
        self._losses.append(loss.detach() + (grad_norm - grad_norm))

    def rewind(self) -> None:
        """Go on from a state that was loaded again: forget what came after it."""
        if self.log:
            self.log.truncate_after(self.progress.step)
        self.__post_init__()

    def due(self) -> bool:
        """Return whether this step ends an interval."""
        return self.progress.step % self.every == 0 or self.progress.step == self.total_steps

    def refuse_divergence(self, losses: Sequence[float]) -> None:
        """Raise DivergedError if one of the latest losses, over all ranks, is not finite."""
        bad = [k for k, loss in enumerate(losses) if not math.isfinite(loss)]
        if bad:
            known = [step for step in range(1, self.progress.step + 1) if step not in self.progress.left_out]
            step = known[len(known) - len(losses) + bad[0]]
            raise DivergedError(f"loss or gradient is not finite at step {step} of {self.total_steps}", step)

    def write(self, lr: float, clock: Clock, **more: float) -> None:
        """Record the interval; DivergedError if any loss in it was not finite, DataError if too many videos were bad."""
        losses = torch.tensor(self.mean_over_ranks([float(loss) for loss in self._losses]))
        self._losses.clear()
        clock.lap()
        step, train_s, wait_s = self.progress.step, self.progress.train_s, self.progress.data_wait_s
        first, since_s, since_wait_s = self._since
        self._since = (step, train_s, wait_s)
        elapsed = max(train_s - since_s, 1e-9)
        rate = (step - first) * self.batch_size / elapsed
        wait = (wait_s - since_wait_s) / elapsed
        epoch = step / self.steps_per_epoch
        values = ({"loss": float(losses.mean())} if len(losses) else {}) | {
            "lr": lr,
            "clips_per_s": rate,
            "data_wait_share": wait,
            "train_s": train_s,
            **more,
        }
        units = {"clips_per_s": "clips/s", "train_s": "s"}
        if self.log:
            self.log.append(MetricRow(step, epoch, "train", m, v, units.get(m, "")) for m, v in values.items())
            to_go = (self.total_steps - step) * self.batch_size / max(rate, 1e-9)
            print(
                f"{self.name} step {step}/{self.total_steps} epoch {epoch:.1f} loss {values.get('loss', math.nan):.4f} "
                f"lr {lr:.2e} {rate:.0f} clips/s data {wait:.0%} ETA {int(to_go // 60)}:{int(to_go % 60):02d}",
                flush=True,
                file=sys.stdout,
            )
        self.refuse_divergence(losses.tolist())
        in_begun_epochs = math.ceil(epoch) * self.clips_per_epoch  # a set's few bad videos may come first
        if self.progress.num_replaced > self.max_replaced * in_begun_epochs:
            raise DataError(
                f"{self.progress.num_replaced} of {in_begun_epochs} clips came from videos that cannot be read; "
                f"allowed: {self.max_replaced:.0%} (runtime.max_quarantined)"
            )
