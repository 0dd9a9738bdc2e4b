"""The fine-tuned model: encoder over all cubes, mean pooling, LayerNorm, linear head."""

from typing import Any

import torch
from timm.layers import trunc_normal_
from torch import Tensor, nn

from vmae.config import FinetuneRun
from vmae.errors import CheckpointError
from vmae.model.blocks import Encoder, LayerNorm, init_trunc_normal, init_xavier
from vmae.model.cubes import cut

HEAD_INIT_SCALE = 0.001  # as released


class Classifier(nn.Module):
    """Clips [B, C, T, H, W] in [0, 1] -> logits [B, num_classes]. From scratch until `load_encoder`."""

    def __init__(self, run: FinetuneRun) -> None:
        super().__init__()
        assert run.finetune.data.num_classes is not None
        self.grid = run.grid
        self.encoder = Encoder(run.grid, run.encoder, final_norm=False, drop_path_rate=run.finetune.drop_path_rate)
        self.fc_norm = LayerNorm(run.encoder.width)
        self.head = nn.Linear(run.encoder.width, run.finetune.data.num_classes)
        self.encoder.blocks.apply({"trunc_normal": init_trunc_normal, "xavier": init_xavier}[run.finetune.init])
        trunc_normal_(self.head.weight, std=0.02)
        nn.init.zeros_(self.head.bias)
        with torch.no_grad():
            self.head.weight.mul_(HEAD_INIT_SCALE)

    def forward(self, clips: Tensor) -> Tensor:
        """[B, C, T, H, W] -> [B, num_classes]."""
        features = self.encoder(cut(clips, self.grid))
        logits: Tensor = self.head(self.fc_norm(features.mean(dim=1)))
        return logits

    def load_encoder(self, weights: dict[str, Tensor]) -> None:
        """Take the encoder of a pre-training's weights; its final norm is left behind, as released.

        Raises CheckpointError if any other encoder weight is missing, unexpected or of another shape.
        """
        wanted = {f"encoder.{name}" for name in self.encoder.state_dict()}
        given = {name for name in weights if name.startswith("encoder.") and not name.startswith("encoder.norm.")}
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
        return {"stem": r"^encoder\.embed", "blocks": r"^encoder\.blocks\.(\d+)"}
