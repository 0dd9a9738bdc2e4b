"""Weights from files of any origin: read without running anything, checked, matched name by name, and reported."""

import argparse
import pickle
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from vmae.claim import read_json
from vmae.errors import CheckpointError, some
from vmae.files import UNREADABLE, file_sha256
from vmae.grid import CubeGrid
from vmae.imported import ImportedWeights
from vmae.model.formats import THEIR_POSITIONS, Weights, cube_of, detect, to_vmae
from vmae.sections import EncoderConfig
from vmae.sizes import ENCODERS, name_of

if TYPE_CHECKING:
    from vmae.model.classifier import Classifier

WRAPPERS = ("model", "module", "state_dict")  # released, DeepSpeed, others
PREFIXES = ("module.", "backbone.")  # DataParallel, and detectors built on the encoder
MIN_SHARE = 0.9


@dataclass(frozen=True)
class Checkpoint:
    """A file's weights under their own names, and what else it says."""

    path: Path
    weights: Weights
    format: str
    wrapper: str | None = None
    others: tuple[str, ...] = ()

    @property
    def num_parameters(self) -> int:
        """Values of all tensors together."""
        return sum(tensor.numel() for tensor in self.weights.values())


def read_checkpoint(path: Path) -> Checkpoint:
    """Read a .safetensors file or a torch file, the latter by torch's restricted unpickler with argparse.Namespace allowed.

    Raises CheckpointError for a file that is missing, truncated, no checkpoint, or holds other objects or values that are not
    finite.
    """
    content = _read(path)
    wrapper = next((key for key in WRAPPERS if isinstance(content.get(key), Mapping)), None)
    inner = content[wrapper] if wrapper else content
    weights = {_stripped(str(name)): tensor for name, tensor in inner.items() if isinstance(tensor, Tensor)}
    if not weights:
        raise CheckpointError(f"{path}: no tensors found; it holds {', '.join(map(str, content)) or 'nothing'}")
    bad = [name for name, tensor in weights.items() if tensor.is_floating_point() and not torch.isfinite(tensor).all()]
    if bad:
        raise CheckpointError(f"{path}: {len(bad)} tensors hold NaN or infinity: {some(bad)}")
    others = tuple(str(key) for key in content if key != wrapper) if wrapper else ()
    try:
        return Checkpoint(path, weights, detect(weights), wrapper, others)
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from None


def _read(path: Path) -> Mapping[str, Any]:
    if not path.is_file():
        raise CheckpointError(f"no checkpoint at {path}")
    try:
        if path.suffix == ".safetensors":
            return safetensors.torch.load_file(path)
        with torch.serialization.safe_globals([argparse.Namespace]), warnings.catch_warnings(action="ignore"):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except SafetensorError as error:
        raise CheckpointError(f"{path} is damaged or no safetensors file: {error}") from None
    except pickle.UnpicklingError as error:
        raise CheckpointError(f"{path} is refused: no checkpoint, or it holds more than weights ({_reason(error)})") from None
    except UNREADABLE as error:
        raise CheckpointError(f"{path} is truncated or no checkpoint: {_reason(error)}") from None
    if not isinstance(content, Mapping):
        raise CheckpointError(f"{path}: a {type(content).__name__}, not a dictionary of weights")
    return content


def _reason(error: Exception) -> str:
    """Return the sentence of torch's message that says what was met, without its advice."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    found = next((line for line in lines if "GLOBAL" in line or "Unsupported" in line), lines[0] if lines else "")
    return found.split(". ")[0] or type(error).__name__


def _stripped(name: str) -> str:
    for prefix in PREFIXES:
        name = name.removeprefix(prefix)
    return name


@dataclass(frozen=True)
class LoadReport:
    """What became of each weight: names under ours.

    Attributes:
        dropped: left out for a reason, for example a head of other width.
    """

    matched: tuple[str, ...]
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    other_shape: tuple[str, ...]
    dropped: Mapping[str, str] = field(default_factory=dict)

    @property
    def share(self) -> float:
        """Matched share of the model's weights."""
        return len(self.matched) / max(1, len(self.matched) + len(self.missing) + len(self.other_shape))

    def lines(self) -> list[str]:
        """Return the report as sentences."""
        found = [f"{len(self.matched)} of the model's weights matched ({self.share:.0%})"]
        for what, names in (("missing", self.missing), ("unexpected", self.unexpected), ("of another shape", self.other_shape)):
            if names:
                found.append(f"{len(names)} {what}: {some(names)}")
        return found + [f"dropped {name}: {reason}" for name, reason in self.dropped.items()]


