"""Attention of the decoder's first block, where a mask token is the same vector in every clip that hides its cube.

Before any block has mixed them, what stands for a hidden cube is the mask token with the cube's position, whatever the clip. So
queries, keys and values of mask tokens are computed once for each position instead of once for each clip, and so are their
scores with each other; what is left per clip is a sum over those that it hides, one matrix product for all clips together.
That is the attention of `vmae.model.attention.attend`, but for rounding.

Shapes: B clips, N positions, V visible cubes, K mask tokens a clip, H heads of width E, D = H E.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from vmae.model.attention import groups, heads_in_cache, mix
from vmae.model.cubes import take

# From where on it is faster (docs/performance.md): what is made once costs as much for few clips; small models wait for the many
# operations; and scores are made for all positions, also for those that hold no mask token in most clips.
LEAST_CLIPS, LEAST_POSITIONS, LEAST_SHARE = 4, 512, 0.8
# A row's highest score may be that of a position where a clip has no mask token. What every clip has that asks for the row is its
# own, whose exponential therefore stays above zero: of scores 2 x 75 above it sums would overflow, and be no numbers.
FURTHEST = 75.0


class MaskTokens(NamedTuple):
    """What the decoder starts with at all positions, values [N, D], and where clips have it, asked [B, K]."""

    values: Tensor
    asked: Tensor


def is_faster(asked: Tensor, num_positions: int) -> bool:
    """Say whether sharing is known to be faster where clips have mask tokens at asked [B, K]."""
    num_clips, num_tokens = asked.shape
    on_cpu = asked.device.type == "cpu" and not torch.compiler.is_compiling()
    return on_cpu and num_clips >= LEAST_CLIPS and num_positions >= LEAST_POSITIONS and num_tokens >= LEAST_SHARE * num_positions


def attend_sharing(attn: Any, seen: Tensor, tokens: MaskTokens, num_skipped: int = 0) -> Tensor:
    """Return what `attend` makes of seen [B, V, D] and each clip's mask tokens: [B, V + K - num_skipped, D], seen ones first.

    Args:
        attn: as of `attend`.
        tokens: normalised as `seen` is.
        num_skipped: 0, or V.
    """
    heads = (3, attn.num_heads, attn.head_dim)
    (b, num_visible, width), num_positions = seen.shape, len(tokens.values)
    q, k, v = attn.qkv(tokens.values).reshape(num_positions, *heads).permute(1, 2, 0, 3).unbind(0)
    q_seen, k_seen, v_seen = attn.qkv(seen).reshape(b, num_visible, *heads).permute(2, 3, 0, 1, 4).contiguous().unbind(0)
    there = torch.zeros(b, num_positions, dtype=torch.bool, device=seen.device).scatter_(1, tokens.asked, True)
    mixed = take(OfMaskTokens.apply(q, k, v, k_seen, v_seen, there), tokens.asked)
    if not num_skipped:
        keys, values = (
            torch.cat([own, shared[:, None].expand(-1, b, -1, -1)], dim=2) for own, shared in ((k_seen, k), (v_seen, v))
        )
        counts = torch.cat([there.new_ones(b, num_visible), there], dim=1)[:, None]
        of_seen = mix(q_seen, keys, values, counts, "explicit" if seen.device.type == "cpu" else "fused")
        mixed = torch.cat([of_seen.permute(1, 2, 0, 3).reshape(b, num_visible, width), mixed], dim=1)
    projected: Tensor = attn.proj(mixed)
    return projected


class OfMaskTokens(torch.autograd.Function):
    """What the queries of mask tokens get, at every position: [B, N, D].

    Of q, k, v [H, N, E] of mask tokens, k_seen and v_seen [H, B, V, E] of visible cubes, `there` bool [B, N]. A clip's softmax
    over its mask tokens and its visible cubes is put together from exponentials of either: sums of values and of weights, which
    a last column of ones gives.
    """

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, k_seen: Tensor, v_seen: Tensor, there: Tensor) -> Tensor:
        """Return them; a group of heads at a time, so that scores stay in cache."""
        num_heads, n, e = q.shape
        b = len(there)
        q, k, v, there = (q * e**-0.5).contiguous(), k.contiguous(), v.contiguous(), there.T.to(q.dtype)
        out = q.new_empty(b, n, num_heads, e)
        highest, top = q.new_empty(num_heads, n, 1), q.new_empty(num_heads, b, 1, n)
        inverse, ratio = (q.new_empty(num_heads, b, n, 1, dtype=_wide(q)) for _ in range(2))
        for heads in _groups(q):
            scores = q[heads] @ k[heads].mT
            highest[heads] = torch.minimum(scores.amax(-1), scores.diagonal(dim1=1, dim2=2) + FURTHEST)[..., None]
            shared = _exp(scores, highest[heads]) @ _masked(v[heads], there)
            scores = _scores_of_seen(q[heads], k_seen[heads])
            top[heads] = torch.maximum(scores.amax(2, keepdim=True), highest[heads].mT[:, None])
            own = _exp(scores, top[heads]).mT @ _with_ones(v_seen[heads])
            ratio[heads] = (highest[heads][:, None] - top[heads].mT).to(_wide(q)).exp_()
            sums = torch.addcmul(own, shared.unflatten(2, (b, e + 1)).transpose(1, 2), ratio[heads])
            inverse[heads] = sums[..., e:].clamp(min=torch.finfo(sums.dtype).tiny).reciprocal()  # 0 only where nobody asks
            out.permute(2, 0, 1, 3)[heads] = sums[..., :e] * inverse[heads]
        ctx.save_for_backward(q, k, v, k_seen, v_seen, there, out, highest, top, inverse, ratio)
        return out.flatten(2)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradients of all but `there`; the exponentials are made again."""
        q, k, v, k_seen, v_seen, there, out, highest, top, inverse, ratio = ctx.saved_tensors
        (num_heads, n, e), b = q.shape, there.shape[1]
        dq, dk, dv, dk_seen, dv_seen = (torch.empty_like(x) for x in (q, k, v, k_seen, v_seen))
        grad, out = (x.view(b, n, num_heads, e).permute(2, 0, 1, 3) for x in (grad, out))
        for heads in _groups(q):
            of_values = grad[heads] * inverse[heads]
            of_sums = torch.cat([of_values, -(of_values * out[heads]).sum(-1, keepdim=True)], dim=-1)

            own = of_sums.to(q.dtype)
            weights = _exp(_scores_of_seen(q[heads], k_seen[heads]), top[heads])
            dv_seen[heads] = (weights @ own)[..., :e]
            of_scores = (_with_ones(v_seen[heads]) @ own.mT).mul_(weights).flatten(1, 2)
            dk_seen[heads] = (of_scores @ q[heads]).view_as(k_seen[heads])
            dq[heads] = of_scores.mT @ k_seen[heads].flatten(1, 2)

            shared = (of_sums.mul_(ratio[heads])).transpose(1, 2).to(q.dtype).flatten(2)
            weights = _exp(q[heads] @ k[heads].mT, highest[heads])
            masked = (weights.mT @ shared).unflatten(2, (b, e + 1))[..., :e]
            dv[heads] = masked.where(there[:, :, None] > 0, 0).sum(2)  # what is not there may be infinite
            of_scores = (shared @ _masked(v[heads], there).mT).mul_(weights)
            dq[heads] += of_scores @ k[heads]
            dk[heads] = of_scores.mT @ q[heads]
        return dq.mul_(e**-0.5), dk, dv, dk_seen, dv_seen, None


