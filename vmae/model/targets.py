"""What the decoder must predict, and how a miss is priced (Tables 1c and 1f)."""

import torch
import torch.nn.functional as F
from torch import Tensor

from vmae.grid import NUM_CHANNELS, CubeGrid

EPS = 1e-6
# Which dimensions of pixels [..., P / C, C] have one mean and deviation.
ONE_MEAN = {"normalised": (-2,), "normalised_pooled": (-2, -1)}


def input_frames(clips: Tensor, target_frames: str) -> Tensor:
    """Return the frames that the encoder sees of `clips` [B, C, T, H, W] as read: every second one under a denser target."""
    return clips[:, :, ::2] if target_frames == "double_rate" else clips


def frames_to_predict(clips: Tensor, target_frames: str, grid: CubeGrid) -> Tensor:
    """Return the clip that is cut into targets, as many cubes as the input has: all frames read, or of each cube one.

    For `centre` that one is the frame which in the centre slice is frame T/2 of the clip; only that slice counts.
    """
    if target_frames == "centre":
        return clips[:, :, grid.num_frames // 2 % grid.tubelet_frames :: grid.tubelet_frames]
    return clips


def counted(index: Tensor, target_frames: str, grid: CubeGrid) -> Tensor | None:
    """Return which of the cubes at `index` [B, K] the target covers, bool [B, K]; None for all."""
    if target_frames != "centre":
        return None
    return index // grid.num_positions == grid.num_frames // 2 // grid.tubelet_frames


def pixel_target(cubes: Tensor, kind: str) -> Tensor:
    """Return the target of `cubes` [..., P] in [0, 1]: "raw" pixels, "normalised" per cube and channel, or "normalised_pooled".

    `normalised` as released: unbiased variance over the cube's pixels of one channel, EPS added to the deviation. Pooled as in
    MAE and mae_st: over all pixels and channels of the cube, EPS added to the variance.
    """
    if kind == "raw":
        return cubes
    pixels = cubes.unflatten(-1, (-1, NUM_CHANNELS))
    centred = pixels - _mean(pixels, kind)
    return centred.div_(_deviation(centred, kind)).flatten(-2)


def cube_statistics(cubes: Tensor, kind: str) -> tuple[Tensor, Tensor]:
    """Return mean and deviation that `kind` divides by, of cubes [..., P]: each [..., 1, C], or [..., 1, 1] if pooled."""
    pixels = cubes.unflatten(-1, (-1, NUM_CHANNELS))
    mean = _mean(pixels, kind)
    return mean, _deviation(pixels - mean, kind)


def _mean(pixels: Tensor, kind: str) -> Tensor:
    return pixels.mean(dim=ONE_MEAN[kind], keepdim=True)


def _deviation(centred: Tensor, kind: str) -> Tensor:
    """Return what `kind` divides by, of centred pixels [..., P / C, C]; torch.var_mean is slow on a CPU (LOG.md)."""
    squares = centred.square().sum(dim=ONE_MEAN[kind], keepdim=True)
    variance = squares / (centred.numel() // squares.numel() - 1)
    return (variance + EPS).sqrt() if kind == "normalised_pooled" else variance.sqrt() + EPS


def denormalise(target: Tensor, mean: Tensor, deviation: Tensor) -> Tensor:
    """Return pixels [..., P] of a normalised `target` [..., P] with the statistics [..., 1, C] given."""
    return (target.unflatten(-1, (-1, NUM_CHANNELS)) * deviation + mean).flatten(-2)


def to_pixels(target: Tensor, cubes: Tensor, kind: str) -> Tensor:
    """Return pixels [..., P] of a `target` [..., P], the inverse of `pixel_target`; mean and deviation are those of `cubes`."""
    target = target.to(cubes.dtype)
    return target if kind == "raw" else denormalise(target, *cube_statistics(cubes, kind))


def reconstruction_loss(predicted: Tensor, target: Tensor, kind: str, beta: float = 1.0, weight: Tensor | None = None) -> Tensor:
    """Return the mean "mse", "l1" or "smooth_l1" over all values [B, K, P], computed in fp32 or better.

    Args:
        beta: of smooth_l1.
        weight: bool [B, K], cubes that count. Then each clip's mean is taken first, so that clips with more such cubes weigh no
            more and micro-batches change nothing; a clip without any adds zero.
    """
    kept = torch.promote_types(predicted.dtype, torch.float32)
    predicted, target = predicted.to(kept), target.to(kept)
    reduction = "mean" if weight is None else "none"
    if kind == "smooth_l1":
        miss = F.smooth_l1_loss(predicted, target, beta=beta, reduction=reduction)
    else:
        miss = {"mse": F.mse_loss, "l1": F.l1_loss}[kind](predicted, target, reduction=reduction)
    if weight is None:
        return miss
    share = weight.to(kept) / weight.sum(dim=1, keepdim=True).clamp(min=1)
    return (miss.mean(dim=-1) * share).sum(dim=1).mean()
