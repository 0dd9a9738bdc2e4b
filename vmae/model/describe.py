"""What a checkpoint's tensors, and the run it is of, say about the model they belong to; and whether others have such a model."""

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from vmae.config import FinetuneRun, PretrainConfig, PretrainRun, Run
from vmae.errors import CheckpointError
from vmae.grid import CubeGrid
from vmae.model.formats import THEIR_POSITIONS, cube_of, to_vmae
from vmae.model.importing import Checkpoint, heads_of
from vmae.sections import EncoderConfig
from vmae.sizes import ENCODERS, name_of


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


def positions_and_heads(checkpoint: Checkpoint, found: Description, run: Run | None) -> list[str]:
    """Return the two `label: value` lines on what the tensors do not tell, as far as the format or the run does."""
    if run is not None:
        parts = transformers_of(run).items()
        return [
            "positions: " + ", ".join(f"{part} {config.positions}" for part, config in parts),
            "heads: " + ", ".join(f"{part} {config.num_heads}" for part, config in parts),
        ]
    if checkpoint.format != "vmae":
        known = "pos_embed, in the file" if checkpoint.format == "image_mae" else THEIR_POSITIONS
    else:
        known = "learned" if _learned(checkpoint) else "unknown; the run directory knows them"
    return [f"positions: {known}", f"heads: {heads_of(checkpoint, found.width, found.depth) or 'unknown'}"]


def transformers_of(run: Run) -> dict[str, EncoderConfig]:
    """Return the parts of a run's model that have positions and heads: encoder, and decoder where it has one."""
    model = run if isinstance(run, PretrainRun | FinetuneRun) else run.parent
    decoder = model.pretrain.decoder if isinstance(model, PretrainRun) and isinstance(model.pretrain, PretrainConfig) else None
    return {"encoder": model.encoder} | ({"decoder": decoder} if decoder else {})


def transformers_config(
    grid: CubeGrid, encoder: EncoderConfig, decoder: EncoderConfig | None = None, **more: object
) -> dict[str, object]:
    """Return what a config.json of transformers' VideoMAE says of a model with these parts; `more` is added."""
    config: dict[str, object] = {
        "model_type": "videomae",
        "image_size": grid.size_px,
        "patch_size": grid.patch_px,
        "num_frames": grid.num_frames,
        "tubelet_size": grid.tubelet_frames,
        "layer_norm_eps": 1e-6,
    }
    for prefix, part in {"": encoder, "decoder_": decoder}.items():
        if part is not None:
            config |= {
                f"{prefix}hidden_size": part.width,
                f"{prefix}num_hidden_layers": part.depth,
                f"{prefix}num_attention_heads": part.num_heads,
                f"{prefix}intermediate_size": int(part.mlp_ratio * part.width),
            }
    return config | more


def config_of(run: PretrainRun | FinetuneRun) -> dict[str, object]:
    """Return the config.json of a run's model, without which transformers' defaults would make another one of its weights."""
    parts = transformers_of(run)
    if isinstance(run, FinetuneRun):
        return transformers_config(run.grid, parts["encoder"], num_labels=run.finetune.data.num_classes, use_mean_pooling=True)
    is_normalised = isinstance(run.pretrain, PretrainConfig) and run.pretrain.target == "normalised"
    more = {"use_mean_pooling": False, "norm_pix_loss": is_normalised}
    return transformers_config(run.grid, parts["encoder"], parts.get("decoder"), **more)


def check_exportable(checkpoint: Checkpoint, run: Run | None, kind: str) -> None:
    """Raise CheckpointError where other projects' code, given these weights in format `kind`, would be another model.

    A bare file tells of its positions only if they are learned, and nothing of its heads.
    """
    parts = transformers_of(run) if run else {}
    found = {part: config.positions for part, config in parts.items()}
    found |= {name.split(".")[0]: "learned" for name in _learned(checkpoint)}
    for part, positions in found.items():
        if positions != THEIR_POSITIONS:
            raise CheckpointError(
                f"{checkpoint.path}: the {part}'s positions are {positions}. Neither format has a place for them: the other "
                f"code adds {THEIR_POSITIONS} whatever the file holds, and would be another model. "
                f"Train with {_field(part)}={THEIR_POSITIONS} to export"
            )
    if parts and kind == "released":  # a huggingface file has its config.json
        _check_heads(checkpoint, parts["encoder"])
    if isinstance(run, FinetuneRun) and run.finetune.probe != "none":
        raise CheckpointError(
            f"{checkpoint.path} is a probe ({run.finetune.probe}): the other code has no final norm of the encoder before its "
            "mean, and would be another model; export the pre-training"
        )


def _check_heads(checkpoint: Checkpoint, encoder: EncoderConfig) -> None:
    name, own = name_of(encoder.width, encoder.depth), encoder.num_heads
    if name and own != (theirs := ENCODERS[name].num_heads):
        raise CheckpointError(
            f"{checkpoint.path}: encoder.num_heads = {own}. The released code's {name} has {theirs} whatever the file holds, and "
            f"would be another model. Train with encoder.num_heads={theirs} to export, or export to huggingface"
        )


def _field(part: str) -> str:
    return "encoder.positions" if part == "encoder" else "pretrain.decoder.positions"


def _learned(checkpoint: Checkpoint) -> list[str]:
    return [name for name in checkpoint.weights if name.endswith("positions.table")]
