"""Reading: exactly the frames asked for, from either backend or the cache; bad files and lists say what is wrong."""

import multiprocessing
import pickle
import threading
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vmae.data.alone import alone
from vmae.data.cache import build_cache, cache_key
from vmae.data.frames import open_frames
from vmae.data.make import encode
from vmae.data.manifest import VideoRow, check_files, list_sha256, read_manifest, write_manifest
from vmae.data.sampling import (
    dense_indices,
    tsn_indices,
    tsn_test_indices,
)
from vmae.data.video import num_frames, read_frames, read_video, resolve_backend
from vmae.errors import DataError

BACKENDS = ("decord", "pyav")


def numbered(count=20, size=32):
    """Frames that carry their own number as brightness, so that a wrong frame is seen."""
    frames = np.zeros((count, size, size, 3), np.uint8)
    frames += (np.arange(count) * 10 + 20).astype(np.uint8)[:, None, None, None]
    return frames


@pytest.fixture
def video(tmp_path):
    path = tmp_path / "a folder, with: spaces" / "vidéo 影片.mp4"
    encode(path, numbered(), key_frame_every=8)
    return path


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("indices", [[0], [19], [3, 3, 1], list(range(0, 20, 3)), list(range(19, -1, -1))])
def test_the_frames_asked_for(video, backend, indices):
    frames = read_frames(video, indices, backend)
    assert frames.dtype == np.uint8
    assert (np.rint((frames.mean(axis=(1, 2, 3)) - 20) / 10) == indices).all()


