"""The names that other projects give the same weights, and the way to ours and back, bit for bit.

    vmae         ours: state dicts of VideoMAE and Classifier
    released     MCG-NJU/VideoMAE and, where the names agree, VideoMAE V2: pre-training (`encoder.`) and fine-tuning files
    huggingface  transformers' VideoMAEForPreTraining and VideoMAEForVideoClassification
    image_mae    facebookresearch/mae: an image encoder, inflated over time (Table 1e, ImageMAE)

Three things differ besides names: their embedding is a Conv3d, ours a Linear over the cube's values; their query and value biases
stand alone, ours are (query, 0, value) in one vector, for a key bias cannot change a softmax; Hugging Face splits the three.
"""

import re
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from vmae.errors import CheckpointError
from vmae.grid import NUM_CHANNELS, CubeGrid

Weights = dict[str, Tensor]
Prefixes = tuple[tuple[str, str], ...]
FORMATS = ("vmae", "released", "huggingface", "image_mae")
THEIR_POSITIONS = "sincos_1d"  # of released and huggingface: computed by their code, so in none of their files

# (theirs, ours) by first words; the first that fits is taken, in both directions.
_RELEASED_PRETRAIN = (
    ("encoder_to_decoder.", "decoder.from_encoder."),
    ("mask_token", "decoder.mask_token"),
    ("encoder.patch_embed.proj.", "encoder.embed.proj."),
)
_RELEASED_FINETUNE = (("patch_embed.proj.", "encoder.embed.proj."), ("blocks.", "encoder.blocks."))
_HUGGINGFACE = (
    ("videomae.embeddings.patch_embeddings.projection.", "encoder.embed.proj."),
    ("videomae.encoder.layer.", "encoder.blocks."),
    ("videomae.layernorm.", "encoder.norm."),
    ("encoder_to_decoder.", "decoder.from_encoder."),
    ("mask_token", "decoder.mask_token"),
    ("decoder.decoder_layers.", "decoder.blocks."),
    ("classifier.", "head."),
)
_HUGGINGFACE_BLOCK = (
    ("attention.output.dense.", "attn.proj."),
    ("layernorm_before.", "norm1."),
    ("layernorm_after.", "norm2."),
    ("intermediate.dense.", "mlp.fc1."),
    ("output.dense.", "mlp.fc2."),
)
_BLOCK = re.compile(r"^((?:encoder|decoder)\.blocks\.\d+\.)(.+)$")


def detect(names: Iterable[str]) -> str:
    """Return the format that parameter `names` belong to; CheckpointError if they belong to none."""
    given = set(names)

    def has(prefix: str) -> bool:
        return any(name.startswith(prefix) for name in given)

    if has("encoder.embed.proj."):
        return "vmae"
    if has("videomae."):
        return "huggingface"
    if has("encoder.patch_embed.proj."):
        return "released"
    if has("patch_embed.proj."):
        return "image_mae" if "cls_token" in given else "released"
    raise CheckpointError(
        f"not a VideoMAE checkpoint: none of its {len(given)} names belongs to a known format; "
        f"they start with {', '.join(sorted(given)[:4]) or 'nothing'}; known: {', '.join(FORMATS)}"
    )


def cube_of(weights: Mapping[str, Tensor]) -> tuple[int, int] | None:
    """Return frames and side in pixels of a cube, read off the filters (an image's: 1 frame); None where they are kept flat."""
    for name, filters in weights.items():
        if name.endswith(("patch_embed.proj.weight", "patch_embeddings.projection.weight")):
            return (filters.shape[2] if filters.ndim == 5 else 1, filters.shape[-1])
    return None


def to_vmae(weights: Mapping[str, Tensor], kind: str, tubelet_frames: int) -> Weights:
    """Return `weights` of format `kind` under our names; what has no place with us keeps its own name, and will be reported.

    Args:
        tubelet_frames: of the wanted model; matters for `image_mae`, whose filters are repeated over the frames of a cube and
            divided by their number, so that a still clip gives what the image gave.
    """
    if kind == "vmae":
        return dict(weights)
    if kind == "image_mae":
        return _from_image_mae(weights, tubelet_frames)
    prefixes: Prefixes = _HUGGINGFACE if kind == "huggingface" else _released(weights)
    renamed = {_rename(name, prefixes): tensor for name, tensor in weights.items()}
    if kind == "huggingface":
        renamed = {_rename_block(name, _HUGGINGFACE_BLOCK): tensor for name, tensor in renamed.items()}
        renamed = _join_attention(renamed)
    renamed = _join_biases(renamed)
    if (filters := renamed.get("encoder.embed.proj.weight")) is not None and filters.ndim == 5:
        renamed["encoder.embed.proj.weight"] = filters.permute(0, 2, 3, 4, 1).flatten(1).contiguous()
    return renamed


def from_vmae(weights: Mapping[str, Tensor], kind: str, tubelet_frames: int, patch_px: int) -> Weights:
    """Return our `weights` (VideoMAE or Classifier) in format `kind`: "released" or "huggingface".

    Our key bias is left out: there is no place for it in either, and it changes no output. Hugging Face's biases get the names of
    transformers 4, q_bias and v_bias: `from_pretrained` of version 5 knows them too, version 4 knows no others.
    """
    if kind not in ("released", "huggingface"):
        raise CheckpointError(f"cannot export to {kind!r}; allowed: released, huggingface")
    prefixes: Prefixes
    theirs = _split_attention(weights) if kind == "huggingface" else _split_biases(weights)
    name = "encoder.embed.proj.weight"
    shape = (-1, tubelet_frames, patch_px, patch_px, NUM_CHANNELS)
    theirs[name] = theirs[name].reshape(shape).permute(0, 4, 1, 2, 3).contiguous()
    if kind == "huggingface":
        theirs = {_rename_block(name, _inverse(_HUGGINGFACE_BLOCK)): tensor for name, tensor in theirs.items()}
        prefixes = _HUGGINGFACE
    else:
        prefixes = _RELEASED_FINETUNE if "head.weight" in theirs else _RELEASED_PRETRAIN
    return {_rename(name, _inverse(prefixes)): tensor for name, tensor in theirs.items()}


