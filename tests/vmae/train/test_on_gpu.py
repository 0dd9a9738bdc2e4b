"""What the CPU shows, shown again on a CUDA device: `make gpu`. VMAE_TEST_DEVICE=cpu tries these tests themselves without one."""

import os

import pytest
import torch
from helpers import interrupt_after, noise, numbers, prepare

from vmae.arms import As
from vmae.bench import Bench
from vmae.data.clips import ClipBatch, moved
from vmae.errors import ConfigError, Interrupted
from vmae.identity import run_id
from vmae.job import work
from vmae.model.autoencoder import VideoMAE
from vmae.recipe import Recipe
from vmae.runs import Store
from vmae.runtime import RuntimeConfig
from vmae.train.distributed import World
from vmae.train.graphs import Recorded
from vmae.train.optim import make_optimizer
from vmae.train.progress import TrainingLog
from vmae.train.setup import Compiled, arranged, autocast, naming_memory

DEVICE = torch.device(os.environ.get("VMAE_TEST_DEVICE", "cuda"))
pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(DEVICE.type == "cuda" and not torch.cuda.is_available(), reason="no CUDA device"),
]
cuda_only = pytest.mark.skipif(DEVICE.type != "cuda", reason="of CUDA")


@pytest.fixture
def on_device(runtime):
    return runtime.model_copy(update={"device": DEVICE.type})


@pytest.fixture
def step(recipe):
    """Loss and gradients of one seeded model on two clips: `step(device, precision, **runtime)`."""
    run = recipe.replace({"pretrain.target": "normalised"}).runs()[0]
    clips, hidden = noise(run)

    def take(device=DEVICE, precision="fp32", **settings):
        torch.manual_seed(0)
        model = VideoMAE(run).to(device)
        called = arranged(model, RuntimeConfig(**settings))
        with autocast(precision, device):
            loss = called(clips.to(device), hidden.to(device))
        loss.backward()
        assert not isinstance(called, Compiled) or called._fast is not None, "compiling failed"
        return loss.item(), torch.cat([p.grad.flatten() for p in model.parameters()]).cpu()

    return take


def assert_near(found, expected, rtol):
    (loss, gradient), (other_loss, other_gradient) = found, expected
    assert loss == pytest.approx(other_loss, rel=rtol)
    assert float((gradient - other_gradient).norm() / other_gradient.norm()) < rtol


def test_fp32_gives_what_a_cpu_gives(step):
    assert_near(step(), step(torch.device("cpu")), 1e-4)


@pytest.mark.parametrize("kernel", ["auto", "fused", "explicit"])
def test_bf16_stays_near_fp32(step, kernel):
    assert_near(step(precision="bf16", attention=kernel), step(), 3e-2)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_compiled_is_eager(step, precision, monkeypatch, tmp_path):
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    assert_near(step(precision=precision, compile=True), step(precision=precision), 1e-4 if precision == "fp32" else 3e-2)


def test_the_residual_stream_may_be_in_bf16(step):
    assert_near(step(precision="bf16_residual"), step(), 3e-2)


@pytest.mark.parametrize(("precision", "rtol"), [("fp32", 1e-4), ("bf16", 3e-2)])
@pytest.mark.parametrize("compiled", [False, True])
def test_mask_tokens_may_be_shared(step, precision, rtol, compiled, monkeypatch, tmp_path):
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    assert_near(step(precision=precision, share_mask_tokens=True, compile=compiled), step(), rtol)


def test_blocks_made_anew_are_the_same(step):
    assert_near(step(recompute=True), step(), 1e-5)


