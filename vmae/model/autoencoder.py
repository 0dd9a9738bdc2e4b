"""VideoMAE's asymmetric autoencoder (section 3.3): encode the visible cubes, predict the hidden ones."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from vmae.config import PretrainRun
from vmae.grid import CubeGrid
from vmae.model.blocks import Encoder, LayerNorm, Positions, init_xavier, make_blocks, placed
from vmae.model.cubes import cut, join, take
from vmae.model.queries import Split, dual_split, fixed_split, ragged_split
from vmae.model.shared import MaskTokens, is_faster
from vmae.model.targets import counted, frames_to_predict, input_frames, pixel_target, reconstruction_loss, to_pixels
from vmae.sections import DecoderConfig, Precision


class Decoder(nn.Module):
    """Light blocks over visible cubes and mask tokens."""

    def __init__(self, grid: CubeGrid, encoder_width: int, config: DecoderConfig, cube_values: int, precision: Precision) -> None:
        super().__init__()
        self.precision = precision
        self.from_encoder = nn.Linear(encoder_width, config.width, bias=False)
        self.mask_token = nn.Parameter(torch.zeros(1, 1, config.width))
        self.positions = Positions(grid, config)
        self.blocks = make_blocks(config)
        self.norm = LayerNorm(config.width)
        self.head = nn.Linear(config.width, cube_values)

    def forward(self, encoded: Tensor, split: Split, *, visible_too: bool = False) -> Tensor:
        """[B, V, D] encoded cubes -> predictions [B, K, P] for the cubes asked for, or [B, V + K, P] for the visible ones too."""
        seen = placed(self.from_encoder(encoded), self.positions(split.visible), self.precision)
        x = torch.cat([seen, (self.mask_token + self.positions(split.asked)).to(seen.dtype)], dim=1)
        attention = split.attention(x.shape[1])
        tokens = self._tokens(split, seen.dtype) if attention is None else None
        for block in self.blocks[:-1]:
            x = block(x, attn_mask=attention, tokens=tokens)
            tokens = None
        # What the last block makes of a visible cube nobody reads, unless visible cubes are predicted too.
        x = self.blocks[-1](x, attn_mask=attention, num_skipped=0 if visible_too else split.num_visible, tokens=tokens)
        predicted: Tensor = self.head(self.norm(x))
        return predicted

    def _tokens(self, split: Split, dtype: torch.dtype) -> MaskTokens | None:
        """Return the mask tokens for the first block, if it is to compute them once for all clips."""
        wanted = self.blocks[0].sharing
        if not (is_faster(split.asked, len(self.positions.table)) if wanted is None else wanted):
            return None
        return MaskTokens((self.mask_token[0] + self.positions()).to(dtype), split.asked)


@dataclass(frozen=True)
class Prediction:
    """What the decoder says: values [B, K, P'] for the cubes at index [B, K], of which `counts` bool [B, K] count (None: all)."""

    values: Tensor
    index: Tensor
    counts: Tensor | None


class VideoMAE(nn.Module):
    """Encoder and decoder; `forward` gives the pre-training loss, `predict` what it is taken of, `rebuild` the frames it means.

    Clips are float [B, C, T, H, W] in [0, 1] as read, `hidden` bool [B, N], `kept` bool [B, N] the decoder mask if there is one;
    ValueError for others. What the encoder makes of whole clips: `encoder.features`.
    """

    def __init__(self, run: PretrainRun) -> None:
        super().__init__()
        self.grid, self.config = run.grid, run.masked
        self.target_grid = run.masked.target_grid(run.grid)
        precision = run.masked.precision
        self.encoder = Encoder(run.grid, run.encoder, final_norm=True, precision=precision)
        self.decoder = Decoder(run.grid, run.encoder.width, run.masked.decoder, self.target_grid.cube_values, precision)
        for part in (self.encoder.blocks, self.decoder):
            part.apply(init_xavier)  # the embedding keeps PyTorch's default, as the released Conv3d does
        nn.init.trunc_normal_(self.decoder.mask_token, std=0.02, a=-0.02, b=0.02)

    def split(self, hidden: Tensor, kept: Tensor | None = None) -> Split:
        """Read a batch of masks by the run's rules; ValueError unless they are bool [B, N].

        With a fixed count each row must hide `config.mask.num_hidden(grid)` cubes, as `vmae.model.masking.draw_batch` draws them;
        this is not checked, because the check would have to wait for the device.
        """
        if hidden.dtype != torch.bool or hidden.shape[1:] != (self.grid.num_cubes,):
            raise ValueError(
                f"hidden is {hidden.dtype} {list(hidden.shape)}; allowed: torch.bool [B, {self.grid.num_cubes}], True for hidden"
            )
        if self.config.mask.count == "bernoulli":
            return ragged_split(hidden)
        num_hidden = self.config.mask.num_hidden(self.grid)
        if kept is None:
            return fixed_split(hidden, num_hidden)
        return dual_split(hidden, num_hidden, kept, self.config.decoder_mask.num_kept(self.grid))

    def predict(self, clips: Tensor, hidden: Tensor, kept: Tensor | None = None) -> Prediction:
        """Encode what is visible and predict what is asked for."""
        split = self.split(hidden, kept)
        return self._predict(take(self._cubes_to_see(clips), split.visible), split, self._index(split))

    def _predict(self, seen: Tensor, split: Split, index: Tensor) -> Prediction:
        """Predict the cubes at `index` [B, K] from the visible ones [B, V, P]."""
        encoded = self.encoder(seen, split.visible, split.attention(split.num_visible))
        if self.config.loss_region == "all":
            return Prediction(self.decoder(encoded, split, visible_too=True), index, None)
        covered = counted(index, self.config.target_frames, self.grid)
        counts = split.counts if covered is None else covered if split.counts is None else covered & split.counts
        return Prediction(self.decoder(encoded, split), index, counts)

    def _index(self, split: Split) -> Tensor:
        """Return which cubes are predicted, [B, K]."""
        return torch.cat([split.visible, split.asked], dim=1) if self.config.loss_region == "all" else split.asked

    def targets(self, clips: Tensor) -> Tensor:
        """Return the targets of all cubes, [B, N, P']."""
        return pixel_target(self._cubes_to_predict(clips), self.config.target)

    def rebuild(self, clips: Tensor, hidden: Tensor, predicted: Prediction) -> Tensor:
        """Return the frames that are to be predicted (Table 1c), [B, C, T', H, W]: visible cubes as they are, others predicted.

        Hidden cubes whose prediction does not count are black. Normalised targets lack each cube's mean and deviation: these are
        taken from the hidden original.
        """
        cubes = self._cubes_to_predict(clips)
        values = to_pixels(predicted.values, take(cubes, predicted.index), self.config.target)
        shows = hidden.gather(1, predicted.index)
        if predicted.counts is not None:
            shows = shows & predicted.counts
        rebuilt = torch.where(hidden[..., None], 0.0, cubes)
        rows = torch.arange(len(cubes), device=cubes.device)[:, None].expand_as(predicted.index)
        rebuilt[rows[shows], predicted.index[shows]] = values[shows]
        return join(rebuilt, self.target_grid)

    def _cubes_to_see(self, clips: Tensor) -> Tensor:
        return cut(input_frames(clips, self.config.target_frames), self.grid)

    def _cubes_to_predict(self, clips: Tensor) -> Tensor:
        return cut(frames_to_predict(clips, self.config.target_frames, self.grid), self.target_grid)

    def loss(self, values: Tensor, targets: Tensor, counts: Tensor | None) -> Tensor:
        """Return the run's loss of `values` [B, K, P'] for `targets` alike."""
        return reconstruction_loss(values, targets, self.config.loss, self.config.loss_beta, counts)

    def forward(self, clips: Tensor, hidden: Tensor, kept: Tensor | None = None) -> Tensor:
        """Return the scalar loss, as of `predict` and `targets`, but without the work for cubes that are not asked for."""
        split = self.split(hidden, kept)
        index = self._index(split)
        cubes = self._cubes_to_see(clips)
        seen = take(cubes, split.visible)
        if self.config.target_frames != "clip":
            cubes = self._cubes_to_predict(clips)
        targets = pixel_target(take(cubes, index), self.config.target)
        del cubes  # as large as the clips, and nobody needs them while activations pile up
        predicted = self._predict(seen, split, index)
        return self.loss(predicted.values, targets, predicted.counts)
