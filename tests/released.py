"""Weights of other projects in miniature: the released VideoMAE's names and image MAE's, drawn at random."""

import argparse

import torch

BLOCK = {
    "norm1.weight": "D", "norm1.bias": "D", "norm2.weight": "D", "norm2.bias": "D",
    "attn.q_bias": "D", "attn.v_bias": "D", "attn.qkv.weight": "3D D", "attn.proj.weight": "D D", "attn.proj.bias": "D",
    "mlp.fc1.weight": "4D D", "mlp.fc1.bias": "4D", "mlp.fc2.weight": "D 4D", "mlp.fc2.bias": "D",
}  # fmt: skip


def blocks(prefix, depth, width):
    def shape(text):
        return [int(word.removesuffix("D") or 1) * width for word in text.split()]

    return {f"{prefix}blocks.{i}.{name}": torch.randn(shape(text)) for i in range(depth) for name, text in BLOCK.items()}


def released_pretraining(width=16, depth=2, dec_width=8, dec_depth=1, tubelet=2, patch=8):
    """The names and shapes of a released pre-training file."""
    torch.manual_seed(0)
    return {
        "mask_token": torch.randn(1, 1, dec_width),
        "encoder.patch_embed.proj.weight": torch.randn(width, 3, tubelet, patch, patch),
        "encoder.patch_embed.proj.bias": torch.randn(width),
        **blocks("encoder.", depth, width),
        "encoder.norm.weight": torch.randn(width),
        "encoder.norm.bias": torch.randn(width),
        **blocks("decoder.", dec_depth, dec_width),
        "decoder.norm.weight": torch.randn(dec_width),
        "decoder.norm.bias": torch.randn(dec_width),
        "decoder.head.weight": torch.randn(3 * tubelet * patch**2, dec_width),
        "decoder.head.bias": torch.randn(3 * tubelet * patch**2),
        "encoder_to_decoder.weight": torch.randn(dec_width, width),
    }


def released_finetuning(width=16, depth=2, classes=5, tubelet=2, patch=8):
    torch.manual_seed(1)
    return {
        "patch_embed.proj.weight": torch.randn(width, 3, tubelet, patch, patch),
        "patch_embed.proj.bias": torch.randn(width),
        **blocks("", depth, width),
        "fc_norm.weight": torch.randn(width),
        "fc_norm.bias": torch.randn(width),
        "head.weight": torch.randn(classes, width),
        "head.bias": torch.randn(classes),
    }


def image_mae(width=16, depth=2, patch=8):
    torch.manual_seed(2)
    named = {
        name.replace("q_bias", "qkv.bias"): tensor for name, tensor in blocks("", depth, width).items() if "v_bias" not in name
    }
    named = {name: torch.randn(3 * width) if name.endswith("qkv.bias") else tensor for name, tensor in named.items()}
    return named | {
        "cls_token": torch.randn(1, 1, width),
        "pos_embed": torch.randn(1, 17, width),
        "patch_embed.proj.weight": torch.randn(width, 3, patch, patch),
        "patch_embed.proj.bias": torch.randn(width),
        "norm.weight": torch.randn(width),
        "norm.bias": torch.randn(width),
        "decoder_embed.weight": torch.randn(8, width),
        "mask_token": torch.randn(1, 1, 8),
    }


def equal(one, other):
    assert set(one) == set(other)
    for name, tensor in one.items():
        assert torch.equal(tensor, other[name]), name
        assert tensor.is_contiguous()


def wrapped(weights, how):
    if how == "plain":
        return weights
    if how == "model":
        return {"model": weights, "epoch": 7, "optimizer": {"state": {}}, "args": argparse.Namespace(lr=1.0)}
    if how == "module":
        return {"module": weights, "mp_world_size": 1}
    return {"state_dict": {f"backbone.{name}": tensor for name, tensor in weights.items()}}
