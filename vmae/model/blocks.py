"""What encoder and decoder share: timm's blocks as the paper uses them, fixed positions, pixel normalisation, initialisation.

timm's Block with qkv_bias=True is the paper's: a key bias shifts all scores of a query alike, which a softmax cannot see, so the
released q_bias and v_bias load as (q, 0, v).
"""

from functools import partial

import torch
from timm.layers import trunc_normal_
from timm.models.vision_transformer import Block
from torch import Tensor, nn

from vmae.config import EncoderConfig
from vmae.grid import NUM_CHANNELS, CubeGrid

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
LayerNorm = partial(nn.LayerNorm, eps=1e-6)


def make_blocks(config: EncoderConfig, drop_path_rate: float = 0.0) -> nn.ModuleList:
    """Return `config.depth` pre-norm blocks; drop path grows linearly from 0 to `drop_path_rate`."""
    rates = torch.linspace(0, drop_path_rate, config.depth).tolist()
    return nn.ModuleList(
        Block(
            config.width,
            config.num_heads,
            mlp_ratio=config.mlp_ratio,
            qkv_bias=True,
            drop_path=rate,
            norm_layer=LayerNorm,
        )
        for rate in rates
    )


def sincos_positions(num_cubes: int, width: int) -> Tensor:
    """Return the fixed position table [N, width]: a 1-D sinusoid over the flattened cube index, as released.

    Even columns hold sin, odd ones cos, of index / 10000^(2 floor(j / 2) / width).
    """
    index = torch.arange(num_cubes, dtype=torch.float64)[:, None]
    column = torch.arange(width)
    angle = index / 10000 ** (2 * (column // 2).double() / width)
    return torch.where(column % 2 == 0, angle.sin(), angle.cos()).float()


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


class Encoder(nn.Module):
    """Joint space-time attention over the cubes it is given."""

    positions: Tensor

    def __init__(self, grid: CubeGrid, config: EncoderConfig, *, final_norm: bool, drop_path_rate: float = 0.0) -> None:
        super().__init__()
        self.grid, self.width = grid, config.width
        self.embed = CubeEmbedding(grid, config.width)
        self.register_buffer("positions", sincos_positions(grid.num_cubes, config.width), persistent=False)
        self.blocks = make_blocks(config, drop_path_rate)
        self.norm = LayerNorm(config.width) if final_norm else nn.Identity()

    def forward(self, cubes: Tensor, index: Tensor | None = None) -> Tensor:
        """[B, K, P] cubes at `index` [B, K] (None: all cubes in order) -> [B, K, D]."""
        x = self.embed(cubes) + (self.positions if index is None else self.positions[index])
        for block in self.blocks:
            x = block(x)
        encoded: Tensor = self.norm(x)
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