def _released(weights: Mapping[str, Tensor]) -> Prefixes:
    is_pretrained = any(name.startswith("encoder.") for name in weights)
    return _RELEASED_PRETRAIN if is_pretrained else _RELEASED_FINETUNE


def _from_image_mae(weights: Mapping[str, Tensor], tubelet_frames: int) -> Weights:
    """Take the encoder: filters inflated, class token and both position tables left under their names, decoder left out."""
    found: Weights = {}
    for name, tensor in weights.items():
        if name == "patch_embed.proj.weight":
            found["encoder.embed.proj.weight"] = over_frames(tensor.permute(0, 2, 3, 1).flatten(1), tubelet_frames)
        elif name == "patch_embed.proj.bias":
            found["encoder.embed.proj.bias"] = tensor
        elif name.startswith(("blocks.", "norm.")):
            found[f"encoder.{name}"] = tensor
        elif not name.startswith(("decoder_", "mask_token")):
            found[name] = tensor
    return found


def over_frames(filters: Tensor, num_frames: int) -> Tensor:
    """Inflate flat filters [D, P] of a frame to [D, T P] of cubes of T frames: a still cube gives what its frame gave."""
    return filters.repeat(1, num_frames) / num_frames


def images_to_clips(weights: Mapping[str, Tensor], grid: CubeGrid) -> Weights:
    """Return an encoder of single frames as one of `grid`; learned positions are the same in each slice."""
    found = dict(weights)
    found["encoder.embed.proj.weight"] = over_frames(weights["encoder.embed.proj.weight"], grid.tubelet_frames)
    if "encoder.positions.table" in found:
        found["encoder.positions.table"] = weights["encoder.positions.table"].repeat(grid.num_slices, 1)
    return found


def _rename(name: str, prefixes: Prefixes) -> str:
    for theirs, ours in prefixes:
        if name.startswith(theirs):
            return ours + name.removeprefix(theirs)
    return name


def _rename_block(name: str, prefixes: Prefixes) -> str:
    inside = _BLOCK.match(name)
    return inside[1] + _rename(inside[2], prefixes) if inside else name


def _inverse(prefixes: Prefixes) -> Prefixes:
    return tuple((ours, theirs) for theirs, ours in prefixes)


def _join_biases(weights: Weights) -> Weights:
    """Put q_bias and v_bias together as (q, 0, v)."""
    joined = {name: tensor for name, tensor in weights.items() if not name.endswith((".q_bias", ".v_bias"))}
    for name, query in weights.items():
        if name.endswith(".q_bias"):
            value = weights.get(name.replace(".q_bias", ".v_bias"))
            if value is None:
                raise CheckpointError(f"{name} is there, its v_bias is not")
            joined[name.replace(".q_bias", ".qkv.bias")] = torch.cat([query, torch.zeros_like(query), value])
    return joined


def _split_biases(weights: Mapping[str, Tensor]) -> Weights:
    split: Weights = {}
    for name, tensor in weights.items():
        if name.endswith(".qkv.bias"):
            query, _, value = tensor.chunk(3)
            split[name.replace(".qkv.bias", ".q_bias")] = query.clone()
            split[name.replace(".qkv.bias", ".v_bias")] = value.clone()
        else:
            split[name] = tensor
    return split


def _join_attention(weights: Weights) -> Weights:
    """Put Hugging Face's separate query, key and value together; biases as q_bias and v_bias, as older versions name them."""
    joined: Weights = {}
    for name, tensor in weights.items():
        block, marker, part = name.partition("attention.attention.")
        if not marker:
            joined[name] = tensor
        elif part == "query.weight":
            parts = [weights.get(f"{block}{marker}{word}.weight") for word in ("query", "key", "value")]
            if any(p is None for p in parts):
                raise CheckpointError(f"{name} is there, its key or value is not")
            joined[f"{block}attn.qkv.weight"] = torch.cat([p for p in parts if p is not None])
        elif part in ("query.bias", "q_bias"):
            joined[f"{block}attn.q_bias"] = tensor
        elif part in ("value.bias", "v_bias"):
            joined[f"{block}attn.v_bias"] = tensor
        elif part not in ("key.weight", "value.weight"):
            joined[name] = tensor
    return joined


def _split_attention(weights: Mapping[str, Tensor]) -> Weights:
    """Part query, key and value as Hugging Face does; biases become q_bias and v_bias, see `from_vmae`."""
    split: Weights = {}
    for name, tensor in _split_biases(weights).items():
        block, marker, part = name.partition("attn.")
        if marker and part == "qkv.weight":
            for word, piece in zip(("query", "key", "value"), tensor.chunk(3), strict=True):
                split[f"{block}attention.attention.{word}.weight"] = piece.clone()
        elif marker and part in ("q_bias", "v_bias"):
            split[f"{block}attention.attention.{part}"] = tensor
        else:
            split[name] = tensor
    return split
