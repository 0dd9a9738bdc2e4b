"""What all training loops share: micro-batches, schedule, log, checkpoints, interruption. What is computed, they say."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from timm.utils import ModelEmaV3
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor

from vmae.data.clips import ClipBatch, TrainBatches, load
from vmae.errors import DivergedError, Interrupted
from vmae.files import write_atomic
from vmae.interrupt import StopFlag
from vmae.results import MetricsLog
from vmae.runs import RunDir
from vmae.runtime import RuntimeConfig, num_cpus
from vmae.sections import OptimConfig
from vmae.train.checkpoint import load_checkpoint, save_checkpoint
from vmae.train.distributed import World
from vmae.train.graphs import Recorded
from vmae.train.optim import make_optimizer, make_schedule
from vmae.train.progress import Clock, TrainingLog
from vmae.train.setup import arranged, naming_memory
from vmae.train.sharding import gathered, shard


@dataclass(frozen=True)
class Place:
    """Where a run runs: its directory, settings, ranks, and the flag that asks it to stop."""

    run_dir: RunDir
    runtime: RuntimeConfig
    world: World
    stop: StopFlag


@dataclass(frozen=True)
class Outcome:
    """What a stage leaves for result.json."""

    metrics: dict[str, object]
    compute: dict[str, object]


class Training:
    """A model on its way through the steps of a run, resumed where its last checkpoint left it."""

    def __init__(
        self,
        name: str,
        model: nn.Module,
        optim: OptimConfig,
        batches: TrainBatches,
        place: Place,
        ema_decay: float | None = None,
        can_split: bool = True,
    ) -> None:
        """Begin, or resume.

        Args:
            name: what the log calls it.
            ema_decay: of a running average of the weights, which is then the result; None: no average.
            can_split: whether a step may be taken in micro-batches.
        """
        self.model, self.optim, self.data, self.place, self.can_split = model, optim, batches, place, can_split
        self.average = None if ema_decay is None else ModelEmaV3(model, decay=ema_decay)
        if place.runtime.shard and place.world.size > 1:
            for part in [model] if self.average is None else [model, self.average.module]:
                shard(part, place.world.device, place.world.size)
        self.optimizer = make_optimizer(model, optim)
        self.schedule = make_schedule(self.optimizer, optim, batches.steps_per_epoch)
        self.total_steps = optim.epochs * batches.steps_per_epoch
        self.progress = load_checkpoint(place.run_dir, model, self.optimizer, self.average)
        self.progress.num_restarts += self.progress.step > 0
        if place.world.is_main:
            place.run_dir.note_start(self.progress.step, place.world.size)
        metrics = MetricsLog(place.run_dir.metrics) if place.world.is_main else None
        if metrics:
            metrics.truncate_after(self.progress.step)
        self.parallel = place.world.wrap(arranged(model, place.runtime), place.runtime.bucket_mb)
        if place.world.is_main and place.runtime.num_workers > num_cpus():
            print(
                f"warning: num_workers = {place.runtime.num_workers}, but this process may use {num_cpus()} cores: its workers "
                f"will wait for each other; ask for more cores (cpus_per_task in the profile), or fewer workers",
                flush=True,
            )
        self.clips_per_rank = place.world.share(batches.clips_per_step)
        self.clock = Clock(self.progress)
        self.log = TrainingLog(
            log=metrics,
            progress=self.progress,
            name=f"{name} {place.run_dir.id}",
            batch_size=batches.clips_per_step,
            steps_per_epoch=batches.steps_per_epoch,
            total_steps=self.total_steps,
            every=place.runtime.log_every_steps,
            mean_over_ranks=place.world.mean,
            clips_per_epoch=batches.clips_per_epoch,
            max_replaced=place.runtime.max_quarantined,
        )
        self._recorded: Recorded | None = None
        is_alone_on_gpu = place.world.device.type == "cuda" and place.world.size == 1
        if place.runtime.cuda_graphs and is_alone_on_gpu and batches.are_alike and optim.optimizer == "adamw":
            self._recorded = Recorded(self._take, self.optimizer, place.world.device)
        self._saved_s, self._saved_step, self._is_back = self.progress.train_s, self.progress.step, False

    def steps(self) -> Iterator[ClipBatch]:
        """Yield the batch of each remaining step, with the learning rate set for it.

        Between steps: log, checkpoint, and Interrupted after saving if any rank was asked to stop.
        """
        if self.optim.max_left_out and not self.progress.step:
            self.save()  # to have something to go back to
        while self.progress.step < self.total_steps:
            yield from self._steps_until_back()
        if self._recorded:
            self._recorded.forget()  # what follows may need its memory

    def _steps_until_back(self) -> Iterator[ClipBatch]:
        """Yield the batches of the remaining steps, at most until one sends training back to its last checkpoint."""
        world, runtime = self.place.world, self.place.runtime
        steps = range(self.progress.step, self.total_steps)
        self._is_back = False
        self.model.train()
        for batch in self.clock.waiting(load(self.data, steps, runtime.num_workers, world.device)):
            if self.progress.step + 1 in self.progress.left_out:
                self._end_step()
            else:
                self.schedule.step_update(self.progress.step)
                yield batch
            is_due = self.progress.train_s - self._saved_s >= runtime.checkpoint_every_s
            stop_here, save_here = world.any(self.place.stop.requested, is_due)
            if stop_here or save_here:
                self.clock.lap()
                self.save()
            if stop_here:
                raise Interrupted(f"{self.place.stop.name} at step {self.progress.step} of {self.total_steps}")
            if self._is_back:
                return

    def update(self, loss_of: Callable[..., Tensor], *inputs: Tensor | None) -> None:
        """Take one optimiser step on the mean loss of this rank's clips: `loss_of(*parts)` is the mean over a part of each input.

        The gradient is the global batch's, however many ranks and micro-batches share it. `loss_of` is the same in all steps.
        """
        take = self._recorded or self._take
        total, grad_norm = take(loss_of, *inputs)
        if self.average is not None:
            self.average.update(self.model)
        self.log.add(total, grad_norm)
        self._end_step(grad_norm)

    def _take(self, loss_of: Callable[..., Tensor], *inputs: Tensor | None) -> tuple[Tensor, Tensor]:
        """Take the step; return loss and the gradient's norm without waiting for the device."""
        total = torch.zeros((), device=self.place.world.device)
        micro = self.place.runtime.micro_batch_size or self.clips_per_rank
        for first in range(0, self.clips_per_rank, micro):
            part = slice(first, min(first + micro, self.clips_per_rank))
            is_last = part.stop == self.clips_per_rank
            with self.place.world.accumulating(self.parallel, is_last):
                with naming_memory("forward", part.stop - part.start, self.can_split):
                    loss = loss_of(*(None if x is None else x[part] for x in inputs))
                    loss = loss * ((part.stop - part.start) / self.clips_per_rank)
                with naming_memory("backward", part.stop - part.start, self.can_split):
                    loss.backward()
            total += loss.detach()
        grad_norm = self._clip()
        with naming_memory("optimiser", min(micro, self.clips_per_rank)):
            self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return total, grad_norm

    def _end_step(self, grad_norm: Tensor | None = None) -> None:
        """Count a step, and log where an interval ends."""
        self.progress.step += 1
        if self.log.due():
            self._count_replaced()
            lr = max(group["lr"] for group in self.optimizer.param_groups)
            with self._minding_divergence():
                self.log.write(lr, self.clock, **({} if grad_norm is None else {"grad_norm": float(grad_norm)}))
            self.place.run_dir.held_claim().beat()
        else:
            self.clock.lap()

    def _clip(self) -> Tensor:
        """Return the gradient's norm, after bringing it below the limit if there is one; without, gradients are only read."""
        if self.optim.grad_clip_norm:
            norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.optim.grad_clip_norm)
        else:
            norm = torch.nn.utils.get_total_norm([p.grad for p in self.model.parameters() if p.grad is not None])
        return norm.full_tensor() if isinstance(norm, DTensor) else norm

    def whole(self, make: Callable[[], nn.Module]) -> nn.Module:
        """Return what was trained, or its running average if there is one, as one process can use it; on all ranks together.

        If it is sharded, that is on the main rank a new one of `make` with its weights; the others keep their shards.
        """
        trained = self.model if self.average is None else self.average.module
        is_sharded = isinstance(trained, FSDPModule)  # by name: the type would hide that it is a Module too
        if not is_sharded:
            return trained
        weights = gathered(trained.state_dict(), self.place.world.is_main)
        if not self.place.world.is_main:
            return trained
        whole = make().to(self.place.world.device)
        whole.load_state_dict(weights)
        return whole

    def save(self) -> None:
        """Write a checkpoint; called on all ranks, rank 0 writes."""
        self._count_replaced()
        self.progress.pending_losses = self.place.world.mean(self.log.pending())
        with self._minding_divergence():  # first, so that weights that are not finite are never saved and resumed from
            self.log.refuse_divergence(self.progress.pending_losses)
        if self._is_back:
            return
        is_main = self.place.world.is_main
        save_checkpoint(self.place.run_dir, self.model, self.optimizer, self.progress, self.average, is_main)
        self._saved_s, self._saved_step = self.progress.train_s, self.progress.step

    @contextmanager
    def _minding_divergence(self) -> Iterator[None]:
        """On DivergedError go back to leave the step out; if no more may be left out, write diverged.json and raise it.

        The file says what the step saw, and which state before it was saved.
        """
        try:
            yield
        except DivergedError as error:
            if len(self.progress.left_out) < self.optim.max_left_out:
                self._go_back(error)
                return
            if self.place.world.is_main:
                facts = {
                    "reason": str(error),
                    "step": error.step,
                    "learning_rates": sorted({group["lr"] for group in self.optimizer.param_groups}),
                    "videos": self.data.videos(error.step - 1),
                    "last_saved_step": self._saved_step,
                }
                write_atomic(self.place.run_dir.diverged, (json.dumps(facts) + "\n").encode(), make_folder=False)
            raise

    def _go_back(self, error: DivergedError) -> None:
        """Load the last checkpoint; the steps from there are taken again, without the bad one. Their seconds count twice."""
        left_out, seconds = [*self.progress.left_out, error.step], (self.progress.train_s, self.progress.data_wait_s)
        back = load_checkpoint(self.place.run_dir, self.model, self.optimizer, self.average)
        if self._recorded:
            self._recorded.forget()
        vars(self.progress).update(vars(back) | {"left_out": left_out, "num_restarts": self.progress.num_restarts})
        self.progress.train_s, self.progress.data_wait_s = seconds
        self.log.rewind()
        self._is_back = True
        if self.place.world.is_main:
            print(f"warning: {error}; back to step {back.step}, and on without it", flush=True)

    def _count_replaced(self) -> None:
        """Add the replaced clips of all ranks."""
        self.progress.num_replaced += sum(self.place.world.gather([self.clock.num_replaced]))
        self.clock.num_replaced = 0

    def compute(self, cubes_per_clip: int) -> dict[str, object]:
        """Return what was spent, restarts included; `cubes_per_clip` is what the encoder sees."""
        num_clips = self.progress.step * self.data.clips_per_step
        left_out = self.progress.left_out
        return {
            "num_steps": self.progress.step,
            "num_epochs": self.optim.epochs,
            "num_clips": num_clips,
            "num_encoder_cubes": num_clips * cubes_per_clip,
            "num_replaced": self.progress.num_replaced,
            "num_restarts": self.progress.num_restarts,
            **({"num_left_out": len(left_out), "left_out": left_out} if left_out else {}),
            "train_s": self.progress.train_s,
            "clips_per_s": num_clips / max(self.progress.train_s, 1e-9),
            "data_wait_share": self.progress.data_wait_s / max(self.progress.train_s, 1e-9),
            **self._memory(),
        }

    def _memory(self) -> dict[str, object]:
        """Return the peak of this rank's GPU memory since the last start, in GB (1e9 bytes); nothing on a CPU."""
        device = self.place.world.device
        return {"peak_memory_gb": torch.cuda.max_memory_allocated(device) / 1e9} if device.type == "cuda" else {}
