"""Parameter groups and schedule equal the released formulas, written here independently; the warm-up to within a step."""

import math

import pytest
import torch

from vmae.model.autoencoder import VideoMAE
from vmae.model.classifier import Classifier
from vmae.train.optim import make_optimizer, make_schedule


@pytest.mark.parametrize(("decay", "least"), [(0.75, 0.0238), (0.65, 0.0037)])  # 0.75 is timm's default too
def test_layer_decay_scales(decay, least):
    """Reference 4.5: scale_i = ld^(L + 1 - i); embedding 0, block k is k + 1, the rest L + 1; for ViT-B .75: 0.0238 ... 1."""
    from sweeps.presets import quick

    run = quick("motion").replace({"encoder.depth": 12, "finetune.optim.layer_decay": decay}).runs()[1]
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
        assert scale == pytest.approx(decay ** (13 - layer)), name
    assert min(scales.values()) == pytest.approx(least, abs=1e-4)


@pytest.mark.parametrize("positions", ["sincos_1d", "learned"])
@pytest.mark.parametrize("stage", ["pretrain", "finetune"])
def test_vectors_positions_and_mask_token_are_not_decayed(recipe, stage, positions):
    changed = {"encoder.positions": positions, "pretrain.decoder.positions": positions}
    changed |= {f"{stage}.optim.weight_decay": 0.0321}  # of which timm knows nothing
    run = {run.stage: run for run in recipe.replace(changed).runs()}[stage]
    model, optim = (VideoMAE(run), run.pretrain.optim) if stage == "pretrain" else (Classifier(run), run.finetune.optim)
    names = {id(p): name for name, p in model.named_parameters()}
    groups = make_optimizer(model, optim).param_groups
    assert sorted(names[id(p)] for g in groups for p in g["params"]) == sorted(names.values()), "each once"
    free = {names[id(p)] for g in groups if g["weight_decay"] == 0 for p in g["params"]}
    tables = {n for n in names.values() if n.endswith("positions.table")}
    assert len(tables) == (positions == "learned") * (2 if stage == "pretrain" else 1)
    assert free == {n for n, p in model.named_parameters() if p.ndim <= 1} | {"decoder.mask_token"} & set(names.values()) | tables
    assert {g["weight_decay"] for g in groups} == {0, 0.0321}


@pytest.mark.parametrize("stage", ["pretrain", "finetune"])
def test_the_first_steps_are_the_optimisers_own_formula(recipe, stage):
    """AdamW (Loshchilov and Hutter, algorithm 2) and SGD with momentum, two steps by hand; each group's rate is scaled."""
    rate, decay, (b1, b2), gradients = 0.25, 0.125, (0.8, 0.9), (0.5, -0.25)
    common = {"base_lr": rate * 256 / 16, "batch_size": 16, "weight_decay": decay, "beta1": b1}
    for values in ({"beta2": b2}, {"optimizer": "sgd"}):
        changed = {f"{stage}.optim.{name}": value for name, value in (common | values).items()}
        run = {run.stage: run for run in recipe.replace(changed).runs()}[stage]
        model, optim = (VideoMAE(run), run.pretrain.optim) if stage == "pretrain" else (Classifier(run), run.finetune.optim)
        optimizer = make_optimizer(model, optim)
        followed = [(g, g["params"][0], g["params"][0].detach().double().clone()) for g in optimizer.param_groups]
        assert {g["lr"] for g in optimizer.param_groups} == {rate}, "before a schedule scales it by layer"
        for gradient in gradients:
            for parameter in model.parameters():
                parameter.grad = torch.full_like(parameter, gradient)
            optimizer.step()
        for group, parameter, start in followed:
            expected, mean, square, momentum = start, 0.0, 0.0, None
            for step, gradient in enumerate(gradients, start=1):
                if "optimizer" in values:
                    slope = gradient + group["weight_decay"] * expected
                    momentum = slope if momentum is None else b1 * momentum + slope
                    expected = expected - rate * momentum
                else:
                    mean, square = b1 * mean + (1 - b1) * gradient, b2 * square + (1 - b2) * gradient**2
                    update = mean / (1 - b1**step) / (math.sqrt(square / (1 - b2**step)) + 1e-8)
                    expected = expected * (1 - rate * group["weight_decay"]) - rate * update
            torch.testing.assert_close(parameter.detach().double(), expected, rtol=1e-4, atol=1e-5)


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
