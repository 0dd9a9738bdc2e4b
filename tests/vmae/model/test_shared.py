"""Mask tokens computed once for all clips: the same outputs and gradients as of the decoder that computes them clip by clip."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from vmae.grid import CubeGrid
from vmae.model import attention, shared
from vmae.model.attention import mix
from vmae.model.autoencoder import Decoder, VideoMAE
from vmae.model.blocks import make_blocks
from vmae.model.queries import fixed_split
from vmae.sections import DecoderConfig

GRID = CubeGrid(num_frames=4, size_px=48, tubelet_frames=2, patch_px=16)  # 18 positions


def decoder(depth=2, positions="sincos_1d", width=12, seed=0):
    torch.manual_seed(seed)
    made = Decoder(GRID, 8, DecoderConfig(width=width, depth=depth, num_heads=3, positions=positions), 5, "fp32")
    for parameter in made.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return made.double()


def masks(num_clips, num_hidden, seed=0):
    generator = torch.Generator().manual_seed(seed)
    order = torch.rand(num_clips, GRID.num_cubes, generator=generator).argsort(dim=1)
    return order < num_hidden


def predictions_and_gradients(made, split, sharing, visible_too=False, dtype=torch.float64):
    made.zero_grad()
    made.blocks[0].sharing = sharing
    encoded = torch.randn(len(split.visible), split.num_visible, 8, generator=torch.Generator().manual_seed(1))
    encoded = encoded.to(next(made.parameters()).dtype).requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=dtype == torch.bfloat16):
        predicted = made(encoded, split, visible_too=visible_too)
    weights = torch.linspace(-1, 1, predicted.numel(), dtype=predicted.dtype).view_as(predicted)
    (predicted * weights).sum().backward()
    return predicted.detach(), encoded.grad, *(parameter.grad.clone() for parameter in made.parameters())


@given(
    num_clips=st.integers(1, 4),
    num_hidden=st.integers(1, GRID.num_cubes - 1),
    depth=st.integers(1, 2),
    visible_too=st.booleans(),
    positions=st.sampled_from(["sincos_1d", "learned"]),
    heads_per_group=st.integers(1, 4),
    seed=st.integers(0, 9),
)
def test_sharing_is_the_decoder(num_clips, num_hidden, depth, visible_too, positions, heads_per_group, seed):
    made, split = decoder(depth, positions), fixed_split(masks(num_clips, num_hidden, seed), num_hidden)
    expected = predictions_and_gradients(made, split, False, visible_too)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(attention, "SCORES_BYTES", heads_per_group * 8 * GRID.num_cubes**2)
        found = predictions_and_gradients(made, split, True, visible_too)
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-11)


def test_tokens_need_not_stand_at_all_hidden_cubes(recipe):
    """With a decoder mask (VideoMAE V2) most hidden cubes have none, and some visible ones have one too."""
    run = recipe.replace({"pretrain.decoder_mask": {"kept": 0.5}}).runs()[0]
    torch.manual_seed(0)
    model = VideoMAE(run).double()
    clips = torch.rand(3, 3, run.grid.num_frames, run.grid.size_px, run.grid.size_px, dtype=torch.float64)
    num_hidden, num_kept = run.masked.mask.num_hidden(run.grid), run.masked.decoder_mask.num_kept(run.grid)
    hidden, kept = (
        torch.rand(3, run.grid.num_cubes, generator=torch.Generator().manual_seed(k)).argsort(dim=1) < number
        for k, number in enumerate((num_hidden, num_kept))
    )
    losses = []
    for model.decoder.blocks[0].sharing in (False, True):
        losses.append(model(clips, hidden, kept).item())
    assert losses[0] == pytest.approx(losses[1], rel=1e-12)


@pytest.mark.parametrize("gap", [0, 50, 100, 140])
def test_a_score_far_above_those_that_a_clip_has(gap):
    """Position 0 is visible in this clip: what its mask token would get there must not drown what the others get."""
    generator = torch.Generator().manual_seed(0)
    q, k, v = torch.randn(3, 1, 6, 4, generator=generator).unbind(0)
    k_seen, v_seen = torch.randn(2, 1, 1, 2, 4, generator=generator).unbind(0)
    q[..., 0], k[..., 0], k_seen[..., 0] = 1, 0, 0
    k[:, 0, 0] = 2 * gap  # over the root of 4 values
    there = torch.arange(6)[None] > 0
    given = [x.requires_grad_() for x in (q, k, v, k_seen, v_seen)]
    found = shared.OfMaskTokens.apply(*given, there)[:, 1:]
    keys, values = torch.cat([k_seen[0], k[:, 1:]], dim=1).double(), torch.cat([v_seen[0], v[:, 1:]], dim=1).double()
    expected = mix(q[None, :, 1:].double(), keys[None], values[None], kernel="explicit")[0]
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-6)
    for a, b in zip(torch.autograd.grad(found.sum(), given), torch.autograd.grad(expected.sum(), given), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


def test_in_bf16_it_is_as_near_to_the_truth():
    """Over weights, masks, outputs and gradients together: what one of them is off by is chance, and another on another CPU."""
    squares = torch.zeros(2)
    for seed in range(6):
        made, split = decoder(width=48, seed=seed), fixed_split(masks(8, 15, seed), 15)
        exact = predictions_and_gradients(made, split, False)
        made.float()
        for i, sharing in enumerate((True, False)):
            found = predictions_and_gradients(made, split, sharing, dtype=torch.bfloat16)
            squares[i] += sum((a - truth).norm() ** 2 / truth.norm() ** 2 for a, truth in zip(found, exact, strict=True))
    assert squares[0] < 1.2**2 * squares[1]


def test_padded_clips_are_computed_each_by_itself(recipe):
    run = recipe.replace({"pretrain.mask.count": "bernoulli", "pretrain.mask.kind": "random"}).runs()[0]
    torch.manual_seed(0)
    model = VideoMAE(run)
    clips = torch.rand(2, 3, run.grid.num_frames, run.grid.size_px, run.grid.size_px)
    hidden = torch.rand(2, run.grid.num_cubes, generator=torch.Generator().manual_seed(0)) < torch.tensor([[0.6], [0.9]])
    before = model(clips, hidden)
    model.decoder.blocks[0].sharing = True
    assert torch.equal(model(clips, hidden), before)


@pytest.mark.parametrize(
    ("num_clips", "num_positions", "num_tokens", "shares"),
    [(4, 512, 460, True), (16, 1568, 1408, True), (2, 1568, 1408, False), (64, 128, 112, False), (16, 1568, 784, False)],
)
def test_by_itself_it_is_taken_where_it_is_faster(num_clips, num_positions, num_tokens, shares):
    index = torch.zeros(num_clips, num_tokens, dtype=torch.long)
    assert shared.is_faster(index, num_positions) is shares
    assert not shared.is_faster(index.to("meta"), num_positions)


def test_fewer_products_are_made():
    """The scores of 16 clips' mask tokens, and their queries, keys and values, are made once."""
    from torch.utils.flop_counter import FlopCounterMode

    (block,) = make_blocks(DecoderConfig(width=12, depth=1, num_heads=3))
    index = torch.arange(180).expand(16, 180)
    x, tokens = torch.randn(16, 200, 12, requires_grad=True), shared.MaskTokens(torch.randn(200, 12, requires_grad=True), index)
    counted = []
    block.kernel = "explicit"
    for apart in (None, tokens):
        with FlopCounterMode(display=False) as counter:
            block(x, tokens=apart).sum().backward()
        counted.append(counter.get_total_flops())
    assert counted[1] < 0.9 * counted[0]
