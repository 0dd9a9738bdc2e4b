"""The generator: deterministic, balanced, disjoint digits, real files of the promised length and quality."""

import dataclasses
import hashlib
import json
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from sweeps.presets import tiny
from vmae.data.cli import app
from vmae.data.embedded import LABEL_SETS, SIZES, embedded_dir, manifest_file
from vmae.data.make import encode, make_embedded
from vmae.data.manifest import read_manifest
from vmae.data.scene import NUM_DIGITS, Scene, balanced_labels, digit_pools, draw_specs, render
from vmae.data.source import manifest_of
from vmae.data.video import num_frames, read_video
from vmae.errors import ConfigError, DataError
from vmae.sections import EmbeddedSet


def digests(folder):
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_the_same_seed_gives_the_same_bytes_with_any_number_of_workers(data_root, tmp_path):
    again = make_embedded(tmp_path, "tiny", seed=0, num_workers=1, progress=False)
    assert digests(again) == digests(embedded_dir(data_root, "tiny", 0))


def test_another_seed_is_another_set():
    assert draw_specs(Scene(), 0, "train", 8) != draw_specs(Scene(), 1, "train", 8)


def test_an_interrupted_making_is_finished_and_a_finished_one_is_left_alone(data_root, tmp_path):
    folder = make_embedded(tmp_path, "tiny", seed=0, num_workers=2, progress=False)
    whole = digests(folder)
    (folder / "info.json").unlink()
    (folder / "motion.csv").unlink()
    kept = folder / "videos" / "test" / "00000.mp4"
    when = kept.stat().st_mtime_ns
    (folder / "videos" / "test" / "00001.mp4").unlink()
    make_embedded(tmp_path, "tiny", seed=0, num_workers=2, progress=False)
    assert digests(folder) == whole
    assert kept.stat().st_mtime_ns == when


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 700), st.integers(0, 2**31))
def test_labels_are_balanced_to_within_one(count, seed):
    labels = balanced_labels(count, np.random.default_rng(seed))
    for column, classes in ((0, 8), (1, 10)):
        counts = np.bincount(labels[:, column], minlength=classes)
        assert counts.max() - counts.min() <= 1


def test_all_pairs_of_labels_occur():
    pairs = {tuple(pair) for pair in balanced_labels(80, np.random.default_rng(0))}
    assert len(pairs) == 80


@pytest.mark.parametrize("seed", [0, 1])
def test_test_digits_are_never_seen_in_training(seed):
    train, test = (np.concatenate(digit_pools(seed, side)) for side in (False, True))
    assert not set(train) & set(test)
    assert len(train) + len(test) == 1797
    assert all(len(pool) > 50 for pool in digit_pools(seed, True))
    for split in SIZES["tiny"]:
        used = {spec.digit for spec in draw_specs(Scene(), seed, split, 64)}
        assert used <= set(test if split in ("holdout", "test") else train)


def test_manifests_describe_the_same_videos_with_both_label_sets(data_root):
    both = [read_manifest(manifest_file(data_root, "tiny", 0, labels), num_classes=n) for labels, n in LABEL_SETS.items()]
    assert [row.path for row in both[0].rows] == [row.path for row in both[1].rows]
    assert both[0].counts() == SIZES["tiny"]
    info = json.loads((embedded_dir(data_root, "tiny", 0) / "info.json").read_text())
    assert [info["list_sha256"][labels] for labels in LABEL_SETS] == [m.list_sha256 for m in both]


def test_files_are_what_was_rendered(tmp_path):
    """20 frames, three equal channels, and a PSNR above 50 dB against the rendering."""
    scene = Scene()
    for spec in draw_specs(scene, 0, "train", 10):
        original = render(scene, spec)
        encode(tmp_path / "v.mp4", original)
        frames = read_video(tmp_path / "v.mp4")
        assert frames.shape == (20, 32, 32, 3)
        assert num_frames(tmp_path / "v.mp4") == 20
        error = np.mean((frames.astype(float) - original) ** 2)
        assert 10 * np.log10(255**2 / error) > 50
        assert (frames[..., :1] == frames).all()


def test_every_digit_is_drawn_bright_on_dark():
    for spec in draw_specs(Scene(), 0, "train", NUM_DIGITS * 4):
        video = render(Scene(), spec)
        assert video.max() > 120
        assert np.median(video) < 40


def test_unknown_sizes_and_scenes_are_refused(tmp_path):
    with pytest.raises(DataError, match=r"'quik'. Did you mean 'quick'"):
        make_embedded(tmp_path, "quik")
    with pytest.raises(DataError, match=r"no label set 'motions'. Did you mean 'motion'"):
        manifest_file(tmp_path, "tiny", 0, "motions")
    for bad in ({"digit_px": 40}, {"shake_px": -1.0}, {"brightness": (1.0, 0.5)}):
        with pytest.raises(ConfigError, match=next(iter(bad))):
            Scene(**bad)


@pytest.mark.parametrize("words", [("--seed", "-1"), ("--seed", str(2**32)), ("--workers", "0")])
def test_a_seed_that_no_config_can_name_is_refused_before_anything_is_written(tmp_path, words):
    said = CliRunner().invoke(app, ["make", "--size", "tiny", "--root", str(tmp_path), *words])
    assert (said.exit_code, list(tmp_path.iterdir())) == (2, [])
    assert words[0] in said.output


def test_a_root_that_cannot_be_written_is_said(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="cannot write"):
        make_embedded(tmp_path / "file", "tiny", progress=False)


def test_a_still_digit_only_shakes(tmp_path):
    """The same digits and starts as in the moving set, the same bytes every time; appearance is the only label set."""
    moving, still = Scene(), Scene(travels=False)
    specs = draw_specs(moving, 0, "train", 20)
    for spec in specs:
        frames = render(still, spec).astype(float)
        np.testing.assert_array_equal(render(moving, spec)[0], render(still, spec)[0])
        unshaken = render(still, dataclasses.replace(spec, shakes_px=((0.0, 0.0),) * 20)).astype(float)
        assert np.ptp(unshaken, axis=0).max() == 0
        # A shift of d pixels changes a smooth digit by about d times its slope: no frame is further away than a few shakes.
        assert np.abs(frames - unshaken).mean() < np.abs(render(moving, spec).astype(float) - unshaken).mean()
    folder = make_embedded(tmp_path / "a", "tiny", num_workers=2, progress=False, domain="still")
    again = make_embedded(tmp_path / "b", "tiny", num_workers=1, progress=False, domain="still")
    assert sorted(p.name for p in folder.glob("*.csv")) == ["appearance.csv"]
    assert (folder / "appearance.csv").read_bytes() == (again / "appearance.csv").read_bytes()
    for video in sorted(folder.rglob("*.mp4"))[::16]:
        assert video.read_bytes() == (again / video.relative_to(folder)).read_bytes()
    counts = Counter(row.label for row in read_manifest(folder / "appearance.csv").select("train"))
    assert max(counts.values()) - min(counts.values()) <= 1


def test_the_still_domain_has_no_motion_labels(tmp_path, runtime):
    with pytest.raises(ConfigError, match=r"labels = 'motion' with domain = 'still'.*appearance"):
        tiny("motion").replace({"finetune.data.domain": "still"})
    with pytest.raises(DataError, match="make --size quick --domain still --seed 0"):
        manifest_of(EmbeddedSet(size="quick", domain="still"), runtime)
    with pytest.raises(DataError, match=r"embedded domain 'stil'\. Did you mean 'still'"):
        make_embedded(tmp_path, "tiny", domain="stil")
