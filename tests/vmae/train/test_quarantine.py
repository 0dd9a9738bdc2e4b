"""Downloads -> prepare -> scan -> train -> evaluate; what is in quarantine is replaced in training and named in evaluation."""

import os
import re
from dataclasses import replace

import miniatures
import numpy as np
import pytest
from helpers import run_chain
from typer.testing import CliRunner

from sweeps.commands.submitting import check_data
from vmae.__main__ import app
from vmae.arms import Arm
from vmae.data.manifest import beside, read_manifest
from vmae.data.quarantine import Quarantined, write_quarantine
from vmae.data.source import frames_of, listed_set
from vmae.data.video import read_frames
from vmae.errors import DataError
from vmae.identity import run_id
from vmae.runs import Store
from vmae.study import Ablation, Sweep, make_plan

CLASSES = tuple(f"class {i}" for i in range(6))
ABLATION = Ablation("a", "Which?\n\nExpected: one.\n\nCost: some.", "", (Arm("x", {}),), "x")


@pytest.fixture
def lists(tmp_path):
    """HMDB51's formats with six classes: 24 train videos, 6 test videos; where the lists are."""
    root, splits = miniatures.hmdb51(tmp_path, CLASSES)
    out = tmp_path / "lists" / "hmdb51.csv"
    words = ["data", "prepare", "hmdb51", "--root", str(root), "--splits", str(splits), "--out", str(out), "--heldout", "4"]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    return out


@pytest.fixture
def listed_recipe(recipe, lists):
    videos = listed_set(lists.with_stem("hmdb51-pretrain"), "hmdb51")
    labelled = listed_set(lists, "hmdb51", len(CLASSES))
    return recipe.replace(
        {
            "pretrain.data": videos.model_dump(),
            "finetune.data": labelled.model_dump(),
            "pretrain.optim.batch_size": 8,
            "finetune.optim.batch_size": 8,
        }
    )


@pytest.fixture
def place(runtime):
    return runtime.model_copy(update={"cache": False, "max_quarantined": 0.25})


def damage(lists, split, number):
    manifest = read_manifest(lists)
    row = manifest.select(split)[number]
    manifest.absolute(row).write_bytes(b"no video at all")
    return row.path


def test_from_the_download_to_the_number(lists, listed_recipe, store, place):
    ids = [run_id(run) for run in listed_recipe.runs()]
    bad = [damage(lists, "train", 3), damage(lists, "train", 10), damage(lists, "test", 2)]
    manifest = read_manifest(lists)
    for path in bad:
        (manifest.file.parent / manifest.about.root / path).unlink()
    with pytest.raises(DataError, match=r"2 of 24 videos .* cannot be used; .*`vmae data scan"):
        run_chain(store, listed_recipe, place, upto="pretrain")

    done = CliRunner().invoke(app, ["data", "scan", str(lists), "--workers", "2"])
    assert "3 bad" in done.output
    assert [run_id(run) for run in listed_recipe.runs()] == ids, "a quarantine changes no identity"
    results = run_chain(store, listed_recipe, place)
    assert {result.status for result in results.values()} == {"done"}
    epochs = {stage: results[stage].compute["num_epochs"] for stage in ("pretrain", "finetune")}
    assert {stage: results[stage].compute["num_replaced"] for stage in epochs} == {s: 2 * n for s, n in epochs.items()}
    metrics = results["evaluate"].metrics
    assert (metrics["num_scored"], metrics["num_expected"]) == (5, 6)
    (unread,) = metrics["unread"]
    assert bad[2] in unread
    assert "in quarantine by scan: No such file or directory" in unread
    scored = store.run(results["evaluate"].run_id).predictions.read_text()
    assert bad[2] not in scored
    assert len(scored.splitlines()) == 6


@pytest.mark.parametrize("cache", [False, True])
def test_replacement_is_the_same_as_for_a_video_that_cannot_be_read(lists, listed_recipe, store, place, tmp_path, cache):
    place = place.model_copy(update={"cache": cache, "data_root": str(tmp_path / "root")})
    path = read_manifest(lists).select("train")[3].path
    write_quarantine(lists, [Quarantined(path, "a test", "hand")])
    set_aside = run_chain(store, listed_recipe, place, upto="pretrain")["pretrain"]
    beside(lists, "quarantine.csv").unlink()
    damage(lists, "train", 3)
    other = Store(tmp_path / "other")
    damaged = run_chain(other, listed_recipe, place, upto="pretrain")["pretrain"]
    assert set_aside.compute["num_replaced"] == damaged.compute["num_replaced"] > 0
    assert store.run(set_aside.run_id).weights.read_bytes() == other.run(damaged.run_id).weights.read_bytes()