@cuda_only
@pytest.mark.parametrize(
    ("kind", "sharing"), [("tube", None), ("random", None), ("frame", None), ("block", None), ("tube", True)]
)
def test_no_step_waits_for_the_device(recipe, kind, sharing):
    run = recipe.replace({"pretrain.mask.kind": kind, "pretrain.target": "normalised"}).runs()[0]
    model = VideoMAE(run).to(DEVICE)
    arranged(model, RuntimeConfig(share_mask_tokens=sharing))
    optimizer = make_optimizer(model, run.masked.optim)
    clips, hidden = (tensor.to(DEVICE) for tensor in noise(run))
    torch.cuda.set_sync_debug_mode("error")
    try:
        with autocast("bf16", DEVICE):
            loss = model(clips, hidden)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    finally:
        torch.cuda.set_sync_debug_mode("default")


@cuda_only
def test_batches_arrive_whole_and_nothing_waits_for_them():
    """While the device is still at work on earlier ones, and their memory is given to later ones."""
    masks = torch.zeros(2, 16, dtype=torch.bool)
    sent = [ClipBatch(torch.full((2, 3, 16, 64, 64), k, dtype=torch.uint8), masks, None, None, 0).pin_memory() for k in range(20)]
    weights, sums = torch.rand(4096, 4096, device=DEVICE), []
    weights @ weights  # what the first product sets up is not a step's
    torch.cuda.set_sync_debug_mode("error")
    try:
        for batch in moved(sent, DEVICE):
            for _ in range(5):
                weights = (weights @ weights).clamp(0, 1)
            sums.append(batch.clips.sum())
            del batch
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert [int(found) for found in sums] == [int(batch.clips.sum()) for batch in sent]


def test_a_chain_comes_to_its_results(recipe, tmp_path, runtime, on_device):
    """The losses of a CPU up to what rounding does over a few steps; where it ran is in the result."""
    stores = [Store(tmp_path / name) for name in ("device", "cpu")]
    for run in recipe.runs():
        places = [prepare(store, recipe, run.stage) for store in stores]
        results = [work(place, settings) for place, settings in zip(places, (on_device, runtime), strict=True)]
        assert [result.status for result in results] == ["done", "done"]
        assert torch.device(results[0].provenance["device"]).type == DEVICE.type
        assert ("driver" in results[0].provenance) == (DEVICE.type == "cuda")
        if run.stage == "pretrain":
            assert results[0].metrics["loss_heldout"] == pytest.approx(results[1].metrics["loss_heldout"], rel=1e-2)
            assert ("peak_memory_gb" in results[0].compute) == (DEVICE.type == "cuda")


def test_interrupted_goes_on_where_it_was(recipe, tmp_path, on_device, monkeypatch):
    whole, parts = (prepare(Store(tmp_path / name), recipe) for name in ("whole", "parts"))
    work(whole, on_device)
    with monkeypatch.context() as patch:
        interrupt_after(patch, 3)
        with pytest.raises(Interrupted):
            work(parts, on_device)
    work(parts, on_device)
    assert parts.read_starts()[-1]["step"] == 3
    for (step, metric, value), (other_step, other_metric, other) in zip(numbers(parts), numbers(whole), strict=True):
        assert (step, metric) == (other_step, other_metric)
        assert value == pytest.approx(other, rel=1e-2)


CHAINS = {
    "read by others": {},
    "micro-batches": {},
    "mixed and dropped": {"finetune.mix.mixup": 0.8, "finetune.drop_path_rate": 0.1, "finetune.optim.layer_decay": 0.75},
    "averaged": {"finetune.ema_decay": 0.9},
    "running cells": {"pretrain.decoder_mask.kind": "running_cell"},
    "of drawn counts": {"pretrain.mask.count": "bernoulli"},
}


