"""Precision, noise and how a model is computed, the same for all loops and the evaluator."""

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch._dynamo.exc import TorchDynamoException
from torch._inductor.runtime.cache_dir_utils import default_cache_dir
from torch.utils.checkpoint import checkpoint

from vmae.errors import ConfigError, reason_of
from vmae.model.blocks import blocks_of
from vmae.runtime import RuntimeConfig

COMPILED = "TORCHINDUCTOR_CACHE_DIR"
# Of the CPU's allocator; of cuBLAS and cuDNN, whose workspaces come last on a device that is nearly full.
NO_MEMORY = ("can't allocate memory", "CUBLAS_STATUS_ALLOC_FAILED", "CUDNN_STATUS_ALLOC_FAILED")


def autocast(precision: str, device: torch.device) -> AbstractContextManager[object]:
    """Return bf16 autocast where asked, nothing for fp32."""
    return nullcontext() if precision == "fp32" else torch.autocast(device.type, dtype=torch.bfloat16)


def seed_init(seed: int) -> None:
    """Make the weights that are drawn next a function of the seed, on every rank the same; nothing else is drawn by torch."""
    torch.default_generator.manual_seed((seed * 1_000_003 - 1) * 1_009)


def arranged(model: nn.Module, runtime: RuntimeConfig) -> nn.Module:
    """Return `model` computing as the runtime asks: attention kernel, recomputed blocks, compiled; weights stay its own."""
    for block in blocks_of(model):
        block.kernel, block.sharing = runtime.attention, runtime.share_mask_tokens
        if runtime.recompute:
            # A block draws nothing, so no generator's state is kept for its second time.
            block.forward = partial(checkpoint, block.forward, use_reentrant=False, preserve_rng_state=False)  # type: ignore[method-assign]
    if not runtime.compile:
        return model
    # Where the next start of this or another run finds it, on another node too; torch's own place is a node's /tmp, and
    # some of its versions write that place into the environment as soon as they are imported.
    if os.environ.get(COMPILED) in (None, default_cache_dir()):
        os.environ[COMPILED] = str(Path(runtime.data_root).absolute() / "cache" / "compiled")
    return Compiled(model)


class Compiled(nn.Module):
    """A model through torch.compile, or as it is once compiling has failed, which is said once."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self._fast: Callable[..., Any] | None = torch.compile(model.forward)

    def forward(self, *args: Any) -> Any:
        """As the model's own."""
        if self._fast is not None:
            try:
                return self._fast(*args)
            except TorchDynamoException as error:
                self._fast = None
                print(f"warning: torch.compile failed, going on without it ({reason_of(error)})", flush=True)
        return self.model(*args)


@contextmanager
def naming_memory(part: str, num_clips: int, can_split: bool = True) -> Iterator[None]:
    """Turn running out of memory in `part` of a step into a ConfigError that says what to set.

    Args:
        part: forward, backward or optimiser.
        num_clips: clips of the micro-batch that was tried.
        can_split: whether the method's step can be taken in micro-batches.
    """
    try:
        yield
    except RuntimeError as error:  # torch.OutOfMemoryError is one; others have no class of their own
        if not isinstance(error, torch.OutOfMemoryError) and not any(words in str(error) for words in NO_MEMORY):
            raise
        place = "in the profile's [runtime]"
        if part == "optimiser":
            advice = (
                "the weights with their optimiser state do not fit whatever the batch; take a smaller model or a larger device"
            )
        elif not can_split:
            advice = f"set recompute = true {place}, or take more devices, a smaller model or a smaller pretrain.optim.batch_size"
        elif num_clips > 1:
            advice = f"set micro_batch_size = {num_clips // 2} or less (the global batch stays), or recompute = true, {place}"
        else:
            advice = f"one clip is already all there is in it; set recompute = true {place}, or take a smaller model"
        raise ConfigError(f"out of memory in the {part} of {num_clips} clips: {advice} ({reason_of(error)})") from error
