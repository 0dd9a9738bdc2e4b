"""The autoencoder and the classifier: what they see, what they start from, what they load."""

import pytest
import torch

from vmae.errors import CheckpointError
from vmae.model.autoencoder import VideoMAE
from vmae.model.classifier import Classifier
from vmae.model.cubes import cut, join, split_indices, take
from vmae.model.masking import draw_batch
from vmae.model.targets import pixel_target, reconstruction_loss


@pytest.fixture
def runs(recipe):
    return recipe.replace({"finetune.drop_path_rate": 0.0}).runs()


@pytest.fixture
def batch(runs):
    torch.manual_seed(1)
    hidden = draw_batch(runs[0].pretrain.mask, runs[0].grid, 0, 0, range(3))
    return torch.rand(3, 3, 16, 32, 32), torch.from_numpy(hidden)


def test_the_encoder_never_sees_a_hidden_cube(runs, batch):
    """Changing hidden pixels changes no prediction; changing visible ones does."""
    model = VideoMAE(runs[0]).eval()
    clips, hidden = batch
    cubes = cut(clips, runs[0].grid)
    noise = torch.rand_like(cubes)
    hidden_changed = join(torch.where(hidden[..., None], noise, cubes), runs[0].grid)
    visible_changed = join(torch.where(hidden[..., None], cubes, noise), runs[0].grid)
    before = model.predict(clips, hidden).values
    assert torch.equal(before, model.predict(hidden_changed, hidden).values)
    assert not torch.allclose(before, model.predict(visible_changed, hidden).values)


def test_the_loss_counts_hidden_cubes_only(runs, batch):
    model = VideoMAE(runs[0]).eval()
    clips, hidden = batch
    predicted = model.predict(clips, hidden)
    assert predicted.values.shape == (3, int(hidden[0].sum()), runs[0].grid.cube_values)
    target = pixel_target(take(cut(clips, runs[0].grid), predicted.index), "raw")
    torch.testing.assert_close(model(clips, hidden), reconstruction_loss(predicted.values, target, "mse"))


def test_predictions_come_in_ascending_cube_order(runs, batch):
    """A hidden cube's prediction depends on its place: swapping the decoder's position rows swaps the predictions."""
    model = VideoMAE(runs[0]).eval()
    clips, hidden = batch
    before = model.predict(clips, hidden)
    first, second = int(before.index[0, 0]), int(before.index[0, 1])
    table = model.decoder.positions.table
    table[[first, second]] = table[[second, first]]
    after = model.predict(clips[:1], hidden[:1])
    torch.testing.assert_close(after.values[0, [1, 0]], before.values[0, [0, 1]])


def test_gathering_equals_masking_the_full_sequence(runs, batch):
    """Embedding only the visible cubes is embedding all and then selecting."""
    model = VideoMAE(runs[0]).eval()
    clips, hidden = batch
    cubes = cut(clips, runs[0].grid)
    visible_index, _ = split_indices(hidden, runs[0].pretrain.mask.num_hidden(runs[0].grid))
    x = model.encoder.embed(cubes) + model.encoder.positions()
    x = x[~hidden].reshape(3, -1, x.shape[-1])
    for block in model.encoder.blocks:
        x = block(x)
    torch.testing.assert_close(model.encoder(take(cubes, visible_index), visible_index), model.encoder.norm(x))


def test_initialisation_is_as_released(runs):
    torch.manual_seed(0)
    model = VideoMAE(runs[0])
    token = model.decoder.mask_token
    assert 0 < float(token.detach().abs().max()) <= 0.02 + 1e-6
    for name, parameter in model.named_parameters():
        if name.endswith(("norm1.bias", "norm2.bias", "qkv.bias", "proj.bias", "head.bias")) and "embed" not in name:
            assert not parameter.any(), name
        if name.endswith("qkv.weight"):
            fan_out, fan_in = parameter.shape
            assert float(parameter.detach().abs().max()) <= (6 / (fan_in + fan_out)) ** 0.5, "xavier uniform"
    assert not any(name.startswith(("encoder.positions", "decoder.positions")) for name in model.state_dict())


def test_a_fresh_head_says_nearly_nothing(runs):
    logits = Classifier(runs[1]).eval()(torch.rand(2, 3, 16, 32, 32))
    assert logits.shape == (2, 8)
    assert float(logits.detach().abs().max()) < 0.05, "head starts at 0.001 of its usual scale"


def test_fine_tuning_takes_the_encoder_but_not_its_norm(runs):
    pretrained, model = VideoMAE(runs[0]), Classifier(runs[1])
    weights = pretrained.state_dict()
    before = model.head.weight.clone()
    model.load_encoder(weights)
    for name, tensor in model.encoder.state_dict().items():
        assert torch.equal(tensor, weights[f"encoder.{name}"]), name
    assert torch.equal(model.head.weight, before)
    assert torch.equal(model.fc_norm.weight, torch.ones(16))


@pytest.mark.parametrize("damage", ["missing", "unexpected", "shape"])
def test_loading_is_loud(runs, damage):
    weights = VideoMAE(runs[0]).state_dict()
    if damage == "missing":
        del weights["encoder.blocks.1.attn.qkv.weight"]
    elif damage == "unexpected":
        weights["encoder.blocks.2.attn.qkv.weight"] = torch.zeros(1)
    else:
        weights["encoder.blocks.1.attn.qkv.weight"] = torch.zeros(3, 3)
    with pytest.raises(CheckpointError, match=r"blocks\.[12]\.attn\.qkv\.weight"):
        Classifier(runs[1]).load_encoder(weights)


def test_join_of_predictions_rebuilds_a_clip(runs, batch):
    clips, _ = batch
    assert torch.equal(join(cut(clips, runs[0].grid), runs[0].grid), clips)
