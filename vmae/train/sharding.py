"""Models too large for one device: weights, gradients and optimiser state spread over ranks (FSDP); files stay whole."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

from vmae.errors import ConfigError
from vmae.model.blocks import blocks_of


def shard(model: nn.Module, device: torch.device, num_ranks: int) -> None:
    """Leave each rank a part of every tensor of the model, gathered block by block when it is computed with; in fp32, as it is.

    Every rank starts from the same weights: each keeps its part of its own. ConfigError where this torch cannot do it.
    """
    if device.type == "cpu" and not can_shard_on_cpu():
        raise ConfigError(
            f"runtime.shard = true: torch {torch.__version__} cannot shard on a CPU; take a newer torch, a GPU, or shard = false"
        )
    mesh = init_device_mesh(device.type, (num_ranks,))
    for block in blocks_of(model):
        fully_shard(block, mesh=mesh)
    fully_shard(model, mesh=mesh)


def can_shard_on_cpu() -> bool:
    """Return whether FSDP finds the events it waits for on a CPU too; in torch 2.6 it does not."""
    return hasattr(torch.cpu.current_stream(), "record_event")


def gathered(state: Any, keep: bool = True) -> Any:
    """Return nested dicts, lists and tensors with every sharded tensor whole, on the CPU; called on all ranks together.

    Args:
        keep: False on ranks that only take part: they get None in place of what was sharded.
    """
    if isinstance(state, DTensor):
        whole = state.full_tensor()
        return whole.cpu() if keep else None
    if isinstance(state, Mapping):
        return {key: gathered(value, keep) for key, value in state.items()}
    if isinstance(state, list):
        return [gathered(value, keep) for value in state]
    return state


def load_model(model: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Load whole weights into a model, sharded or not."""
    own = model.state_dict()
    model.load_state_dict({name: _like(tensor, own.get(name)) for name, tensor in weights.items()})


def load_optimizer(optimizer: torch.optim.Optimizer, state: Mapping[str, Any]) -> None:
    """Load a whole optimiser state into the optimiser of a model, sharded or not."""
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    of_each = {i: {name: _like(value, parameters[i]) for name, value in values.items()} for i, values in state["state"].items()}
    optimizer.load_state_dict({**state, "state": of_each})


def _like(whole: Any, own: Any) -> Any:
    """Return `whole` laid out as `own` is; on all ranks together. Scalars, such as a count of steps, every rank keeps."""
    if not isinstance(own, DTensor) or not isinstance(whole, Tensor) or whole.shape != own.shape:
        return whole
    return distribute_tensor(whole.to(own.device), own.device_mesh, own.placements)
