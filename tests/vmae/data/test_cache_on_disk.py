"""What a disk does to the decoded cache: it is full, a builder was killed on it, files on it are cut."""

import errno
import os

import numpy as np
import pytest

from vmae.data.cache import build_cache
from vmae.data.make import encode
from vmae.data.video import read_video
from vmae.errors import DataError


@pytest.fixture
def paths(tmp_path):
    made = [tmp_path / f"{i}.mp4" for i in range(2)]
    for i, path in enumerate(made):
        encode(path, np.full((4, 16, 16, 3), 90 * i, np.uint8))
    return made


def build(folder, paths):
    return build_cache(folder, "key", paths, "pyav", num_workers=1, progress=False)


def test_a_full_disk_is_said_before_a_video_is_decoded(paths, tmp_path, monkeypatch):
    """A map of a file that is not all there ends the process that writes to it, without a word."""

    def refuse(descriptor, offset, size):
        assert size >= 2 * 4 * 16 * 16 * 3
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("os.posix_fallocate", refuse)
    with pytest.raises(DataError, match=r"cannot write the decoded cache in .*: No space left on device"):
        build(tmp_path / "cache", paths)
    assert not list((tmp_path / "cache").iterdir())


def test_what_a_killed_builder_left_is_cleared_away(paths, tmp_path):
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "key.4711.tmp").write_bytes(bytes(9999))
    (tmp_path / "cache" / "other.4711.tmp").write_bytes(b"at work")
    build(tmp_path / "cache", paths)
    assert sorted(path.name for path in (tmp_path / "cache").iterdir()) == ["key.json", "key.npy", "other.4711.tmp"]


@pytest.mark.parametrize("damage", ["cut", "gone", "no info"])
def test_a_cache_that_was_cut_is_made_again(paths, tmp_path, damage):
    build(tmp_path / "cache", paths)
    array, info = tmp_path / "cache" / "key.npy", tmp_path / "cache" / "key.json"
    if damage == "cut":
        array.write_bytes(array.read_bytes()[:1000])
    elif damage == "gone":
        array.unlink()
    else:
        info.write_text('{"bad": ')
    frames = build(tmp_path / "cache", paths).frames
    for i, path in enumerate(paths):
        np.testing.assert_array_equal(frames[i], read_video(path, "pyav"))
