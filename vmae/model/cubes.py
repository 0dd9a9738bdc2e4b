"""Clips to cubes and back.

Shapes: B clips, C channels, T frames, H x W pixels; N cubes of P values, of which V visible and M hidden.
Cubes are ordered time slowest, then row, then column; a cube's values are ordered frame, row, column, channel fastest, as the
released targets are (MCG-NJU/VideoMAE, engine_for_pretraining.py).
"""

import torch
from torch import Tensor

from vmae.grid import NUM_CHANNELS, CubeGrid


def cut(clips: Tensor, grid: CubeGrid) -> Tensor:
    """Cut clips [B, C, T, H, W] into cubes [B, N, P]; ValueError for another shape than the grid's, or bytes."""
    expected = (NUM_CHANNELS, grid.num_frames, grid.size_px, grid.size_px)
    if tuple(clips.shape[1:]) != expected:
        raise ValueError(f"clips are [B, C, T, H, W] = {list(clips.shape)}; this grid takes [B, {', '.join(map(str, expected))}]")
    if not clips.is_floating_point():
        raise ValueError(f"clips are {clips.dtype}; allowed: floats in [0, 1] (vmae.data.augment.to_float makes them of bytes)")
    t, p, s, side = grid.tubelet_frames, grid.patch_px, grid.num_slices, grid.side
    x = clips.reshape(-1, NUM_CHANNELS, s, t, side, p, side, p)
    x = x.permute(0, 2, 4, 6, 3, 5, 7, 1)  # [B, slice, row, column, frame, y, x, C]
    return x.reshape(-1, grid.num_cubes, grid.cube_values)


def join(cubes: Tensor, grid: CubeGrid) -> Tensor:
    """Join cubes [B, N, P] into clips [B, C, T, H, W]; the inverse of `cut`."""
    t, p, s, side = grid.tubelet_frames, grid.patch_px, grid.num_slices, grid.side
    x = cubes.reshape(-1, s, side, side, t, p, p, NUM_CHANNELS)
    x = x.permute(0, 7, 1, 4, 2, 5, 3, 6)  # [B, C, slice, frame, row, y, column, x]
    return x.reshape(-1, NUM_CHANNELS, grid.num_frames, grid.size_px, grid.size_px)


def split_indices(hidden: Tensor, num_hidden: int) -> tuple[Tensor, Tensor]:
    """Return the cube indices ([B, V] visible, [B, M] hidden), each ascending, of `hidden` [B, N].

    The count is given, not read from the tensor, so nothing waits for the device.
    """
    order = hidden.to(torch.uint8).argsort(dim=1, stable=True)
    num_visible = hidden.shape[1] - num_hidden
    return order[:, :num_visible], order[:, num_visible:]


def take(cubes: Tensor, index: Tensor) -> Tensor:
    """Return the cubes [B, K, P] at `index` [B, K] of `cubes` [B, N, P]."""
    b, n, p = cubes.shape
    flat = index + torch.arange(b, device=index.device)[:, None] * n
    return cubes.reshape(b * n, p).index_select(0, flat.reshape(-1)).reshape(b, -1, p)
