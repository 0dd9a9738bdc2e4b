"""MoCo v3 on clips (Chen, Xie and He 2021, arXiv:2104.02057): a query encoder learns what a slowly following key encoder says.

Ours differs in this: features are means over cubes (there is no class token), and vectors (biases, norms) do not decay. As
published, the batch statistics of the heads are those of all ranks together, so that the number of ranks changes nothing.
"""

import copy
import math

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn
from torch.distributed.nn.functional import all_reduce

from vmae.config import ContrastConfig, PretrainRun
from vmae.model.blocks import Encoder, init_xavier


class BatchNorm(nn.Module):
    """Batch normalisation of [B, D] over the clips of all ranks; by running statistics outside training."""

    mean: Tensor
    variance: Tensor

    def __init__(self, width: int, affine: bool = True, momentum: float = 0.1, eps: float = 1e-5) -> None:
        super().__init__()
        self.momentum, self.eps = momentum, eps
        self.weight = nn.Parameter(torch.ones(width)) if affine else None
        self.bias = nn.Parameter(torch.zeros(width)) if affine else None
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("variance", torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        """[B, D] -> [B, D]."""
        x = x.float()
        mean, variance = self._statistics(x) if self.training else (self.mean, self.variance)
        normed = (x - mean) * torch.rsqrt(variance + self.eps)
        return normed if self.weight is None or self.bias is None else normed * self.weight + self.bias

    def _statistics(self, x: Tensor) -> tuple[Tensor, Tensor]:
        count = len(x) * (dist.get_world_size() if dist.is_initialized() else 1)  # ranks have equally many clips
        mean = _total(x.sum(dim=0)) / count
        variance = _total((x - mean).square().sum(dim=0)) / count
        with torch.no_grad():
            self.mean.lerp_(mean, self.momentum)
            self.variance.lerp_(variance * count / max(1, count - 1), self.momentum)
        return mean, variance


def _total(x: Tensor) -> Tensor:
    """Sum over ranks, so that gradients reach every rank's clips."""
    if not dist.is_initialized():
        return x
    total: Tensor = all_reduce(x)
    return total


def head(widths: list[int], last_norm: bool) -> nn.Sequential:
    """Return Linear, BatchNorm, ReLU, ... Linear without biases, and a last BatchNorm without scale if asked, as published."""
    layers: list[nn.Module] = []
    for i in range(len(widths) - 1):
        layers.append(nn.Linear(widths[i], widths[i + 1], bias=False))
        if i < len(widths) - 2:
            layers += [BatchNorm(widths[i + 1]), nn.ReLU()]
        elif last_norm:
            layers.append(BatchNorm(widths[i + 1], affine=False))
    return nn.Sequential(*layers)


class MoCo(nn.Module):
    """Query encoder, projector and predictor; key encoder and projector, which follow them and get no gradient."""

    def __init__(self, run: PretrainRun) -> None:
        super().__init__()
        config = run.pretrain
        assert isinstance(config, ContrastConfig)
        hidden, out = config.head_width, config.embedding_width
        self.grid = run.grid
        self.encoder = Encoder(run.grid, run.encoder, final_norm=True, precision=config.precision)
        self.encoder.blocks.apply(init_xavier)
        self.encoder.embed.requires_grad_(not config.frozen_embedding)
        self.projector = head([run.encoder.width, hidden, hidden, out], last_norm=True)
        self.predictor = head([out, hidden, out], last_norm=False)
        self.key_encoder = copy.deepcopy(self.encoder).requires_grad_(False)
        self.key_projector = copy.deepcopy(self.projector).requires_grad_(False)

    def features(self, clips: Tensor) -> Tensor:
        """[B, C, T, H, W] -> the query encoder's mean output [B, D]."""
        mean: Tensor = self.encoder.features(clips).mean(dim=1)
        return mean

    def forward(self, clips: Tensor) -> tuple[Tensor, Tensor]:
        """Clips float [B, C, T, H, W] in [0, 1] -> queries and keys, each [B, E] of length 1."""
        queries = self.predictor(self.projector(self.features(clips)))
        with torch.no_grad():
            keys = self.key_projector(self.key_encoder.features(clips).mean(dim=1))
        return F.normalize(queries.float(), dim=1), F.normalize(keys.float(), dim=1)

    @torch.no_grad()
    def follow(self, momentum: float) -> None:
        """Move the key encoder and projector to `momentum` x themselves + (1 - momentum) x the query's."""
        for keys, queries in ((self.key_encoder, self.encoder), (self.key_projector, self.projector)):
            for key, query in zip(keys.parameters(), queries.parameters(), strict=True):
                key.lerp_(query, 1 - momentum)


def momentum_at(start: float, step: int, num_steps: int) -> float:
    """Return the momentum of a step: `start` at first, 1 at the end, along a cosine."""
    return 1 - (1 - start) * (1 + math.cos(math.pi * step / num_steps)) / 2


def contrast(queries: Tensor, keys: Tensor, place: Tensor, key_place: Tensor, temperature: float) -> Tensor:
    """Return each query's InfoNCE loss [B] against the keys of the other view of all videos.

    Args:
        queries: [B, E] and `keys` [K, E], of length 1.
        place, key_place: [B] and [K]; the two clips of a video stand at 2 v and 2 v + 1. The key of a query is its video's
            other clip; keys of its own view are no candidates, as in the published pseudocode.
    """
    logits = of_other_view(queries @ keys.T / temperature, place, key_place)
    wanted = (key_place[None] == (place ^ 1)[:, None]).float().argmax(dim=1)
    return F.cross_entropy(logits, wanted, reduction="none")


def of_other_view(scores: Tensor, place: Tensor, key_place: Tensor) -> Tensor:
    """Return `scores` [B, K] of queries for keys, minus infinity for keys of the query's own view; places as in `contrast`."""
    return scores.masked_fill((place[:, None] + key_place[None]) % 2 == 0, float("-inf"))
