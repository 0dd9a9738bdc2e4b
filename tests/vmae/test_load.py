"""Models as a library: a finished run's model and what it gives, and what it refuses."""

import pytest
import torch
from helpers import noise, prepare, run_chain

from vmae.errors import CheckpointError, RunDirError
from vmae.load import load_model
from vmae.model.autoencoder import VideoMAE
from vmae.model.cubes import cut


def test_a_run_gives_its_model_with_its_weights(recipe, store, runtime):
    results = run_chain(store, recipe, runtime)
    models = {stage: load_model(store.root / result.run_id) for stage, result in results.items()}
    clips, hidden = noise(recipe.runs()[0])
    grid, width = recipe.grid, recipe.encoder.width
    assert not models["pretrain"].training
    for model in models.values():
        assert model.encoder.features(clips).shape == (2, grid.num_cubes, width)
    assert models["pretrain"](clips, hidden).shape == ()
    assert models["finetune"](clips).shape == (2, 8)
    assert torch.equal(models["finetune"](clips), models["evaluate"](clips)), "what an evaluation evaluated"
    start = VideoMAE(recipe.runs()[0]).encoder.features(clips)
    assert not torch.equal(models["pretrain"].encoder.features(clips), start)


def test_a_contrastive_run_too(recipe, store, runtime):
    contrastive = recipe.replace({"pretrain": recipe.instead.contrast})
    result = run_chain(store, contrastive, runtime, upto="pretrain")["pretrain"]
    clips, _ = noise(recipe.runs()[0])
    assert load_model(str(store.root / result.run_id)).features(clips).shape == (2, recipe.encoder.width)


def test_a_run_that_is_not_done_or_not_there_is_refused(recipe, store):
    with pytest.raises(CheckpointError, match="no weights at"):
        load_model(prepare(store, recipe).path)
    with pytest.raises(RunDirError, match="is not a run directory"):
        load_model(store.root / "0123456789abcdef")


@pytest.mark.parametrize("target", ["raw", "normalised", "normalised_pooled"])
def test_what_is_visible_is_rebuilt_as_it_is_and_a_perfect_prediction_is_the_clip(recipe, target):
    run = recipe.replace({"pretrain.target": target}).runs()[0]
    model, (clips, hidden) = VideoMAE(run).double(), noise(run)
    clips = clips.double()
    predicted = model.predict(clips, hidden)
    rebuilt = model.rebuild(clips, hidden, predicted)
    assert rebuilt.shape == clips.shape
    is_same = (cut(rebuilt, run.grid) == cut(clips, run.grid)).all(dim=-1)
    assert torch.equal(is_same, ~hidden)
    perfect = model.targets(clips).gather(1, predicted.index[..., None].expand_as(predicted.values))
    torch.testing.assert_close(model.rebuild(clips, hidden, type(predicted)(perfect, predicted.index, None)), clips)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda clips, hidden: (clips[:, :, :8], hidden), r"clips are \[B, C, T, H, W\] = \[2, 3, 8, 32, 32\]; this grid takes"),
        (lambda clips, hidden: (clips.transpose(1, 2), hidden), "this grid takes"),
        (lambda clips, hidden: ((255 * clips).byte(), hidden), r"clips are torch.uint8; allowed: floats in \[0, 1\]"),
        (lambda clips, hidden: (clips, hidden.float()), r"hidden is torch.float32 \[2, 128\]; allowed: torch.bool \[B, 128\]"),
        (lambda clips, hidden: (clips, hidden[:, 1:]), r"hidden is torch.bool \[2, 127\]"),
    ],
)
def test_other_shapes_and_kinds_are_refused(recipe, change, words):
    run = recipe.runs()[0]
    with pytest.raises(ValueError, match=words):
        VideoMAE(run)(*change(*noise(run)))
