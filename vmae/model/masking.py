"""Which cubes are hidden: tube, random and frame masking on the tubelet grid (Table 1b).

`hidden` is a bool array over the N cubes of a clip, time slowest; True is hidden from the encoder. Every clip of a run has the
same number of hidden cubes, and its mask is a function of (seed, epoch, sample) alone.
"""

from collections.abc import Sequence

import numpy as np

from vmae.config import MaskConfig
from vmae.grid import CubeGrid
from vmae.random import Purpose, stream


def draw_hidden(mask: MaskConfig, grid: CubeGrid, rng: np.random.Generator) -> np.ndarray:
    """Draw one mask, bool [N], uniform among those with `mask.num_hidden(grid)` hidden cubes.

    A tube hides the same positions in every slice, frame masking hides whole slices, random masking any cubes.
    """
    shape = {"tube": (1, grid.num_positions), "frame": (grid.num_slices, 1), "random": (grid.num_slices, grid.num_positions)}
    rows, columns = shape[mask.kind]
    num_units = mask.num_hidden(grid) * rows * columns // grid.num_cubes
    units = np.zeros(rows * columns, dtype=bool)
    units[rng.permutation(rows * columns)[:num_units]] = True
    return np.broadcast_to(units.reshape(rows, columns), (grid.num_slices, grid.num_positions)).reshape(-1)


def draw_batch(mask: MaskConfig, grid: CubeGrid, seed: int, epoch: int, samples: Sequence[int]) -> np.ndarray:
    """Draw the masks of `samples` in `epoch`, bool [B, N]."""
    return np.stack([draw_hidden(mask, grid, stream(seed, Purpose.MASK, epoch, int(sample))) for sample in samples])