def test_backends_agree(data_root):
    from vmae.data.embedded import embedded_dir

    path = embedded_dir(data_root, "tiny", 0) / "videos" / "test" / "00000.mp4"
    a, b = (read_video(path, backend).astype(int) for backend in BACKENDS)
    assert a.shape == b.shape
    assert np.abs(a - b).max() <= 6
    assert np.abs(a - b).mean() < 1


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(
    ("damage", "words"),
    [
        ("missing", "no such file"),
        ("empty", "the file is empty"),
        ("text", "cannot be decoded"),
        ("truncated", "cannot be decoded|frames can be decoded"),
    ],
)
def test_bad_files_are_one_kind_of_error_with_the_path(video, backend, damage, words):
    content = video.read_bytes()
    video.unlink()
    if damage != "missing":
        video.write_bytes({"empty": b"", "text": b"hello world\n" * 100, "truncated": content[: len(content) // 2]}[damage])
    for read in (
        lambda: read_video(video, backend),
        lambda: read_frames(video, [0], backend),
        lambda: num_frames(video, backend),
    ):
        with pytest.raises(DataError, match=words) as caught:
            read()
        assert "vidéo 影片.mp4" in str(caught.value)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("index", [20, -1])
def test_an_index_outside_the_video_is_refused_not_repeated(video, backend, index):
    with pytest.raises(DataError, match="it has 0 to 19"):
        read_frames(video, [0, index], backend)


def test_an_unknown_backend_names_the_near_one(video):
    with pytest.raises(DataError, match=r"'decor'. Did you mean 'decord'. Allowed: auto, pyav, decord"):
        read_frames(video, [0], "decor")


def manifest_text(tmp_path, text, encoding="utf-8"):
    file = tmp_path / "list.csv"
    file.write_bytes(text.encode(encoding))
    return file


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", ":1: no column path, label, split"),
        ("path,label\na.mp4,1\n", ":1: no column split"),
        ("path,label,split\n", "lists no video"),
        ("path,label,split\na.mp4,1,train\nb.mp4,,train\n", ":3: 'b.mp4' has no label, and split 'train' needs one"),
        ("path,label,split\na.mp4,one,train\n", ":2: label 'one'"),
        ("path,label,split\na.mp4,8,train\n", ":2: label 8 of 'a.mp4'; allowed: 0 to 7"),
        ("path,label,split\na.mp4,-1,test\n", ":2: label -1"),
        ("path,label,split\na.mp4,1,train\na.mp4,1,test\n", ":3: 'a.mp4' is listed already on line 2"),
        ("path,label,split,label\na.mp4,1,train,2\n", ":1: 1 columns stand twice in the header, the first: label"),
        (f"path,label,split\na.mp4,{'1' * 5000},train\n", ":2: label '111"),
        ("path,label,split\n,1,train\n", ":2: path is empty"),
        ("path,label,split\na.mp4,1,\n", ":2: split is empty"),
    ],
)
def test_manifest_errors_name_file_and_line(tmp_path, text, words):
    with pytest.raises(DataError) as caught:
        read_manifest(manifest_text(tmp_path, text), num_classes=8, labelled_splits=("train",))
    assert words in str(caught.value)
    assert "list.csv" in str(caught.value)


def test_bom_crlf_spaces_commas_and_unicode_are_read(tmp_path):
    text = '\ufeffpath,label,split\r\n"a b, c/vidéo 影.mp4",3,train\r\nplain.mp4,,pretrain\r\n'
    rows = read_manifest(manifest_text(tmp_path, text), num_classes=8, labelled_splits=("train",)).rows
    assert rows == (VideoRow("a b, c/vidéo 影.mp4", 3, "train"), VideoRow("plain.mp4", None, "pretrain"))


paths = st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\r\n\x00"), min_size=1), unique=True, min_size=1)


@given(paths)
def test_manifests_round_trip_and_their_hash_is_the_lists(tmp_path_factory, names):
    rows = [VideoRow(name, None if i % 3 == 0 else i, "train" if i % 2 else "test") for i, name in enumerate(names)]
    file = tmp_path_factory.mktemp("m") / "list.csv"
    write_manifest(file, rows)
    read = read_manifest(file)
    assert list(read.rows) == rows
    assert read.list_sha256 == list_sha256(rows)
    assert list_sha256(rows[::-1]) != list_sha256(rows) or len(rows) == 1


@pytest.fixture
def listed(tmp_path):
    rows = [VideoRow(f"{i}.mp4", i, "train") for i in range(5)]
    for i, row in enumerate(rows):
        frames = numbered()
        frames[:, :4] = 50 * i
        encode(tmp_path / row.path, frames)
    write_manifest(tmp_path / "list.csv", rows)
    return read_manifest(tmp_path / "list.csv")


def test_an_unknown_split_lists_the_splits(listed):
    with pytest.raises(DataError, match=r"no split 'tran'. Did you mean 'train'"):
        listed.select("tran")


def test_missing_and_empty_files_are_counted(listed, tmp_path):
    (tmp_path / "1.mp4").unlink()
    (tmp_path / "3.mp4").write_bytes(b"")
    with pytest.raises(DataError, match=r"2 of 5 videos .*1\.mp4 is missing"):
        check_files(listed, listed.rows)


def test_the_cache_is_direct_decoding(listed, tmp_path):
    cached, direct = (open_frames(listed, "train", cache_dir=d, num_workers=1) for d in (tmp_path / "cache", None))
    assert (cached.equal_frames, direct.equal_frames) == (20, None)
    starts = (0, 3, 10)
    wanted = np.stack([dense_indices(20, 8, 2, start) for start in starts])
    at_once = cached.gather([4, 4, 4], wanted)
    for source in (cached, direct):
        lengths = []
        clips = source.read(4, lambda length, lengths=lengths: lengths.append(length) or wanted)
        np.testing.assert_array_equal(clips, at_once)
        assert set(lengths) == {20}


def test_a_copy_in_another_process_opens_the_cache_and_is_not_sent_it(listed, tmp_path):
    source = open_frames(listed, "train", cache_dir=tmp_path / "cache", num_workers=1)
    sent = pickle.dumps(source)
    wanted = [0, 3, 4], np.tile(np.arange(20), (3, 1))
    assert len(sent) < source.gather(*wanted).nbytes / 10
    np.testing.assert_array_equal(pickle.loads(sent).gather(*wanted), source.gather(*wanted))


def test_an_edited_video_is_decoded_again(listed, tmp_path):
    before = open_frames(listed, "train", cache_dir=tmp_path / "cache", num_workers=1).gather([2], np.arange(4)[None])
    encode(tmp_path / "2.mp4", np.full((20, 32, 32, 3), 200, np.uint8))
    after = open_frames(listed, "train", cache_dir=tmp_path / "cache", num_workers=1).gather([2], np.arange(4)[None])
    assert np.abs(after.astype(int) - 200).max() < 5
    assert not np.array_equal(before, after)


def test_a_bad_video_is_recorded_and_refused_by_name(listed, tmp_path):
    (tmp_path / "3.mp4").write_bytes(b"no video")
    source = open_frames(listed, "train", cache_dir=tmp_path / "cache", num_workers=1)
    assert list(source.bad) == [3]
    assert source.gather([2, 4], np.tile(np.arange(4), (2, 1))).shape == (2, 4, 32, 32, 3)
    with pytest.raises(DataError, match=r"3\.mp4"):
        source.read(3, lambda _: np.arange(4)[None])


def test_videos_of_different_shape_cannot_share_a_cache(listed, tmp_path):
    (tmp_path / "4.mp4").unlink()
    encode(tmp_path / "4.mp4", numbered(size=64))
    with pytest.raises(DataError, match=r"4\.mp4 is \[20, 64, 64, 3\].*runtime\.cache = false"):
        open_frames(listed, "train", cache_dir=tmp_path / "cache", num_workers=1)
    assert not list((tmp_path / "cache").glob("*.npy"))


def test_no_readable_video_at_all_is_said(listed, tmp_path):
    for row in listed.rows:
        (tmp_path / row.path).write_bytes(b"x")
    with pytest.raises(DataError, match="not one of 5 videos can be read"):
        open_frames(listed, "train", cache_dir=tmp_path / "cache", num_workers=1)


def _build(folder, paths):
    build_cache(folder, cache_key(paths, "pyav"), paths, "pyav", num_workers=1, progress=False)


def test_two_builders_at_once_make_one_cache(listed, tmp_path):
    paths = [listed.absolute(row) for row in listed.rows]
    context = multiprocessing.get_context("spawn")
    builders = [context.Process(target=_build, args=(tmp_path / "cache", paths)) for _ in range(2)]
    for builder in builders:
        builder.start()
    for builder in builders:
        builder.join(60)
    assert [builder.exitcode for builder in builders] == [0, 0]
    assert len(list((tmp_path / "cache").glob("*.npy"))) == 1
    assert not list((tmp_path / "cache").glob("*.building"))


def _hold(path, began, seconds):
    with alone(path):
        began.set()
        time.sleep(seconds)


def test_a_dead_builders_lock_holds_nobody_up(listed, tmp_path):
    paths = [listed.absolute(row) for row in listed.rows]
    (tmp_path / "cache").mkdir()
    lock = tmp_path / "cache" / f"{cache_key(paths, 'pyav')}.building"
    context = multiprocessing.get_context("spawn")
    began = context.Event()
    holder = context.Process(target=_hold, args=(lock, began, 600))
    holder.start()
    assert began.wait(60)
    holder.kill()
    holder.join(60)
    assert lock.exists()
    _build(tmp_path / "cache", paths)
    assert not lock.exists()


def test_the_lock_is_held_by_one_at_a_time_whoever_died_before(tmp_path):
    """Eight threads, more than once each, beside a file that a dead holder left."""
    lock, inside, most = tmp_path / "lock", [], []
    lock.touch()

    def hold():
        for _ in range(20):
            with alone(lock):
                inside.append(1)
                most.append(len(inside))
                time.sleep(0.001)
                inside.pop()

    threads = [threading.Thread(target=hold) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert most == [1] * 160
    assert not lock.exists()


@pytest.mark.parametrize(("length", "trained", "tested"), [(31, 15, 30), (33, 31, 31), (47, 31, 45)])
def test_segments_leave_out_the_last_frames_in_training_but_not_in_the_test(length, trained, tested):
    """As released; docs/paper-versus-code.md says so."""
    assert max(tsn_indices(length, 16, np.random.default_rng(i)).max() for i in range(200)) == trained
    assert tsn_test_indices(length, 16, 2).max() == tested


def test_auto_is_pyav_and_decord_for_what_it_cannot_read():
    assert resolve_backend("auto") == "pyav,decord"


def test_a_cache_of_another_decoder_is_not_read(video):
    assert cache_key([video], "pyav,decord") != cache_key([video], "decord,pyav") != cache_key([video], "pyav")
