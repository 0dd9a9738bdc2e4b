"""The trivial predictors every pre-training must beat, under its own masks.

Losses of different masks cannot be compared with each other: hiding frames leaves neighbours to copy, hiding tubes does not. What
can be compared is each loss with what copying reaches on the same clips and masks.
"""

import torch
from torch import Tensor

from vmae.grid import NUM_CHANNELS, CubeGrid


def trivial_predictions(targets: Tensor, hidden: Tensor, constant: Tensor, grid: CubeGrid) -> dict[str, Tensor]:
    """Predict every cube without learning.

    Args:
        targets: [B, N, P], the targets of all cubes.
        hidden: bool [B, N].
        constant: [C], the mean target of the whole set, per channel.

    Returns:
        By name, [B, N, P]: `constant`, what a predictor reaches that never looks at its clip; `visible_mean`, the mean of the
        clip's visible values per channel; `nearest_copy`, the nearest visible cube in time at the same place (the earlier one of
        two; the visible mean where the place is never visible); `average`, of the last two.
    """
    b = len(targets)
    visible = (~hidden).float()
    pixels = targets.unflatten(-1, (-1, NUM_CHANNELS))  # [B, N, P/C, C]
    per_cube = pixels.mean(dim=2)  # [B, N, C]
    mean = (per_cube * visible[..., None]).sum(1) / visible.sum(1, keepdim=True)  # [B, C]
    mean_all = mean[:, None, None, :].expand_as(pixels).reshape_as(targets)

    s, q = grid.num_slices, grid.num_positions
    when = torch.arange(s, device=targets.device)
    distance = (when[:, None] - when[None, :]).abs().float()  # [slice, source slice]
    absent = visible.reshape(b, 1, s, q) == 0
    cost = torch.where(absent, torch.inf, distance[None, :, :, None].expand(b, s, s, q))
    best, source = cost.min(dim=2)  # [B, slice, position]
    by_slice = targets.reshape(b, s, q, -1)
    copied = torch.take_along_dim(by_slice, source[..., None], dim=1).reshape_as(targets)
    copy = torch.where(torch.isinf(best).reshape(b, -1, 1), mean_all, copied)
    return {
        "constant": constant.expand_as(pixels).reshape_as(targets),
        "visible_mean": mean_all,
        "nearest_copy": copy,
        "average": (mean_all + copy) / 2,
    }
