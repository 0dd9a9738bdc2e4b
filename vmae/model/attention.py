"""Self-attention of timm's Attention modules, and the kernel that CPUs are fastest with in bf16.

Shapes: B clips, L tokens of width D, K queries, H heads of width E.
"""

from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

SCORES_BYTES = 4 * 2**20  # of one group of heads: what stays in a core's cache; 1 to 8 MiB are equally fast (docs/performance.md)


def attend(attn: Any, x: Tensor, mask: Tensor | None = None, num_skipped: int = 0, kernel: str = "auto") -> Tensor:
    """Return timm's `attn` of x [B, L, D] for the queries from `num_skipped` on: [B, L - num_skipped, D].

    Args:
        attn: without norms of query, key and output, gate or dropout, as blocks here are.
        mask: bool [B, 1, 1, L], keys that count; None for all.
        kernel: as `runtime.attention`.
    """
    b, _, width = x.shape
    heads = (attn.num_heads, attn.head_dim)
    if num_skipped == 0:
        q, k, v = attn.qkv(x).reshape(b, -1, 3, *heads).permute(2, 0, 3, 1, 4).unbind(0)
    else:
        weight, bias = attn.qkv.weight, attn.qkv.bias
        q = F.linear(x[:, num_skipped:], weight[:width], bias[:width]).reshape(b, -1, *heads).transpose(1, 2)
        k, v = F.linear(x, weight[width:], bias[width:]).reshape(b, -1, 2, *heads).permute(2, 0, 3, 1, 4).unbind(0)
    mixed: Tensor = attn.proj(mix(q, k, v, mask, kernel).transpose(1, 2).reshape(b, -1, width))
    return mixed


def mix(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None, kernel: str = "auto") -> Tensor:
    """Return softmax(q k^T / sqrt(E)) v of q [B, H, K, E], k and v [B, H, L, E]: [B, H, K, E]."""
    if kernel == "explicit":
        scores = (q * _scale(q)) @ k.mT
        if mask is not None:
            scores = scores.masked_fill(~mask, float("-inf"))
        return scores.softmax(dim=-1) @ v
    grouping_is_faster = q.device.type == "cpu" and q.dtype is torch.bfloat16
    if kernel == "auto" and grouping_is_faster and mask is None and not torch.compiler.is_compiling():
        grouped: Tensor = ByGroups.apply(q, k, v)
        return grouped
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask)


class ByGroups(torch.autograd.Function):
    """Attention a few heads at a time, so that their scores stay in the core's cache.

    Where the scores of all heads fit at once they are kept for the backward pass, else they are computed again there. All matrix
    products are oneDNN's, which on CPUs with bf16 instructions is much faster than PyTorch's fused kernel.
    """

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Return what `mix` returns."""
        shape = q.shape
        q, k, v = (x.reshape(-1, *x.shape[2:]) for x in (q * _scale(q), k, v))
        out = torch.empty_like(q)
        buffer = _buffer(q, k)
        for heads in groups(len(q), len(buffer)):
            weights = buffer[: heads.stop - heads.start]
            _weigh(q[heads], k[heads], weights)
            torch.bmm(weights, v[heads], out=out[heads])
        ctx.save_for_backward(q, k, v, buffer if len(buffer) == len(q) else None)
        return out.view(shape)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, ...]:
        """Return the gradients of q, k and v."""
        q, k, v, kept = ctx.saved_tensors
        shapes = [(*grad.shape[:2], *x.shape[1:]) for x in (q, k, v)]
        grad = grad.reshape(q.shape)
        dq, dk, dv = (torch.empty_like(x) for x in (q, k, v))
        first, second = _buffer(q, k), _buffer(q, k) if kept is None else kept
        for heads in groups(len(q), len(first)):
            scores, weights = (x[: heads.stop - heads.start] for x in (first, second))
            if kept is None:
                _weigh(q[heads], k[heads], weights)
            torch.bmm(weights.mT, grad[heads], out=dv[heads])
            torch.bmm(grad[heads], v[heads].mT, out=scores)
            torch._softmax_backward_data(scores, weights, -1, scores.dtype, grad_input=scores)
            torch.bmm(scores, k[heads], out=dq[heads])
            torch.bmm(scores.mT, q[heads], out=dk[heads])
        return tuple(x.view(shape) for x, shape in zip((dq.mul_(_scale(q)), dk, dv), shapes, strict=True))


def _scale(q: Tensor) -> float:
    return float(q.shape[-1] ** -0.5)


def _buffer(q: Tensor, k: Tensor) -> Tensor:
    """Return room for the scores [heads, K, L] of one group, of q [all heads, K, E] and k [all heads, L, E]."""
    return q.new_empty(heads_in_cache(q, k), q.shape[1], k.shape[1])


def heads_in_cache(q: Tensor, k: Tensor) -> int:
    """Return how many heads' scores are SCORES_BYTES at most, of q [all heads, K, E] and k [all heads, L, E]; at least 1."""
    size = SCORES_BYTES // (q.shape[1] * k.shape[1] * q.element_size())
    return max(1, min(len(q), size))


def groups(num_heads: int, size: int) -> Iterator[slice]:
    """Yield slices of all heads, of `size` at most."""
    for first in range(0, num_heads, size):
        yield slice(first, min(first + size, num_heads))


def _weigh(q: Tensor, k: Tensor, out: Tensor) -> None:
    """Write softmax(q k^T) of scaled q [heads, K, E] and k [heads, L, E] to `out` [heads, K, L]."""
    torch.bmm(q, k.mT, out=out)
    torch._softmax(out, -1, False, out=out)