def test_a_file_in_quarantine_is_not_opened(lists, place):
    manifest = read_manifest(lists)
    rows = manifest.select("train")
    write_quarantine(lists, [Quarantined(rows[i].path, "a test", "hand") for i in (0, 5)])
    for i in (0, 5):
        manifest.absolute(rows[i]).unlink()
        os.mkfifo(manifest.absolute(rows[i]))  # whoever opens one waits for ever
    source = frames_of(manifest, "train", place)
    for video in range(len(rows)):
        if video in (0, 5):
            with pytest.raises(DataError) as caught:
                source.read(video, lambda _: np.array([[0]]))
            assert f"{rows[video].path}: in quarantine by hand: a test" in str(caught.value)
        else:
            expected = read_frames(manifest.absolute(rows[video]), [3])
            read = source.read(video, lambda _: np.array([[3]]))[0]
            np.testing.assert_array_equal(read, expected, "positions stay those of the list")
    assert set(source.bad) == {0, 5}


def test_too_many_are_refused_before_any_job_exists(lists, listed_recipe, runtime):
    plan = make_plan(Sweep("s", "S.", (ABLATION,), {"d": listed_recipe}, (0,)))
    check_data(plan, runtime)
    write_quarantine(lists, [Quarantined(row.path, "a test", "hand") for row in read_manifest(lists).select("train")[:2]])
    with pytest.raises(DataError, match=r"2 of 24 (pretrain|train) videos are in quarantine"):
        check_data(plan, runtime)


def test_videos_that_are_not_there_are_refused_before_any_job_exists(lists, listed_recipe, runtime, capsys):
    """All of them may lie where only nodes see them; some of them cannot."""
    plan = make_plan(Sweep("s", "S.", (ABLATION,), {"d": listed_recipe}, (0,)))
    manifest = read_manifest(lists)
    files = [manifest.absolute(row) for row in manifest.rows]
    files[0].unlink()
    for is_here in (True, False):
        with pytest.raises(DataError, match=rf"1 of \d+ videos of .*; the first: .*{re.escape(files[0].name)} is missing"):
            check_data(plan, runtime, is_here)
    for file in files[1:]:
        file.unlink()
    with pytest.raises(DataError, match=r"none of \d+ videos of .* have the videos moved\?"):
        check_data(plan, runtime)
    check_data(plan, runtime, is_here=False)
    said = capsys.readouterr().out.replace("\n", " ")
    assert f"is seen from here, below {manifest.root}; the nodes must see them" in said


@pytest.mark.parametrize(
    ("name", "split", "settings"), [("hmdb51-pretrain", "holdout", {}), ("hmdb51", "test", {"pretrain": None})]
)
def test_a_split_that_judges_is_looked_at_before_any_job_exists(lists, listed_recipe, runtime, name, split, settings):
    ablation = replace(ABLATION, arms=(Arm("x", settings),))
    plan = make_plan(Sweep("s", "S.", (ablation,), {"d": listed_recipe}, (0,)))
    file = lists.with_stem(name)
    rows = read_manifest(file).select(split)
    write_quarantine(file, [Quarantined(row.path, "a test", "hand") for row in rows[1:]])
    check_data(plan, runtime)
    write_quarantine(file, [Quarantined(row.path, "a test", "hand") for row in rows])
    with pytest.raises(DataError, match=f"{len(rows)} of {len(rows)} {split} videos are in quarantine"):
        check_data(plan, runtime)


def test_too_many_are_refused_before_training_but_not_in_evaluation(lists, runtime):
    place = runtime.model_copy(update={"cache": False})
    manifest = read_manifest(lists)
    rows = manifest.select("train")
    write_quarantine(lists, [Quarantined(row.path, "a test", "hand") for row in rows[:2]])
    with pytest.raises(DataError, match=r"2 of 24 train videos are in quarantine .*hmdb51\.quarantine\.csv\), 5% are allowed"):
        frames_of(manifest, "train", place)
    pretraining = read_manifest(lists.with_stem("hmdb51-pretrain"))
    with pytest.raises(DataError, match="2 of 24 pretrain videos are in quarantine"):
        frames_of(pretraining, "pretrain", place)
    assert len(frames_of(manifest, "train", place.model_copy(update={"max_quarantined": 0.1}))) == 24
    test = manifest.select("test")
    write_quarantine(lists, [Quarantined(row.path, "a test", "hand") for row in test[:5]])
    assert len(frames_of(manifest, "test", place)) == 6
    write_quarantine(lists, [Quarantined(test[5].path, "a test", "hand")])
    with pytest.raises(DataError, match="6 of 6 test videos are in quarantine"):
        frames_of(manifest, "test", place)
