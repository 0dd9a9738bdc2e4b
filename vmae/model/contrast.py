"""MoCo v3 on clips (Chen, Xie and He 2021, arXiv:2104.02057): a query encoder learns what a slowly following key encoder says.

Heads, loss, initialisation and the key encoder's pace are those of its released code for ViTs (facebookresearch/moco-v3,
moco/builder.py and vits.py); docs/paper-versus-code.md lists what differs. As there, each of a video's two views goes through the
heads by itself, with batch statistics of all ranks together, so that the number of ranks changes nothing.
"""

import copy
import math
from collections.abc import Callable
from itertools import pairwise

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn
from torch.distributed.nn.functional import all_reduce

from vmae.config import ContrastConfig, PretrainRun
from vmae.model.blocks import Encoder, blocks_of, init_xavier


class BatchNorm(nn.Module):
    """Batch normalisation of [B, D] over the clips of all ranks, of which each has any number; else by running statistics."""

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
        sums = _total(torch.cat([x.sum(dim=0), x.new_full((1,), len(x))]))
        mean, count = sums[:-1] / sums[-1], sums[-1]
        variance = _total((x - mean).square().sum(dim=0)) / count
        with torch.no_grad():
            self.mean.lerp_(mean, self.momentum)
            self.variance.lerp_(variance * count / (count - 1).clamp(min=1), self.momentum)
        return mean, variance


def _total(x: Tensor) -> Tensor:
    """Sum over ranks, so that gradients reach every rank's clips."""
    if not dist.is_initialized():
        return x
    total: Tensor = all_reduce(x)
    return total


def head(widths: list[int]) -> nn.Sequential:
    """Return Linear, BatchNorm, ReLU, ... Linear, all without biases, and a last BatchNorm without scale (`_build_mlp`)."""
    layers: list[nn.Module] = []
    for before, after in pairwise(widths[:-1]):
        layers += [nn.Linear(before, after, bias=False), BatchNorm(after), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(widths[-2], widths[-1], bias=False), BatchNorm(widths[-1], affine=False))


def init_released(encoder: Encoder) -> None:
    """Initialise as vits.py: Xavier uniform of queries, keys and values apart and of the embedding too, biases 0."""
    encoder.blocks.apply(init_xavier)
    for block in blocks_of(encoder):
        for part in block.attn.qkv.weight.detach().chunk(3):
            nn.init.xavier_uniform_(part)
    init_xavier(encoder.embed.proj)


Views = tuple[Tensor, Tensor]


def views_at(place: Tensor) -> Views:
    """Return where the first and where the second clips of videos are among clips at `place` [B]; places as in `contrast`."""
    return (place % 2 == 0).nonzero()[:, 0], (place % 2 == 1).nonzero()[:, 0]


def _apart(heads: Callable[[Tensor], Tensor], x: Tensor, views: Views | None) -> Tensor:
    """Return what heads make of features [B, D], of each view by itself, in the order given; None: of all together."""
    if views is None:
        return heads(x)
    return torch.cat([heads(x.index_select(0, view)) for view in views]).index_select(0, torch.cat(views).argsort())


class MoCo(nn.Module):
    """Query encoder, projector and predictor; key encoder and projector, which follow them and get no gradient."""

    def __init__(self, run: PretrainRun) -> None:
        super().__init__()
        config = run.pretrain
        assert isinstance(config, ContrastConfig)
        hidden, out = config.head_width, config.embedding_width
        self.grid = run.grid
        self.encoder = Encoder(run.grid, run.encoder, final_norm=True, precision=config.precision)
        init_released(self.encoder)
        self.encoder.embed.requires_grad_(not config.frozen_embedding)
        self.projector = head([run.encoder.width, hidden, hidden, out])
        self.predictor = head([out, hidden, out])
        self.key_encoder = copy.deepcopy(self.encoder).requires_grad_(False)
        self.key_projector = copy.deepcopy(self.projector).requires_grad_(False)

    def features(self, clips: Tensor) -> Tensor:
        """[B, C, T, H, W] -> the query encoder's mean output [B, D]."""
        mean: Tensor = self.encoder.features(clips).mean(dim=1)
        return mean

    def forward(self, clips: Tensor, views: Views | None = None) -> tuple[Tensor, Tensor]:
        """Clips float [B, C, T, H, W] in [0, 1] -> queries and keys, each [B, E] of length 1.

        Args:
            views: which clips are of either view, as `views_at` says; ValueError for None in training.
        """
        if self.training and views is None:
            raise ValueError("views = None: in training each view has its own batch statistics; pass views_at(place)")
        queries = _apart(lambda x: self.predictor(self.projector(x)), self.features(clips), views)
        with torch.no_grad():
            keys = _apart(self.key_projector, self.key_encoder.features(clips).mean(dim=1), views)
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


def symmetric_loss(queries: Tensor, keys: Tensor, place: Tensor, key_place: Tensor, temperature: float) -> Tensor:
    """Return what is minimised: the mean loss of the first views' queries plus the second's, times 2 temperature, as released."""
    return 4 * temperature * contrast(queries, keys, place, key_place, temperature).mean()


def of_other_view(scores: Tensor, place: Tensor, key_place: Tensor) -> Tensor:
    """Return `scores` [B, K] of queries for keys, minus infinity for keys of the query's own view; places as in `contrast`."""
    return scores.masked_fill((place[:, None] + key_place[None]) % 2 == 0, float("-inf"))
