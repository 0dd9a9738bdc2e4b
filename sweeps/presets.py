"""Base recipes: the same ablation at another scale. A preset fixes everything that an arm does not set."""

from vmae.config import ContrastConfig, EvaluateConfig, FinetuneConfig, PretrainConfig
from vmae.grid import CubeGrid
from vmae.recipe import Alternatives, Recipe
from vmae.sections import (
    ClipConfig,
    DecoderConfig,
    EmbeddedSet,
    EncoderConfig,
    FinetuneClipConfig,
    FinetuneOptimConfig,
    MaskConfig,
    OptimConfig,
)


def quick(labels: str) -> Recipe:
    """Return the 2-core recipe: 16 frames of 32 px in 128 cubes, a 3-block encoder, minutes per arm (LOG.md: how found).

    It leaves the paper where the scale asks for it: raw pixels (most cubes are flat black, where normalising would make coding
    noise the target), separable positions (learned in half the steps here), narrow MLPs (18 % more clips per second).
    """
    shape = {"num_heads": 4, "mlp_ratio": 2.0, "positions": "sincos_3d"}
    return Recipe(
        grid=CubeGrid(num_frames=16, size_px=32, tubelet_frames=2, patch_px=8),
        encoder=EncoderConfig(width=96, depth=3, **shape),  # type: ignore[arg-type]
        pretrain=PretrainConfig(
            data=EmbeddedSet(size="quick"),
            clip=ClipConfig(frame_stride=1),
            mask=MaskConfig(kind="tube", ratio=0.75),
            decoder=DecoderConfig(width=64, depth=1, **shape),  # type: ignore[arg-type]
            target="raw",
            optim=OptimConfig(
                epochs=9, warmup_epochs=0.5, batch_size=8, base_lr=64e-3, min_base_lr=0.0, weight_decay=0.05, grad_clip_norm=1.0
            ),
            precision="fp32",
        ),
        finetune=FinetuneConfig(
            data=EmbeddedSet(size="quick", labels=labels),  # type: ignore[arg-type]
            clip=FinetuneClipConfig(frame_stride=1),
            optim=FinetuneOptimConfig(
                epochs=16, warmup_epochs=2, batch_size=25, base_lr=20e-3, min_base_lr=0.0, layer_decay=1.0, grad_clip_norm=1.0
            ),
            drop_path_rate=0.0,
            init="xavier",
            precision="fp32",
        ),
        evaluate=EvaluateConfig(num_clips=1),
        instead=Alternatives(linear_probe=_linear_probe(labels), contrast=_contrast()),
    )


def _contrast() -> ContrastConfig:
    """Return MoCo v3 in batches of 50 with narrow heads; on a torus the cyclic shift stands for random crops."""
    return ContrastConfig(
        data=EmbeddedSet(size="quick"),
        clip=FinetuneClipConfig(frame_stride=1, roll=True),
        optim=OptimConfig(epochs=9, warmup_epochs=1, batch_size=50, base_lr=5e-3, min_base_lr=0.0, weight_decay=0.05),
        head_width=256,
        embedding_width=64,
        precision="fp32",
    )


def _linear_probe(labels: str) -> FinetuneConfig:
    """Return the paper's linear probe (SGD, no decay, frozen encoder) on the embedded videos, in batches that fit them."""
    return FinetuneConfig(
        probe="linear",
        data=EmbeddedSet(size="quick", labels=labels),  # type: ignore[arg-type]
        clip=FinetuneClipConfig(frame_stride=1),
        optim=FinetuneOptimConfig(
            optimizer="sgd",
            epochs=16,
            warmup_epochs=2,
            batch_size=25,
            base_lr=1.0,
            min_base_lr=0.0,
            weight_decay=0.0,
            beta1=0.9,
            layer_decay=1.0,
        ),
        label_smoothing=0.0,
        drop_path_rate=0.0,
        precision="fp32",
    )


def proxy(labels: str) -> Recipe:
    """Return the one-GPU recipe: 7,000 and 3,500 embedded videos in 512 cubes, a 6-block encoder, the paper's choices elsewhere.

    Not tuned yet: no run of it has been measured.
    """
    return quick(labels).replace(
        {
            "grid.patch_px": 4,
            "encoder.width": 192,
            "encoder.depth": 6,
            "encoder.num_heads": 6,
            "encoder.mlp_ratio": 4.0,
            "pretrain.data.size": "full",
            "pretrain.mask.ratio": 0.9,
            "pretrain.decoder.width": 96,
            "pretrain.decoder.depth": 4,
            "pretrain.decoder.mlp_ratio": 4.0,
            "pretrain.optim.epochs": 34,
            "pretrain.optim.warmup_epochs": 2.0,
            "pretrain.optim.batch_size": 128,
            "pretrain.optim.base_lr": 2e-3,
            "pretrain.precision": "bf16",
            "finetune.data.size": "full",
            "instead.linear_probe.data.size": "full",
            "instead.contrast.data.size": "full",
            "instead.contrast.optim.epochs": 100,
            "instead.contrast.optim.batch_size": 250,
            "instead.contrast.optim.warmup_epochs": 10.0,
            "instead.contrast.optim.base_lr": 1e-3,
            "instead.contrast.head_width": 1024,
            "instead.contrast.embedding_width": 128,
            "instead.contrast.precision": "bf16",
            "finetune.optim.epochs": 16,
            "finetune.optim.warmup_epochs": 2.0,
            "finetune.optim.batch_size": 100,
            "finetune.optim.base_lr": 4e-3,
            "finetune.precision": "bf16",
        }
    )


def tiny(labels: str) -> Recipe:
    """Return a recipe that runs in a second and learns nothing: for checking that everything works on a machine."""
    return quick(labels).replace(
        {
            "encoder.width": 16,
            "encoder.depth": 2,
            "encoder.num_heads": 2,
            "pretrain.decoder.width": 8,
            "pretrain.decoder.num_heads": 2,
            "pretrain.data.size": "tiny",
            "pretrain.optim.batch_size": 16,
            "pretrain.optim.epochs": 2,
            "finetune.data.size": "tiny",
            "instead.linear_probe.data.size": "tiny",
            "instead.contrast.data.size": "tiny",
            "instead.contrast.optim.batch_size": 16,
            "instead.contrast.optim.epochs": 2,
            "instead.contrast.head_width": 32,
            "instead.contrast.embedding_width": 16,
            "instead.linear_probe.optim.batch_size": 16,
            "instead.linear_probe.optim.epochs": 3,
            "finetune.optim.batch_size": 16,
            "finetune.optim.epochs": 3,
        }
    )
