"""What a fine-tuning leaves out of its model at random: paths of blocks (drop path), and features before the head (dropout)."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from vmae.config import FinetuneRun
from vmae.random import Purpose, stream


@dataclass(frozen=True)
class Dropped:
    """Factors of a step's clips, 0 or 1 / (1 - rate): of paths [B, depth, 2], of features [B, D]; None: nothing is dropped."""

    paths: Tensor | None
    features: Tensor | None


@dataclass(frozen=True)
class Dropping:
    """Draws what is dropped as a function of (seed, step, the clip's place in the step), so of no rank and no micro-batch.

    The rate of paths grows linearly over the blocks, from 0 to the run's.
    """

    run: FinetuneRun
    clips_per_step: int

    def __call__(self, step: int, places: Sequence[int], device: torch.device) -> Dropped:
        """Return the factors of the clips at `places` of a step."""
        config, encoder = self.run.finetune, self.run.encoder
        noise = stream(config.seed, Purpose.DROP, step)
        paths = features = None
        if config.drop_path_rate:
            rates = np.linspace(0, config.drop_path_rate, encoder.depth)[:, None]
            paths = self._factors(noise, (encoder.depth, 2), rates, places, device)
        if config.head_dropout:
            features = self._factors(noise, (encoder.width,), np.array(config.head_dropout), places, device)
        return Dropped(paths, features)

    def _factors(
        self, noise: np.random.Generator, shape: tuple[int, ...], rates: np.ndarray, places: Sequence[int], device: torch.device
    ) -> Tensor:
        drawn = noise.random((self.clips_per_step, *shape), dtype=np.float32)[list(places)]
        factors = torch.from_numpy(((drawn >= rates) / (1 - rates)).astype(np.float32))
        # From pinned memory, so that the training does not wait until a GPU has come to the copy.
        return factors if device.type == "cpu" else factors.pin_memory().to(device, non_blocking=True)
