"""The embedded set asks what it says: motion cannot be told from a still frame, appearance can; order and direction matter.

Everything is measured on decoded frames, so a leak through compression (trails behind a moving digit) would show as well.
"""

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from vmae.data.make import encode
from vmae.data.scene import AXES, PERIOD_FRAMES, SPEEDS, Scene, draw_specs, render, reversed_motion
from vmae.data.video import read_video

NUM_TRAIN, NUM_TEST = 900, 450
CHANCE = 1 / len(SPEEDS)
# Of an exactly blind reader, one in a hundred thousand exceeds this.
CEILING = stats.binom.ppf(1 - 1e-5, NUM_TEST, CHANCE) / NUM_TEST


def decoded(folder, split, count, specs=None):
    """Videos [V, T, H, W] (one of the equal channels) after H.264, with their specs."""
    scene = Scene()
    specs = specs or draw_specs(scene, 0, split, count)
    videos = []
    for spec in specs:
        encode(folder / "v.mp4", render(scene, spec))
        videos.append(read_video(folder / "v.mp4")[..., 0])
    return np.stack(videos), specs


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    folder = tmp_path_factory.mktemp("leaks")
    return decoded(folder, "pretrain", NUM_TRAIN), decoded(folder, "test", NUM_TEST)


def readers():
    return {
        "linear": make_pipeline(StandardScaler(), LogisticRegression(max_iter=200, C=0.01)),
        "neighbours": KNeighborsClassifier(15),
    }


def looks(frames):
    """What a single-frame reader may look at: pixels, and the log spectrum, which no shift changes."""
    pixels = frames.reshape(len(frames), -1).astype(np.float32) / 255
    spectrum = np.log(np.abs(np.fft.rfft2(frames.astype(np.float32))) + 1).reshape(len(frames), -1)
    return {"pixels": pixels, "spectrum": spectrum}


def single_frame_accuracy(clips, labels, when):
    """The best accuracy of any reader and look on frame `when`."""
    (train, train_specs), (test, test_specs) = clips
    y, z = ([getattr(spec, labels) for spec in specs] for specs in (train_specs, test_specs))
    return max(
        reader.fit(seen, y).score(looks(test[:, when])[look], z)
        for look, seen in looks(train[:, when]).items()
        for reader in readers().values()
    )


def test_a_frames_pixels_do_not_depend_on_its_neighbours(tmp_path):
    """Exactly: every order of the frames decodes to the same frames in that order, so compression adds nothing about motion."""
    rng = np.random.default_rng(0)
    for spec in draw_specs(Scene(), 0, "train", 8):
        frames = render(Scene(), spec)
        order = rng.permutation(len(frames))
        encode(tmp_path / "a.mp4", frames)
        encode(tmp_path / "b.mp4", frames[order])
        np.testing.assert_array_equal(read_video(tmp_path / "a.mp4")[order], read_video(tmp_path / "b.mp4"))


@pytest.mark.slow
@pytest.mark.parametrize("when", [0, 1, 4, 9, 14, 19])
def test_a_single_frame_says_nothing_about_motion(clips, when):
    assert single_frame_accuracy(clips, "motion", when) <= CEILING


@pytest.mark.slow
def test_a_single_frame_does_tell_appearance(clips):
    """The positive control: these readers can read."""
    assert single_frame_accuracy(clips, "appearance", 9) > 0.3


@pytest.mark.slow
def test_a_planted_leak_is_caught(clips, tmp_path):
    """If the start depended on the motion, the same readers would see it."""

    def plant(videos, specs):
        shifted = [np.roll(v, 4 * s.motion - int(s.start[0]), axis=1) for v, s in zip(videos, specs, strict=True)]
        return np.stack(shifted), specs

    (train, test) = clips
    assert single_frame_accuracy((plant(*train), plant(*test)), "motion", 0) > 1.5 * CEILING


def correlations(a, b):
    """How well frame b is frame a shifted by [dy, dx] on the torus, for all shifts [32, 32]: phase correlation."""
    spectrum = np.conj(np.fft.fft2(a, axes=(-2, -1))) * np.fft.fft2(b, axes=(-2, -1))
    return np.fft.ifft2(spectrum / (np.abs(spectrum) + 1e3), axes=(-2, -1)).real


def motion_read(video):
    """The label whose step, along the best axis, explains consecutive frames best: an order-aware reader without training."""
    evidence = correlations(video[:-1].astype(float), video[1:].astype(float)).sum(0)
    evidence = sum(np.roll(evidence, (dy, dx), axis=(0, 1)) for dy in (-1, 0, 1) for dx in (-1, 0, 1))  # the shake
    scores = [[evidence[2 * speed * y % 32, 2 * speed * x % 32] for y, x in AXES] for speed in SPEEDS]
    return int(np.argmax(np.max(scores, axis=1)))


def agreement(videos, labels):
    return np.mean([motion_read(video) == label for video, label in zip(videos, labels, strict=True)])


def one_period(clips):
    """16 consecutive frames of the test videos, as a training clip takes them, and their labels."""
    _, (videos, specs) = clips
    return videos[:, 2 : 2 + PERIOD_FRAMES], [spec.motion for spec in specs]


@pytest.mark.slow
def test_order_carries_the_motion_and_reversal_swaps_the_label(clips):
    videos, labels = one_period(clips)
    assert agreement(videos, labels) > 0.6
    assert agreement(videos[:, ::-1], [reversed_motion(label) for label in labels]) > 0.6
    assert agreement(videos[:, ::-1], labels) < 0.1


@pytest.mark.slow
def test_shuffled_order_is_at_chance(clips):
    videos, labels = one_period(clips)
    rng = np.random.default_rng(0)
    assert agreement([video[rng.permutation(len(video))] for video in videos], labels) <= CEILING


def test_every_class_shows_the_same_set_of_frames():
    """Exactly: without shake, any 16 consecutive frames of two specs that differ in motion alone are one set."""
    scene = Scene(shake_px=0.0)
    spec = draw_specs(scene, 0, "train", 1)[0]
    for first in range(scene.num_frames - PERIOD_FRAMES + 1):
        sets = []
        for motion in range(len(SPEEDS)):
            frames = render(scene, replace(spec, motion=motion))[first : first + PERIOD_FRAMES]
            sets.append(sorted(frame.tobytes() for frame in frames))
        assert len(set(sets[0])) == PERIOD_FRAMES
        assert all(frames == sets[0] for frames in sets)


def test_reversed_motion_is_the_opposite():
    assert [reversed_motion(k) for k in range(8)] == [4, 5, 6, 7, 0, 1, 2, 3]


def test_rendering_a_reversed_spec_is_the_reversed_video():
    """A clip played backwards is a clip of the scene, of the opposite label: the set is closed under time reversal."""
    scene = Scene()
    for spec in draw_specs(scene, 3, "train", 16):
        length = (scene.num_frames - 1) * SPEEDS[spec.motion] * scene.size_px / PERIOD_FRAMES
        end = tuple(s + length * direction for s, direction in zip(spec.start, AXES[spec.axis], strict=True))
        back = replace(spec, motion=reversed_motion(spec.motion), start=end, shakes_px=spec.shakes_px[::-1])
        difference = np.abs(render(scene, back).astype(int) - render(scene, spec)[::-1].astype(int))
        assert difference.max() <= 1