def load_into(
    model: nn.Module, weights: Mapping[str, Tensor], min_share: float = MIN_SHARE, source: str = "weights"
) -> LoadReport:
    """Copy `weights` (our names) into `model` where name and shape agree; what is missing keeps its initialisation.

    A head of another number of classes is dropped and said. Raises CheckpointError, with the report, where less than
    `min_share` of the model's weights would match, or where any shape but the head's differs: then it is another model.
    """
    own = model.state_dict()
    dropped = {}
    if "head.weight" in own and "head.weight" in weights and weights["head.weight"].shape != own["head.weight"].shape:
        given, wanted = weights["head.weight"].shape[0], own["head.weight"].shape[0]
        dropped = dict.fromkeys(("head.weight", "head.bias"), f"{given} classes there, {wanted} here")
    usable = {name: tensor for name, tensor in weights.items() if name not in dropped}
    other_shape = tuple(sorted(n for n in usable if n in own and usable[n].shape != own[n].shape))
    matched = {n: t for n, t in usable.items() if n in own and n not in other_shape}
    report = LoadReport(
        tuple(sorted(matched)),
        tuple(sorted(set(own) - set(usable) - set(dropped))),
        tuple(sorted(set(usable) - set(own))),
        other_shape,
        dropped,
    )
    if other_shape:
        name = other_shape[0]
        raise CheckpointError(
            f"{source} is of another model: {name} is {list(usable[name].shape)} there and {list(own[name].shape)} here "
            f"({len(other_shape)} such weights)"
        )
    if report.share < min_share:
        raise CheckpointError(f"{source} does not fit: {'; '.join(report.lines())}; at least {min_share:.0%} must match")
    model.load_state_dict(matched, strict=False)
    return report


def _check_cube(checkpoint: Checkpoint, grid: CubeGrid) -> None:
    """Refuse filters of another cube; an image's filters fit cubes of any number of frames."""
    cube = cube_of(checkpoint.weights)
    frames = grid.tubelet_frames if checkpoint.format != "image_mae" else 1
    if cube and cube != (frames, grid.patch_px):
        raise CheckpointError(
            f"{checkpoint.path} looks at cubes of {cube[0]} frames of {cube[1]} px; this run's grid has cubes of "
            f"{grid.tubelet_frames} frames of {grid.patch_px} px"
        )


def heads_of(checkpoint: Checkpoint, width: int, depth: int) -> int | None:
    """Return the heads that other projects' code gives an encoder of theirs, which no tensor tells; None: not known.

    Those that the config.json beside a Hugging Face file says of this width and depth, else those of the size of that name.
    """
    if checkpoint.format not in ("released", "huggingface"):
        return None
    said = read_json(checkpoint.path.with_name("config.json")) if checkpoint.format == "huggingface" else {}
    is_its = (said.get("hidden_size"), said.get("num_hidden_layers")) == (width, depth)
    if is_its and isinstance(heads := said.get("num_attention_heads"), int):
        return heads
    name = name_of(width, depth)
    return ENCODERS[name].num_heads if name else None


def positions_of(checkpoint: Checkpoint) -> str | None:
    """Return the positions of the encoder in a file, as `encoder.positions` calls them; None: not known, or not taken over."""
    if checkpoint.format in ("released", "huggingface"):
        return THEIR_POSITIONS
    return "learned" if "encoder.positions.table" in checkpoint.weights else None


def _check_untold(checkpoint: Checkpoint, encoder: EncoderConfig) -> None:
    """Refuse positions and heads that the file's model does not have: every tensor would match, in another model.

    Of an image's encoder neither is asked: its positions are not taken over, and MoCo v3's ViT-S has 12 heads.
    """
    theirs = {"positions": positions_of(checkpoint), "num_heads": heads_of(checkpoint, encoder.width, encoder.depth)}
    for field_name, value in theirs.items():
        if value is not None and (own := getattr(encoder, field_name)) != value:
            raise CheckpointError(
                f"{checkpoint.path} ({checkpoint.format}) is of another model: encoder.{field_name} = {own!r}, allowed with "
                f"these weights: {value!r}; set encoder.{field_name}={value}"
            )


def load_imported(model: "Classifier", imported: ImportedWeights, grid: CubeGrid, encoder: EncoderConfig) -> list[str]:
    """Start a classifier from a file as the released fine-tuning does: encoder without its final norm, head if it fits.

    Returns the report's lines. Raises CheckpointError if the file is not the one that was planned with, does not fit, is of a
    model with other positions or heads, or lacks any tensor of the encoder: what is left would be judged as if it were whole.
    """
    path = Path(imported.path)
    if (found := file_sha256(path)) != imported.sha256:
        raise CheckpointError(f"{path} is another file than planned: sha256 {found[:12]}, planned {imported.sha256[:12]}")
    checkpoint = read_checkpoint(path)
    _check_cube(checkpoint, grid)
    _check_untold(checkpoint, encoder)
    weights = to_vmae(checkpoint.weights, checkpoint.format, grid.tubelet_frames)
    own = set(model.state_dict())
    left = () if "encoder.norm.weight" in own else ("encoder.norm.",)  # a probe keeps the final norm
    wanted = {n: t for n, t in weights.items() if n.startswith(("encoder.", "fc_norm.", "head.")) and not n.startswith(left)}
    report = load_into(model, wanted, min_share=0.0, source=str(path))
    if lacking := [name for name in report.missing if name.startswith("encoder.")]:
        raise CheckpointError(f"{path} lacks {len(lacking)} of the encoder's tensors: {some(lacking)}")
    lines = [f"{imported.name} ({checkpoint.format}, {path.name})", *report.lines()]
    if imported.normalisation != "imagenet":
        model.encoder.embed.adapt_filters(imported.normalisation)
        lines.append(f"filters adapted from normalisation {imported.normalisation!r} of pixels")
    return lines
