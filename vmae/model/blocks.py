"""What encoder and decoder share: timm's blocks as the paper uses them, fixed positions, pixel normalisation, initialisation.

timm's Block with qkv_bias=True is the paper's: a key bias shifts all scores of a query alike, which a softmax cannot see, so the
released q_bias and v_bias load as (q, 0, v).
"""

from functools import partial

import torch
from timm.layers import trunc_normal_
from timm.models.vision_transformer import Block as TimmBlock
from torch import Tensor, nn

from vmae.grid import NUM_CHANNELS, CubeGrid
from vmae.imported import NORMALISATIONS, Normalisation
from vmae.model.attention import attend
from vmae.model.cubes import cut
from vmae.model.shared import MaskTokens, attend_sharing
from vmae.sections import EncoderConfig, Precision

IMAGENET_MEAN, IMAGENET_STD = NORMALISATIONS["imagenet"]
LayerNorm = partial(nn.LayerNorm, eps=1e-6)


class Block(TimmBlock):  # type: ignore[misc]
    """timm's pre-norm block, with the kernel of `vmae.model.attention` and without work for tokens whose result nobody wants.

    Attributes:
        kernel, sharing: `runtime.attention` and, of a decoder's first block, `runtime.share_mask_tokens`.
    """

    kernel = "auto"
    sharing: bool | None = None

    def forward(
        self,
        x: Tensor,
        attn_mask: Tensor | None = None,
        num_skipped: int = 0,
        path_scales: Tensor | None = None,
        tokens: MaskTokens | None = None,
    ) -> Tensor:
        """[B, L, D] -> [B, L - num_skipped, D]: what all tokens get, without queries, projection and MLP of the first ones.

        Args:
            path_scales: [B, 2], what attention and MLP of each clip are multiplied by (drop path); None: nothing.
            tokens: what x ends with, if those are mask tokens that no block has changed; `attn_mask` is None then.
        """
        if tokens is None:
            mixed = attend(self.attn, self.norm1(x), attn_mask, num_skipped, self.kernel)
        else:
            seen = x[:, : x.shape[1] - tokens.asked.shape[1]]
            normalised = MaskTokens(self.norm1(tokens.values), tokens.asked)
            mixed = attend_sharing(self.attn, self.norm1(seen), normalised, num_skipped)
        x = x[:, num_skipped:] + _scaled(mixed, path_scales, 0)
        return x + _scaled(self.mlp(self.norm2(x)), path_scales, 1)


def _scaled(x: Tensor, path_scales: Tensor | None, path: int) -> Tensor:
    return x if path_scales is None else x * path_scales[:, path, None, None].to(x.dtype)


def blocks_of(model: nn.Module) -> list[Block]:
    """Return all blocks of a model."""
    return [module for module in model.modules() if isinstance(module, Block)]


def make_blocks(config: EncoderConfig) -> nn.ModuleList:
    """Return `config.depth` pre-norm blocks."""
    return nn.ModuleList(
        Block(config.width, config.num_heads, mlp_ratio=config.mlp_ratio, qkv_bias=True, norm_layer=LayerNorm)
        for _ in range(config.depth)
    )


def position_table(grid: CubeGrid, config: EncoderConfig) -> Tensor:
    """Return fixed positions [N, D] of a grid's cubes, `sincos_1d` as released or `sincos_3d`."""
    if config.positions == "sincos_1d":
        return sincos_1d(torch.arange(grid.num_cubes), config.width, period=10000)
    return sincos_3d(grid, config.width)


