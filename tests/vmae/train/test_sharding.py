"""A model spread over ranks trains as a whole one does, and what it leaves is whole: it can be gone on with either way."""

import os
import shutil
from functools import partial

import pytest
import torch
from helpers import assert_close_runs, assert_equal_runs, prepare, run_chain
from pydantic import ValidationError
from ranks import ends_as_torchrun_starts, python, run_as_torchrun_does, vmae_until
from torch import nn

from vmae.errors import ConfigError
from vmae.identity import run_id
from vmae.job import work
from vmae.runs import Store
from vmae.runtime import RuntimeConfig
from vmae.train.sharding import can_shard_on_cpu, shard

sharding = pytest.mark.skipif(not can_shard_on_cpu(), reason="this torch cannot shard on a CPU")

PARTS = """
from pathlib import Path
import torch
from vmae.model.autoencoder import VideoMAE
from vmae.runs import RunDir
from vmae.runtime import RuntimeConfig
from vmae.train.distributed import world
from vmae.train.optim import make_optimizer
from vmae.train.sharding import shard
run = RunDir(Path({!r})).load()
with world(RuntimeConfig(device="cpu", num_threads=1)) as ranks:
    model = VideoMAE(run)
    whole = sum(p.numel() for p in model.parameters())
    shard(model, ranks.device, ranks.size)
    optimizer = make_optimizer(model, run.masked.optim)
    hidden = torch.zeros(1, run.grid.num_cubes, dtype=bool)
    hidden[:, :run.masked.mask.num_hidden(run.grid)] = True
    g = run.grid
    model(torch.rand(1, 3, g.num_frames, g.size_px, g.size_px), hidden).backward()
    optimizer.step()
    kept = [t.to_local().numel() for p in model.parameters() for t in (p, p.grad, optimizer.state[p]["exp_avg"])]
    assert sum(kept) < 0.51 * 3 * whole, (sum(kept), whole)
"""


@pytest.fixture(scope="module")
def clipped(recipe):
    """With everything that looks at gradients or weights as a whole."""
    limits = {f"{stage}.optim.grad_clip_norm": 0.1 for stage in ("pretrain", "finetune")}
    return recipe.replace({**limits, "finetune.ema_decay": 0.9})


@pytest.fixture(scope="module")
def reference(tmp_path_factory, clipped, runtime):
    store = Store(tmp_path_factory.mktemp("whole"))
    run_chain(store, clipped, runtime, upto="finetune")
    return store


@sharding
@pytest.mark.parametrize("more", [{"micro_batch_size": 3, "recompute": True}, pytest.param({}, marks=pytest.mark.slow)])
def test_two_shards_give_the_run_of_one(clipped, store, reference, runtime, more):
    for run in clipped.runs()[:2]:
        place = prepare(store, clipped, run.stage, runtime.model_copy(update={"shard": True, **more}))
        run_as_torchrun_does(place.path, 2)
        assert_close_runs(place, reference.run(place.id))
        found, expected = (one.run(place.id).read_result().metrics for one in (store, reference))
        name = "loss_heldout" if run.stage == "pretrain" else "loss_train_last"
        assert found[name] == pytest.approx(expected[name], rel=1e-3)


@sharding
@pytest.mark.parametrize("stage", ["pretrain", pytest.param("finetune", marks=pytest.mark.slow)])
def test_what_two_shards_saved_is_gone_on_with_by_two_or_by_one(clipped, tmp_path, reference, runtime, stage):
    sharded = runtime.model_copy(update={"shard": True, "checkpoint_every_s": 0.0})
    places = {}
    for name in ("whole", "two", "one"):
        store = Store(tmp_path / name)
        if stage == "finetune":
            parent = run_id(clipped.runs()[0])
            shutil.copytree(reference.run(parent).path, store.run(parent).path)
        places[name] = prepare(store, clipped, stage, sharded)
    run_as_torchrun_does(places["whole"].path, 2)
    for name in ("two", "one"):
        leaving = (vmae_until, 4, partial(os._exit, 9), "run", str(places[name].path))
        ends = ends_as_torchrun_starts(leaving, leaving)
        assert [code for code, _ in ends] == [9, 9], ends
    run_as_torchrun_does(places["two"].path, 2)
    assert_equal_runs(places["two"], places["whole"])
    work(places["one"], runtime)
    assert places["one"].read_starts()[-1] == {**places["one"].read_starts()[-1], "step": 3, "num_ranks": 1}
    assert_close_runs(places["one"], reference.run(places["one"].id))


@sharding
def test_each_rank_holds_its_part_of_weights_gradients_and_averages(clipped, store):
    place = prepare(store, clipped)
    ends = ends_as_torchrun_starts(*[(python, PARTS.format(str(place.path)))] * 2)
    assert [code for code, _ in ends] == [0, 0], ends


def test_a_torch_that_cannot_is_named(monkeypatch):
    monkeypatch.setattr(torch.cpu, "current_stream", object)
    with pytest.raises(ConfigError, match=r"shard = true: torch .* cannot shard on a CPU; take a newer torch"):
        shard(nn.Linear(2, 2), torch.device("cpu"), 2)


def test_compiled_it_is_refused():
    with pytest.raises(ValidationError, match="shard and compile do not go together"):
        RuntimeConfig(shard=True, compile=True)
