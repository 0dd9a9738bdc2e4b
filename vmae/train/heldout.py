"""What a pre-training reached on clips it never saw, beside what copying reaches on the same clips and masks."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from scipy import stats
from torch import Tensor

from vmae.config import PretrainConfig
from vmae.data.augment import to_float
from vmae.data.clips import test_views
from vmae.data.frames import FrameSource
from vmae.errors import DataError
from vmae.files import write_atomic
from vmae.grid import NUM_CHANNELS, CubeGrid
from vmae.model.autoencoder import VideoMAE
from vmae.model.cubes import cut, join, take
from vmae.model.floors import trivial_predictions
from vmae.model.masking import draw_batch
from vmae.model.targets import cube_statistics, denormalise, pixel_target, reconstruction_loss
from vmae.results import FLOORS
from vmae.train.distributed import World
from vmae.train.setup import autocast

MASK_EPOCH = 2**31  # an epoch no training reaches: held-out masks are fixed and no training mask repeats them
NUM_SHOWN = 4


@dataclass(frozen=True)
class Heldout:
    """Held-out clips with their masks: cubes [B, N, P] in [0, 1], hidden bool [B, N]; `missing` could not be read."""

    cubes: Tensor
    hidden: Tensor
    missing: int


def heldout_batches(
    source: FrameSource, config: PretrainConfig, grid: CubeGrid, world: World, batch_size: int = 64
) -> list[Heldout]:
    """Return the centre clip of every held-out video once, with the mask of (seed, video)."""
    batches = []
    for first in range(0, len(source), batch_size):
        clips, videos = [], []
        for video in range(first, min(first + batch_size, len(source))):
            try:
                clips.append(test_views(source, video, 1, config.clip.frame_stride, grid)[0])
                videos.append(video)
            except DataError:
                continue
        if videos:
            cubes = cut(to_float(torch.stack(clips), world.device), grid)
            hidden = torch.from_numpy(draw_batch(config.mask, grid, config.seed, MASK_EPOCH, videos))
            missing = min(batch_size, len(source) - first) - len(videos)
            batches.append(Heldout(cubes, hidden.to(world.device), missing))
    return batches


@torch.no_grad()
def judge(model: VideoMAE, batches: list[Heldout], config: PretrainConfig, world: World) -> dict[str, object]:
    """Return the held-out loss, the trivial floors, and whether the loss beats the best floor.

    `beats_floors` is true if the paired difference per clip to the best floor (the one with the lowest mean) has a 95 % t
    interval below zero; `floor_gap` is that difference's mean and `floor_gap_ci` the half width.
    """
    model.eval()
    losses: dict[str, list[float]] = {name: [] for name in ("model", *FLOORS)}
    all_targets = [pixel_target(batch.cubes, config.target) for batch in batches]
    constant = torch.cat([targets.reshape(-1, NUM_CHANNELS) for targets in all_targets]).mean(dim=0)
    for batch, targets in zip(batches, all_targets, strict=True):
        with autocast(config.precision, world.device):
            predicted, index = model.predict(batch.cubes, batch.hidden)
        guesses = {n: take(p, index) for n, p in trivial_predictions(targets, batch.hidden, constant, model.grid).items()}
        wanted = take(targets, index)
        for name, guess in {"model": predicted, **guesses}.items():
            losses[name] += [float(reconstruction_loss(g, w, config.loss)) for g, w in zip(guess, wanted, strict=True)]
    means = {name: float(np.mean(values)) for name, values in losses.items()}
    best = min(FLOORS, key=lambda name: means[name])
    gaps = np.subtract(losses["model"], losses[best])
    half = float(stats.t.ppf(0.975, len(gaps) - 1) * gaps.std(ddof=1) / len(gaps) ** 0.5) if len(gaps) > 1 else np.inf
    return {
        "loss_heldout": means["model"],
        **{f"floor_{name}": means[name] for name in FLOORS},
        "best_floor": best,
        "floor_gap": float(gaps.mean()),
        "floor_gap_ci": half if np.isfinite(half) else None,
        "beats_floors": bool(gaps.mean() + half < 0),
        "num_heldout": len(gaps),
        "num_heldout_missing": sum(batch.missing for batch in batches),
    }


@torch.no_grad()
def save_reconstruction(path: Path, model: VideoMAE, batch: Heldout, config: PretrainConfig, world: World) -> None:
    """Write a few clips as original, hidden and reconstruction, for figures that need no torch.

    Visible cubes are shown as they are. Raw targets are predicted pixels: honest. Normalised targets lack each cube's mean
    and deviation; only the hidden original has them, so the file says `uses_target_statistics`.
    """
    model.eval()
    cubes, hidden = batch.cubes[:NUM_SHOWN], batch.hidden[:NUM_SHOWN]
    with autocast(config.precision, world.device):
        predicted, index = model.predict(cubes, hidden)
    predicted = predicted.float()
    if config.target == "normalised":
        predicted = denormalise(predicted, *cube_statistics(take(cubes, index)))
    rebuilt = cubes.clone()
    rebuilt.scatter_(1, index[..., None].expand_as(predicted), predicted)
    content = {
        "original": _bytes(cubes, model.grid),
        "reconstruction": _bytes(rebuilt, model.grid),
        "hidden": _bytes(hidden[..., None].float().expand_as(cubes), model.grid)[..., 0] > 0,
        "uses_target_statistics": np.array(config.target == "normalised"),
    }

    def write(temporary: Path) -> None:
        with temporary.open("wb") as file:
            np.savez_compressed(file, allow_pickle=False, **content)

    write_atomic(path, write)


def _bytes(cubes: Tensor, grid: CubeGrid) -> np.ndarray:
    frames = join(cubes, grid).clamp(0, 1).mul(255).round().byte()
    array: np.ndarray = frames.permute(0, 2, 3, 4, 1).cpu().numpy()  # [B, T, H, W, C]
    return array
