"""Spatial choices for one clip, alike in all frames: crops, flip, shift; RandAugment and erasing as in the released code."""

import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any

import numpy as np
import torch
from PIL import Image
from timm.data.auto_augment import rand_augment_transform
from timm.data.random_erasing import RandomErasing
from torch import Tensor
from torchvision.transforms import RandomResizedCrop
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as F

from vmae.model.blocks import IMAGENET_MEAN, IMAGENET_STD
from vmae.sections import ClipConfig, FinetuneClipConfig

CROP_ASPECT = (3 / 4, 4 / 3)  # as released


def random_view(clip: Tensor, config: ClipConfig, size_px: int, rng: np.random.Generator) -> Tensor:
    """Return `clip` uint8 [C, T, H, W] altered as `config` says and cropped to `size_px`; every frame alike."""
    more = config if isinstance(config, FinetuneClipConfig) else None
    if more and more.rand_augment:
        clip = rand_augment(clip, more.rand_augment, size_px, rng)
    if more and more.crop_area:
        clip = _resized_crop(clip, more.crop_area, size_px, rng)
        flip = bool(rng.random() < 0.5) and config.hflip
    else:
        clip, flip = _multi_scale_crop(clip, config, size_px, rng)
    if config.roll:
        clip = clip.roll((int(rng.integers(size_px)), int(rng.integers(size_px))), dims=(-2, -1))
    if flip:
        clip = clip.flip(-1)
    if more and rng.random() < more.erase_prob:
        clip = erase(clip, rng)
    return clip


def _multi_scale_crop(clip: Tensor, config: ClipConfig, size_px: int, rng: np.random.Generator) -> tuple[Tensor, bool]:
    """Crop as the released GroupMultiScaleCrop, and draw whether to flip.

    Sides are `crop_scales` times the short side, rounded down, and `size_px` where they come within 2 px of it. One pair of
    height and width at most one scale apart (distortion) is drawn, each as likely, and one of 13 fixed places (corners, edge and
    quarter points, centre).
    """
    height, width = clip.shape[-2:]
    short = min(height, width)
    sides = [max(1, int(short * scale)) for scale in config.crop_scales]
    sides = [size_px if abs(side - size_px) < 3 and size_px <= short else side for side in sides]
    pairs = [(h, w) for i, h in enumerate(sides) for j, w in enumerate(sides) if abs(i - j) <= 1]
    crop_h, crop_w = pairs[int(rng.integers(len(pairs)))]
    top, left = _places(height - crop_h, width - crop_w)[int(rng.integers(13))]
    flip = bool(rng.random() < 0.5) and config.hflip
    if (crop_h, crop_w) != (size_px, size_px):
        clip = _crop_and_resize(clip, top, left, crop_h, crop_w, size_px)
    elif (crop_h, crop_w) != (height, width):
        clip = clip[..., top : top + crop_h, left : left + crop_w]
    return clip, flip


def _resized_crop(clip: Tensor, area: tuple[float, float], size_px: int, rng: np.random.Generator) -> Tensor:
    with borrowed_generators(rng):
        top, left, height, width = RandomResizedCrop.get_params(clip[:, 0], list(area), list(CROP_ASPECT))
    return _crop_and_resize(clip, top, left, height, width, size_px)


def _crop_and_resize(clip: Tensor, top: int, left: int, height: int, width: int, size_px: int) -> Tensor:
    """Return a box of uint8 [C, T, H, W] at `size_px`: as images whose channels lie together, which is 9 times as fast."""
    images = clip.transpose(0, 1)
    box = F.resized_crop(images, top, left, height, width, [size_px, size_px], InterpolationMode.BILINEAR)
    return box.transpose(0, 1)


def rand_augment(clip: Tensor, words: str, size_px: int, rng: np.random.Generator) -> Tensor:
    """Apply timm's RandAugment to uint8 [C, T, H, W]; each frame meets the same draws, so the same operations and strengths."""
    augment = _rand_augment(words, size_px)
    seed = int(rng.integers(2**32))
    frames = []
    for frame in clip.permute(1, 2, 3, 0).numpy():
        with borrowed_generators(np.random.default_rng(seed)):
            frames.append(np.asarray(augment(Image.fromarray(np.ascontiguousarray(frame)))))
    return torch.from_numpy(np.stack(frames)).permute(3, 0, 1, 2)


