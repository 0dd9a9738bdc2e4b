"""What the decoder must predict, and how a miss is priced (Table 1f)."""

import torch
import torch.nn.functional as F
from torch import Tensor

from vmae.grid import NUM_CHANNELS

EPS = 1e-6


def pixel_target(cubes: Tensor, kind: str) -> Tensor:
    """Return the target of `cubes` [..., P] in [0, 1]: "raw" pixels, or "normalised" per cube and channel.

    Normalised as released: unbiased variance over the cube's pixels of one channel, EPS added to the deviation.
    """
    if kind == "raw":
        return cubes
    mean, deviation = cube_statistics(cubes)
    pixels = cubes.unflatten(-1, (-1, NUM_CHANNELS))
    return ((pixels - mean) / deviation).flatten(-2)


def cube_statistics(cubes: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and deviation (+ EPS), each [..., 1, C], of cubes [..., P] over the pixels of each channel."""
    variance, mean = torch.var_mean(cubes.unflatten(-1, (-1, NUM_CHANNELS)), dim=-2, correction=1, keepdim=True)
    return mean, variance.sqrt() + EPS


def denormalise(target: Tensor, mean: Tensor, deviation: Tensor) -> Tensor:
    """Return pixels [..., P] of a normalised `target` [..., P] with the statistics [..., 1, C] given."""
    return (target.unflatten(-1, (-1, NUM_CHANNELS)) * deviation + mean).flatten(-2)


def reconstruction_loss(predicted: Tensor, target: Tensor, kind: str) -> Tensor:
    """Return the mean "mse", "l1" or "smooth_l1" (beta 1) over all values, computed in fp32."""
    price = {"mse": F.mse_loss, "l1": F.l1_loss, "smooth_l1": F.smooth_l1_loss}[kind]
    return price(predicted.float(), target.float())
