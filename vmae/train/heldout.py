"""What a pre-training reached on clips it never saw, beside what copying reaches on the same clips and masks."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.special import stdtrit
from torch import Tensor

from vmae.config import PretrainConfig, PretrainSection
from vmae.data.augment import to_float
from vmae.data.frames import FrameSource
from vmae.data.manifest import Manifest
from vmae.data.source import frames_of
from vmae.data.views import Views
from vmae.errors import DataError
from vmae.files import write_atomic
from vmae.grid import NUM_CHANNELS, CubeGrid
from vmae.model.autoencoder import VideoMAE
from vmae.model.cubes import join, take
from vmae.model.floors import trivial_predictions
from vmae.model.masking import draw_batch, draw_kept_batch
from vmae.model.targets import frames_to_predict
from vmae.results import FLOORS
from vmae.runtime import RuntimeConfig
from vmae.train.distributed import World
from vmae.train.setup import autocast

MASK_EPOCH = 2**31  # an epoch no training reaches: held-out masks are fixed and no training mask repeats them
NUM_SHOWN = 4


@dataclass(frozen=True)
class Heldout:
    """Held-out clips with their masks: uint8 [B, C, T, H, W] as read, hidden and kept bool [B, N]."""

    clips: Tensor
    hidden: Tensor
    kept: Tensor | None


def open_heldout(manifest: Manifest, config: PretrainSection, grid: CubeGrid, runtime: RuntimeConfig) -> FrameSource:
    """Open the videos that will judge a pre-training, before it is paid for; DataError if not one of them can be read."""
    source = frames_of(manifest, config.heldout_split, runtime)
    reading = Views(grid.num_frames, config.clip.frame_stride, grid.size_px)
    reason = None
    for video in range(len(source)):
        try:
            reading.of(source, video)
            return source
        except DataError as error:
            reason = reason or str(error)
    raise none_readable(config.heldout_split, len(source), reason)


def none_readable(split: str, num_videos: int, reason: str | None) -> DataError:
    """Return the error of a split none of whose videos can be read, the first one for `reason`."""
    return DataError(f"not one of {num_videos} {split} videos can be read; the first: {reason}")


def heldout_batches(
    source: FrameSource, config: PretrainConfig, grid: CubeGrid, world: World, batch_size: int = 64
) -> list[Heldout]:
    """Return the centre clip of every held-out video once, with the masks of (seed, video).

    A video that cannot be read is left out; DataError if that is all of them.
    """
    reading = Views(*config.reading(grid), grid.size_px)
    batches, reason = [], None
    for first in range(0, len(source), batch_size):
        clips, videos = [], []
        for video in range(first, min(first + batch_size, len(source))):
            try:
                clips.append(reading.of(source, video)[0][0])
                videos.append(video)
            except DataError as error:
                reason = reason or str(error)
        if videos:
            hidden = torch.from_numpy(draw_batch(config.mask, grid, config.seed, MASK_EPOCH, videos)).to(world.device)
            kept = None
            if config.decoder_mask.kind != "none":
                drawn = draw_kept_batch(config.decoder_mask, grid, config.seed, MASK_EPOCH, videos)
                kept = torch.from_numpy(drawn).to(world.device)
            batches.append(Heldout(torch.stack(clips), hidden, kept))
    if not batches:
        raise none_readable(config.heldout_split, len(source), reason)
    return batches


@torch.no_grad()
def judge(model: VideoMAE, batches: list[Heldout], num_videos: int, config: PretrainConfig, world: World) -> dict[str, object]:
    """Return the held-out loss, the trivial floors, whether the loss beats the best floor, and the masking ratio achieved.

    Of `num_videos` held-out videos those that are in no batch are counted as missing.

    `beats_floors` is true if the paired difference per clip to the best floor (the one with the lowest mean) has a 95 % t
    interval below zero; `floor_gap` is that difference's mean and `floor_gap_ci` the half width.
    """
    model.eval()
    losses: dict[str, list[float]] = {name: [] for name in ("model", *FLOORS)}
    constant = _mean_target(model, batches, world)
    for batch in batches:
        clips = to_float(batch.clips, world.device)
        targets = model.targets(clips)
        with autocast(config.precision, world.device):
            predicted = model.predict(clips, batch.hidden, batch.kept)
        guesses = trivial_predictions(targets, batch.hidden, constant, model.grid)
        wanted = take(targets, predicted.index)
        for name, guess in {"model": predicted.values, **{n: take(g, predicted.index) for n, g in guesses.items()}}.items():
            for clip in range(len(wanted)):
                one = slice(clip, clip + 1)
                counts = None if predicted.counts is None else predicted.counts[one]
                losses[name].append(float(model.loss(guess[one], wanted[one], counts)))
    means = {name: float(np.mean(values)) for name, values in losses.items()}
    best = min(FLOORS, key=lambda name: means[name])
    gaps = np.subtract(losses["model"], losses[best])
    hidden = torch.cat([batch.hidden for batch in batches]).float()
    return {
        "loss_heldout": means["model"],
        **{f"floor_{name}": means[name] for name in FLOORS},
        "best_floor": best,
        **below_floor(gaps),
        "num_heldout": len(gaps),
        "num_heldout_missing": num_videos - len(gaps),
        "mask_ratio_achieved": float(hidden.mean()),
        "num_visible_cubes": float((1 - hidden).sum(dim=1).mean()),
    }


def below_floor(gaps: np.ndarray) -> dict[str, Any]:
    """Compare losses with a floor over `gaps` [num_clips], each clip's loss minus the floor's on the same clip.

    Returns:
        `floor_gap`, the mean gap; `floor_gap_ci`, half of its 95 % t interval (None for one clip); `beats_floors`, whether the
        whole interval lies below zero.
    """
    # scipy.stats has the same quantile and takes a second longer to import, in every job.
    half = float(stdtrit(len(gaps) - 1, 0.975) * gaps.std(ddof=1) / len(gaps) ** 0.5) if len(gaps) > 1 else np.inf
    return {
        "floor_gap": float(gaps.mean()),
        "floor_gap_ci": half if np.isfinite(half) else None,
        "beats_floors": bool(gaps.mean() + half < 0),
    }


def _mean_target(model: VideoMAE, batches: list[Heldout], world: World) -> Tensor:
    """Return the mean target of all cubes of all clips, [C]."""
    total, count = torch.zeros(NUM_CHANNELS, dtype=torch.float64, device=world.device), 0
    for batch in batches:
        values = model.targets(to_float(batch.clips, world.device)).reshape(-1, NUM_CHANNELS)
        total += values.sum(dim=0, dtype=torch.float64)
        count += len(values)
    return (total / count).float()


@torch.no_grad()
def save_reconstruction(path: Path, model: VideoMAE, batch: Heldout, config: PretrainConfig, world: World) -> None:
    """Write a few clips as original, hidden and reconstruction, for figures that need no torch.

    Raw targets are predicted pixels: honest. Of normalised ones only the hidden original has mean and deviation, so the file says
    `uses_target_statistics`.
    """
    model.eval()
    few = slice(0, NUM_SHOWN)
    clips, hidden = to_float(batch.clips[few], world.device), batch.hidden[few]
    with autocast(config.precision, world.device):
        predicted = model.predict(clips, hidden, None if batch.kept is None else batch.kept[few])
    places = hidden[..., None].float().expand(-1, -1, model.target_grid.cube_values)
    content = {
        "original": _bytes(frames_to_predict(clips, config.target_frames, model.grid)),
        "reconstruction": _bytes(model.rebuild(clips, hidden, predicted)),
        "hidden": _bytes(join(places, model.target_grid))[..., 0] > 0,
        "uses_target_statistics": np.array(config.target != "raw"),
    }

    def write(temporary: Path) -> None:
        with temporary.open("wb") as file:
            np.savez_compressed(file, **content)  # type: ignore[arg-type]  # before numpy 2.1 allow_pickle would be one more array

    write_atomic(path, write, make_folder=False)


def _bytes(frames: Tensor) -> np.ndarray:
    """[B, C, T, H, W] in [0, 1] -> uint8 [B, T, H, W, C]."""
    array: np.ndarray = frames.clamp(0, 1).mul(255).round().byte().permute(0, 2, 3, 4, 1).cpu().numpy()
    return array
