"""Ranks: none, or what torchrun and srun set; the mathematics is the same for any number of them."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from vmae.errors import ConfigError
from vmae.runtime import RuntimeConfig


@dataclass(frozen=True)
class World:
    """This process among its peers."""

    rank: int
    size: int
    device: torch.device

    @property
    def is_main(self) -> bool:
        """Whether this process writes files."""
        return self.rank == 0

    def wrap(self, model: nn.Module) -> nn.Module:
        """Return the model averaging its gradients over ranks; itself when alone."""
        if self.size == 1:
            return model
        return DistributedDataParallel(model, device_ids=[self.device] if self.device.type == "cuda" else None)

    def any(self, *flags: bool) -> list[bool]:
        """Return, for each flag, whether any rank has it: the same answer on every rank, so that all act alike."""
        return [total > 0 for total in self.total([float(flag) for flag in flags])]

    def total(self, values: list[float]) -> list[float]:
        """Return the sums of `values` over ranks, in float64."""
        if self.size == 1:
            return values
        tensor = torch.tensor(values, dtype=torch.float64, device=self.device)
        dist.all_reduce(tensor)
        return [float(v) for v in tensor]

    def mean(self, values: list[float]) -> list[float]:
        """Return the means of `values` over ranks, each rank counting alike."""
        return [total / self.size for total in self.total(values)]

    def gather(self, items: list[Any]) -> list[Any]:
        """Return the items of all ranks, in rank order."""
        if self.size == 1:
            return items
        parts: list[list[Any]] = [[] for _ in range(self.size)]
        dist.all_gather_object(parts, items)
        return [item for part in parts for item in part]

    def share(self, batch_size: int) -> int:
        """Return this rank's clips of a global batch; ConfigError if the ranks cannot share it equally."""
        if batch_size % self.size:
            raise ConfigError(f"batch_size = {batch_size} is not divisible by the {self.size} processes")
        return batch_size // self.size


@contextmanager
def world(runtime: RuntimeConfig) -> Iterator[World]:
    """Join the ranks that the environment names (RANK, WORLD_SIZE, LOCAL_RANK), or be alone."""
    size, rank = int(os.environ.get("WORLD_SIZE", 1)), int(os.environ.get("RANK", 0))
    device = _device(runtime, int(os.environ.get("LOCAL_RANK", 0)))
    if runtime.num_threads:
        torch.set_num_threads(runtime.num_threads)
    if size == 1:
        yield World(0, 1, device)
        return
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield World(rank, size, device)
    finally:
        dist.destroy_process_group()


def _device(runtime: RuntimeConfig, local_rank: int) -> torch.device:
    if runtime.device == "cpu" or (runtime.device == "auto" and not torch.cuda.is_available()):
        return torch.device("cpu")
    if not torch.cuda.is_available():
        raise ConfigError("runtime.device = 'cuda': torch finds no CUDA device here; allowed: auto, cpu")
    device = torch.device("cuda", local_rank)
    torch.cuda.set_device(device)
    return device
