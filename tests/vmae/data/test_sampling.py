"""Which frames make a clip: by Python's own ranges, and every choice that is left to chance is as likely as it should be."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from vmae.data.sampling import (
    dense_indices,
    num_starts,
    random_start,
    span,
    test_starts,
    tsn_indices,
    tsn_test_indices,
)


@given(st.integers(1, 300), st.integers(1, 32), st.integers(1, 8), st.integers(0, 2**31))
def test_clips_have_a_constant_stride_and_repeat_only_at_the_end(length, frames, stride, seed):
    start = random_start(length, frames, stride, np.random.default_rng(seed))
    indices = dense_indices(length, frames, stride, start)
    assert len(indices) == frames
    assert 0 <= indices.min() <= indices.max() < length
    steps = np.diff(indices)
    assert set(steps) <= {stride, 0}
    assert (np.sort(steps)[::-1] == steps).all(), "once it stands still it stays"
    if length >= span(frames, stride):
        assert (steps == stride).all(), "a video that is long enough is never repeated"


@given(st.integers(1, 120), st.integers(1, 32), st.integers(1, 8), st.data())
def test_a_clip_is_every_frame_that_its_stride_reaches(length, frames, stride, data):
    """From any start, also one that leaves too few frames, as a start chosen elsewhere may; by Python's own ranges."""
    start = data.draw(st.integers(0, length - 1))
    reached = list(range(start, length, stride))
    assert dense_indices(length, frames, stride, start).tolist() == (reached + reached[-1:] * frames)[:frames]
    assert span(frames, stride) == len(range((frames - 1) * stride + 1))
    fits = [first for first in range(length) if first + (frames - 1) * stride < length]
    assert num_starts(length, frames, stride) == max(1, len(fits))
    assert random_start(length, frames, stride, np.random.default_rng(start)) in (fits or [0])


def test_every_start_and_every_frame_of_a_segment_is_drawn_as_often():
    """20 frames hold a clip of 8 every second one at 6 starts; segments of 5 draw on their own (chi square, p above 1e-6)."""
    rng = np.random.default_rng(0)
    starts = np.bincount([random_start(20, 8, 2, rng) for _ in range(3000)], minlength=6)
    assert stats.chisquare(starts).pvalue > 1e-6
    pairs = np.array([tsn_indices(11, 2, rng) - (0, 5) for _ in range(3000)])
    assert stats.chisquare(np.bincount(pairs @ (5, 1), minlength=25)).pvalue > 1e-6
    assert stats.chisquare(np.bincount(np.concatenate([tsn_indices(3, 4, rng) for _ in range(1000)]))).pvalue > 1e-6


def test_the_released_short_video_example():
    assert dense_indices(20, 16, 4, 0).tolist() == [0, 4, 8, 12, *[16] * 12]


@given(st.integers(1, 300), st.integers(1, 32), st.integers(1, 8), st.integers(1, 10))
def test_test_clips_span_the_video_evenly(length, frames, stride, clips):
    starts = test_starts(length, frames, stride, clips)
    last = num_starts(length, frames, stride) - 1
    assert len(starts) == clips
    assert (starts >= 0).all()
    assert (starts <= last).all()
    if clips == 1:
        assert starts[0] == last // 2
    else:
        assert (starts[0], starts[-1]) == (0, last)
        assert np.ptp(np.diff(starts)) <= 1


@given(st.integers(1, 300), st.integers(1, 32), st.integers(0, 2**31))
def test_tsn_draws_one_frame_of_each_segment(length, frames, seed):
    indices = tsn_indices(length, frames, np.random.default_rng(seed))
    assert len(indices) == frames
    assert 0 <= indices.min() <= indices.max() < length
    assert (np.diff(indices) >= 0).all()
    if length >= frames:
        assert (indices // (length // frames) == np.arange(frames)).all()


@given(st.integers(1, 300), st.integers(1, 32), st.integers(1, 6))
def test_tsn_test_clips_interleave(length, frames, clips):
    indices = tsn_test_indices(length, frames, clips)
    assert indices.shape == (clips, frames)
    assert 0 <= indices.min() <= indices.max() < length
    assert (np.diff(indices.T.reshape(-1)) >= 0).all(), "sorted, clip k is every clips-th: the released SSv2 test"
