"""Contrastive pre-training: the published loss, keys that only follow, resumes and ranks that change nothing, knobs that move."""

import math
import signal

import numpy as np
import pytest
import torch
from helpers import run_chain
from hypothesis import given
from hypothesis import strategies as st
from ranks import run_as_torchrun_does

from vmae.arms import As
from vmae.cost import flops_per_clip, num_clips
from vmae.errors import ConfigError, DataError, Interrupted
from vmae.identity import run_id
from vmae.interrupt import StopFlag
from vmae.job import work
from vmae.model.contrast import BatchNorm, MoCo, contrast, momentum_at, views_at
from vmae.results import read_metrics
from vmae.runs import Store
from vmae.train.checkpoint import load_weights
from vmae.train.contrast import full_batches, judge
from vmae.train.distributed import World

ALTERNATIVES = {
    "seed": 1,
    "subset.num_videos": 48,
    "clip.roll": False,
    "clip.frame_stride": 2,
    "temperature": 0.5,
    "momentum": 0.5,
    "head_width": 24,
    "embedding_width": 8,
    "frozen_embedding": False,
    "optim.epochs": 3,
    "optim.batch_size": 8,
    "optim.base_lr": 1e-2,
    "optim.weight_decay": 0.5,
    "precision": "bf16",
    "heldout_split": "test",
}


@pytest.fixture(scope="module")
def recipe(recipe):
    section = As("instead.contrast").of("pretrain", recipe, {})
    return recipe.replace({"pretrain": section}).replace({"pretrain.optim.warmup_epochs": 0.5, "pretrain.optim.base_lr": 0.05})


@pytest.fixture(scope="module")
def finished(tmp_path_factory, recipe, runtime):
    store = Store(tmp_path_factory.mktemp("contrast"))
    return store, run_chain(store, recipe, runtime)


def losses(place):
    return [row.value for row in read_metrics(place.metrics) if row.metric == "loss"]


def unit(rng, *shape):
    rows = rng.normal(size=shape)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


