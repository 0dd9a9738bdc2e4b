"""Evaluation is exact: every video once, never replaced; top-k counts what it says. Training replaces by a rule."""

import csv
import io
import json
import os
import shutil
import signal
from dataclasses import asdict

import pytest
import safetensors.torch
import torch
from helpers import prepare, run_chain
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import top_k_accuracy_score

from vmae.data.embedded import embedded_dir
from vmae.errors import CheckpointError, DataError, Interrupted
from vmae.identity import run_id
from vmae.job import work
from vmae.runs import Store
from vmae.train import evaluate as evaluation
from vmae.train.checkpoint import load_weights
from vmae.train.evaluate import Found, _predictions, _top


@given(st.integers(0, 2**31), st.sampled_from([1, 3, 5]))
def test_top_k_agrees_with_scikit_learn(seed, k):
    torch.manual_seed(seed)
    scores = torch.rand(40, 8)
    labels = torch.randint(0, 8, (40,)).tolist()
    rows = [(i, label, p) for i, (label, p) in enumerate(zip(labels, scores.tolist(), strict=True))]
    assert _top(rows, k) == pytest.approx(top_k_accuracy_score(labels, scores.numpy(), k=k, labels=range(8)))


def test_a_constant_prediction_is_not_right_for_all():
    rows = [(i, i % 4, [0.25] * 4) for i in range(8)]
    assert _top(rows, 1) == 0.25


VOTES = st.lists(st.tuples(st.integers(0, 3), st.lists(st.sampled_from([0.0, 0.25, 1 / 3]), min_size=4, max_size=4)), min_size=1)


@given(VOTES, st.integers(1, 3), st.integers(1, 4))
def test_the_table_of_predictions_says_what_is_counted(votes, num_clips, num_frames):
    """Ties too: who reads predictions.csv counts the hits that `top1` counts, and finds the frames that were seen."""
    rows = [(2 * i, label, shares) for i, (label, shares) in enumerate(votes)]  # every second video was scored
    paths = [f'clips, "{i}".mp4' for i in range(2 * len(votes))]
    frames = {video: [[video + clip + 2 * k for k in range(num_frames)] for clip in range(num_clips)] for video, *_ in rows}
    table = list(csv.DictReader(io.StringIO(_predictions(rows, paths, frames))))
    assert [line["video"] for line in table] == [paths[video] for video, *_ in rows]
    assert [int(line["label"]) for line in table] == [label for _, label, _ in rows]
    assert sum(line["label"] == line["predicted"] for line in table) == pytest.approx(_top(rows, 1) * len(rows))
    assert [float(line["label_probability"]) for line in table] == pytest.approx([p[label] for _, label, p in rows], abs=5e-7)
    for (video, *_), line in zip(rows, table, strict=True):
        assert [[int(frame) for frame in clip.split(" ")] for clip in line["frames"].split(";")] == frames[video]


def test_what_an_interrupted_evaluation_saved_is_what_it_had():
    found = Found([(3, [0.25, 0.75])], [(3, [[0, 2], [1, 3]])], [(4, "4.mp4: damaged")])
    assert Found.of(json.loads(json.dumps(asdict(found)))) == found


@pytest.mark.parametrize("knn", [None, 3])
def test_a_broken_model_is_an_error_and_no_score(knn, recipe, store, runtime):
    """NaN is larger than nothing, so that every label would stand first."""
    broken = recipe.replace({"pretrain": None, "evaluate.knn": knn})
    weights = store.run(run_chain(store, broken, runtime, upto="finetune")["finetune"].run_id).weights
    tensors = safetensors.torch.load_file(weights)
    tensors["encoder.embed.proj.bias"][0] = float("nan")
    safetensors.torch.save_file(tensors, weights)
    with pytest.raises(CheckpointError, match=r"of 32 of 32 videos is not finite: .*00000\.mp4.* and 27 more"):
        run_chain(store, broken, runtime)
    evaluation = next(run for run in broken.runs() if run.stage == "evaluate")
    assert store.run(run_id(evaluation)).read_result() is None