@cache
def _rand_augment(words: str, size_px: int) -> Any:
    # As released: what comes into the frame is timm's grey, and a frame that is turned or shifted is sampled bicubic.
    return rand_augment_transform(words, {"translate_const": int(size_px * 0.45), "interpolation": Image.Resampling.BICUBIC})


def erase(clip: Tensor, rng: np.random.Generator) -> Tensor:
    """Fill one box, the same in all frames of uint8 [C, T, H, W], with noise of ImageNet's mean and deviation, kept in 0..255.

    timm's RandomErasing in its mode "pixel"; the released one adds its noise after normalising, and so keeps values out of range.
    """
    c, t, h, w = clip.shape
    mean, std = (torch.tensor(values)[:, None, None, None] for values in (IMAGENET_MEAN, IMAGENET_STD))
    normal = ((clip / 255 - mean) / std).reshape(c * t, h, w)  # one image of C x T channels, so that the box is one
    with borrowed_generators(rng):
        erased: Tensor = RandomErasing(probability=1.0, mode="pixel", device="cpu")(normal)
    return ((erased.reshape(c, t, h, w) * std + mean) * 255).round().clamp(0, 255).to(torch.uint8)


@contextmanager
def borrowed_generators(rng: np.random.Generator) -> Iterator[None]:
    """Seed the global generators of Python, NumPy and torch from `rng` for code that draws from them; then restore them."""
    before = random.getstate(), np.random.get_state(), torch.get_rng_state()
    seed = int(rng.integers(2**32))
    random.seed(seed)
    np.random.seed(seed)
    torch.default_generator.manual_seed(seed)
    try:
        yield
    finally:
        random.setstate(before[0])
        np.random.set_state(before[1])
        torch.set_rng_state(before[2])


def views(clip: Tensor, size_px: int, num_crops: int) -> list[Tensor]:
    """Return squares of the short side of `clip` uint8 [C, T, H, W], resized to `size_px`: the central one, or three."""
    height, width = clip.shape[-2:]
    short = min(height, width)
    found = []
    for share in (0.5,) if num_crops == 1 else (0.0, 0.5, 1.0):
        top, left = int((height - short) * share), int((width - short) * share)
        if short == size_px:
            found.append(clip[..., top : top + short, left : left + short])
        else:
            found.append(_crop_and_resize(clip, top, left, short, short, size_px))
    return found


def stack(clips: Sequence[Tensor]) -> Tensor:
    """Return clips [C, T, H, W] as one batch [B, C, T, H, W] that lies in memory as decoders give frames: channels together."""
    return torch.stack([clip.permute(1, 2, 3, 0) for clip in clips]).permute(0, 4, 1, 2, 3)


def is_trivial(config: ClipConfig, frame_shape: tuple[int, int], size_px: int) -> bool:
    """Return whether `random_view` would return every clip of this frame size as it is."""
    altered = isinstance(config, FinetuneClipConfig) and (config.rand_augment or config.crop_area or config.erase_prob)
    return frame_shape == (size_px, size_px) and config.crop_scales == (1.0,) and not (config.hflip or config.roll or altered)


def _places(free_h: int, free_w: int) -> list[tuple[int, int]]:
    quarters = [(1, 1), (1, 3), (3, 1), (3, 3)]
    thirteen = [(y, x) for y in (0, 2, 4) for x in (0, 2, 4)] + quarters
    return [(y * (free_h // 4), x * (free_w // 4)) for y, x in thirteen]


def to_float(clips: Tensor, device: torch.device) -> Tensor:
    """Return uint8 clips as float32 in [0, 1] on `device`; bytes cross the bus, not floats."""
    return clips.to(device, non_blocking=True).float().div_(255)
