"""Random numbers as a function of what they are for: (seed, purpose, epoch, sample), never of workers, ranks or history."""

from enum import IntEnum

import numpy as np


class Purpose(IntEnum):
    """What a stream decides; the numbers are part of every result, so they never change."""

    ORDER = 0
    CLIP = 1
    MASK = 2
    REPLACEMENT = 3
    DECODER_MASK = 4
    MIX = 5
    SUBSET = 6
    DROP = 7


def stream(seed: int, purpose: Purpose, epoch: int, sample: int = 0) -> np.random.Generator:
    """Return the generator of one decision; equal arguments give equal numbers on every machine."""
    return np.random.Generator(np.random.Philox(np.random.SeedSequence((seed, int(purpose), epoch, sample))))