@pytest.mark.parametrize("case", ["trained again", "by an earlier version", "the same"])
def test_scores_of_other_weights_are_not_gone_on_with(case, recipe, store, runtime, monkeypatch):
    """Under one id a fine-tuning that is made again may end in other weights: half of a score would be another model's."""
    monkeypatch.setattr(evaluation, "CLIPS_PER_BATCH", 16)
    scratch = recipe.replace({"pretrain": None})
    weights = store.run(run_chain(store, scratch, runtime, upto="finetune")["finetune"].run_id).weights
    place = prepare(store, scratch, "evaluate")
    score = evaluation._rows

    def then_stop(*arguments):
        os.kill(os.getpid(), signal.SIGTERM)
        return score(*arguments)

    with monkeypatch.context() as patched:
        patched.setattr(evaluation, "_rows", then_stop)
        with pytest.raises(Interrupted):
            work(place, runtime)
    saved = json.loads(place.partial.read_text())
    assert 0 < len(saved["rows"]) < 32
    if case == "trained again":
        other = {name: -tensor if name.startswith("head.") else tensor for name, tensor in load_weights(weights).items()}
        safetensors.torch.save_file(other, weights)
    elif case == "by an earlier version":
        del saved["weights_sha256"]
    saved["rows"] = [(video, [1.0, *[0.0] * 7]) for video, _ in saved["rows"]]
    place.partial.write_text(json.dumps(saved))
    work(place, runtime)
    probabilities = [row["label_probability"] for row in csv.DictReader(place.predictions.open())]
    certain = sum(float(probability) in (0.0, 1.0) for probability in probabilities)
    assert certain == (len(saved["rows"]) if case == "the same" else 0)


@pytest.fixture
def own_data(data_root, tmp_path):
    root = tmp_path / "data"
    shutil.copytree(embedded_dir(data_root, "tiny", 0), embedded_dir(root, "tiny", 0))
    return root


def test_an_unreadable_test_video_is_named_and_counted(recipe, store, runtime, own_data):
    videos = embedded_dir(own_data, "tiny", 0) / "videos" / "test"
    (videos / "00003.mp4").write_bytes((videos / "00003.mp4").read_bytes()[:200])
    results = run_chain(store, recipe, runtime.model_copy(update={"data_root": str(own_data)}))
    metrics = results["evaluate"].metrics
    assert (metrics["num_scored"], metrics["num_expected"]) == (31, 32)
    assert "00003.mp4" in metrics["unread"][0]
    rows = list(csv.DictReader(store.run(results["evaluate"].run_id).predictions.open()))
    assert len(rows) == 31
    assert not any("00003" in row["video"] for row in rows)
    correct = sum(row["label"] == row["predicted"] for row in rows)
    assert metrics["top1"] == pytest.approx(100 * correct / 31)


@pytest.mark.parametrize("cache", [True, False])
def test_a_bad_training_video_is_replaced_by_a_rule_and_counted(cache, recipe, tmp_path, runtime, own_data):
    videos = embedded_dir(own_data, "tiny", 0) / "videos" / "pretrain"
    (videos / "00010.mp4").write_bytes(b"not a video, but not empty either")
    place = runtime.model_copy(update={"data_root": str(own_data), "cache": cache})
    first, second = (run_chain(Store(tmp_path / name), recipe, place, upto="pretrain")["pretrain"] for name in "ab")
    assert first.compute["num_replaced"] == 2, "once per epoch"
    assert first.metrics == second.metrics


def test_too_many_bad_videos_stop_the_run(recipe, store, runtime, own_data):
    for video in sorted((embedded_dir(own_data, "tiny", 0) / "videos" / "pretrain").glob("*.mp4"))[:20]:
        video.write_bytes(b"broken")
    with pytest.raises(DataError, match="clips came from videos that cannot be read; allowed: 5%"):
        run_chain(store, recipe, runtime.model_copy(update={"data_root": str(own_data)}), upto="pretrain")


@pytest.mark.parametrize("damage", ["missing", "empty"])
def test_missing_and_empty_videos_are_refused_before_training(damage, recipe, store, runtime, own_data):
    video = embedded_dir(own_data, "tiny", 0) / "videos" / "train" / "00001.mp4"
    video.unlink()
    if damage == "empty":
        video.touch()
    scratch = recipe.replace({"pretrain": None})
    with pytest.raises(DataError, match=rf"1 of 32 videos .*00001\.mp4 is {damage}"):
        run_chain(store, scratch, runtime.model_copy(update={"data_root": str(own_data)}), upto="finetune")