@cuda_only
@pytest.mark.parametrize("name", CHAINS)
def test_recorded_steps_are_the_steps(recipe, tmp_path, on_device, monkeypatch, capfd, name):
    """The same losses, gradients and rates as without a graph; only where a step's shapes are drawn is nothing recorded."""
    recordings, record = [], Recorded._record

    def noting(self, *given):
        recordings.append(self)
        record(self, *given)

    monkeypatch.setattr(Recorded, "_record", noting)
    asked = recipe.replace({"pretrain.optim.epochs": 4, "finetune.optim.epochs": 4, **CHAINS[name]})
    more = {"micro-batches": {"micro_batch_size": 8}, "read by others": {"num_workers": 2}}
    settings = on_device.model_copy(update=more.get(name, {}))
    stores = {graphs: Store(tmp_path / str(graphs)) for graphs in (True, False)}
    for run in asked.runs()[:2]:
        places = [prepare(store, asked, run.stage) for store in stores.values()]
        for place, graphs in zip(places, stores, strict=True):
            recordings.clear()
            work(place, settings.model_copy(update={"cuda_graphs": graphs}))
            is_static = run.stage == "finetune" or asked.pretrain.mask.count == "fixed"
            assert len(recordings) == (graphs and is_static)
        found, expected = map(numbers, places)
        assert len(found) == len(expected) > 3 * 5
        for (step, metric, value), (other_step, other_metric, other) in zip(found, expected, strict=True):
            assert (step, metric) == (other_step, other_metric)
            assert value == pytest.approx(other, rel=5e-3), f"{metric} of step {step}"
    assert "warning" not in capfd.readouterr().out


@cuda_only
def test_a_contrastive_step_is_recorded_too(recipe, tmp_path, on_device):
    run = recipe.replace({"pretrain": As("instead.contrast").of("pretrain", recipe, {})}).runs()[0]
    stores = {graphs: Store(tmp_path / str(graphs)) for graphs in (True, False)}
    places = []
    for graphs, store in stores.items():
        places.append(store.run(run_id(run)))
        places[-1].create(run)
        work(places[-1], on_device.model_copy(update={"cuda_graphs": graphs}))
    for (step, metric, value), (other_step, other_metric, other) in zip(*map(numbers, places), strict=True):
        assert (step, metric, value) == (other_step, other_metric, pytest.approx(other, rel=1e-2))


@cuda_only
def test_a_recorded_training_goes_back_and_leaves_a_step_out(recipe, tmp_path, on_device, monkeypatch):
    """After going back the optimiser's state lies elsewhere; the same losses as without a graph."""
    asked = recipe.replace({"pretrain.optim.epochs": 4, "pretrain.optim.max_left_out": 1})
    places = []
    for graphs in (True, False):
        bad = iter([False] * 9 + [True] + [False] * 999)
        monkeypatch.setattr(
            TrainingLog,
            "add",
            lambda self, loss, norm, do=TrainingLog.add, bad=bad: do(self, loss * float("nan") if next(bad) else loss, norm),
        )
        places.append(prepare(Store(tmp_path / str(graphs)), asked))
        work(places[-1], on_device.model_copy(update={"cuda_graphs": graphs, "checkpoint_every_s": 1e9}))
        monkeypatch.undo()
    found, expected = map(numbers, places)
    assert [row[:2] for row in found] == [row[:2] for row in expected]
    assert 10 not in [row[0] for row in found if row[1] == "loss"]
    assert [row[2] for row in found] == pytest.approx([row[2] for row in expected], rel=5e-3)


@cuda_only
def test_out_of_memory_says_what_to_set():
    total = torch.cuda.get_device_properties(DEVICE).total_memory
    expected = r"out of memory in the forward of 4 clips: set micro_batch_size = 2"
    with pytest.raises(ConfigError, match=expected), naming_memory("forward", 4):
        torch.empty(2 * total, dtype=torch.uint8, device=DEVICE)


def test_the_bench_counts_a_share_of_what_is_there(recipe: Recipe):
    run = recipe.replace({"pretrain.precision": "bf16"}).runs()[0]
    found = Bench(run, RuntimeConfig(device=DEVICE.type), World(0, 1, DEVICE), num_steps=2, num_warmup=1).measure("model", False)
    assert 0 < found.row()["share_of_peak"] < 1
    assert found.peak_memory_gb > 0
