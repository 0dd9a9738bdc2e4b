"""The maths does not depend on the machine: ranks, micro-batches and loader workers change nothing but the last digits."""

import os
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from helpers import assert_close_runs, prepare, run_chain
from ranks import run_as_torchrun_does

from vmae.bench import page_faults
from vmae.data.clips import TrainBatches, load
from vmae.data.source import chosen_of, manifest_of
from vmae.identity import run_id
from vmae.model.classifier import Classifier
from vmae.runs import Store
from vmae.sections import MixConfig, SubsetConfig
from vmae.train.distributed import keep_freed_memory
from vmae.train.dropping import Dropping
from vmae.train.mixing import Mixer


@pytest.fixture(scope="module")
def reference(tmp_path_factory, recipe, runtime):
    store = Store(tmp_path_factory.mktemp("reference"))
    run_chain(store, recipe, runtime, upto="evaluate")
    return store


@pytest.mark.parametrize("stage", ["pretrain", "finetune"])
def test_micro_batches_of_any_size_give_the_same_run(stage, recipe, store, reference, runtime):
    results = run_chain(store, recipe, runtime.model_copy(update={"micro_batch_size": 5}), upto=stage)
    id_ = results[stage].run_id
    assert_close_runs(store.run(id_), reference.run(id_))


@pytest.fixture(scope="module")
def dropping(tmp_path_factory, recipe, runtime):
    """A fine-tuning that drops much, its only noise, as one process takes it in whole batches."""
    recipe = recipe.replace(
        {"pretrain": None, "finetune.drop_path_rate": 0.5, "finetune.head_dropout": 0.5, "finetune.repeats": 2}
    )
    store = Store(tmp_path_factory.mktemp("dropping"))
    return recipe, store.run(run_chain(store, recipe, runtime, upto="finetune")["finetune"].run_id)


@pytest.mark.parametrize("settings", [{"micro_batch_size": 5}, {"micro_batch_size": 1}, {"recompute": True}])
def test_what_is_dropped_is_the_same_in_micro_batches(settings, dropping, store, runtime):
    recipe, reference = dropping
    run_chain(store, recipe, runtime.model_copy(update=settings), upto="finetune")
    assert_close_runs(store.run(reference.id), reference)


def test_what_is_dropped_is_the_same_on_two_ranks(dropping, store, runtime):
    recipe, reference = dropping
    place = prepare(store, recipe, "finetune", runtime)
    run_as_torchrun_does(place.path, 2)
    assert_close_runs(place, reference)


def test_paths_and_features_are_dropped_at_their_rates(recipe):
    run = recipe.replace({"encoder.depth": 3, "finetune.drop_path_rate": 0.4, "finetune.head_dropout": 0.25}).runs()[1]
    device = torch.device("cpu")
    dropped = Dropping(run, 4000)(7, range(4000), device)
    assert dropped.paths.shape == (4000, 3, 2)
    assert dropped.features.shape == (4000, run.encoder.width)
    for factors, rate in (
        (dropped.paths[:, 0], 0.0),
        (dropped.paths[:, 1], 0.2),
        (dropped.paths[:, 2], 0.4),
        (dropped.features, 0.25),
    ):
        kept = factors[factors != 0]
        torch.testing.assert_close(kept, torch.full_like(kept, 1 / (1 - rate)))
        assert (factors == 0).float().mean() == pytest.approx(rate, abs=0.03)
    few = Dropping(run, 4000)(7, [3999, 5], device)
    assert torch.equal(few.paths, dropped.paths[[3999, 5]]), "of the place alone"
    assert not torch.equal(Dropping(run, 4000)(8, range(4000), device).paths, dropped.paths)


def test_a_dropped_path_leaves_its_clip_as_it_is(recipe):
    """Where all paths are dropped, blocks pass on what was embedded; of other clips nothing changes."""
    model = Classifier(recipe.runs()[1]).encoder
    cubes, scales = torch.rand(3, 128, model.embed.proj.in_features), torch.ones(3, len(model.blocks), 2)
    scales[1] = 0
    found = model(cubes, path_scales=scales)
    torch.testing.assert_close(found[1], (model.embed(cubes) + model.positions())[1])
    torch.testing.assert_close(found[[0, 2]], model(cubes)[[0, 2]])


def test_loader_workers_change_no_bit(recipe, store, reference, runtime):
    results = run_chain(store, recipe, runtime.model_copy(update={"num_workers": 2}), upto="pretrain")
    id_ = results["pretrain"].run_id
    assert store.run(id_).weights.read_bytes() == reference.run(id_).weights.read_bytes()


def test_reading_without_the_cache_changes_no_bit(recipe, store, reference, runtime):
    results = run_chain(store, recipe, runtime.model_copy(update={"cache": False}), upto="pretrain")
    id_ = results["pretrain"].run_id
    assert store.run(id_).weights.read_bytes() == reference.run(id_).weights.read_bytes()


