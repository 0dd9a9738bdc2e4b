"""Subsets: nested, stratified, a function of list and seed; and a run trains on exactly the chosen videos."""

from collections import Counter

import numpy as np
import pytest
from helpers import run_chain
from hypothesis import given
from hypothesis import strategies as st

from vmae.cost import num_clips, num_steps
from vmae.data.manifest import VideoRow
from vmae.data.source import chosen_of, frames_of, manifest_of
from vmae.data.subset import group_order, subset, subset_order
from vmae.errors import ConfigError
from vmae.random import Purpose, stream
from vmae.sections import EmbeddedSet, SubsetConfig

CLASS_SIZES = st.lists(st.integers(1, 40), min_size=1, max_size=8)


def rows(class_sizes):
    return [VideoRow(f"{label}/{i}.mp4", label, "pretrain") for label, size in enumerate(class_sizes) for i in range(size)]


@given(CLASS_SIZES, st.integers(0, 2**32 - 1))
def test_every_beginning_is_stratified(class_sizes, seed):
    """A class of n among N videos of C classes is within 1 + C n / N of its exact share, at every size."""
    listed, total = rows(class_sizes), sum(class_sizes)
    seen: Counter[int] = Counter()
    for m, row in enumerate(subset_order(listed, seed), start=1):
        seen[row.label] += 1
        for label, size in enumerate(class_sizes):
            assert abs(seen[label] - m * size / total) <= 1 + len(class_sizes) * size / total
    assert sum(seen.values()) == total


@given(CLASS_SIZES, st.integers(0, 1000), st.data())
def test_smaller_lies_within_larger(class_sizes, seed, data):
    listed = rows(class_sizes)
    small, large = sorted(data.draw(st.lists(st.integers(1, len(listed)), min_size=2, max_size=2)))
    assert subset(listed, small, seed) <= subset(listed, large, seed)
    assert len(subset(listed, small, seed)) == small


def test_equal_classes_stay_equal_to_within_one():
    listed = rows([50] * 8)
    for m in (8, 77, 200, 399):
        counts = Counter(row.label for row in subset_order(listed, 3)[:m])
        assert max(counts.values()) - min(counts.values()) <= 1


def test_seeds_differ_and_unlabelled_lists_work():
    listed = [VideoRow(f"{i}.mp4", None, "pretrain") for i in range(1000)]
    a, b = subset(listed, 500, 0), subset(listed, 500, 1)
    assert a == subset(listed, 500, 0)
    # Two independent halves of 1,000 share 250 on average, with a standard deviation of 8.
    assert 200 < len(a & b) < 300


GROUPS = st.lists(st.tuples(st.sampled_from([None, 0, 1, 7]), st.integers(1, 5)), min_size=1, max_size=30)


def grouped(shapes):
    return [[VideoRow(f"{i}-{k}.mp4", label, "train") for k in range(size)] for i, (label, size) in enumerate(shapes)]


@given(GROUPS)
def test_groups_stay_whole_and_every_beginning_is_stratified(shapes):
    """A class is ahead of or behind its share by its largest group at most, and by its share of all classes' largest."""
    groups = grouped(shapes)
    order, seen, m = group_order(groups, 0), Counter(), 0
    assert sorted(group[0].path for group in order) == sorted(group[0].path for group in groups)
    total, totals, largest = sum(size for _, size in shapes), Counter(), Counter()
    for label, size in shapes:
        totals[label] += size
        largest[label] = max(largest[label], size)
    for group in order:
        m += len(group)
        seen[group[0].label] += len(group)
        for label, n in totals.items():
            assert abs(seen[label] - m * n / total) <= largest[label] + n / total * sum(largest.values()) + 1e-9


