"""The models by the paper's names: encoder and decoder of ViT-S, B, L and H (Tong et al. 2022, appendix; released code)."""

from vmae.errors import ConfigError, near
from vmae.sections import DecoderConfig, EncoderConfig

ENCODERS = {
    "vit_s": EncoderConfig(width=384, depth=12, num_heads=6),
    "vit_b": EncoderConfig(width=768, depth=12, num_heads=12),
    "vit_l": EncoderConfig(width=1024, depth=24, num_heads=16),
    "vit_h": EncoderConfig(width=1280, depth=32, num_heads=16),
}
DECODERS = {
    "vit_s": DecoderConfig(width=192, depth=4, num_heads=3),
    "vit_b": DecoderConfig(width=384, depth=4, num_heads=6),
    "vit_l": DecoderConfig(width=512, depth=12, num_heads=8),
    "vit_h": DecoderConfig(width=640, depth=12, num_heads=8),
}


def encoder_of(name: str) -> EncoderConfig:
    """Return the encoder called `name`; ConfigError with the near word for an unknown one."""
    if name not in ENCODERS:
        raise ConfigError(f"no model {name!r}{near(name, ENCODERS)}")
    return ENCODERS[name]


def name_of(width: int, depth: int) -> str | None:
    """Return the name of the encoder of this width and depth, if it has one."""
    return next((name for name, e in ENCODERS.items() if (e.width, e.depth) == (width, depth)), None)
