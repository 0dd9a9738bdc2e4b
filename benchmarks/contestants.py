"""Who takes a pre-training step: ours and transformers' VideoMAEForPreTraining, of one shape, from the same weights."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from vmae.config import PretrainConfig, PretrainRun
from vmae.grid import CubeGrid
from vmae.model.autoencoder import VideoMAE
from vmae.model.blocks import IMAGENET_MEAN, IMAGENET_STD
from vmae.model.describe import transformers_config
from vmae.model.formats import to_vmae
from vmae.model.importing import load_into
from vmae.model.masking import draw_batch
from vmae.sections import DecoderConfig, EmbeddedSet, EncoderConfig, MaskConfig, OptimConfig
from vmae.sizes import DECODERS, ENCODERS
from vmae.train.optim import make_optimizer
from vmae.train.setup import autocast

Step = Callable[[], float]
BASE = "transformers"
ATTENTIONS = ("fused", "explicit")
# Words of a contestant that are settings of the runtime.
SETTINGS: dict[str, tuple[str, Any]] = {word: ("attention", word) for word in ATTENTIONS} | {
    "shared": ("share_mask_tokens", True),
    "unshared": ("share_mask_tokens", False),
}
WAYS = (*SETTINGS, "residual", "compiled", "graph")


@dataclass(frozen=True)
class Size:
    """A model on clips of one geometry, in batches that fit two cores."""

    encoder: EncoderConfig
    decoder: DecoderConfig
    grid: CubeGrid
    batch: int

    def run(self) -> PretrainRun:
        """Return it as a pre-training: tube masks of 0.9, normalised targets."""
        section = PretrainConfig(
            data=EmbeddedSet(), decoder=self.decoder, mask=MaskConfig(ratio=0.9), optim=OptimConfig(batch_size=self.batch)
        )
        return PretrainRun(grid=self.grid, encoder=self.encoder, pretrain=section)


SIZES = {
    "vit_s": Size(ENCODERS["vit_s"], DECODERS["vit_s"], CubeGrid(), 4),
    "vit_b": Size(ENCODERS["vit_b"], DECODERS["vit_b"], CubeGrid(), 2),
    "cubes512": Size(  # what embedded videos are asked with on one GPU
        EncoderConfig(width=192, depth=12, num_heads=3),
        DecoderConfig(width=96, depth=4, num_heads=3),
        CubeGrid(size_px=64, patch_px=8),
        32,
    ),
}


def their_config(grid: CubeGrid, encoder: EncoderConfig, decoder: DecoderConfig, **more: Any) -> Any:
    """Return transformers' config of a model with this shape and our epsilon."""
    from transformers import VideoMAEConfig

    return VideoMAEConfig(**transformers_config(grid, encoder, decoder, **more))


def with_our_epsilon(model: nn.Module) -> nn.Module:
    """Return transformers' model with 1e-6 everywhere: decoder.norm and fc_norm keep 1e-5 whatever the config says."""
    for module in model.modules():
        if isinstance(module, nn.LayerNorm):
            module.eps = 1e-6
    return model


def their_model(run: PretrainRun) -> nn.Module:
    """Return transformers' model with this run's shape; its defaults would be another model in four places."""
    from transformers import VideoMAEForPreTraining

    config = their_config(run.grid, run.encoder, run.masked.decoder, use_mean_pooling=False, norm_pix_loss=True)
    return with_our_epsilon(VideoMAEForPreTraining(config))


@dataclass(frozen=True)
class Data:
    """Clips as either side wants them, and the masks."""

    ours: Tensor
    theirs: Tensor
    hidden: Tensor


def data_of(run: PretrainRun, batch: int, device: torch.device) -> Data:
    """Return random clips and drawn masks, the same at every call."""
    g = run.grid
    clips = torch.rand(batch, 3, g.num_frames, g.size_px, g.size_px, generator=torch.Generator().manual_seed(0))
    mean, std = (torch.tensor(values)[:, None, None, None] for values in (IMAGENET_MEAN, IMAGENET_STD))
    hidden = torch.from_numpy(draw_batch(run.masked.mask, g, 0, 0, range(batch)))
    theirs = ((clips - mean) / std).transpose(1, 2).contiguous()
    return Data(clips.to(device), theirs.to(device), hidden.to(device))


def make_step(name: str, run: PretrainRun, data: Data, precision: str, device: torch.device) -> Step:
    """Return one training step of contestant `name`, which gives its loss; all start from the same weights.

    Words after `vmae` say how: an attention kernel, `shared` or `unshared` mask tokens, `residual` (in bf16 too), `compiled`,
    `graph` (the whole step as one).
    """
    torch.manual_seed(1)
    theirs = their_model(run)
    model = theirs
    words = name.split()
    if words[0] == "vmae":
        model = VideoMAE(_in_bf16_throughout(run) if "residual" in words else run)
        load_into(model, to_vmae(theirs.state_dict(), "huggingface", run.grid.tubelet_frames), min_share=1.0)
    if asked := dict(SETTINGS[word] for word in words if word in SETTINGS):
        from vmae.runtime import RuntimeConfig  # earlier checkouts, measured without this and without graphs, have neither
        from vmae.train.setup import arranged

        arranged(model, RuntimeConfig(**asked))
    model.to(device).train()
    optimizer = make_optimizer(model, run.masked.optim)
    called = torch.compile(model) if "compiled" in words else model

    def loss_of(clips: Tensor, hidden: Tensor) -> Tensor:
        with autocast(precision, device):
            return called(clips, hidden) if words[0] == "vmae" else called(clips, bool_masked_pos=hidden).loss  # type: ignore[no-any-return]

    def take(loss_of: Callable[..., Tensor], *inputs: Tensor) -> tuple[Tensor, Tensor]:
        loss = loss_of(*inputs)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return loss.detach(), loss.detach()

    if "graph" in words:
        from vmae.train.graphs import Recorded

        take = Recorded(take, optimizer, device)
    clips = data.ours if words[0] == "vmae" else data.theirs
    return lambda: take(loss_of, clips, data.hidden)[0]  # type: ignore[return-value]


def _in_bf16_throughout(run: PretrainRun) -> PretrainRun:
    return run.model_copy(update={"pretrain": run.masked.model_copy(update={"precision": "bf16_residual"})})
