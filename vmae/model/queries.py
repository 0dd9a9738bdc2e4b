"""Which cubes the encoder sees, which the decoder is asked for, and which of its answers count."""

from dataclasses import dataclass

import torch
from torch import Tensor

from vmae.model.cubes import split_indices


@dataclass(frozen=True)
class Split:
    """One batch of masks, read out: cube indices, ascending in each row.

    Attributes:
        visible: [B, V], what the encoder sees.
        asked: [B, K], cubes that get a mask token in the decoder.
        counts: bool [B, K], whose prediction counts; None for all.
        real: bool [B, V + K], False for padding where clips hide different numbers of cubes; None where all are real.
    """

    visible: Tensor
    asked: Tensor
    counts: Tensor | None = None
    real: Tensor | None = None

    @property
    def num_visible(self) -> int:
        """V."""
        return self.visible.shape[1]

    def attention(self, num_tokens: int) -> Tensor | None:
        """Return the attention mask bool [B, 1, 1, L] over the first `num_tokens` of visible and asked cubes; None for all."""
        return None if self.real is None else self.real[:, None, None, :num_tokens]


def fixed_split(hidden: Tensor, num_hidden: int) -> Split:
    """Read masks [B, N] that all hide `num_hidden` cubes: the hidden ones are asked for, and all count."""
    return Split(*split_indices(hidden, num_hidden))


def dual_split(hidden: Tensor, num_hidden: int, kept: Tensor, num_kept: int) -> Split:
    """Read masks with a decoder mask `kept` bool [B, N]: kept cubes are asked for, hidden ones of them count (VideoMAE V2)."""
    visible, _ = split_indices(hidden, num_hidden)
    _, asked = split_indices(kept, num_kept)
    return Split(visible, asked, hidden.gather(1, asked))


def ragged_split(hidden: Tensor) -> Split:
    """Read masks whose rows hide different numbers of cubes, padded to the largest number of either kind. Waits for the device.

    A padded place holds another cube of its clip; attention and loss pass over it.
    """
    order = hidden.to(torch.uint8).argsort(dim=1, stable=True)
    num_visible = (~hidden).sum(dim=1)
    visible, asked = order[:, : int(num_visible.max())], order[:, int(num_visible.min()) :]
    counts = hidden.gather(1, asked)
    return Split(visible, asked, counts, torch.cat([~hidden.gather(1, visible), counts], dim=1))
