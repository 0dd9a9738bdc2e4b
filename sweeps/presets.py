"""Base recipes: the same ablation at another scale. A preset fixes everything that an arm does not set."""

from vmae.config import (
    ClipConfig,
    DecoderConfig,
    EmbeddedSet,
    EncoderConfig,
    EvaluateConfig,
    FinetuneConfig,
    FinetuneOptimConfig,
    MaskConfig,
    OptimConfig,
    PretrainConfig,
)
from vmae.grid import CubeGrid
from vmae.recipe import Recipe


def quick(labels: str) -> Recipe:
    """Return the 2-core recipe: 16 frames of 32 px in 128 cubes, a 3-block encoder, minutes per arm (found in LOG.md).

    Raw pixels, not normalised ones: most cubes are flat black, where normalising would make coding noise the target.
    """
    clip = ClipConfig(frame_stride=1)
    return Recipe(
        grid=CubeGrid(num_frames=16, size_px=32, tubelet_frames=2, patch_px=8),
        encoder=EncoderConfig(width=96, depth=3, num_heads=4),
        pretrain=PretrainConfig(
            data=EmbeddedSet(size="quick"),
            clip=clip,
            mask=MaskConfig(kind="tube", ratio=0.75),
            decoder=DecoderConfig(width=64, depth=1, num_heads=4),
            target="raw",
            optim=OptimConfig(
                epochs=15, warmup_epochs=1, batch_size=64, base_lr=4e-3, min_base_lr=0.0, weight_decay=0.05, beta2=0.95
            ),
            precision="fp32",
        ),
        finetune=FinetuneConfig(
            data=EmbeddedSet(size="quick", labels=labels),  # type: ignore[arg-type]
            clip=clip,
            optim=FinetuneOptimConfig(
                epochs=20, warmup_epochs=2, batch_size=40, base_lr=6.4e-3, min_base_lr=0.0, layer_decay=1.0, grad_clip_norm=1.0
            ),
            drop_path_rate=0.0,
            precision="fp32",
        ),
        evaluate=EvaluateConfig(num_clips=1),
    )
