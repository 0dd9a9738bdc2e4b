"""Which frames make a clip: exact constant stride. A video too short for it repeats the last frame that the stride reaches.

The released loader keeps the stride for pre-training but stretches it for fine-tuning (np.linspace over 64 frames gives
0, 4, 8, 12, 17, ...); here the stride asked for is the stride used, everywhere.
"""

import numpy as np


def span(num_frames: int, stride: int) -> int:
    """Return the frames from the first to the last of a clip, both included."""
    return (num_frames - 1) * stride + 1


def dense_indices(num_video_frames: int, num_frames: int, stride: int, start: int) -> np.ndarray:
    """Return the frame indices of a clip, int [num_frames].

    >>> dense_indices(20, 16, 4, 0)[:7].tolist()
    [0, 4, 8, 12, 16, 16, 16]
    """
    assert 0 <= start < num_video_frames
    last = start + (num_video_frames - 1 - start) // stride * stride
    return np.minimum(start + np.arange(num_frames) * stride, last)


def num_starts(num_video_frames: int, num_frames: int, stride: int) -> int:
    """Return how many starts keep the whole clip inside the video; at least 1."""
    return max(1, num_video_frames - span(num_frames, stride) + 1)


def random_start(num_video_frames: int, num_frames: int, stride: int, rng: np.random.Generator) -> int:
    """Draw a start uniformly among those that keep the clip inside the video."""
    return int(rng.integers(num_starts(num_video_frames, num_frames, stride)))


def tsn_indices(num_video_frames: int, num_frames: int, rng: np.random.Generator) -> np.ndarray:
    """Draw one frame from each of `num_frames` equal segments (TSN); a shorter video gives a sorted draw with repeats."""
    length = num_video_frames // num_frames
    if length:
        return np.arange(num_frames) * length + rng.integers(length, size=num_frames)
    return np.sort(rng.integers(num_video_frames, size=num_frames))


def tsn_test_indices(num_video_frames: int, num_frames: int, num_clips: int) -> np.ndarray:
    """Return int [num_clips, num_frames]: the segments' ticks, each clip shifted by a further share of a tick.

    Two clips of 16 are the released SSv2 test.

    >>> tsn_test_indices(64, 4, 2).tolist()
    [[0, 16, 32, 48], [8, 24, 40, 56]]
    """
    tick = num_video_frames / num_frames
    shifts = np.arange(num_clips)[:, None] / num_clips
    return np.floor(tick * (np.arange(num_frames) + shifts)).astype(int)


def test_starts(num_video_frames: int, num_frames: int, stride: int, num_clips: int) -> np.ndarray:
    """Return the starts of `num_clips` test clips, evenly spaced from first to last possible; a single one is central."""
    last = num_starts(num_video_frames, num_frames, stride) - 1
    if num_clips == 1:
        return np.array([last // 2])
    return np.rint(np.linspace(0, last, num_clips)).astype(int)


test_starts.__test__ = False  # type: ignore[attr-defined]  # its name is no pytest test
