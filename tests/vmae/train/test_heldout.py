"""Held-out videos are looked at before a pre-training is paid for; what cannot be read is left out and counted."""

import shutil

import numpy as np
import pytest
import torch
from helpers import run_chain

from vmae.arms import As
from vmae.data.embedded import embedded_dir
from vmae.errors import DataError
from vmae.model.autoencoder import VideoMAE
from vmae.train.distributed import World
from vmae.train.heldout import heldout_batches, judge


class Videos:
    """Ten black videos, of which the first `num_bad` cannot be read."""

    equal_frames = None

    def __init__(self, num_bad):
        self.num_bad = num_bad

    def __len__(self):
        return 10

    def read(self, video, choose):
        if video < self.num_bad:
            raise DataError(f"{video} is gone")
        return np.zeros((*choose(20).shape, 32, 32, 3), np.uint8)


@pytest.mark.parametrize("batch_size", [3, 4, 5, 64])
def test_what_is_missing_is_counted_whatever_the_batches(recipe, batch_size):
    run, alone = recipe.runs()[0], World(0, 1, torch.device("cpu"))
    batches = heldout_batches(Videos(4), run.masked, run.grid, alone, batch_size)
    torch.manual_seed(0)
    found = judge(VideoMAE(run), batches, 10, run.masked, alone)
    assert (found["num_heldout"], found["num_heldout_missing"]) == (6, 4)
    with pytest.raises(DataError, match="not one of 10 holdout videos can be read; the first: 0 is gone"):
        heldout_batches(Videos(10), run.masked, run.grid, alone, batch_size)


@pytest.fixture
def own_data(data_root, tmp_path, runtime):
    root = tmp_path / "data"
    shutil.copytree(embedded_dir(data_root, "tiny", 0), embedded_dir(root, "tiny", 0))
    return runtime.model_copy(update={"data_root": str(root), "cache": False}), embedded_dir(root, "tiny", 0) / "videos"


def of(method, recipe):
    if method == "masked":
        return recipe
    section = As("instead.contrast").of("pretrain", recipe, {})
    return recipe.replace({"pretrain": section}).replace({"pretrain.optim.warmup_epochs": 0.5})


@pytest.mark.parametrize("method", ["masked", "contrast"])
@pytest.mark.parametrize(
    ("damage", "words"), [("unreadable", "not one of 32 holdout videos can be read"), ("missing", "is missing")]
)
def test_heldout_videos_that_cannot_judge_are_said_before_training(method, damage, words, recipe, store, own_data):
    runtime, videos = own_data
    files = sorted((videos / "holdout").glob("*.mp4"))
    for file in files if damage == "unreadable" else []:
        file.write_bytes(b"not a video, really")
    if damage == "missing":
        files[3].unlink()
    with pytest.raises(DataError, match=words):
        run_chain(store, of(method, recipe), runtime, upto="pretrain")
    (place,) = [store.run(path.name) for path in store.root.iterdir()]
    assert not place.metrics.exists(), "not one step was taken"


@pytest.mark.parametrize("method", ["masked", "contrast"])
def test_weights_outlive_a_judging_that_fails(method, recipe, store, runtime, monkeypatch):
    def fails(*args):
        raise DataError("held-out videos went away")

    monkeypatch.setattr(f"vmae.train.{'pretrain' if method == 'masked' else 'contrast'}.judge", fails)
    with pytest.raises(DataError, match="went away"):
        run_chain(store, of(method, recipe), runtime, upto="pretrain")
    (place,) = [store.run(path.name) for path in store.root.iterdir()]
    assert place.weights.exists()
    assert place.read_result() is None
