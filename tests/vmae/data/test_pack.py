"""Packed lists where things go wrong: damage is said or mended, a list taken from one is read, no other list is lost."""

import errno
import os
import subprocess
import sys
import tracemalloc

import numpy as np
import pytest
from helpers import ROOT, clean_environment
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from miniatures import scene, write_video

from vmae.data import packed as packed_module
from vmae.data.deadline import DeadlinePool
from vmae.data.decoders import READERS
from vmae.data.listing import subset_list
from vmae.data.manifest import About, VideoRow, read_manifest, write_about, write_manifest
from vmae.data.pack import Packing, _store, pack
from vmae.data.packed import PackedFrames, shard_file
from vmae.data.quarantine import Quarantined, quarantine_of, read_quarantine, write_quarantine
from vmae.data.transcode import Coding, transcode
from vmae.data.video import through_frames
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


@pytest.mark.parametrize("make", [pack, transcode])
def test_lists_taken_from_a_list_are_made_with_it(tmp_path, make):
    """Same videos, own order, labels, splits and quarantine; not lists of other videos, nor subsets, which their hash names."""
    for i in range(3):
        write_video(tmp_path / f"{i}.mp4", scene(5 + i, seed=i), "libx264", {})
    write_manifest(tmp_path / "set.csv", [VideoRow(f"{i}.mp4", i, "train", {"id": str(i)}) for i in range(3)])
    write_manifest(tmp_path / "set-pretrain.csv", [VideoRow(f"{i}.mp4", None, "pretrain") for i in (2, 0)])
    write_manifest(tmp_path / "set-more.csv", [VideoRow("other.mp4", None, "pretrain")])
    for name in ("pretrain", "more"):
        write_about(tmp_path / f"set-{name}.csv", About(parent="set.csv", made={"seed": 3}))
    subset_list(tmp_path / "set.csv", [2], 0, "train")
    write_quarantine(tmp_path / "set-pretrain.csv", [Quarantined("0.mp4", "ugly", "hand")])
    how = Packing(16, "raw") if make is pack else Coding(16)
    out = tmp_path / "out"
    for _ in range(2):
        whole = make(tmp_path / "set.csv", out, how, num_workers=1, progress=False)
        assert sorted(file.name for file in out.glob("set*.csv")) == [
            "set-pretrain.csv",
            "set-pretrain.quarantine.csv",
            "set.csv",
            "set.quarantine.csv",
        ]
        taken = read_manifest(out / "set-pretrain.csv")
        assert [row.path for row in taken.rows] == [whole.rows[i].path for i in (2, 0)]
        assert {(row.label, row.split) for row in taken.rows} == {(None, "pretrain")}
        assert taken.about.parent == "set.csv"
        assert {path: row.reason for path, row in quarantine_of(taken).items()} == {
            whole.rows[0].path: "in quarantine by hand: ugly"
        }
        assert not quarantine_of(whole)
    write_manifest(out / "set-pretrain.csv", taken.rows)
    write_about(out / "set-pretrain.csv", About())
    with pytest.raises(DataError, match=r"set-pretrain\.csv is a list that was not made here"):
        make(tmp_path / "set.csv", out, how, num_workers=1, progress=False)


def contents_of(made):
    source = PackedFrames(made, made.rows)
    return [None if video in source.bad else source.read(video, everything)[0] for video in range(len(source))]


def files_of(folder):
    return {file.name: (file.stat().st_mtime_ns, file.read_bytes()) for file in (folder / "shards").iterdir()}


@pytest.fixture
def changing(tmp_path):
    """Four videos in two shards; the second cannot be read yet."""
    for i in (0, 2, 3):
        write_video(tmp_path / f"{i}.mp4", scene(5 + i, seed=i), "libx264", {})
    (tmp_path / "1.mp4").write_bytes(b"not yet")
    write_manifest(tmp_path / "set.csv", [VideoRow(f"{i}.mp4", 0, "train") for i in range(4)])

    def again(backend="auto"):
        how = Packing(16, "raw", videos_per_shard=2)
        return pack(tmp_path / "set.csv", tmp_path / "out", how, num_workers=1, backend=backend, progress=False)

    return tmp_path, again


def test_what_could_not_be_read_is_tried_again_and_the_rest_is_kept(changing, monkeypatch):
    folder, again = changing
    first = again()
    assert [frames is None for frames in contents_of(first)] == [False, True, False, False]
    before = files_of(folder / "out")
    again()
    assert files_of(folder / "out") == before, "still unreadable: nothing is written"
    write_video(folder / "1.mp4", scene(9, seed=1), "libx264", {})
    opened = []
    real = DeadlinePool.run
    monkeypatch.setattr(DeadlinePool, "run", lambda self, f, items, *more: real(self, f, opened.extend(items) or opened, *more))
    mended = again()
    assert [path.name for path in opened] == ["1.mp4"]
    assert not read_quarantine(mended.file)
    assert [len(frames) for frames in contents_of(mended)] == [5, 9, 7, 8]
    after = files_of(folder / "out")
    assert after["shard-00001.bin"] == before["shard-00001.bin"]
    np.testing.assert_array_equal(contents_of(mended)[0], contents_of(first)[0])


def test_a_source_that_has_changed_is_packed_again_and_one_that_is_gone_is_kept(changing):
    folder, again = changing
    first = contents_of(again())
    write_video(folder / "2.mp4", scene(11, seed=8), "libx264", {})
    (folder / "3.mp4").unlink()
    second = contents_of(again())
    assert len(second[2]) == 11
    for video in (0, 3):
        np.testing.assert_array_equal(second[video], first[video])


@pytest.mark.parametrize("codec", [("a.mp4", "libx264"), ("a.avi", "mpeg4")])
def test_a_video_is_never_in_memory_as_a_whole(tmp_path, codec):
    name, encoder = codec
    path = write_video(tmp_path / name, scene(60, 128, 192), encoder, {})
    _store(Packing(16, "raw"), "auto", path)  # loads what it needs
    tracemalloc.start()
    try:
        stored = _store(Packing(16, "raw"), "auto", path)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert stored.frames == 60
    assert peak < 10 * 128 * 192 * 3, "a few frames of sixty"


def test_frames_of_unequal_sizes_are_refused(monkeypatch, tmp_path):
    class Growing(list):
        def close(self):
            pass

    (tmp_path / "a.mp4").write_bytes(b"x")
    monkeypatch.setitem(READERS, "pyav", lambda path: Growing(np.zeros((16, 16 + i, 3), np.uint8) for i in range(2)))
    with pytest.raises(DataError, match=r"a\.mp4: cannot be decoded: frames of \(16, 16\) and of \(16, 17\) px"):
        through_frames(tmp_path / "a.mp4", list, "pyav")


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
