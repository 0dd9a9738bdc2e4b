"""A training step as one CUDA graph: kernels that the host starts one by one in the first steps are replayed at once later.

A small model's step is a thousand kernels of microseconds; starting them takes longer than computing them (docs/performance.md).
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from vmae.errors import ConfigError, reason_of

WARMUP_STEPS = 3  # in which libraries set themselves up, which must not be recorded

Take = Callable[..., tuple[Tensor, Tensor]]


class Recorded:
    """Takes training steps as `take` does: the first few as it is, then recorded, then replayed.

    What `take` returns is overwritten by the next step. Where recording fails, that is said once, and steps are taken as before.
    """

    def __init__(self, take: Take, optimizer: torch.optim.Optimizer, device: torch.device) -> None:
        """Prepare.

        Args:
            take: called with something that never changes and with inputs [B, ...] or None, each of one shape; steps the
                optimiser without waiting for the device, and returns tensors.
        """
        self.take, self.optimizer = take, optimizer
        self._rates = torch.zeros(len(optimizer.param_groups), device=device)
        self._aside = torch.cuda.Stream(device)
        self._can = True
        self.forget()

    def forget(self) -> None:
        """Let the recording go, and its memory; later steps, also with another state of the optimiser, are recorded anew."""
        self._graph: torch.cuda.CUDAGraph | None = None
        self._num_steps = 0
        self._inputs: list[Tensor | None] = []
        self._outputs: tuple[Tensor, Tensor] | None = None

    def __call__(self, constant: Any, *inputs: Tensor | None) -> tuple[Tensor, Tensor]:
        """Take a step."""
        if not self._can:
            return self.take(constant, *inputs)
        self._read_rates()
        self._num_steps += 1
        if self._num_steps <= WARMUP_STEPS:
            return self._take_aside(constant, inputs)
        if self._graph is None:
            self._record(constant, inputs)
            if self._graph is None:
                return self.take(constant, *inputs)
        for own, given in zip(self._inputs, inputs, strict=True):
            if own is not None and given is not None:
                own.copy_(given)
        self._graph.replay()
        assert self._outputs is not None
        return self._outputs

    def _take_aside(self, constant: Any, inputs: tuple[Tensor | None, ...]) -> tuple[Tensor, Tensor]:
        """Take a step on a stream of its own, as a recording will: what is set up then is set up for such a stream."""
        computing = torch.cuda.current_stream()
        self._aside.wait_stream(computing)
        with torch.cuda.stream(self._aside), self._rates_on_device():
            taken = self.take(constant, *inputs)
        computing.wait_stream(self._aside)
        return taken

    def _record(self, constant: Any, inputs: tuple[Tensor | None, ...]) -> None:
        """Record a step on inputs of our own; nothing is computed."""
        own, graph = [None if x is None else x.clone() for x in inputs], torch.cuda.CUDAGraph()
        try:
            # Of this thread alone: the one that pins coming batches asks the device for memory meanwhile.
            with self._rates_on_device(), torch.cuda.graph(graph, stream=self._aside, capture_error_mode="thread_local"):
                outputs = self.take(constant, *own)
        except (RuntimeError, ConfigError) as error:  # the latter where there is no memory for it
            self._can = False
            self.optimizer.zero_grad(set_to_none=True)
            print(f"warning: a step cannot be recorded as a CUDA graph, going on without ({reason_of(error)})", flush=True)
            return
        self._graph, self._inputs, self._outputs = graph, own, outputs

    def _read_rates(self) -> None:
        """Copy the groups' learning rates to the device, without waiting for it."""
        rates = torch.tensor([group["lr"] for group in self.optimizer.param_groups])
        self._rates.copy_(rates.pin_memory(), non_blocking=True)

    @contextmanager
    def _rates_on_device(self) -> Iterator[None]:
        """Let the optimiser read learning rates from the device, where later steps find theirs; numbers again afterwards."""
        groups = self.optimizer.param_groups
        before = [(group["lr"], group["capturable"]) for group in groups]
        for group, rate in zip(groups, self._rates.unbind(), strict=True):
            group.update(lr=rate, capturable=True)
        try:
            yield
        finally:
            for group, (rate, capturable) in zip(groups, before, strict=True):
                group.update(lr=rate, capturable=capturable)
