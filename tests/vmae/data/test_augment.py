"""Augmentation on clips: every frame alike, nothing left behind in the global generators, mixing of height and width only."""

import random
from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from vmae.data import augment
from vmae.data.augment import borrowed_generators, erase, rand_augment, random_view, views
from vmae.sections import ClipConfig, FinetuneClipConfig, MixConfig
from vmae.train.mixing import Mixer

seeds = st.integers(0, 2**31)


def still(seed=0, frames=6, height=40, width=56):
    """A clip of one frame shown again and again."""
    frame = torch.randint(0, 256, (3, 1, height, width), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))
    return frame.expand(-1, frames, -1, -1).contiguous()


def alike(clip):
    return bool((clip == clip[:, :1]).all())


@pytest.mark.parametrize(
    "config",
    [
        FinetuneClipConfig(rand_augment="rand-m7-n4-mstd0.5-inc1"),
        FinetuneClipConfig(crop_area=(0.08, 1.0), hflip=True),
        FinetuneClipConfig(crop_scales=(1.0, 0.875, 0.75, 0.66)),
        FinetuneClipConfig(rand_augment="rand-m7-n4-mstd0.5-inc1", crop_area=(0.08, 1.0), hflip=True),
    ],
)
def test_all_frames_meet_the_same_choices_and_clips_meet_others(config):
    seen = set()
    for seed in range(12):
        view = random_view(still(), config, 32, np.random.default_rng(seed))
        assert view.shape == (3, 6, 32, 32)
        assert view.dtype == torch.uint8
        assert alike(view)
        assert torch.equal(view, random_view(still(), config, 32, np.random.default_rng(seed))), "a function of the generator"
        seen.add(view.numpy().tobytes())
    assert len(seen) > 6


def sides_drawn(monkeypatch, height, width, size_px, count=3000):
    """How often each height and width is cropped before it is resized."""
    drawn = Counter()

    def crop(clip, top, left, crop_h, crop_w, size_px):
        drawn[crop_h, crop_w] += 1
        assert top + crop_h <= height
        assert left + crop_w <= width
        return clip[..., :size_px, :size_px]

    monkeypatch.setattr(augment, "_crop_and_resize", crop)
    config, clip, rng = ClipConfig(crop_scales=(1.0, 0.875, 0.75, 0.66)), still(0, 1, height, width), np.random.default_rng(0)
    for _ in range(count):
        random_view(clip, config, size_px, rng)
    return drawn


def test_each_pair_of_sides_at_most_one_scale_apart_is_as_likely(monkeypatch):
    """As released: `random.choice` over the ten pairs, of sides rounded down."""
    drawn = sides_drawn(monkeypatch, 101, 140, 32)
    sides = [101, 88, 75, 66]  # of 101, 88.375, 75.75, 66.66
    assert set(drawn) == {(h, w) for h in sides for w in sides if abs(sides.index(h) - sides.index(w)) <= 1}
    assert all(abs(count - 300) < 5 * 300**0.5 for count in drawn.values()), drawn


def test_a_side_within_two_pixels_of_the_size_is_the_size(monkeypatch):
    assert {side for pair in sides_drawn(monkeypatch, 48, 64, 40, 200) for side in pair} == {48, 40, 36, 31}
    beyond = sides_drawn(monkeypatch, 39, 64, 40, 200)
    assert {side for pair in beyond for side in pair} == {39, 34, 29, 25}, "40 is not in the frame"


@given(seeds)
def test_erasing_is_one_box_through_all_frames(seed):
    clip = still()
    erased = erase(clip, np.random.default_rng(seed))
    changed = (erased != clip).any(dim=0)
    box = changed.any(dim=0)
    rows, columns = (torch.nonzero(box.any(dim=d)).flatten() for d in (1, 0))
    inside = torch.zeros_like(box)
    inside[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1] = True
    assert not changed[:, ~inside].any()
    assert changed[:, inside].float().mean() > 0.9
    assert not alike(erased), "the noise is fresh in each frame"


