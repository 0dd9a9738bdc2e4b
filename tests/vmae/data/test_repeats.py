"""Several clips of a video per opening: an epoch stays as long, each video comes as often, one opening serves all its clips."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vmae.data.clips import TrainBatches
from vmae.errors import ConfigError
from vmae.grid import CubeGrid
from vmae.recipe import parse_setting
from vmae.sections import ClipConfig, MaskConfig

GRID = CubeGrid(num_frames=4, size_px=16, tubelet_frames=2, patch_px=8)


class Numbered:
    """Videos whose pixels say which video and which frame they are; counts openings."""

    def __init__(self, count, length=40, equal=False):
        self.count, self.length, self.opened = count, length, []
        self.equal_frames = length if equal else None
        self.bad = {}

    def __len__(self):
        return self.count

    def read(self, video, choose):
        self.opened.append(video)
        indices = choose(self.length)
        return np.stack([self.gather([video] * len(indices), indices)]).reshape(*indices.shape, 16, 16, 3)

    def gather(self, videos, indices):
        frames = np.zeros((*indices.shape, 16, 16, 3), np.uint8)
        frames[..., 0] = np.asarray(videos)[:, None, None, None]
        frames[..., 1] = indices[..., None, None]
        return frames


def batches(source, batch_size=8, repeats=1, **more):
    return TrainBatches(
        source=source,
        labels=None,
        clip=ClipConfig(frame_stride=2),
        grid=GRID,
        reading=(4, 2),
        mask=MaskConfig(kind="random", ratio=0.5),
        decoder_mask=None,
        seed=0,
        batch_size=batch_size // repeats,
        repeats=repeats,
        clips_per_video=1,
        **more,
    )


def seen(batch):
    """Video and first frame of each clip."""
    return [(int(clip[0, 0, 0, 0]), int(clip[1, 0, 0, 0])) for clip in batch.clips]


@settings(deadline=None, max_examples=25)
@given(st.integers(8, 40), st.sampled_from([1, 2, 4]))
def test_an_epoch_is_as_long_and_a_pass_shows_each_video_as_often(count, repeats):
    data = batches(Numbered(count), repeats=repeats)
    assert data.steps_per_epoch == count // 8 == batches(Numbered(count)).steps_per_epoch
    shown = Counter(video for step in range(data.steps_per_pass) for video, _ in seen(data[step]))
    assert set(shown.values()) == {repeats}
    assert len(shown) == data.steps_per_pass * 8 // repeats > count - 8 // repeats


def test_one_opening_serves_all_clips_of_a_video_and_they_differ():
    source = Numbered(16)
    batch = batches(source, repeats=4)[0]
    assert len(source.opened) == len(set(source.opened)) == 2
    assert len(set(seen(batch))) > 4, "starts are drawn for each clip"
    assert len({hidden.numpy().tobytes() for hidden in batch.hidden}) > 4, "and so are masks"


def test_passes_differ_from_each_other():
    data = batches(Numbered(16), repeats=2)
    first, second = ([seen(data[step]) for step in range(k * data.steps_per_pass, (k + 1) * data.steps_per_pass)] for k in (0, 1))
    assert first != second
    assert not np.array_equal(data[0].hidden, data[data.steps_per_pass].hidden)


@pytest.mark.parametrize("equal", [False, True])
def test_shared_frames_are_the_same_frames_under_other_masks(equal):
    batch = batches(Numbered(16, equal=equal), repeats=4, share_frames=True)[0]
    assert len(set(seen(batch))) == 2
    assert len({hidden.numpy().tobytes() for hidden in batch.hidden}) > 4


@pytest.mark.parametrize("share", [False, True])
def test_a_cache_gives_what_files_give(share):
    one, other = (batches(Numbered(16, equal=equal), repeats=2, share_frames=share) for equal in (False, True))
    for step in range(4):
        a, b = one[step], other[step]
        np.testing.assert_array_equal(a.clips, b.clips)
        np.testing.assert_array_equal(a.hidden, b.hidden)


def shown(batch):
    """What is seen of each clip, and under which mask."""
    return [(*place, hidden.numpy().tobytes()) for place, hidden in zip(seen(batch), batch.hidden, strict=True)]


@pytest.mark.parametrize("equal", [False, True])
@pytest.mark.parametrize("share", [False, True])
@pytest.mark.parametrize(
    ("num_ranks", "batch_size", "repeats"), [(2, 8, 2), (2, 8, 4), (4, 8, 2), (4, 8, 4), (2, 6, 2), (3, 6, 2)]
)
def test_ranks_divide_what_one_would_read(num_ranks, batch_size, repeats, share, equal):
    options = {"batch_size": batch_size, "repeats": repeats, "share_frames": share}
    one = batches(Numbered(16, equal=equal), **options)
    parts = [batches(Numbered(16, equal=equal), **options, rank=rank, num_ranks=num_ranks) for rank in range(num_ranks)]
    for step in (1, one.steps_per_pass + 1):
        whole = shown(one[step])
        assert sorted(whole) == sorted(clip for part in parts for clip in shown(part[step]))
        for part in parts:
            assert shown(part[step]) == [whole[place] for place in part.places(part.rank)]


@settings(deadline=None, max_examples=50)
@given(st.integers(1, 4), st.integers(1, 6), st.sampled_from([1, 2, 3, 4]))
def test_each_video_is_opened_on_one_rank_where_the_videos_of_a_step_divide(num_ranks, share, repeats):
    num_videos = 2 * num_ranks * share
    parts = [
        batches(Numbered(num_videos), num_videos * repeats, repeats, rank=rank, num_ranks=num_ranks) for rank in range(num_ranks)
    ]
    for part in parts:
        _ = part[0]
    assert sorted(video for part in parts for video in part.source.opened) == list(range(num_videos))
    for part in parts:
        places = part.places(part.rank)
        assert len(places) == num_videos * repeats // num_ranks
        pairs = zip(places, reversed(places), strict=True)
        assert {a + b for a, b in pairs} == {num_videos * repeats - 1}, "mixing pairs first and last of the whole step"


@pytest.mark.parametrize(
    ("settings_", "words"),
    [
        (("pretrain.repeats=3",), "are no multiple of repeats = 3"),
        (("pretrain.repeats_share_frames=true",), "would do nothing: repeats is 1"),
    ],
)
def test_what_does_not_fit_is_refused(recipe, settings_, words):
    with pytest.raises(ConfigError, match=words):
        recipe.replace(dict(parse_setting(text) for text in settings_)).runs()
