"""Every kernel of attention gives the numbers of timm's own, whole blocks and those whose first tokens nobody reads."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from timm.models.vision_transformer import Block as TimmBlock

from vmae.model import attention
from vmae.model.attention import ByGroups, mix
from vmae.model.blocks import make_blocks
from vmae.sections import EncoderConfig

KERNELS = ("auto", "fused", "explicit")


def inputs(dtype, batch=2, heads=3, queries=7, tokens=11, width=4):
    generator = torch.Generator().manual_seed(0)
    shapes = ((batch, heads, queries, width), *2 * ((batch, heads, tokens, width),))
    # As a projection leaves them: not contiguous by head.
    return [torch.randn(b, n, h, w, generator=generator).to(dtype).transpose(1, 2).requires_grad_() for b, h, n, w in shapes]


def result_and_gradients(function, q, k, v):
    out = function(q, k, v)
    seen = torch.linspace(-1, 1, out.numel(), dtype=out.dtype).reshape(out.shape)
    return out.detach(), *torch.autograd.grad(out, (q, k, v), seen)


@given(
    batch=st.integers(1, 3),
    heads=st.integers(1, 4),
    queries=st.integers(1, 9),
    tokens=st.integers(1, 9),
    heads_per_group=st.integers(1, 13),
)
def test_attention_by_groups_is_attention(batch, heads, queries, tokens, heads_per_group):
    tensors = inputs(torch.float64, batch, heads, queries, tokens)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(attention, "SCORES_BYTES", heads_per_group * queries * tokens * 8)
        found = result_and_gradients(ByGroups.apply, *tensors)
    expected = result_and_gradients(lambda *given: mix(*given, kernel="explicit"), *tensors)
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("num_bytes", [1, 2**20])  # one head at a time, made anew; all heads at once, kept
def test_in_bf16_it_is_as_near_to_the_truth_as_three_operations(monkeypatch, num_bytes):
    monkeypatch.setattr(attention, "SCORES_BYTES", num_bytes)
    tensors = inputs(torch.bfloat16, queries=40, tokens=60, width=32)
    exact = result_and_gradients(mix, *(x.detach().double().requires_grad_() for x in tensors))
    grouped = result_and_gradients(ByGroups.apply, *tensors)
    explicit = result_and_gradients(lambda *given: mix(*given, kernel="explicit"), *tensors)
    for truth, ours, theirs in zip(exact, grouped, explicit, strict=True):
        assert (ours - truth).norm() <= 1.2 * (theirs - truth).norm()


def test_auto_takes_groups_in_bf16_on_a_cpu_where_no_key_is_masked():
    def used(dtype, mask=None, kernel="auto"):
        return type(mix(*inputs(dtype), mask, kernel).grad_fn).__name__

    mask = torch.ones(2, 1, 1, 11, dtype=torch.bool)
    assert used(torch.bfloat16) == "ByGroupsBackward"
    assert "ByGroups" not in used(torch.float32) + used(torch.bfloat16, mask) + used(torch.bfloat16, kernel="fused")


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("num_skipped", [0, 1, 5])
def test_blocks_are_timms(kernel, masked, num_skipped):
    torch.manual_seed(0)
    (block,) = make_blocks(EncoderConfig(width=12, depth=1, num_heads=3)).double()
    theirs = TimmBlock(12, 3, qkv_bias=True, norm_layer=type(block.norm1)).double()
    theirs.norm1.eps = theirs.norm2.eps = 1e-6
    theirs.load_state_dict(block.state_dict())
    block.kernel = kernel
    x = torch.randn(2, 9, 12, dtype=torch.float64)
    mask = (torch.arange(9) < 7)[None, None, None].expand(2, 1, 1, 9) if masked else None
    expected = theirs(x, attn_mask=mask)[:, num_skipped:]
    torch.testing.assert_close(block(x, attn_mask=mask, num_skipped=num_skipped), expected, rtol=1e-10, atol=1e-12)
