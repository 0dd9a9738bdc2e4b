"""Cubes: cut and join are inverse, ordered as released, and gathering is indexing."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vmae.grid import CubeGrid
from vmae.model.blocks import CubeEmbedding, sincos_1d, sincos_3d
from vmae.model.cubes import cut, join, split_indices, take

GRID = CubeGrid(num_frames=4, size_px=12, tubelet_frames=2, patch_px=4)


@settings(deadline=None, max_examples=20)
@given(st.sampled_from([(2, 1), (4, 2), (8, 4)]), st.sampled_from([(8, 4), (12, 4), (16, 16)]), st.integers(0, 2**31))
def test_cut_then_join_is_identity(frames, pixels, seed):
    grid = CubeGrid(num_frames=frames[0], tubelet_frames=frames[1], size_px=pixels[0], patch_px=pixels[1])
    torch.manual_seed(seed)
    clips = torch.rand(2, 3, grid.num_frames, grid.size_px, grid.size_px)
    assert torch.equal(join(cut(clips, grid), grid), clips)


def test_order_is_time_row_column_and_channel_fastest():
    """Against plain indexing, written independently."""
    clips = torch.rand(1, 3, 4, 12, 12)
    cubes = cut(clips, GRID)
    number = 0
    for t in range(2):
        for row in range(3):
            for column in range(3):
                piece = clips[0, :, 2 * t : 2 * t + 2, 4 * row : 4 * row + 4, 4 * column : 4 * column + 4]
                assert torch.equal(cubes[0, number], piece.permute(1, 2, 3, 0).reshape(-1))
                number += 1


def test_another_shape_is_refused_with_both():
    with pytest.raises(ValueError, match=r"\[1, 3, 4, 10, 12\].*\[B, 3, 4, 12, 12\]"):
        cut(torch.zeros(1, 3, 4, 10, 12), GRID)


def test_indices_are_ascending_and_complementary():
    hidden = torch.tensor([[True, False, True, False], [False, False, True, True]])
    visible_index, hidden_index = split_indices(hidden, 2)
    assert visible_index.tolist() == [[1, 3], [0, 1]]
    assert hidden_index.tolist() == [[0, 2], [2, 3]]
    cubes = torch.arange(16.0).reshape(2, 4, 2)
    assert torch.equal(take(cubes, hidden_index), torch.stack([cubes[0, [0, 2]], cubes[1, [2, 3]]]))


def test_embedding_is_the_released_conv3d():
    """The gathered linear map equals Conv3d with kernel = stride = cube on normalised pixels."""
    embed = CubeEmbedding(GRID, width=5)
    clips = torch.rand(2, 3, 4, 12, 12)
    conv = torch.nn.Conv3d(3, 5, kernel_size=(2, 4, 4), stride=(2, 4, 4))
    with torch.no_grad():
        conv.weight.copy_(embed.proj.weight.reshape(5, 2, 4, 4, 3).permute(0, 4, 1, 2, 3))
        conv.bias.copy_(embed.proj.bias)
    mean, std = (torch.tensor(v)[:, None, None, None] for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    expected = conv((clips - mean) / std).flatten(2).transpose(1, 2)
    torch.testing.assert_close(embed(cut(clips, GRID)), expected)


def test_positions_follow_the_formula():
    """Reference 4.1: pos / 10000^(2 (j // 2) / D), sin on even columns, cos on odd ones."""
    table = sincos_1d(torch.arange(7), 6, period=10000)
    for pos in range(7):
        for j in range(6):
            angle = torch.tensor(pos / 10000 ** (2 * (j // 2) / 6), dtype=torch.float64)
            expected = angle.sin() if j % 2 == 0 else angle.cos()
            assert table[pos, j] == pytest.approx(float(expected), abs=1e-6)


def test_separable_positions_tell_every_cube_and_change_one_third_per_axis():
    table = sincos_3d(GRID, 20)
    assert table.shape == (GRID.num_cubes, 20)
    assert len(torch.unique(table, dim=0)) == GRID.num_cubes
    by_axis = table.reshape(GRID.num_slices, GRID.side, GRID.side, 20)
    assert torch.equal(by_axis[:, 0, 0, 8:], by_axis[:1, 0, 0, 8:].expand(2, -1)), "time moves the first columns only"
    assert torch.equal(by_axis[0, :, 0, :8], by_axis[0, :1, 0, :8].expand(3, -1))
    assert torch.equal(by_axis[0, 0, :, :14], by_axis[0, 0, :1, :14].expand(3, -1))
