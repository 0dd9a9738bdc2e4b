"""Which cubes are hidden from the encoder, and which the decoder is asked for: every kind of `MaskConfig` on the tubelet grid.

`hidden` is a bool array over the N cubes of a clip, time slowest; True is hidden from the encoder. A mask is a function of (seed,
epoch, sample) alone; with a fixed count every clip of a run hides equally many cubes.
"""

from collections.abc import Sequence

import numpy as np

from vmae.grid import CubeGrid
from vmae.random import Purpose, stream
from vmae.sections import DecoderMaskConfig, MaskConfig

BLOCK_SHARE = 0.15  # of the positions, per rectangle: V-JEPA's short-range blocks (BEiT's are 16 positions of 196 or more)
LONG_SHARE = 0.7  # V-JEPA's long-range blocks
BLOCK_ASPECT = (0.75, 1.5)  # V-JEPA
CELL = 4  # cubes of a 2 x 2 running cell


def draw_hidden(mask: MaskConfig, grid: CubeGrid, rng: np.random.Generator) -> np.ndarray:
    """Draw one mask, bool [N]."""
    shape = (grid.num_slices, grid.num_positions)
    if mask.kind in ("block", "multi_block"):
        drawn = (_blocks if mask.kind == "block" else _multi_block)(mask.num_hidden(grid) // grid.num_slices, grid, rng)[None]
    elif mask.kind == "random_per_slice":
        drawn = np.stack([_units(mask, grid, rng) for _ in range(grid.num_slices)])
    else:
        drawn = _units(mask, grid, rng).reshape({"tube": (1, -1), "frame": (-1, 1), "random": shape}[mask.kind])
    return np.broadcast_to(drawn, shape).reshape(-1)


def draw_batch(mask: MaskConfig, grid: CubeGrid, seed: int, epoch: int, samples: Sequence[int]) -> np.ndarray:
    """Draw the masks of `samples` in `epoch`, bool [B, N]."""
    return np.stack([draw_hidden(mask, grid, stream(seed, Purpose.MASK, epoch, int(sample))) for sample in samples])


def draw_kept(mask: DecoderMaskConfig, grid: CubeGrid, rng: np.random.Generator) -> np.ndarray:
    """Draw which cubes the decoder predicts, bool [N].

    Running cell (MAR, arXiv:2207.11660; VideoMAE V2): the four cubes of each 2 x 2 cell stand in a ring of which kept x 4 in a
    row are kept; the ring turns by one from slice to slice, from a random start.
    """
    if mask.kind == "random":
        return _some(mask.num_kept(grid), grid.num_cubes, rng)
    row, column = np.divmod(np.arange(grid.num_positions), grid.side)
    place = 2 * (row % 2) + column % 2
    turned = place[None, :] + np.arange(grid.num_slices)[:, None] + rng.integers(CELL)
    return (turned % CELL < mask.kept * CELL).reshape(-1)


def draw_kept_batch(mask: DecoderMaskConfig, grid: CubeGrid, seed: int, epoch: int, samples: Sequence[int]) -> np.ndarray:
    """Draw the decoder masks of `samples` in `epoch`, bool [B, N]."""
    return np.stack([draw_kept(mask, grid, stream(seed, Purpose.DECODER_MASK, epoch, int(sample))) for sample in samples])


def _units(mask: MaskConfig, grid: CubeGrid, rng: np.random.Generator) -> np.ndarray:
    """Draw the hidden ones of a mask's units, bool [units]."""
    num_units, cubes_per_unit = mask.units(grid)
    if mask.count == "fixed":
        return _some(mask.num_hidden(grid) // cubes_per_unit, num_units, rng)
    while True:
        drawn = rng.random(num_units) < mask.ratio
        if drawn.any() and not drawn.all():
            return drawn


def _some(count: int, of: int, rng: np.random.Generator) -> np.ndarray:
    """Draw `count` of `of`, bool [of], all choices equally likely."""
    drawn = np.zeros(of, dtype=bool)
    drawn[rng.permutation(of)[:count]] = True
    return drawn


def _rectangle(share: float, side: int, rng: np.random.Generator) -> np.ndarray:
    """Draw a rectangle of about `share` of the positions, bool [side * side]."""
    aspect = np.exp(rng.uniform(*np.log(BLOCK_ASPECT)))
    area = share * side**2
    height = min(side, max(1, round(np.sqrt(area * aspect))))
    width = min(side, max(1, round(np.sqrt(area / aspect))))
    top, left = int(rng.integers(side - height + 1)), int(rng.integers(side - width + 1))
    drawn = np.zeros((side, side), dtype=bool)
    drawn[top : top + height, left : left + width] = True
    return drawn.reshape(-1)


def _blocks(count: int, grid: CubeGrid, rng: np.random.Generator) -> np.ndarray:
    """Lay rectangles until `count` positions are hidden; of the last one as many as are still wanted."""
    hidden = np.zeros(grid.num_positions, dtype=bool)
    while (wanted := count - int(hidden.sum())) > 0:
        new = np.flatnonzero(_rectangle(BLOCK_SHARE, grid.side, rng) & ~hidden)
        hidden[new[:wanted]] = True
    return hidden


def _multi_block(count: int, grid: CubeGrid, rng: np.random.Generator) -> np.ndarray:
    """Hide the union of V-JEPA's ten rectangles, then hide more or fewer positions, drawn at random, until `count` are hidden."""
    shares = [BLOCK_SHARE] * 8 + [LONG_SHARE] * 2
    hidden = np.logical_or.reduce([_rectangle(share, grid.side, rng) for share in shares])
    surplus = int(hidden.sum()) - count
    changed = rng.permutation(np.flatnonzero(hidden if surplus > 0 else ~hidden))[: abs(surplus)]
    hidden[changed] = surplus < 0
    return hidden