def sincos_1d(index: Tensor, width: int, period: float) -> Tensor:
    """Return the sinusoid of `index` [N]: sin on even, cos on odd columns j, of index / period^(2 floor(j / 2) / width)."""
    column = torch.arange(width)
    angle = index.double()[:, None] / period ** (2 * (column // 2).double() / width)
    return torch.where(column % 2 == 0, angle.sin(), angle.cos()).float()


def sincos_3d(grid: CubeGrid, width: int) -> Tensor:
    """Return separable positions [N, width]: a third of the columns for each of slice, row and column.

    The period is 100, not 10000: an axis has at most some dozens of cubes, and slower waves would be constants on it.
    """
    slices, rows, columns = torch.meshgrid(
        torch.arange(grid.num_slices), torch.arange(grid.side), torch.arange(grid.side), indexing="ij"
    )
    third = width // 6 * 2
    widths = (width - 2 * third, third, third)
    parts = [sincos_1d(axis.flatten(), w, period=100) for axis, w in zip((slices, rows, columns), widths, strict=True)]
    return torch.cat(parts, dim=1)


class Positions(nn.Module):
    """The position of each cube of a grid, fixed (and then in no checkpoint, as released) or learned."""

    table: Tensor

    def __init__(self, grid: CubeGrid, config: EncoderConfig) -> None:
        super().__init__()
        if config.positions == "learned":
            self.table = nn.Parameter(trunc_normal_(torch.empty(grid.num_cubes, config.width), std=0.02))
        else:
            self.register_buffer("table", position_table(grid, config), persistent=False)

    def forward(self, index: Tensor | None = None) -> Tensor:
        """Return positions [B, K, D] of the cubes at `index` [B, K], or [N, D] of all in order."""
        return self.table if index is None else self.table[index]


def placed(tokens: Tensor, positions: Tensor, precision: Precision) -> Tensor:
    """Return tokens with their positions: the start of the residual stream, which keeps the dtype that this has.

    In `bf16` that is fp32, as of timm's models under autocast; in `bf16_residual` it is bf16, as of transformers' VideoMAE (the
    released code: fp16).
    """
    x = tokens + positions
    return x.to(tokens.dtype) if precision == "bf16_residual" else x


class CubeEmbedding(nn.Module):
    """Linear embedding of cubes [B, K, P] in [0, 1] to [B, K, D], with ImageNet normalisation.

    The same map as the released Conv3d with kernel = stride = cube, applied only to the cubes that are looked at.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, grid: CubeGrid, width: int) -> None:
        super().__init__()
        self.proj = nn.Linear(grid.cube_values, width)
        repeats = grid.cube_values // NUM_CHANNELS
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN).repeat(repeats), persistent=False)
        self.register_buffer("std", torch.tensor(IMAGENET_STD).repeat(repeats), persistent=False)

    def forward(self, cubes: Tensor) -> Tensor:
        """[B, K, P] -> [B, K, D]."""
        embedded: Tensor = self.proj((cubes - self.mean) / self.std)
        return embedded

    @torch.no_grad()
    def adapt_filters(self, normalisation: Normalisation) -> None:
        """Make filters that were trained on pixels of another `normalisation` give here, for any cube, what they gave there.

        With its mean m and deviation s: w (x - m) / s + b = w' (x - mean) / std + b' for all pixels x, where w' = w std / s and
        b' = b + sum of w (mean - m) / s.
        """
        m, s = (torch.tensor(v).double().repeat(len(self.mean) // NUM_CHANNELS) for v in NORMALISATIONS[normalisation])
        filters = self.proj.weight.double()
        self.proj.bias.copy_(self.proj.bias + (filters * (self.mean - m) / s).sum(dim=1))
        self.proj.weight.copy_(filters * self.std / s)


class Encoder(nn.Module):
    """Joint space-time attention over the cubes it is given."""

    def __init__(self, grid: CubeGrid, config: EncoderConfig, *, final_norm: bool, precision: Precision = "bf16") -> None:
        super().__init__()
        self.precision = precision
        self.grid, self.width = grid, config.width
        self.embed = CubeEmbedding(grid, config.width)
        self.positions = Positions(grid, config)
        self.blocks = make_blocks(config)
        self.norm = LayerNorm(config.width) if final_norm else nn.Identity()

    def forward(
        self, cubes: Tensor, index: Tensor | None = None, attention: Tensor | None = None, path_scales: Tensor | None = None
    ) -> Tensor:
        """[B, K, P] cubes at `index` [B, K] (None: all in order), attending where `attention` says (None: all) -> [B, K, D].

        Args:
            path_scales: [B, depth, 2], of each clip and block, see Block.
        """
        x = placed(self.embed(cubes), self.positions(index), self.precision)
        for number, block in enumerate(self.blocks):
            x = block(x, attn_mask=attention, path_scales=None if path_scales is None else path_scales[:, number])
        encoded: Tensor = self.norm(x)
        return encoded

    def features(self, clips: Tensor, path_scales: Tensor | None = None) -> Tensor:
        """Clips [B, C, T, H, W] in [0, 1] -> [B, N, D], one vector per cube, none hidden; ValueError for another shape."""
        encoded: Tensor = self(cut(clips, self.grid), path_scales=path_scales)
        return encoded


def init_xavier(module: nn.Module) -> None:
    """Initialise as the released pre-training: Linear xavier uniform and bias 0; LayerNorm 1 and 0."""
    if isinstance(module, nn.Linear):
        nn.init.xavier_uniform_(module.weight)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def init_trunc_normal(module: nn.Module) -> None:
    """Initialise as the released fine-tuning: Linear truncated normal 0.02 and bias 0."""
    if isinstance(module, nn.Linear):
        trunc_normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
