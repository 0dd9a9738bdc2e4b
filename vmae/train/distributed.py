"""Ranks: none, or what torchrun and srun set; the mathematics is the same for any number of them."""

import ctypes
import json
import os
import random
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed import TCPStore  # type: ignore[attr-defined]
from torch.distributed.fsdp import FSDPModule
from torch.nn.parallel import DistributedDataParallel

from vmae import allocation
from vmae.claim import read_json
from vmae.errors import ConfigError, RunDirError
from vmae.files import write_atomic
from vmae.runtime import RuntimeConfig

LOWEST_PORT = 20000
PORTS_TRIED = 50
MEETING_S = 300
M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # malloc.h


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

    def wrap(self, model: nn.Module, bucket_mb: float) -> nn.Module:
        """Return the model averaging its gradients over ranks, `bucket_mb` of them at a time; itself when alone or sharded."""
        if self.size == 1 or isinstance(model, FSDPModule):
            return model
        devices = [self.device] if self.device.type == "cuda" else None
        # Gradients that lie where they are averaged: not copied there and back, and not there twice.
        return DistributedDataParallel(model, device_ids=devices, bucket_cap_mb=bucket_mb, gradient_as_bucket_view=True)

    @contextmanager
    def accumulating(self, model: nn.Module, is_last: bool) -> Iterator[None]:
        """Let a wrapped model's gradients add up on each rank, unless they are the step's last, which are averaged."""
        if self.size == 1 or is_last:
            yield
        elif isinstance(model, FSDPModule):
            model.set_requires_gradient_sync(False)
            yield
            model.set_requires_gradient_sync(True)
        else:
            assert isinstance(model, DistributedDataParallel)
            with model.no_sync():
                yield

    def any(self, *flags: bool) -> list[bool]:
        """Return, for each flag, whether any rank has it: the same answer on every rank, so that all act alike."""
        return [total > 0 for total in self.total([float(flag) for flag in flags])]

    def total(self, values: list[float]) -> list[float]:
        """Return the sums of `values` over ranks, in float64.

        On the CPU (gloo): on a GPU it would wait for all queued work first, and ranks ask each other after every step.
        """
        if self.size == 1:
            return values
        tensor = torch.tensor(values, dtype=torch.float64)
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

    def gather_rows(self, rows: torch.Tensor) -> torch.Tensor:
        """Return the rows [B, D] of all ranks, in rank order, without gradient; equally many on each."""
        if self.size == 1:
            return rows
        parts = [torch.empty_like(rows) for _ in range(self.size)]
        dist.all_gather(parts, rows.detach().contiguous())
        return torch.cat(parts)

    def share(self, batch_size: int) -> int:
        """Return this rank's clips of a global batch; ConfigError if the ranks cannot share it equally."""
        if batch_size % self.size:
            raise ConfigError(f"batch_size = {batch_size} is not divisible by the {self.size} processes")
        return batch_size // self.size


@contextmanager
def world(runtime: RuntimeConfig, task: allocation.Task | None = None, rendezvous: Path | None = None) -> Iterator[World]:
    """Join the other ranks, or be alone.

    Args:
        task: this process among the ranks; None: as RANK, WORLD_SIZE and LOCAL_RANK say (torchrun).
        rendezvous: file, seen by all ranks, through which they meet if `task` is given.
    """
    rank, size, local_rank = task or _task_of_torchrun()
    device = _device(runtime, local_rank)
    if runtime.num_threads:
        torch.set_num_threads(runtime.num_threads)
    if device.type == "cpu":
        keep_freed_memory()
    else:
        torch.cuda.reset_peak_memory_stats(device)  # an earlier run of the chain had its own
    if size == 1:
        yield World(0, 1, device)
        return
    backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
    if task is None or rendezvous is None:
        dist.init_process_group(backend)
    else:
        dist.init_process_group(backend, store=_meet(rank, size, rendezvous), rank=rank, world_size=size)
    try:
        yield World(rank, size, device)
    finally:
        dist.destroy_process_group()


def keep_freed_memory() -> bool:
    """Have glibc keep what tensors free, for the next step; return whether there is a glibc that does.

    By default it gives back and takes anew a thousand pages in each small step on a CPU, and the kernel zeroes each: a fifth of
    the step (LOG.md). Blocks from 32 MB on never stay unless none is mapped on its own. No number changes.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    return mallopt is not None and all((mallopt(M_MMAP_MAX, 0), mallopt(M_TRIM_THRESHOLD, 2**31 - 1)))


def _task_of_torchrun() -> allocation.Task:
    return int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1)), int(os.environ.get("LOCAL_RANK", 0))


def _meet(rank: int, size: int, file: Path) -> Any:
    """Return the ranks' common store: rank 0 opens a port and writes host and port to `file`, the others read them.

    The port lies below those that the kernel gives to anybody who asks, and the next is tried where one is taken.
    """
    token = f"{allocation.job_id()} {allocation.restart_count()}"
    if rank == 0:
        chance = random.Random(token)
        for _ in range(PORTS_TRIED):
            port = chance.randrange(LOWEST_PORT, _first_ephemeral_port())
            try:
                store = TCPStore("0.0.0.0", port, size, is_master=True, wait_for_workers=False)
            except (RuntimeError, OSError):
                continue
            write_atomic(file, json.dumps({"host": socket.gethostname(), "port": port, "token": token}).encode())
            return store
        raise RunDirError(f"none of {PORTS_TRIED} ports from {LOWEST_PORT} on is free on {socket.gethostname()}")
    deadline = time.monotonic() + MEETING_S
    while (where := read_json(file)).get("token") != token:
        if time.monotonic() > deadline:
            raise RunDirError(f"rank 0 did not show up within {MEETING_S} s: {file} is not there or of another start")
        time.sleep(0.1)
    host = "127.0.0.1" if where["host"] == socket.gethostname() else str(where["host"])  # a container's name may lead nowhere
    return TCPStore(host, int(where["port"]), size, is_master=False)


def _first_ephemeral_port() -> int:
    try:
        return int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    except (OSError, ValueError):
        return 32768


def _device(runtime: RuntimeConfig, local_rank: int) -> torch.device:
    is_gpu_there, num_given = torch.cuda.is_available(), allocation.num_gpus()
    if runtime.device == "cpu" or (runtime.device == "auto" and not is_gpu_there and not num_given):
        return torch.device("cpu")
    if not is_gpu_there:
        given, allowed = (f" of the {num_given} that SLURM gave", "cpu") if num_given else ("", "auto, cpu")
        raise ConfigError(f"runtime.device = {runtime.device!r}: torch finds no CUDA device{given} here; allowed: {allowed}")
    device = torch.device("cuda", local_rank % torch.cuda.device_count())  # a task may see its own GPU alone
    torch.cuda.set_device(device)
    return device
