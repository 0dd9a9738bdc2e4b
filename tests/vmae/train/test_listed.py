"""Videos of one's own: a manifest anywhere, names of any kind, sizes and lengths of any kind, trains to a result."""

import numpy as np
import pytest
from helpers import run_chain

from vmae.data.make import encode
from vmae.data.manifest import VideoRow, write_manifest
from vmae.data.source import frames_of, listed_set, manifest_of
from vmae.errors import ConfigError, DataError

COUNTS = {"pretrain": 12, "holdout": 4, "train": 8, "test": 5}
SHAPES = ((20, 32, 64), (16, 40, 64), (9, 64, 32), (33, 32, 32))  # frames (two fall short of or exceed the clip), height, width


@pytest.fixture(scope="module")
def manifest(tmp_path_factory):
    folder = tmp_path_factory.mktemp("my vidéos, 1")
    rng = np.random.default_rng(0)
    rows = []
    for split, count in COUNTS.items():
        for i in range(count):
            row = VideoRow(f"{split}/clip № {i}, take 1.mp4", None if split == "pretrain" else i % 2, split)
            frames, height, width = SHAPES[i % len(SHAPES)]
            encode(folder / row.path, rng.integers(0, 256, (frames, height, width, 3), dtype=np.uint8))
            rows.append(row)
    for damaged in (rows[3], rows[-1]):
        path = folder / damaged.path
        path.write_bytes(path.read_bytes()[:-2000])
    write_manifest(folder / "all my videos.csv", rows)
    return folder / "all my videos.csv"


@pytest.fixture
def listed_recipe(recipe, manifest):
    videos, labelled = (listed_set(manifest, "mine", num_classes) for num_classes in (None, 2))
    return recipe.replace(
        {
            "pretrain.data": videos.model_dump(),
            "finetune.data": labelled.model_dump(),
            "pretrain.optim.batch_size": 6,
            "finetune.optim.batch_size": 4,
            "evaluate.num_clips": 2,
        }
    )


def test_a_listed_set_trains_and_counts_its_damaged_videos(listed_recipe, store, runtime):
    results = run_chain(store, listed_recipe, runtime.model_copy(update={"cache": False, "max_quarantined": 0.1}))
    assert {result.status for result in results.values()} == {"done"}
    assert results["pretrain"].compute["num_replaced"] == 2, "the truncated one, once per epoch"
    metrics = results["evaluate"].metrics
    assert (metrics["num_scored"], metrics["num_expected"], metrics["chance"]) == (4, 5, 50.0)
    assert "clip № 4" in metrics["unread"][0]


def test_a_cache_of_unequal_videos_says_what_to_do(listed_recipe, store, runtime, tmp_path):
    place = runtime.model_copy(update={"data_root": str(tmp_path), "cache": True, "max_quarantined": 0.1})
    with pytest.raises(DataError, match=r"a decoded cache needs equal videos; set runtime\.cache = false"):
        run_chain(store, listed_recipe, place, upto="pretrain")


def test_only_embedded_sets_are_cached_unless_asked(listed_recipe, recipe, runtime):
    assert runtime.cache is None
    for here, num_frames in ((listed_recipe, None), (recipe, 20)):
        manifest = manifest_of(here.pretrain.data, runtime)
        assert frames_of(manifest, "pretrain", runtime).equal_frames == num_frames
        assert frames_of(manifest, "pretrain", runtime.model_copy(update={"cache": False})).equal_frames is None


def test_the_builder_counts_what_the_list_says(manifest):
    assert listed_set(manifest, "mine").counts == COUNTS


def test_a_label_missing_for_the_classes_is_refused_with_its_line(manifest):
    text = manifest.read_text(encoding="utf-8")
    lines = text.splitlines()
    number = next(i for i, line in enumerate(lines, start=1) if line.endswith(",train"))
    lines[number - 1] = lines[number - 1].replace(",0,train", ",,train")
    other = manifest.with_name("other.csv")
    other.write_text("\n".join(lines), encoding="utf-8")
    with pytest.raises(DataError, match=rf"other\.csv:{number}: .* has no label"):
        listed_set(other, "mine", num_classes=2)


def test_another_list_than_planned_is_refused(listed_recipe, store, runtime, manifest):
    before = manifest.read_bytes()
    manifest.write_bytes(b"\n".join(before.splitlines()[:-1]) + b"\n")
    try:
        with pytest.raises(DataError, match="lists other videos than this run was planned with"):
            run_chain(store, listed_recipe, runtime, upto="pretrain")
    finally:
        manifest.write_bytes(before)


def test_a_split_that_is_not_listed_names_the_near_one(listed_recipe):
    with pytest.raises(ConfigError, match=r"has no split 'tset'\. Did you mean 'test'"):
        listed_recipe.replace({"evaluate.split": "tset"}).runs()


def test_three_crops_see_what_the_centre_does_not(listed_recipe, store, runtime):
    place = runtime.model_copy(update={"cache": False, "max_quarantined": 0.1})
    one, three = (run_chain(store, listed_recipe.replace({"evaluate.num_crops": n}), place)["evaluate"] for n in (1, 3))
    assert one.compute["num_clips"] * 3 == three.compute["num_clips"]
    rows = [store.run(result.run_id).predictions.read_text() for result in (one, three)]
    assert rows[0] != rows[1]