def _groups(q: Tensor) -> Iterator[slice]:
    """Return slices of the heads of q [H, N, E] whose scores stay in a CPU's cache, on a GPU all at once."""
    return groups(len(q), heads_in_cache(q, q) if q.device.type == "cpu" else len(q))


def _wide(x: Tensor) -> torch.dtype:
    """Return the dtype for what is summed and divided of `x`: fp32, or its own if that is wider."""
    return torch.promote_types(x.dtype, torch.float32)


def _exp(scores: Tensor, highest: Tensor) -> Tensor:
    """Return exp(scores - highest), in place."""
    return scores.sub_(highest).exp_()


def _scores_of_seen(q: Tensor, k_seen: Tensor) -> Tensor:
    """Return the scores [H, B, V, N] of mask tokens' queries [H, N, E] with visible keys [H, B, V, E]."""
    return (k_seen.flatten(1, 2) @ q.mT).view(*k_seen.shape[:3], -1)


def _with_ones(values: Tensor) -> Tensor:
    """Return values [..., E] with a last column of ones."""
    return torch.nn.functional.pad(values, (0, 1), value=1.0)


def _masked(v: Tensor, there: Tensor) -> Tensor:
    """Return v [H, N, E] with ones, for each clip 0 where it has no mask token: [H, N, B (E + 1)]; `there` is [N, B]."""
    return (_with_ones(v)[:, :, None] * there[None, :, :, None]).flatten(2)
