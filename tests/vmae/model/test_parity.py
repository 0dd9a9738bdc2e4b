"""Parity with transformers' VideoMAE, an independent implementation: outputs, losses and gradients in float64."""

import pytest
import torch
from transformers import VideoMAEForPreTraining, VideoMAEForVideoClassification

from benchmarks.contestants import their_config, with_our_epsilon
from vmae.config import FinetuneConfig, FinetuneRun, PretrainConfig, PretrainRun
from vmae.grid import CubeGrid
from vmae.model.autoencoder import VideoMAE
from vmae.model.blocks import IMAGENET_MEAN, IMAGENET_STD
from vmae.model.classifier import Classifier
from vmae.model.formats import from_vmae, to_vmae
from vmae.model.importing import load_into
from vmae.model.masking import draw_batch
from vmae.sections import DecoderConfig, EncoderConfig, ListedSet, MaskConfig

VIDEOS = ListedSet(
    name="any", list_sha256="0" * 64, num_classes=7, manifest="any.csv", counts={"pretrain": 10, "train": 10, "holdout": 2}
)
SMALL = (
    CubeGrid(num_frames=8, size_px=32, tubelet_frames=2, patch_px=8),
    EncoderConfig(width=48, depth=3, num_heads=4),
    DecoderConfig(width=32, depth=2, num_heads=2),
)
VIT_S = (
    CubeGrid(num_frames=16, size_px=224),
    EncoderConfig(width=384, depth=12, num_heads=6),
    DecoderConfig(width=192, depth=4, num_heads=3),
)
SIZES = [pytest.param(SMALL, id="small"), pytest.param(VIT_S, id="vit_s", marks=pytest.mark.slow)]


def theirs(size, kind, **more):
    config = their_config(*size, num_labels=7, **more)
    torch.manual_seed(1)
    model = with_our_epsilon(kind(config).double().eval())
    with torch.no_grad():  # zero biases would hide one that is not loaded
        for parameter in model.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    return model


def clip(grid, batch):
    return torch.rand(
        batch, 3, grid.num_frames, grid.size_px, grid.size_px, dtype=torch.float64, generator=torch.Generator().manual_seed(0)
    )


def as_they_want(clips):
    # Both sides hold the constants in float32.
    mean, std = (torch.tensor(values).double()[:, None, None, None] for values in (IMAGENET_MEAN, IMAGENET_STD))
    return ((clips - mean) / std).transpose(1, 2)


def close(a, b, rtol):
    assert torch.linalg.vector_norm(a - b) <= rtol * torch.linalg.vector_norm(b)


def pretrain_run(size, **more):
    grid, encoder, decoder = size
    config = PretrainConfig(data=VIDEOS, decoder=decoder, mask=MaskConfig(ratio=0.75), optim={"batch_size": 2}, **more)
    return PretrainRun(grid=grid, encoder=encoder, pretrain=config)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("target", ["normalised", "raw"])
def test_pretraining(size, target):
    run = pretrain_run(size, target=target)
    other = theirs(size, VideoMAEForPreTraining, use_mean_pooling=False, norm_pix_loss=target == "normalised")
    ours = VideoMAE(run).double()
    report = load_into(ours, to_vmae(other.state_dict(), "huggingface", run.grid.tubelet_frames), min_share=1.0)
    assert report.missing == report.unexpected == ()
    clips = clip(run.grid, 2)
    hidden = torch.from_numpy(draw_batch(run.pretrain.mask, run.grid, 0, 0, range(2)))

    expected = other(as_they_want(clips), bool_masked_pos=hidden)
    expected.loss.backward()
    close(ours.predict(clips, hidden).values, expected.logits, 1e-10)
    loss = ours(clips, hidden)
    close(loss, expected.loss, 1e-10)
    loss.backward()
    compare_gradients(ours, other, run.grid)


@pytest.mark.parametrize("size", SIZES)
def test_classification(size):
    grid, encoder, _ = size
    run = FinetuneRun(
        grid=grid, encoder=encoder, finetune=FinetuneConfig(data=VIDEOS, drop_path_rate=0.0, optim={"batch_size": 2})
    )
    other = theirs(size, VideoMAEForVideoClassification)
    ours = Classifier(run).double()
    load_into(ours, to_vmae(other.state_dict(), "huggingface", grid.tubelet_frames), min_share=1.0)
    clips, labels = clip(grid, 2), torch.tensor([3, 5])
    expected = other(as_they_want(clips), labels=labels)
    expected.loss.backward()
    logits = ours(clips)
    close(logits, expected.logits, 1e-10)
    loss = torch.nn.functional.cross_entropy(logits, labels)
    close(loss, expected.loss, 1e-10)
    loss.backward()
    compare_gradients(ours, other, grid)


def compare_gradients(ours, other, grid):
    given = {name: parameter.grad for name, parameter in ours.named_parameters()}
    mapped = from_vmae(given, "huggingface", grid.tubelet_frames, grid.patch_px)
    wanted = {  # under the names of transformers 4, which we export
        name.replace("query.bias", "q_bias").replace("value.bias", "v_bias"): parameter.grad
        for name, parameter in other.named_parameters()
    }
    assert set(mapped) == set(wanted)
    scale = max(torch.linalg.vector_norm(g) for g in wanted.values())
    for name, gradient in wanted.items():
        assert torch.linalg.vector_norm(mapped[name] - gradient) <= 1e-8 * torch.linalg.vector_norm(gradient) + 1e-14 * scale, (
            name
        )


def test_biases_are_really_loaded():
    """The parity above would catch zero biases: without them outputs differ by far more than its tolerance."""
    run = pretrain_run(SMALL)
    other = theirs(SMALL, VideoMAEForPreTraining, use_mean_pooling=False)
    weights = to_vmae(other.state_dict(), "huggingface", 2)
    ours = VideoMAE(run).double()
    clips = clip(run.grid, 1)
    hidden = torch.from_numpy(draw_batch(run.pretrain.mask, run.grid, 0, 0, [0]))
    load_into(ours, weights)
    loss = ours(clips, hidden)
    load_into(ours, {n: torch.zeros_like(t) if n.endswith("qkv.bias") else t for n, t in weights.items()})
    assert abs(ours(clips, hidden) - loss) > 1e-6 * loss
