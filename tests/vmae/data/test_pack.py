"""Packed lists where things go wrong: damage is said or mended, a list taken from one is read, no other list is lost."""

import errno
import os
import subprocess
import sys

import numpy as np
import pytest
from helpers import ROOT, clean_environment
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from miniatures import scene, write_video

from vmae.data import packed as packed_module
from vmae.data.listing import subset_list
from vmae.data.manifest import VideoRow, read_manifest, write_manifest
from vmae.data.pack import Packing, pack
from vmae.data.packed import PackedFrames, shard_file
from vmae.data.transcode import Coding, transcode
from vmae.errors import DataError


def everything(length):
    return np.arange(length)[None]


@pytest.fixture(scope="module")
def listed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("packing")
    rows = [VideoRow(f"{i}.mp4", i % 2, "train") for i in range(4)]
    for i, row in enumerate(rows):
        write_video(folder / row.path, scene(5 + i, seed=i), "libx264", {})
    write_manifest(folder / "set.csv", rows)
    return folder / "set.csv"


@pytest.fixture(scope="module", params=["raw", "jpeg"])
def packed(request, listed, tmp_path_factory):
    out = tmp_path_factory.mktemp(request.param)
    return pack(listed, out, Packing(16, request.param, videos_per_shard=2), num_workers=1, progress=False)


def test_a_list_taken_from_a_packed_one_reads_the_same_frames(packed):
    (taken,) = subset_list(packed.file, [2], 0, "train")
    whole, part = PackedFrames(packed, packed.rows), PackedFrames(taken, taken.rows)
    where = [row.path for row in packed.rows]
    for video, row in enumerate(taken.rows):
        np.testing.assert_array_equal(part.read(video, everything), whole.read(where.index(row.path), everything))


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(ending=st.sampled_from([".bin", ".json"]), data=st.data())
def test_no_flipped_bit_gives_other_pixels(packed, ending, data):
    before = [PackedFrames(packed, packed.rows).read(video, everything) for video in range(2)]
    file = shard_file(packed.file.parent / "shards", 0).with_suffix(ending)
    content = file.read_bytes()
    # half of the positions among the first bytes, where lengths and check sums are
    position = data.draw(st.one_of(st.integers(0, 60), st.integers(0, len(content) - 1)))
    flipped = bytearray(content)
    flipped[position] ^= 1 << data.draw(st.integers(0, 7))
    file.write_bytes(flipped)
    try:
        num_refused = 0
        for video in range(2):
            try:
                read = PackedFrames(packed, packed.rows).read(video, everything)
            except DataError:
                num_refused += 1
            else:
                np.testing.assert_array_equal(read, before[video])
        assert num_refused, "every bit counts"
    finally:
        file.write_bytes(content)


@pytest.mark.parametrize("damage", ["cut", "no data", "damaged index", "no index"])
def test_packing_again_mends_a_shard_and_leaves_the_others(listed, tmp_path, damage):
    how = Packing(16, "raw", videos_per_shard=2)
    pack(listed, tmp_path, how, num_workers=1, progress=False)
    index = shard_file(tmp_path / "shards", 1)
    data = index.with_suffix(".bin")
    whole = {file: file.read_bytes() for file in (tmp_path / "shards").iterdir()}
    untouched = shard_file(tmp_path / "shards", 0).with_suffix(".bin").stat().st_mtime_ns
    if damage == "cut":
        data.write_bytes(data.read_bytes()[:-1])
    elif damage == "damaged index":
        index.write_bytes(index.read_bytes().replace(b'"frames": 7', b'"frames": 6'))
    else:
        (data if damage == "no data" else index).unlink()
    pack(listed, tmp_path, how, num_workers=1, progress=False)
    assert {file: file.read_bytes() for file in (tmp_path / "shards").iterdir()} == whole
    assert shard_file(tmp_path / "shards", 0).with_suffix(".bin").stat().st_mtime_ns == untouched


def test_a_file_system_that_fails_names_the_video(packed, monkeypatch):
    source = PackedFrames(packed, packed.rows)

    def fail(*_):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(packed_module.os, "pread", fail)
    with pytest.raises(DataError, match=r"shard-00000\.bin: .*1\.mp4: .*Input/output error"):
        source.read(1, everything)


@pytest.mark.parametrize("make", [pack, transcode])
def test_a_list_that_was_not_made_there_is_never_lost(listed, tmp_path, make):
    how = Packing(16) if make is pack else Coding(16)
    other = tmp_path / listed.name
    other.write_text(before := listed.read_text())
    for folder in (listed.parent, tmp_path):
        with pytest.raises(DataError, match=r"set\.csv is a list that was not made here"):
            make(listed, folder, how, progress=False)
        assert sorted(file.suffix for file in folder.iterdir() if file.suffix in (".json", "")) == [], "nothing is begun"
    assert other.read_text() == listed.read_text() == before


def test_files_stay_open_in_bounded_number(packed, monkeypatch):
    monkeypatch.setattr(packed_module, "MAX_OPEN", 1)
    source = PackedFrames(packed, packed.rows)
    source.read(0, everything)
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
    for _ in range(5):
        for video in (0, 3):
            source.read(video, everything)
    assert len(os.listdir("/proc/self/fd")) == before  # noqa: PTH208


def test_no_video_in_a_shard_is_refused():
    with pytest.raises(DataError, match="0 videos per shard; allowed: 1 or more"):
        Packing(videos_per_shard=0)


def test_packing_and_reading_load_no_torch(packed):
    probe = f"""
import sys
from pathlib import Path
import numpy as np
import vmae.data.pack, vmae.data.transcode
from vmae.data.manifest import read_manifest
from vmae.data.packed import PackedFrames
from vmae.data.pack import _store, Packing
made = read_manifest(Path({str(packed.file)!r}))
PackedFrames(made, made.rows).read(0, lambda length: np.arange(length)[None])
print("torch" in sys.modules)
"""
    environment = clean_environment(PYTHONPATH=str(ROOT))
    done = subprocess.run([sys.executable, "-c", probe], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
    assert read_manifest(packed.file).about.packed == "shards"
