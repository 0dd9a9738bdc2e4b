"""VideoMAE's asymmetric autoencoder (section 3.3): encode the visible cubes, predict the hidden ones."""

import torch
from torch import Tensor, nn

from vmae.config import DecoderConfig, PretrainRun
from vmae.grid import CubeGrid
from vmae.model.blocks import Encoder, LayerNorm, init_xavier, make_blocks, position_table
from vmae.model.cubes import cut, split_indices, take
from vmae.model.targets import pixel_target, reconstruction_loss


class Decoder(nn.Module):
    """Light blocks over visible cubes and mask tokens; predicts hidden cubes only."""

    positions: Tensor

    def __init__(self, grid: CubeGrid, encoder_width: int, config: DecoderConfig) -> None:
        super().__init__()
        self.from_encoder = nn.Linear(encoder_width, config.width, bias=False)
        self.mask_token = nn.Parameter(torch.zeros(1, 1, config.width))
        self.register_buffer("positions", position_table(grid, config), persistent=False)
        self.blocks = make_blocks(config)
        self.norm = LayerNorm(config.width)
        self.head = nn.Linear(config.width, grid.cube_values)

    def forward(self, encoded: Tensor, visible: Tensor, hidden: Tensor) -> Tensor:
        """[B, V, D] encoded cubes at `visible` [B, V] -> predictions [B, M, P] for the cubes at `hidden` [B, M]."""
        seen = self.from_encoder(encoded)
        num_visible = seen.shape[1]
        x = torch.cat([seen + self.positions[visible], (self.mask_token + self.positions[hidden]).to(seen.dtype)], dim=1)
        for block in self.blocks:
            x = block(x)
        predicted: Tensor = self.head(self.norm(x[:, num_visible:]))
        return predicted


class VideoMAE(nn.Module):
    """Encoder and decoder; `forward` gives the pre-training loss, `reconstruct` the predictions."""

    def __init__(self, run: PretrainRun) -> None:
        super().__init__()
        config = run.pretrain
        self.grid, self.target, self.loss = run.grid, config.target, config.loss
        self.num_hidden = config.mask.num_hidden(run.grid)
        self.encoder = Encoder(run.grid, run.encoder, final_norm=True)
        self.decoder = Decoder(run.grid, run.encoder.width, config.decoder)
        for part in (self.encoder.blocks, self.decoder):
            part.apply(init_xavier)  # the embedding keeps PyTorch's default, as the released Conv3d does
        nn.init.trunc_normal_(self.decoder.mask_token, std=0.02, a=-0.02, b=0.02)

    def predict(self, cubes: Tensor, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """Cubes [B, N, P] in [0, 1], `hidden` bool [B, N] -> predictions [B, M, P] and the hidden index [B, M]."""
        visible_index, hidden_index = split_indices(hidden, self.num_hidden)
        encoded = self.encoder(take(cubes, visible_index), visible_index)
        return self.decoder(encoded, visible_index, hidden_index), hidden_index

    def forward(self, clips: Tensor, hidden: Tensor) -> Tensor:
        """Clips [B, C, T, H, W] in [0, 1], `hidden` bool [B, N] with the run's count in each row -> scalar loss."""
        cubes = cut(clips, self.grid)
        predicted, hidden_index = self.predict(cubes, hidden)
        return reconstruction_loss(predicted, pixel_target(take(cubes, hidden_index), self.target), self.loss)
