"""What a checkpoint's tensors say about the model they belong to: `vmae checkpoint inspect`."""

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from vmae.errors import CheckpointError
from vmae.model.formats import cube_of, to_vmae
from vmae.model.importing import Checkpoint
from vmae.sizes import name_of


@dataclass(frozen=True)
class Description:
    """A model as far as its weights tell; the number of heads they do not tell.

    Attributes:
        task: "pretrain" if there is a decoder, "classify" if there is a head, else "encoder".
        cube: frames and patch side in pixels where the filters are kept as such (not in our own format).
    """

    task: str
    name: str | None
    width: int
    depth: int
    mlp_ratio: float
    cube_values: int
    cube: tuple[int, int] | None
    decoder: tuple[int, int] | None
    num_classes: int | None
    num_parameters: int

    def lines(self) -> list[str]:
        """Return the description as `label: value` lines."""
        size = f"{self.name or 'unnamed'}: width {self.width}, depth {self.depth}, mlp ratio {self.mlp_ratio:g}"
        cube = f"{self.cube[0]} frames of {self.cube[1]} px" if self.cube else f"{self.cube_values} values"
        found = [f"task: {self.task}", f"encoder: {size}", f"cube: {cube}"]
        if self.decoder:
            found.append(f"decoder: width {self.decoder[0]}, depth {self.decoder[1]}")
        if self.num_classes:
            found.append(f"classes: {self.num_classes}")
        return [*found, f"parameters: {self.num_parameters:,}"]


def describe(checkpoint: Checkpoint) -> Description:
    """Read a model's shape off its weights; CheckpointError if there is no encoder in them."""
    weights = to_vmae(checkpoint.weights, checkpoint.format, tubelet_frames=1)
    try:
        width, cube_values = weights["encoder.embed.proj.weight"].shape
        mlp = weights["encoder.blocks.0.mlp.fc1.weight"].shape[0]
    except KeyError as missing:
        raise CheckpointError(f"{checkpoint.path}: no {missing}, so no encoder") from None
    depth, decoder_depth = _depth(weights, "encoder"), _depth(weights, "decoder")
    head = weights.get("head.weight")
    return Description(
        task="pretrain" if decoder_depth else "classify" if head is not None else "encoder",
        name=name_of(width, depth),
        width=width,
        depth=depth,
        mlp_ratio=mlp / width,
        cube_values=cube_values,
        cube=cube_of(checkpoint.weights),
        decoder=(weights["decoder.from_encoder.weight"].shape[0], decoder_depth) if decoder_depth else None,
        num_classes=None if head is None else head.shape[0],
        num_parameters=checkpoint.num_parameters,
    )


def _depth(weights: Mapping[str, Tensor], part: str) -> int:
    return len({name.split(".")[2] for name in weights if name.startswith(f"{part}.blocks.")})
