"""Precision and noise, the same for both loops and the evaluator."""

from contextlib import AbstractContextManager, nullcontext

import torch

INIT_STEP = -1  # the step whose noise initialises the weights


def autocast(precision: str, device: torch.device) -> AbstractContextManager[object]:
    """Return bf16 autocast where asked, nothing for fp32."""
    return torch.autocast(device.type, dtype=torch.bfloat16) if precision == "bf16" else nullcontext()


def seed_step(seed: int, step: int, rank: int) -> None:
    """Make the noise of one step (drop path) a function of (seed, step, rank), so that resuming needs no generator state."""
    torch.manual_seed((seed * 1_000_003 + step) * 1_009 + rank)