@given(GROUPS, st.integers(0, 2**32 - 1))
def test_the_order_is_the_one_that_finished_runs_were_given(shapes, seed):
    """Written anew from the rule: class by class, unlabelled first, one uniform offset and one permutation of a stream each.

    Which videos a subset of some seed holds is in no run's id, so it may never change.
    """
    placed = []
    for number, label in enumerate(sorted({label for label, _ in shapes}, key=lambda label: (label is not None, label or 0))):
        members = [group for group in grouped(shapes) if group[0].label == label]
        rng = stream(seed, Purpose.SUBSET, 0, number)
        offset = rng.uniform()
        shuffled = [members[i] for i in rng.permutation(len(members))]
        num_videos = sum(map(len, members))
        for i, group in enumerate(shuffled):
            placed.append(((sum(map(len, shuffled[:i])) + offset * len(group)) / num_videos, number, group))
    assert group_order(grouped(shapes), seed) == [group for _, _, group in sorted(placed, key=lambda one: one[:2])]


def test_a_run_reads_the_chosen_videos_through_the_cache_of_all(runtime):
    manifest = manifest_of(EmbeddedSet(size="tiny"), runtime)
    everything = frames_of(manifest, "pretrain", runtime)
    part = chosen_of(manifest, "pretrain", SubsetConfig(num_videos=20), runtime)
    paths = [row.path for row in manifest.select("pretrain")]
    chosen = subset(manifest.select("pretrain"), 20, 0)
    positions = [i for i, path in enumerate(paths) if path in chosen]
    when = np.tile(np.arange(4), (20, 1))
    np.testing.assert_array_equal(part.frames.gather(range(20), when), everything.gather(positions, when))
    np.testing.assert_array_equal(part.frames.read(7, lambda _: when[:2]), everything.read(positions[7], lambda _: when[:2]))
    assert part.list_sha256 != chosen_of(manifest, "pretrain", SubsetConfig(), runtime).list_sha256
    assert part.list_sha256 != chosen_of(manifest, "pretrain", SubsetConfig(num_videos=20, seed=1), runtime).list_sha256


def test_cost_and_result_count_the_subset(recipe, store, runtime):
    smaller = recipe.replace({"pretrain.subset.num_videos": 33, "pretrain.optim.batch_size": 16})
    run = smaller.runs()[0]
    assert num_steps(run) == 2 * 2
    assert num_clips(run) == 2 * 32
    result = run_chain(store, smaller, runtime, upto="pretrain")["pretrain"]
    assert result.metrics["num_videos"] == 33
    assert result.compute["num_clips"] == 64


def test_labels_go_with_their_videos(runtime):
    manifest, few = manifest_of(EmbeddedSet(size="tiny", labels="motion"), runtime), SubsetConfig(num_videos=20, seed=5)
    listed = manifest.select("train")
    chosen = subset(listed, 20, 5)
    assert chosen_of(manifest, "train", few, runtime).labels == [row.label for row in listed if row.path in chosen]
    assert chosen_of(manifest, "train", SubsetConfig(), runtime).labels == [row.label for row in listed]


def test_a_fine_tuning_counts_the_labels_it_was_given(recipe, store, runtime):
    fewer = recipe.replace({"finetune.subset.num_videos": 20, "finetune.optim.batch_size": 10})
    assert num_steps(fewer.runs()[1]) == 2 * fewer.finetune.optim.epochs
    results = run_chain(store, fewer, runtime, upto="finetune")
    assert results["finetune"].metrics["num_videos"] == 20
    assert results["finetune"].compute["num_clips"] == 20 * fewer.finetune.optim.epochs


def test_what_cannot_be_is_refused(recipe):
    with pytest.raises(ConfigError, match=r"finetune\.subset\.num_videos = 33; allowed: 1 to 32"):
        recipe.replace({"finetune.subset.num_videos": 33}).runs()
    with pytest.raises(ConfigError, match="knn = 21 is more than the 20 training videos"):
        recipe.replace({"finetune.subset.num_videos": 20, "finetune.optim.batch_size": 10, "evaluate.knn": 21}).runs()
    with pytest.raises(ConfigError, match="num_videos = 65; allowed: 1 to 64"):
        recipe.replace({"pretrain.subset.num_videos": 65}).runs()
    with pytest.raises(ConfigError, match="batch_size = 16 is larger than the 8 videos"):
        recipe.replace({"pretrain.subset.num_videos": 8}).runs()
    with pytest.raises(ConfigError, match=r"subset\.seed = 1 would do nothing"):
        recipe.replace({"pretrain.subset.seed": 1})
