"""Probes leave the encoder as it was; nearest neighbours vote as defined."""

import numpy as np
import pytest
import torch
from helpers import run_chain
from hypothesis import given
from hypothesis import strategies as st

from vmae.errors import ConfigError
from vmae.train.checkpoint import load_weights
from vmae.train.evaluate import KNN_TEMPERATURE, nearest

FROZEN = {"finetune.optim.layer_decay": 1.0, "finetune.drop_path_rate": 0.0}


@pytest.mark.parametrize("probe", ["linear", "attentive"])
def test_a_probe_trains_its_head_and_nothing_below(probe, recipe, store, runtime):
    results = run_chain(store, recipe.replace(FROZEN | {"finetune.probe": probe, "finetune.optim.optimizer": "sgd"}), runtime)
    before = load_weights(store.run(results["pretrain"].run_id).weights)
    after = load_weights(store.run(results["finetune"].run_id).weights)
    encoder = {name for name in before if name.startswith("encoder.")}
    assert encoder == {name for name in after if name.startswith("encoder.")}, "its final norm too"
    assert all(torch.equal(before[name], after[name]) for name in encoder)
    assert any(name.startswith("pool.") for name in after) == (probe == "attentive")
    assert after["head.bias"].any()


def test_knn_needs_no_head(recipe, store, runtime):
    """The head's training changes nothing that nearest neighbours in a frozen encoder see."""
    frozen = recipe.replace(FROZEN | {"finetune.probe": "linear", "evaluate.knn": 5})
    one, other = (run_chain(store, r, runtime)["evaluate"] for r in (frozen, frozen.replace({"finetune.optim.epochs": 2})))
    assert one.run_id != other.run_id
    assert one.metrics["top1"] == other.metrics["top1"]
    first, second = (store.run(result.run_id).predictions.read_text() for result in (one, other))
    assert first == second


@given(st.integers(0, 2**31), st.integers(1, 9))
def test_votes_are_weighted_by_similarity(seed, k):
    rng = np.random.default_rng(seed)
    bank, queries, labels = rng.normal(size=(9, 4)), rng.normal(size=(3, 4)), rng.integers(0, 3, 9).tolist()
    known, asked = ([(i, row.tolist()) for i, row in enumerate(rows)] for rows in (bank, queries))
    found = nearest(known, labels, asked, k, 5)
    unit = bank / np.linalg.norm(bank, axis=1, keepdims=True)
    for (_, shares), query in zip(found, queries, strict=True):
        similarity = unit @ query / np.linalg.norm(query)
        votes = np.zeros(5)
        for i in np.argsort(-similarity)[:k]:
            votes[labels[i]] += np.exp(similarity[i] / KNN_TEMPERATURE)
        np.testing.assert_allclose(shares, votes / votes.sum(), rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"finetune.probe": "linear", "finetune.drop_path_rate": 0.1}, "the encoder is frozen; set them to 1 and 0"),
        ({"evaluate.knn": 33}, "evaluate.knn = 33 is more than the 32 training videos"),
        ({"finetune.optim.optimizer": "sgd", "finetune.optim.beta2": 0.5}, "beta2 = 0.5 would do nothing with optimizer = 'sgd'"),
        ({"finetune.mix.prob": 0.5}, "mix.prob = 0.5 would do nothing"),
        ({"finetune.mix.mixup": 0.8, "finetune.mix.switch_prob": 0.2}, "mix.switch_prob = 0.2 would do nothing"),
        ({"finetune.mix.mixup": 0.8, "finetune.optim.batch_size": 15}, "finetune.mix pairs clips"),
        ({"finetune.clip.sampling": "tsn", "finetune.clip.frame_stride": 2}, "frame_stride = 2 would do nothing"),
        ({"finetune.clip.crop_area": (0.5, 0.2)}, "needs low <= high"),
    ],
)
def test_knobs_without_effect_are_refused(recipe, settings, words):
    with pytest.raises(ConfigError) as caught:
        recipe.replace(settings).runs()
    assert words in str(caught.value)
