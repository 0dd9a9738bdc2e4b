"""Parameter groups and schedule equal the released formulas, written here independently; the warm-up to within a step."""

import math

import pytest

from vmae.model.autoencoder import VideoMAE
from vmae.model.classifier import Classifier
from vmae.train.optim import make_optimizer, make_schedule


def test_layer_decay_scales():
    """Reference 4.5: scale_i = ld^(L + 1 - i); embedding 0, block k is k + 1, the rest L + 1; for ViT-B .75: 0.0238 ... 1."""
    from sweeps.presets import quick

    run = quick("motion").replace({"encoder.depth": 12, "finetune.optim.layer_decay": 0.75}).runs()[1]
    model = Classifier(run)
    names = {id(p): name for name, p in model.named_parameters()}
    scales = {names[id(p)]: g["lr_scale"] for g in make_optimizer(model, run.finetune.optim).param_groups for p in g["params"]}
    assert set(scales) == set(dict(model.named_parameters()))
    for name, scale in scales.items():
        if "embed" in name:
            layer = 0
        elif "blocks" in name:
            layer = int(name.split("blocks.")[1].split(".")[0]) + 1
        else:
            layer = 13
        assert scale == pytest.approx(0.75 ** (13 - layer)), name
    assert min(scales.values()) == pytest.approx(0.0238, abs=1e-4)


def test_vectors_and_mask_token_are_not_decayed(recipe):
    model = VideoMAE(recipe.runs()[0])
    names = {id(p): name for name, p in model.named_parameters()}
    groups = make_optimizer(model, recipe.pretrain.optim).param_groups
    free = {names[id(p)] for g in groups if g["weight_decay"] == 0 for p in g["params"]}
    expected = {n for n, p in model.named_parameters() if p.ndim <= 1 or n == "decoder.mask_token"}
    assert free == expected
    assert {g["weight_decay"] for g in groups} == {0, recipe.pretrain.optim.weight_decay}


def test_learning_rate_is_linear_then_cosine(recipe):
    """Released: numpy.linspace(0, peak, W) for W warm-up steps, then the cosine (utils.cosine_scheduler)."""
    optim = recipe.replace({"pretrain.optim.epochs": 10, "pretrain.optim.warmup_epochs": 2, "pretrain.optim.min_base_lr": 1e-4})
    optim = optim.pretrain.optim
    optimizer = make_optimizer(VideoMAE(recipe.runs()[0]), optim)
    schedule = make_schedule(optimizer, optim, steps_per_epoch=5)
    peak, low = optim.base_lr * 16 / 256, 1e-4 * 16 / 256
    for step in range(50):
        schedule.step_update(step)
        if step < 10:
            expected = peak * step / 10
            assert peak * (step - 1) / 9 <= expected <= peak * step / 9, "released: at most a step ahead"
        else:
            expected = low + 0.5 * (peak - low) * (1 + math.cos(math.pi * (step - 10) / 40))
        assert optimizer.param_groups[0]["lr"] == pytest.approx(expected), step
