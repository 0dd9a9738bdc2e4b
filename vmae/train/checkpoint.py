"""Checkpoints that survive a kill at any moment: written beside and renamed; the one before is kept for a damaged last."""

import contextlib
import hashlib
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from vmae.errors import CheckpointError, RunDirError, reason_of
from vmae.files import UNREADABLE, write_atomic
from vmae.runs import RunDir
from vmae.train.sharding import gathered, load_model, load_optimizer

CONTENT = "content_sha256"  # in the header of model.safetensors


@dataclass
class Progress:
    """What has been done: optimiser steps, training seconds over all attempts, and counts that end up in the result.

    `left_out` are steps, from 1, that changed no weight because their loss or gradient was not finite.
    """

    step: int = 0
    train_s: float = 0.0
    data_wait_s: float = 0.0
    num_replaced: int = 0
    num_restarts: int = 0
    pending_losses: list[float] = field(default_factory=list)
    left_out: list[int] = field(default_factory=list)


def save_checkpoint(
    run_dir: RunDir,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    progress: Progress,
    average: nn.Module | None = None,
    is_main: bool = True,
) -> None:
    """Write last.pt, keeping the one before as previous.pt; RunDirError if the disk refuses.

    Whole, whether the model is sharded or not: called on all ranks together, the main one writes.
    """
    state = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "progress": vars(progress)}
    if average is not None:
        state["average"] = average.state_dict()
    state = gathered(state, is_main)
    if not is_main:
        return

    def write(path: Path) -> None:
        try:
            torch.save(state, path)
        except RuntimeError as error:  # torch reports a full disk so
            raise RunDirError(f"cannot write {run_dir.checkpoint}: {reason_of(error)}") from error
        with contextlib.suppress(FileNotFoundError):
            run_dir.checkpoint.replace(run_dir.previous_checkpoint)

    write_atomic(run_dir.checkpoint, write, make_folder=False)


def load_checkpoint(
    run_dir: RunDir, model: nn.Module, optimizer: torch.optim.Optimizer, average: nn.Module | None = None
) -> Progress:
    """Restore the newest good checkpoint and return its progress; a fresh `Progress` if there is none.

    Raises CheckpointError if there are checkpoints but none loads: starting over would hide lost work.
    """
    reasons = []
    for path in (run_dir.checkpoint, run_dir.previous_checkpoint):
        if not path.exists():
            continue
        try:
            _check_sums(path)
            state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
            load_model(model, state["model"])
            load_optimizer(optimizer, state["optimizer"])
            if average is not None:
                load_model(average, state["average"])
            progress = Progress(**state["progress"])
        except UNREADABLE as error:
            reasons.append(f"{path}: {reason_of(error)}")
            continue
        if reasons:
            print(f"warning: {reasons[0]}; resuming from {path.name} at step {progress.step}", flush=True)
            with contextlib.suppress(OSError):  # else the next save would put the damaged one in the good one's place
                run_dir.checkpoint.unlink()
        return progress
    if reasons:
        raise CheckpointError(f"no usable checkpoint: {'; '.join(reasons)}; remove them to start over")
    return Progress()


def _check_sums(path: Path) -> None:
    """Raise BadZipFile where a checkpoint's bytes are not those that were written: torch itself loads flipped bits."""
    with zipfile.ZipFile(path) as parts:
        if bad := parts.testzip():
            raise zipfile.BadZipFile(f"the checksum of {bad} does not fit")


def save_weights(path: Path, model: nn.Module) -> None:
    """Write the model's weights as safetensors, atomically, with their hash in the header."""
    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    write_atomic(path, safetensors.torch.save(weights, {CONTENT: content_hash(weights)}), make_folder=False)


def load_weights(path: Path) -> dict[str, Tensor]:
    """Read safetensors weights; CheckpointError names a missing or damaged file."""
    try:
        with safetensors.safe_open(path, "pt") as file:
            weights, header = {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118
    except FileNotFoundError:
        raise CheckpointError(f"no weights at {path}: the parent run left none") from None
    except SafetensorError as error:
        raise CheckpointError(f"{path} is damaged: {error}") from None
    if CONTENT in header and header[CONTENT] != content_hash(weights):
        raise CheckpointError(f"{path} is damaged: its weights are not what was written; remove its run directory to train again")
    return weights


def content_hash(weights: Mapping[str, Tensor]) -> str:
    """Return the sha256 over names, types, shapes and values of `weights`."""
    content = hashlib.sha256()
    for name, tensor in sorted(weights.items()):
        content.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        content.update(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return content.hexdigest()