def test_two_ranks_give_the_run_of_one(recipe, store, reference, runtime):
    """torchrun's environment with gloo on the CPU."""
    for run in recipe.runs():
        place = store.run(run_id(run))
        place.create(run)
        place.runtime.write_text(runtime.model_dump_json())
        run_as_torchrun_does(place.path, 2)
        result, expected = place.read_result(), reference.run(place.id).read_result()
        assert result.provenance["num_ranks"] == 2
        if run.stage == "evaluate":
            assert result.metrics["num_scored"] == expected.metrics["num_scored"] == 32, "each video once"
            assert result.metrics["top1"] == pytest.approx(expected.metrics["top1"], abs=100 / 32 + 1e-9)
        else:
            assert_close_runs(place, reference.run(place.id))


@pytest.mark.skipif(sys.platform != "linux", reason="of glibc")
@pytest.mark.parametrize("num_values", [2_000_000, 20_000_000])  # 8 and 80 MB
def test_what_a_step_frees_the_next_one_gets(num_values):
    """Else the kernel takes and zeroes each page again, fifty times over."""
    assert keep_freed_memory()
    torch.ones(num_values)
    before = page_faults()
    for _ in range(50):
        torch.ones(num_values)
    assert page_faults() - before < num_values / 1000, "a page holds 1,024 values: once, not fifty times"


@pytest.mark.skipif(sys.platform != "linux", reason="of glibc")
def test_a_thread_that_keeps_freed_memory_may_ask_for_more_than_its_arena_holds():
    assert keep_freed_memory()
    with ThreadPoolExecutor(1) as pool:
        sums = list(pool.map(lambda num_values: float(torch.ones(num_values).sum()), [50_000_000, 25_000_000]))
    assert sums == [50_000_000, 25_000_000]


@pytest.fixture(scope="module")
def batches(recipe, runtime):
    manifest = manifest_of(recipe.finetune.data, runtime)
    videos = chosen_of(manifest, "train", SubsetConfig(), runtime)
    source, labels = videos.frames, videos.labels

    def make(rank=0, num_ranks=1, seed=0):
        clip, mask = recipe.finetune.clip, recipe.pretrain.mask
        return TrainBatches(
            source, labels, clip, recipe.grid, (16, 1), mask, None, seed, batch_size=8, rank=rank, num_ranks=num_ranks
        )

    return make


def test_ranks_share_the_global_batch(batches):
    whole = batches()[5]
    parts = [batches(rank, 4)[5] for rank in range(4)]
    fronts = [[0, 7], [1, 6], [2, 5], [3, 4]]  # places of the whole step that each rank has
    for part, places in zip(parts, fronts, strict=True):
        for name in ("clips", "hidden", "labels"):
            assert torch.equal(getattr(part, name), getattr(whole, name)[places]), name


@pytest.mark.parametrize("num_ranks", [1, 2, 4])
def test_mixing_pairs_the_same_clips_on_any_number_of_ranks(batches, num_ranks):
    mixer = Mixer(MixConfig(mixup=0.8), 8, 0.1, seed=0)
    whole = batches()[5]
    expected, wanted = mixer(whole.clips.float(), whole.labels, step=5)
    for rank in range(num_ranks):
        part = batches(rank, num_ranks)[5]
        clips, labels = mixer(part.clips.float(), part.labels, step=5)
        for i in range(len(clips)):
            same = [j for j in range(8) if torch.allclose(clips[i], expected[j]) and torch.allclose(labels[i], wanted[j])]
            assert same, "each mixed clip of a rank is one of the whole batch"


def test_an_epoch_shows_every_video_once_in_an_order_of_its_own(batches):
    made = batches()
    epochs = [[made._order(step)[0] for step in range(first, first + 4)] for first in (0, 4)]
    flat = [[sample for part in epoch for sample in part] for epoch in epochs]
    assert [sorted(samples) for samples in flat] == [list(range(32))] * 2
    assert flat[0] != flat[1]


def test_starting_late_gives_the_same_batches(batches):
    steps = list(load(batches(), range(8), 0, torch.device("cpu")))
    late = list(load(batches(), range(5, 8), 2, torch.device("cpu")))
    for a, b in zip(steps[5:], late, strict=True):
        assert torch.equal(a.clips, b.clips)
        assert torch.equal(a.hidden, b.hidden)


def test_clips_differ_between_epochs_and_seeds(batches):
    assert not torch.equal(batches()[0].clips, batches(seed=1)[0].clips)
    assert not torch.equal(batches()[0].hidden, batches()[4].hidden)


def test_a_batch_that_ranks_cannot_share_is_refused():
    from vmae.errors import ConfigError
    from vmae.train.distributed import World

    with pytest.raises(ConfigError, match=r"batch_size = 16.*3 processes"):
        World(0, 3, torch.device("cpu")).share(16)


def test_the_environment_is_left_alone():
    assert "RANK" not in os.environ
