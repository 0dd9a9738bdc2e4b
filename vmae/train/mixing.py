"""Mixup and CutMix on clips: timm's, which knows images, given each clip as one image of C x T channels.

So a CutMix box is cut from height and width in all frames alike. timm's own slicing of a 5-D batch would cut time and height.
"""

import torch
import torch.nn.functional as F
from timm.data import Mixup
from torch import Tensor

from vmae.data.augment import borrowed_generators
from vmae.random import Purpose, stream
from vmae.sections import MixConfig


class Mixer:
    """Mixes a batch with itself reversed; its draws are a function of (seed, step), the same on every rank."""

    def __init__(self, config: MixConfig, num_classes: int, label_smoothing: float, seed: int) -> None:
        self.seed, self.num_classes, self.label_smoothing = seed, num_classes, label_smoothing
        self.mixup = None
        if config.is_on:
            self.mixup = Mixup(
                mixup_alpha=config.mixup,
                cutmix_alpha=config.cutmix,
                prob=config.prob,
                switch_prob=config.switch_prob,
                label_smoothing=label_smoothing,
                num_classes=num_classes,
            )

    def __call__(self, clips: Tensor, labels: Tensor, step: int) -> tuple[Tensor, Tensor]:
        """Return clips [B, C, T, H, W] and the probabilities [B, num_classes] that are wanted of them, smoothed."""
        if self.mixup is None:
            wanted = F.one_hot(labels, self.num_classes).float()
            return clips, wanted * (1 - self.label_smoothing) + self.label_smoothing / self.num_classes
        with borrowed_generators(stream(self.seed, Purpose.MIX, step)):
            # timm wants to know the device of the labels; it mixes in place, so on a copy.
            mixed, wanted = self.mixup(clips.flatten(1, 2).clone(), labels)
        return mixed.reshape(clips.shape), wanted.to(torch.float32)
