"""The fine-tuned model: encoder over all cubes, mean pooling, LayerNorm, linear head; and probes on a frozen encoder.

A probe sees the encoder's normalised output. The linear one norms its mean features without parameters (MAE has a BatchNorm
there, whose result would depend on how a batch is divided); the attentive one is V-JEPA's: one query attends to all cubes.
"""

from contextlib import nullcontext
from typing import Any

import torch
from timm.layers import AttentionPoolLatent, trunc_normal_
from torch import Tensor, nn

from vmae.config import FinetuneRun
from vmae.errors import CheckpointError
from vmae.model.blocks import Encoder, LayerNorm, init_trunc_normal, init_xavier

HEAD_INIT_SCALE = 0.001  # as released


class Mean(nn.Module):
    """The mean over cubes."""

    def forward(self, encoded: Tensor) -> Tensor:
        """[B, N, D] -> [B, D]."""
        return encoded.mean(dim=1)


class Classifier(nn.Module):
    """Clips [B, C, T, H, W] in [0, 1] -> logits [B, num_classes]. From scratch until `load_encoder`."""

    def __init__(self, run: FinetuneRun) -> None:
        super().__init__()
        assert run.finetune.data.num_classes is not None
        self.grid, self.is_probe = run.grid, run.finetune.probe != "none"
        self.encoder = Encoder(run.grid, run.encoder, final_norm=self.is_probe, precision=run.finetune.precision)
        self.pool: nn.Module = Mean()
        if run.finetune.probe == "attentive":
            e = run.encoder
            self.pool = AttentionPoolLatent(e.width, num_heads=e.num_heads, mlp_ratio=e.mlp_ratio, norm_layer=LayerNorm)
        self.fc_norm = LayerNorm(run.encoder.width, elementwise_affine=run.finetune.probe != "linear")
        self.head = nn.Linear(run.encoder.width, run.finetune.data.num_classes)
        self.encoder.blocks.apply({"trunc_normal": init_trunc_normal, "xavier": init_xavier}[run.finetune.init])
        trunc_normal_(self.head.weight, std=0.02)
        nn.init.zeros_(self.head.bias)
        with torch.no_grad():
            self.head.weight.mul_(HEAD_INIT_SCALE)
        self.encoder.requires_grad_(not self.is_probe)

    def forward(self, clips: Tensor, path_scales: Tensor | None = None, feature_scales: Tensor | None = None) -> Tensor:
        """[B, C, T, H, W] -> [B, num_classes].

        The model draws nothing itself: what a training leaves out of it comes as factors, as `vmae.train.dropping` draws them.

        Args:
            path_scales: [B, depth, 2], of the encoder's blocks (drop path).
            feature_scales: [B, D], of what the head sees (dropout).
        """
        with torch.no_grad() if self.is_probe else nullcontext():
            encoded = self.encoder.features(clips, path_scales)
        features = self.fc_norm(self.pool(encoded))
        logits: Tensor = self.head(features if feature_scales is None else features * feature_scales.to(features.dtype))
        return logits

    def features(self, clips: Tensor) -> Tensor:
        """[B, C, T, H, W] -> the encoder's mean output [B, D], for nearest neighbours."""
        mean: Tensor = self.encoder.features(clips).mean(dim=1)
        return mean

    def load_encoder(self, weights: dict[str, Tensor]) -> None:
        """Take the encoder of a pre-training's weights; its final norm is left behind, as released, but not by a probe.

        Raises CheckpointError if any other encoder weight is missing, unexpected or of another shape.
        """
        wanted = {f"encoder.{name}" for name in self.encoder.state_dict()}
        left = () if self.is_probe else ("encoder.norm.",)
        given = {name for name in weights if name.startswith("encoder.") and not name.startswith(left)}
        if wanted != given:
            raise CheckpointError(
                f"encoder weights do not match: missing {sorted(wanted - given)}, unexpected {sorted(given - wanted)}"
            )
        try:
            self.encoder.load_state_dict({name.removeprefix("encoder."): weights[name] for name in wanted})
        except RuntimeError as error:
            raise CheckpointError(f"encoder weights have other shapes: {error}") from None

    def group_matcher(self, coarse: bool = False) -> dict[str, Any]:
        """Return timm's layer map: embedding, then each block; what is not named, norm and head, comes last (factor 1)."""
        return {"stem": r"^encoder\.(?:embed|positions)", "blocks": r"^encoder\.blocks\.(\d+)"}