@given(st.integers(2, 6), st.integers(0, 1000), st.floats(0.05, 2.0))
def test_the_loss_is_the_published_one(num_videos, seed, temperature):
    """Written out per query in numpy: against the other view's keys of all videos, the own video's being right."""
    rng = np.random.default_rng(seed)
    queries, keys = unit(rng, 2 * num_videos, 8), unit(rng, 2 * num_videos, 8)
    expected = []
    for place in range(2 * num_videos):
        others = [2 * video + (1 - place % 2) for video in range(num_videos)]
        scores = np.array([queries[place] @ keys[other] / temperature for other in others])
        expected.append(np.log(np.exp(scores).sum()) - scores[place // 2])
    places = torch.arange(2 * num_videos)
    order = torch.from_numpy(rng.permutation(2 * num_videos))  # keys come in any order of places, as ranks send them
    found = contrast(torch.from_numpy(queries), torch.from_numpy(keys)[order], places, places[order], temperature)
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-6, atol=1e-9)


def test_agreeing_clips_cost_less():
    rows = torch.eye(8, dtype=torch.float64)[:4].repeat_interleave(2, dim=0)
    places = torch.arange(8)
    right, wrong = contrast(rows, rows, places, places, 0.2), contrast(rows, rows.roll(2, dims=0), places, places, 0.2)
    assert right.max() < math.log(4) < wrong.min()


def test_keys_follow_and_get_no_gradient(recipe):
    model = MoCo(recipe.runs()[0]).train()
    queries, keys = model(torch.rand(8, 3, 16, 32, 32), views_at(torch.arange(8)))
    assert queries.requires_grad
    assert not keys.requires_grad
    contrast(queries, keys, torch.arange(8), torch.arange(8), 0.2).mean().backward()
    assert all(p.grad is None for p in (*model.key_encoder.parameters(), *model.key_projector.parameters()))
    assert all(p.grad is None for p in model.encoder.embed.parameters()), "frozen"
    assert all(p.grad is not None for p in model.predictor.parameters())
    with torch.no_grad():
        for parameter in model.encoder.parameters():
            parameter.add_(1.0)
    before = [p.clone() for p in model.key_encoder.parameters()]
    model.follow(0.75)
    for key, old, query in zip(model.key_encoder.parameters(), before, model.encoder.parameters(), strict=True):
        torch.testing.assert_close(key, 0.75 * old + 0.25 * query)
    assert [momentum_at(0.99, step, 10) for step in (0, 10)] == [0.99, 1.0]


def test_batch_norm_is_torchs():
    ours, theirs = BatchNorm(5), torch.nn.BatchNorm1d(5)
    x = torch.randn(16, 5, requires_grad=True)
    for _ in range(3):
        torch.testing.assert_close(ours(x), theirs(x))
    torch.testing.assert_close(ours.mean, theirs.running_mean)
    torch.testing.assert_close(ours.variance, theirs.running_var)
    torch.testing.assert_close(ours.eval()(x), theirs.eval()(x))


def test_a_chain_runs_and_says_what_it_reached(finished):
    store, results = finished
    metrics = results["pretrain"].metrics
    assert metrics["floor_chance"] == pytest.approx(math.log(32))
    assert metrics["retrieval_chance"] == pytest.approx(100 / 32)
    assert 0 <= metrics["retrieval_top1"] <= 100
    assert 0 < metrics["feature_std"] < 1.5
    assert metrics["floor_gap"] == pytest.approx(metrics["loss_heldout"] - metrics["floor_chance"])
    assert results["pretrain"].compute["num_clips"] == 2 * 2 * 64, "two epochs, two clips of each video"
    assert results["evaluate"].metrics["num_scored"] == 32
    weights = load_weights(store.run(results["pretrain"].run_id).weights)
    assert any(not torch.equal(weights[f"encoder.{n[12:]}"], w) for n, w in weights.items() if n.startswith("key_encoder."))


@given(st.integers(1, 40), st.integers(1, 9))
def test_batches_are_full_and_each_pair_is_new_once(num_pairs, size):
    pairs = [torch.tensor([2 * i, 2 * i + 1]) for i in range(num_pairs)]
    batches = list(full_batches(iter(pairs), size))
    assert {len(clips) for clips, _ in batches} == {2 * min(size, num_pairs)}
    assert all(len(clips.unique()) == len(clips) for clips, _ in batches), "no video is its own negative"
    assert torch.equal(torch.cat([clips[-num_new:] for clips, num_new in batches]), torch.cat(pairs))


class Untrained(torch.nn.Module):
    """Says of a clip what its pixels are, so that two clips of a video resemble each other."""

    def features(self, clips):
        return torch.nn.functional.normalize(clips.mean(dim=(1, 2)).flatten(1), dim=1)

    def forward(self, clips):
        return self.features(clips), self.features(clips)


class Some:
    """Videos of noise, one start each, of which those in `gone` cannot be read."""

    equal_frames = None

    def __init__(self, count, gone=()):
        self.bad = {}
        self.gone = set(gone)
        self.videos = np.random.default_rng(0).integers(0, 256, (count, 16, 32, 32, 3), dtype=np.uint8)

    def __len__(self):
        return len(self.videos)

    def read(self, video, choose):
        if video in self.gone:
            raise DataError(f"{video} is gone")
        return self.videos[video][choose(16)]


def judged(recipe, source):
    run = recipe.replace({"pretrain.clip.roll": True}).runs()[0]
    return judge(Untrained(), run, run.pretrain, source, World(0, 1, torch.device("cpu")))


def test_unreadable_heldout_videos_are_left_out_and_counted(recipe):
    found = judged(recipe, Some(100, gone=range(0, 100, 10)))
    assert (found["num_heldout"], found["num_heldout_missing"]) == (90, 10), "none replaced, none of the rest dropped"
    assert found["retrieval_chance"] == pytest.approx(100 / 64)
    assert judged(recipe, Some(20, gone=[3]))["floor_chance"] == pytest.approx(math.log(19))
    with pytest.raises(DataError, match=r"not one of 5 holdout videos can be read; .* is gone"):
        judged(recipe, Some(5, gone=range(5)))


def test_the_interval_is_over_videos_not_clips(recipe, monkeypatch):
    """The two clips of a video are not independent: doubled rows would make any interval too narrow."""
    seen = []
    monkeypatch.setattr("vmae.train.contrast.below_floor", lambda gaps: seen.append(gaps) or {})
    source = Some(64)
    found = judged(recipe, source)
    assert len(seen[0]) == len(source) == found["num_heldout"]
    assert seen[0].mean() == pytest.approx(found["loss_heldout"] - found["floor_chance"])


def test_interrupted_equals_uninterrupted(finished, recipe, tmp_path, runtime):
    store, results = finished
    place = Store(tmp_path).run(results["pretrain"].run_id)
    place.create(recipe.runs()[0])
    for _ in range(20):
        stop = StopFlag()
        stop.signal = signal.SIGTERM  # from the start, so each attempt takes one step
        try:
            work(place, runtime, stop)
            break
        except Interrupted:
            continue
    assert place.read_result().compute["num_restarts"] == 8
    assert place.weights.read_bytes() == store.run(place.id).weights.read_bytes()


@pytest.mark.parametrize("batch_size", [16, 15])  # of 15 videos' clips one rank has all first and the other all second ones
def test_two_ranks_give_the_run_of_one(batch_size, recipe, tmp_path, runtime):
    recipe = recipe.replace({"pretrain.optim.batch_size": batch_size})
    run = recipe.runs()[0]
    alone, place = (Store(tmp_path / name).run(run_id(run)) for name in ("alone", "ranks"))
    run_chain(Store(tmp_path / "alone"), recipe, runtime, upto="pretrain")
    place.create(run)
    place.runtime.write_text(runtime.model_dump_json())
    run_as_torchrun_does(place.path, 2)
    torch.testing.assert_close(torch.tensor(losses(place)), torch.tensor(losses(alone)), rtol=2e-4, atol=1e-5)
    # By what the models say: a softmax and batch norms undo some biases, whose gradients are rounding that Adam makes large.
    clips, said = torch.rand(8, 3, 16, 32, 32, generator=torch.Generator().manual_seed(0)), []
    for where in (place, alone):
        model = MoCo(run).eval()
        model.load_state_dict(load_weights(where.weights))
        said.append(torch.cat(model(clips)))
    torch.testing.assert_close(said[0], said[1], rtol=0, atol=1e-2)


@pytest.mark.parametrize(("field", "value"), ALTERNATIVES.items())
def test_knob_moves_the_id_and_the_numbers(field, value, finished, recipe, tmp_path, runtime):
    store, results = finished
    changed = recipe.replace({f"pretrain.{field}": value})
    found = run_chain(Store(tmp_path), changed, runtime, upto="pretrain")["pretrain"]
    assert found.run_id != results["pretrain"].run_id
    before, after = store.run(results["pretrain"].run_id), Store(tmp_path).run(found.run_id)
    assert (losses(before), results["pretrain"].metrics) != (losses(after), found.metrics)


def test_what_cannot_be_is_refused(recipe, store, runtime):
    with pytest.raises(ConfigError, match="cannot be taken in parts"):
        run_chain(store, recipe, runtime.model_copy(update={"micro_batch_size": 5}), upto="pretrain")
    with pytest.raises(ConfigError, match=r"runtime\.shard = true: a contrastive model"):
        run_chain(store, recipe, runtime.model_copy(update={"shard": True}), upto="pretrain")
    with pytest.raises(ConfigError, match=r"pretrain\.mask: pretrain has no field 'mask'"):
        recipe.replace({"pretrain.mask": 1})
    with pytest.raises(ConfigError, match=r"pretrain\.temperature = 0\.0"):
        recipe.replace({"pretrain.temperature": 0.0})


def test_cost_counts_two_encoders_and_two_clips(recipe):
    contrastive, finetune, _ = recipe.runs()
    assert num_clips(contrastive) == 2 * 2 * 64
    assert flops_per_clip(contrastive) == pytest.approx(4 / 3 * flops_per_clip(finetune))
    assert run_id(contrastive) != run_id(recipe.replace({"pretrain.temperature": 0.3}).runs()[0])
