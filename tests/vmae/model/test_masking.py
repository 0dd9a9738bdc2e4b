"""Masks: right, fair, and a function of (seed, epoch, sample) alone."""

from typing import get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from vmae.grid import CubeGrid
from vmae.model.masking import draw_batch, draw_hidden
from vmae.sections import MaskConfig

GRID = CubeGrid(num_frames=16, size_px=32, tubelet_frames=2, patch_px=8)
KINDS = ("tube", "random", "random_per_slice", "frame", "block", "multi_block")


@st.composite
def masks(draw):
    grid = CubeGrid(
        num_frames=draw(st.sampled_from([4, 8, 16])), size_px=draw(st.sampled_from([16, 32])), tubelet_frames=2, patch_px=8
    )
    kind = draw(st.sampled_from(KINDS))
    units = {"random": grid.num_cubes, "frame": grid.num_slices}.get(kind, grid.num_positions)
    return MaskConfig(kind=kind, ratio=draw(st.integers(1, units - 1)) / units), grid


def test_every_kind_there_is_is_drawn_here():
    assert set(get_args(MaskConfig.model_fields["kind"].annotation)) == set(KINDS)


@settings(deadline=None)
@given(masks(), st.integers(0, 2**32 - 1), st.integers(0, 1000))
def test_count_is_exact_and_structure_holds(case, seed, epoch):
    mask, grid = case
    hidden = draw_batch(mask, grid, seed, epoch, range(5))
    assert hidden.shape == (5, grid.num_cubes)
    assert (hidden.sum(1) == mask.num_hidden(grid)).all()
    slices = hidden.reshape(5, grid.num_slices, grid.num_positions)
    if mask.kind in ("tube", "block", "multi_block"):
        assert (slices == slices[:, :1]).all(), "the same positions in every slice"
    if mask.kind == "random_per_slice":
        assert (slices.sum(2) * grid.num_slices == mask.num_hidden(grid)).all(), "as many in each slice"
    if mask.kind == "frame":
        assert (slices == slices[:, :, :1]).all(), "whole slices"


@pytest.mark.parametrize(("kind", "ratio", "hidden"), [("tube", 0.9, 1408), ("random", 0.9, 1411), ("frame", 0.875, 1372)])
def test_the_papers_grid(kind, ratio, hidden):
    drawn = draw_hidden(MaskConfig(kind=kind, ratio=ratio), CubeGrid(), np.random.default_rng(0))
    assert drawn.sum() == hidden


@pytest.mark.parametrize("kind", ["tube", "random", "frame"])
def test_every_unit_is_hidden_equally_often(kind):
    """Uniform over places: a chi-square test on which units are visible, in 4000 masks, at 0.1 %."""
    mask = MaskConfig(kind=kind, ratio=0.75)
    visible = (~draw_batch(mask, GRID, seed=3, epoch=0, samples=range(4000))).reshape(-1, GRID.num_slices, GRID.num_positions)
    counts = {"tube": visible[:, 0], "frame": visible[:, :, 0], "random": visible.reshape(4000, -1)}[kind].sum(0)
    assert stats.chisquare(counts).pvalue > 1e-3


def test_random_masks_of_a_clip_are_no_tubes():
    hidden = draw_batch(MaskConfig(kind="random", ratio=0.75), GRID, 0, 0, range(8)).reshape(8, GRID.num_slices, -1)
    assert (hidden != hidden[:, :1]).any(axis=(1, 2)).all()


def test_seed_epoch_and_sample_each_change_the_mask_and_nothing_else_does():
    mask = MaskConfig(kind="random", ratio=0.75)

    def of(seed=0, epoch=0, samples=(0, 1, 2)):
        return draw_batch(mask, GRID, seed, epoch, samples)

    assert (of() == of()).all()
    assert (of(samples=(2, 0)) == of()[[2, 0]]).all(), "independent of batch and order"
    assert (of(seed=1) != of()).any()
    assert (of(epoch=1) != of()).any()
    assert (of()[0] != of()[1]).any()