def test_rand_augment_fills_and_samples_as_released():
    """Released create_random_augment gives no mean, so timm fills with (128, 128, 128); its train_interpolation is bicubic."""
    operations = augment._rand_augment("rand-m7-n4-mstd0.5-inc1", 224).ops
    assert len(operations) == 15
    assert all(op.kwargs == {"fillcolor": (128, 128, 128), "resample": Image.Resampling.BICUBIC} for op in operations)
    assert {(op.prob, op.magnitude, op.magnitude_std) for op in operations} == {(0.5, 7, 0.5)}


def test_augmenting_leaves_the_global_generators_alone():
    random.seed(1)
    np.random.seed(1)
    torch.manual_seed(1)
    before = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()
    rand_augment(still(), "rand-m7-n4-mstd0.5-inc1", 32, np.random.default_rng(0))
    erase(still(), np.random.default_rng(0))

    def fails():
        with borrowed_generators(np.random.default_rng(0)):
            return random.random() / 0

    with pytest.raises(ZeroDivisionError):
        fails()
    assert before == (random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist())


@pytest.mark.parametrize(("height", "width"), [(32, 32), (40, 56), (56, 40), (32, 64)])
def test_three_crops_are_the_ends_and_the_middle_of_the_long_side(height, width):
    clip = still(height=height, width=width)
    three, one = views(clip, 32, 3), views(clip, 32, 1)
    assert [v.shape for v in three] == [(3, 6, 32, 32)] * 3
    assert torch.equal(three[1], one[0])
    if min(height, width) == 32 < max(height, width):
        assert torch.equal(three[0], clip[..., :32, :32])
        assert torch.equal(three[2], clip[..., -32:, -32:])


def constant_clips(batch, frames=5):
    values = torch.arange(1.0, batch + 1)
    return values[:, None, None, None, None].expand(batch, 3, frames, 16, 24).contiguous(), torch.arange(batch) % 4


@given(seeds)
def test_cutmix_cuts_height_and_width_of_every_frame_alike(seed):
    clips, labels = constant_clips(6)
    mixed, wanted = Mixer(MixConfig(cutmix=1.0), 4, 0.0, seed)(clips, labels, step=3)
    for i in range(6):
        frame = mixed[i, 0, 0]
        assert (mixed[i] == frame).all(), "all frames and channels alike"
        assert set(frame.unique().tolist()) <= {float(i + 1), float(6 - i)}, "own pixels and those of the mirrored clip"
        share = (frame == i + 1).float().mean() if i != 5 - i else 1.0
        assert float(wanted[i, labels[i]]) >= float(share) - 1e-5
        assert float(wanted[i].sum()) == pytest.approx(1, abs=1e-5)


def test_mixup_blends_with_the_mirrored_clip_and_its_label():
    clips, labels = constant_clips(4)
    mixed, wanted = Mixer(MixConfig(mixup=0.8), 4, 0.1, seed=0)(clips, labels, step=0)
    share = (mixed[0, 0, 0, 0, 0] - 4) / (1 - 4)
    assert 0 < share < 1
    torch.testing.assert_close(mixed, share * clips + (1 - share) * clips.flip(0))
    one_hot = torch.nn.functional.one_hot(labels, 4) * 0.9 + 0.1 / 4
    torch.testing.assert_close(wanted, share * one_hot + (1 - share) * one_hot.flip(0))


def test_mixing_is_a_function_of_seed_and_step_and_leaves_the_batch_alone():
    clips, labels = constant_clips(4)
    before = clips.clone()
    mixer = Mixer(MixConfig(mixup=0.8, cutmix=1.0), 4, 0.0, seed=0)
    first, again, later = (mixer(clips, labels, step)[0] for step in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, later)
    assert torch.equal(clips, before)


def test_without_mixing_the_wanted_probabilities_are_label_smoothing():
    clips, labels = constant_clips(4)
    same, wanted = Mixer(MixConfig(), 4, 0.1, seed=0)(clips, labels, step=0)
    assert same is clips
    logits = torch.randn(4, 4)
    cross_entropy = torch.nn.functional.cross_entropy
    torch.testing.assert_close(cross_entropy(logits, wanted), cross_entropy(logits, labels, label_smoothing=0.1))
