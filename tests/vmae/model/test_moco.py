"""MoCo v3 as released: against a small one written here from moco/builder.py and vits.py (facebookresearch/moco-v3)."""

import copy
import math

import pytest
import torch
from helpers import run_chain

from vmae.arms import As
from vmae.data.augment import to_float
from vmae.data.source import chosen_of, manifest_of
from vmae.identity import run_id
from vmae.model.contrast import MoCo, symmetric_loss, views_at
from vmae.results import read_metrics
from vmae.train.contrast import _batches
from vmae.train.setup import seed_init


@pytest.fixture
def recipe(recipe):
    return recipe.replace({"pretrain": As("instead.contrast").of("pretrain", recipe, {})})


@pytest.fixture
def started(recipe):
    """As a training begins."""
    seed_init(recipe.pretrain.seed)
    return MoCo(recipe.runs()[0]).train()


def published_mlp(ours):
    """A head as moco/builder.py builds it for ViTs, with the weights of `ours`: all but the last BatchNorm have a scale."""
    weights = list(ours.parameters())
    linears = [weight for weight in weights if weight.ndim == 2]
    layers = []
    for number, linear in enumerate(linears, 1):
        width, is_last = len(linear), number == len(linears)
        layers.append(torch.nn.Linear(linear.shape[1], width, bias=False))
        layers += [torch.nn.BatchNorm1d(width, affine=False)] if is_last else [torch.nn.BatchNorm1d(width), torch.nn.ReLU()]
    mlp = torch.nn.Sequential(*layers)
    with torch.no_grad():
        for theirs, weight in zip(mlp.parameters(), weights, strict=True):
            theirs.copy_(weight)
    return mlp


def published_loss(model, first, second, temperature):
    """The two views one after the other, as moco/builder.py takes them on one GPU; the loss, and what has learned from it."""
    encoder, key_encoder = copy.deepcopy(model.encoder), copy.deepcopy(model.key_encoder)
    projector, predictor, key_projector = map(published_mlp, (model.projector, model.predictor, model.key_projector))
    q1, q2 = (predictor(projector(encoder.features(view).mean(dim=1))) for view in (first, second))
    with torch.no_grad():
        k1, k2 = (key_projector(key_encoder.features(view).mean(dim=1)) for view in (first, second))
    loss = torch.zeros(())
    for query, key in ((q1, k2), (q2, k1)):
        logits = torch.nn.functional.normalize(query) @ torch.nn.functional.normalize(key).T / temperature
        loss = loss + torch.nn.functional.cross_entropy(logits, torch.arange(len(logits))) * 2 * temperature
    return loss, [*encoder.parameters(), *projector.parameters(), *predictor.parameters()]


@pytest.fixture
def model(started):
    """In training, its weights off their start, so that keys are not queries and no scale is 1."""
    noise = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in started.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=noise))
    return started


@pytest.fixture
def views():
    """Six videos' first and second clips, which differ in brightness, and so in what a batch norm sees."""
    noise = torch.Generator().manual_seed(4)
    return torch.rand(6, 3, 16, 32, 32, generator=noise), torch.rand(6, 3, 16, 32, 32, generator=noise) ** 4


def loss_at(model, views, place):
    queries, keys = model(torch.stack(views, dim=1).flatten(0, 1)[place], views_at(place))
    return symmetric_loss(queries, keys, place, place, 0.2)


@pytest.mark.parametrize("place", [range(12), (3, 7, 0, 8, 11, 1, 2, 10, 5, 9, 4, 6)], ids=["in order", "in another"])
def test_a_step_learns_what_the_published_one_learns(model, views, place):
    place = torch.tensor(place)
    loss = loss_at(model, views, place)
    loss.backward()
    expected, learning = published_loss(model, *views, 0.2)
    expected.backward()
    torch.testing.assert_close(loss, expected, rtol=1e-5, atol=0)
    ours = [*model.encoder.parameters(), *model.projector.parameters(), *model.predictor.parameters()]
    assert sum(theirs.grad is not None for theirs in learning) > 20
    for found, theirs in zip(ours, learning, strict=True):
        assert (found.grad is None) == (theirs.grad is None), "the frozen embedding"
        if theirs.grad is not None:
            torch.testing.assert_close(found.grad, theirs.grad, rtol=1e-3, atol=1e-4)


def test_the_first_step_of_a_run_has_the_published_loss(started, recipe, store, runtime):
    run = recipe.runs()[0]
    run_chain(store, recipe, runtime, upto="pretrain")
    logged = next(row.value for row in read_metrics(store.run(run_id(run)).metrics) if row.metric == "loss")
    videos = chosen_of(manifest_of(run.pretrain.data, runtime), "pretrain", run.pretrain.subset, runtime)
    clips = to_float(_batches(run, run.pretrain, videos.frames, run.pretrain.optim.batch_size)[0].clips, torch.device("cpu"))
    expected, _ = published_loss(started, clips[0::2], clips[1::2], run.pretrain.temperature)
    assert logged == pytest.approx(float(expected.detach()), rel=1e-4)


def test_neither_view_comes_first(model, views):
    place = torch.arange(12)
    torch.testing.assert_close(loss_at(model, views, place), loss_at(model, views[::-1], place), rtol=1e-5, atol=0)


def test_what_is_predicted_has_mean_0_and_variance_1_over_a_view(model, views):
    said = []
    model.predictor.register_forward_hook(lambda module, inputs, output: said.append(output.detach()))
    loss_at(model, views, torch.arange(12))
    assert [len(output) for output in said] == [6, 6], "each view by itself"
    for output in said:
        torch.testing.assert_close(output.mean(dim=0), torch.zeros(output.shape[1]), rtol=0, atol=1e-5)
        torch.testing.assert_close(output.var(dim=0, correction=0), torch.ones(output.shape[1]), rtol=0, atol=1e-2)


def test_training_is_to_know_the_views_and_judging_is_not(model, views):
    clips = torch.cat(views)
    with pytest.raises(ValueError, match="pass views_at"):
        model(clips)
    model.eval()
    for whole, apart in zip(model(clips), model(clips, views_at(torch.arange(12))), strict=True):
        torch.testing.assert_close(whole, apart)


def test_weights_start_as_the_published_ones(started):
    """vits.py draws queries, keys and values as three maps, and the embedding by Xavier's rule."""
    width, embed = started.encoder.width, started.encoder.embed.proj
    drawn = [(embed.weight, math.sqrt(6 / (embed.in_features + width)))]
    for block in started.encoder.blocks:
        drawn += [(part, math.sqrt(6 / (width + width))) for part in block.attn.qkv.weight.chunk(3)]
        others = (block.attn.proj, block.mlp.fc1, block.mlp.fc2)
        drawn += [(layer.weight, math.sqrt(6 / sum(layer.weight.shape))) for layer in others]
    for weight, bound in drawn:
        assert 0.97 * bound < weight.abs().max() <= bound
        assert float(weight.detach().std()) == pytest.approx(bound / math.sqrt(3), rel=0.1)
    assert not any(parameter.any() for name, parameter in started.encoder.named_parameters() if name.endswith("bias"))
    for key, query in zip(started.key_encoder.parameters(), started.encoder.parameters(), strict=True):
        assert torch.equal(key, query)
