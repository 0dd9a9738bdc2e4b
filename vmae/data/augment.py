"""Spatial choices for one clip: random multi-scale crop as in the released pre-training, centre crop for evaluation, flip."""

import numpy as np
import torch
from torch import Tensor
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as F

from vmae.config import ClipConfig


def random_view(clip: Tensor, config: ClipConfig, size_px: int, rng: np.random.Generator) -> Tensor:
    """Return a random crop of `clip` uint8 [C, T, H, W], resized to `size_px`, the same for all frames; perhaps shifted, flipped.

    Height and width are drawn from `crop_scales` times the short side, at most one scale apart (distortion), at one of 13
    fixed places (corners, edge and quarter points, centre), as the released GroupMultiScaleCrop does.
    """
    height, width = clip.shape[-2:]
    short = min(height, width)
    scales = config.crop_scales
    row, column = (int(rng.integers(len(scales))) for _ in range(2))
    column = min(max(column, row - 1), row + 1)
    crop_h, crop_w = round(short * scales[row]), round(short * scales[column])
    top, left = _places(height - crop_h, width - crop_w)[int(rng.integers(13))]
    flip = bool(rng.random() < 0.5) and config.hflip
    if (crop_h, crop_w) != (size_px, size_px):
        clip = F.resized_crop(clip, top, left, crop_h, crop_w, [size_px, size_px], InterpolationMode.BILINEAR)
    elif (crop_h, crop_w) != (height, width):
        clip = clip[..., top : top + crop_h, left : left + crop_w]
    if config.roll:
        clip = clip.roll((int(rng.integers(size_px)), int(rng.integers(size_px))), dims=(-2, -1))
    return clip.flip(-1) if flip else clip


def centre_view(clip: Tensor, size_px: int) -> Tensor:
    """Return the central square of the short side of `clip` uint8 [C, T, H, W], resized to `size_px`."""
    height, width = clip.shape[-2:]
    short = min(height, width)
    top, left = (height - short) // 2, (width - short) // 2
    if short == size_px:
        return clip[..., top : top + short, left : left + short]
    return F.resized_crop(clip, top, left, short, short, [size_px, size_px], InterpolationMode.BILINEAR)


def is_trivial(config: ClipConfig, frame_shape: tuple[int, int], size_px: int) -> bool:
    """Return whether `random_view` would return every clip of this frame size as it is."""
    return frame_shape == (size_px, size_px) and config.crop_scales == (1.0,) and not (config.hflip or config.roll)


def _places(free_h: int, free_w: int) -> list[tuple[int, int]]:
    quarters = [(1, 1), (1, 3), (3, 1), (3, 3)]
    thirteen = [(y, x) for y in (0, 2, 4) for x in (0, 2, 4)] + quarters
    return [(y * (free_h // 4), x * (free_w // 4)) for y, x in thirteen]


def to_float(clips: Tensor, device: torch.device) -> Tensor:
    """Return uint8 clips as float32 in [0, 1] on `device`; bytes cross the bus, not floats."""
    return clips.to(device, non_blocking=True).float().div_(255)
