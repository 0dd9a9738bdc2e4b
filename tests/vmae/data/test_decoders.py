"""Every decoder, at any frames in any order, gives what decoding from the first frame to the last gives."""

import itertools
import os
import struct
import sys

import av
import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from miniatures import command, scene, write_video

from vmae.data.decoders import READERS, PyavReader
from vmae.data.manifest import VideoRow, write_manifest
from vmae.data.scan import examine
from vmae.data.video import (
    OwnDecoder,
    available_backends,
    num_frames,
    read_clips,
    read_frames,
    read_video,
    resolve_backend,
    through_frames,
)
from vmae.errors import DataError

BACKENDS = available_backends()
KINDS = {  # ending, codec, options: closed and open groups of pictures, B-frames, hidden frames, packets without times
    "h264": ("mp4", "libx264", {"g": "12", "bf": "3", "x264-params": "b-pyramid=normal"}),
    "h264 open": ("mkv", "libx264", {"g": "9", "bf": "2", "x264-params": "open-gop=1"}),
    "h264 long": ("mp4", "libx264", {"g": "250"}),
    "intra": ("mp4", "libx264", {"g": "1", "bf": "0"}),
    "vp9": ("webm", "libvpx-vp9", {"g": "10", "deadline": "realtime", "cpu-used": "8"}),
    "vp8": ("webm", "libvpx", {"g": "10", "auto-alt-ref": "1", "lag-in-frames": "8", "deadline": "good"}),
    "xvid": ("avi", "mpeg4", {"g": "12", "bf": "2"}),
    "xvid without B": ("avi", "mpeg4", {"g": "12", "bf": "0"}),
    "mpeg4": ("mp4", "mpeg4", {"g": "12", "bf": "2"}),
    "h264 avi": ("avi", "libx264", {"g": "12", "bf": "2"}),
    "h264 ts": ("ts", "libx264", {"g": "12", "bf": "2"}),
    "ffv1 avi": ("avi", "ffv1", {"g": "1"}),
    "hevc": ("mp4", "libx265", {"g": "12", "x265-params": "log-level=none"}),
    "mpeg2": ("mpg", "mpeg2video", {"g": "12", "bf": "2"}),
}


def in_order(path):
    """All frames as PyAV gives them from first to last: the independent implementation."""
    with av.open(str(path)) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("kinds")
    made = {}
    for kind, (ending, codec, options) in KINDS.items():
        path = write_video(folder / f"{kind}.{ending}", scene(), codec, options)
        made[kind] = path, in_order(path)
    return made


@pytest.mark.parametrize("backend", ["pyav", "auto"])
@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(data=st.data())
def test_pyav_at_any_frames_is_decoding_in_order(files, kind, backend, data):
    path, frames = files[kind]
    wanted = data.draw(st.lists(st.lists(st.integers(0, len(frames) - 1), min_size=4, max_size=4), min_size=1, max_size=3))
    clips = read_clips(path, lambda length: np.array(wanted), backend)
    np.testing.assert_array_equal(clips, frames[np.array(wanted)])


@pytest.mark.parametrize("backend", ["pyav", "auto"])
@pytest.mark.parametrize("kind", KINDS)
def test_every_number_of_frames_is_that_of_decoding_in_order(files, kind, backend):
    path, frames = files[kind]
    assert num_frames(path, backend) == len(frames)


@pytest.mark.parametrize("kind", KINDS)
def test_frame_after_frame_is_decoding_in_order(files, kind):
    path, frames = files[kind]
    np.testing.assert_array_equal(through_frames(path, lambda found: np.stack(list(found))), frames)


@pytest.mark.skipif("decord" not in BACKENDS, reason="no wheel here")
@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "h264 open"])  # wrong, and no header tells
def test_decord_by_name_gives_the_frame_or_refuses_the_kind_of_file(files, kind):
    path, frames = files[kind]
    if kind in ("h264", "h264 long", "intra", "vp9", "vp8"):
        for number in (0, 7, 13, 29, 39):
            read = read_frames(path, [number], "decord")[0].astype(int)
            assert np.abs(read - frames).mean(axis=(1, 2, 3)).argmin() == number
        return
    with pytest.raises(DataError, match=r"of which decord can give wrong frames; .*take decode_backend = 'pyav'"):
        num_frames(path, "decord")


@pytest.mark.parametrize("backend", [name for name in BACKENDS if name != "pyav"])
@pytest.mark.parametrize("kind", ["h264", "h264 long", "intra", "vp9"])
def test_the_others_at_any_frame_are_themselves_in_order_and_close_to_pyav(files, backend, kind):
    path, frames = files[kind]
    own = read_video(path, backend)
    assert own.shape == frames.shape
    assert np.abs(own.astype(int) - frames).mean() < 2, "conversions to RGB differ, frames do not"
    nearest = np.abs(own[:, None].astype(int) - frames[None]).mean(axis=(2, 3, 4)).argmin(axis=1)
    assert nearest.tolist() == list(range(len(frames))), "frame i is frame i"
    for numbers in ([0], [39], [13, 5, 29, 5], list(range(3, 40, 4))):
        np.testing.assert_array_equal(read_frames(path, numbers, backend), own[numbers])


@pytest.mark.skipif("decord" not in BACKENDS, reason="no wheel here")
def test_the_bench_says_which_decoder_reads_none_of_a_list_and_measures_the_others(files):
    path, _ = files["xvid"]
    write_manifest(path.with_name("list.csv"), [VideoRow(path.name, 0, "train")])
    text = command("bench", path.with_name("list.csv"), "--frames", 4, "--stride", 2, "--size-px", 32, "--seconds", 0.1)
    assert "decord 0" in text.split("needed:")[0]
    assert "not one of 1 videos can be read" in text.split("needed:")[0]
    assert "fastest: pyav" in text


def test_what_is_not_needed_is_not_decoded(files):
    path, frames = files["h264"]
    reader, decoded = PyavReader(path), []
    inner = reader._codec

    class Counting:
        def __getattr__(self, name):
            return getattr(inner, name)

        def __setattr__(self, name, value):
            setattr(inner, name, value)

        def decode(self, packet):
            found = inner.decode(packet)
            decoded.extend(found)
            return found

    reader._codec = Counting()
    read = reader.read([30], lambda shape: np.empty(shape, np.uint8))
    np.testing.assert_array_equal(read[0], frames[30])
    assert len(decoded) < 8, "from the key frame at 24, without the pictures that no other needs"


@pytest.mark.parametrize("limit", [0, 20_000])
def test_large_files_are_read_without_keeping_them(files, monkeypatch, limit):
    monkeypatch.setattr("vmae.data.decoders.MAX_KEPT_BYTES", limit)
    for kind, (path, frames) in files.items():
        reader = PyavReader(path)
        for numbers in ([3, 20, 33], [39]):
            np.testing.assert_array_equal(reader.read(numbers, lambda shape: np.empty(shape, np.uint8)), frames[numbers], kind)


def test_one_opening_serves_length_and_clips(files, monkeypatch):
    path, frames = files["h264"]
    opened = []
    real = dict(READERS)
    monkeypatch.setitem(READERS, "pyav", lambda p: opened.append(p) or real["pyav"](p))
    decoder = OwnDecoder()
    clips = read_clips(path, lambda length: np.array([[0, length - 1], [7, 7]]), "pyav", decoder)
    np.testing.assert_array_equal(clips, frames[np.array([[0, 39], [7, 7]])])
    assert len(opened) == 1


def test_an_edited_file_is_opened_again(tmp_path):
    decoder = OwnDecoder()
    path = write_video(tmp_path / "a.mp4", scene(20), "libx264", {})
    assert decoder.length(path, "pyav") == 20
    write_video(path, scene(30), "libx264", {})
    assert decoder.length(path, "pyav") == 30


def test_a_file_that_decord_cannot_read_is_read_by_pyav(tmp_path):
    path = write_video(tmp_path / "av1.mkv", scene(12), "libsvtav1", {"preset": "12", "g": "5"})
    if os.geteuid() == 0 and sys.platform == "linux":  # for root the encoder puts who calls it before all other processes
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
    with pytest.raises(DataError, match=r"av1\.mkv"):
        read_video(path, "decord")
    np.testing.assert_array_equal(read_video(path, resolve_backend("auto")), in_order(path))


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("ending", ["mp4", "mkv"])
def test_a_title_that_is_not_utf_8_is_no_failure(tmp_path, ending, backend):
    path = write_video(tmp_path / f"a.{ending}", scene(12), "libx264", {}, title="Judo - le#on 1")
    frames = read_video(path, "pyav")
    path.write_bytes(path.read_bytes().replace(b"le#on", "le\u00e7on".encode("latin-1")))
    if "pyav" in backend or ending == "mp4":  # decord is not used for mkv
        np.testing.assert_array_equal(read_video(path, backend), frames)
    assert examine(str(path), "pyav")["frames"] == 12


def test_a_file_is_opened_as_pyav_19_wants_it(tmp_path, monkeypatch):
    path, real = write_video(tmp_path / "a.mp4", scene(3), "libx264", {}), av.open
    monkeypatch.setattr(av, "__version__", "19.0.2")
    monkeypatch.setattr(av, "open", lambda file: real(file))
    assert len(read_video(path, "pyav")) == examine(str(path), "pyav")["frames"] == 3


def test_the_first_decoders_reason_is_given_if_none_can_read(tmp_path):
    path = tmp_path / "a.mp4"
    path.write_bytes(b"no video")
    with pytest.raises(DataError, match="cannot be decoded"):
        read_video(path, "auto")


def damaged(path, how, tmp_path):
    content = bytearray(path.read_bytes())
    if how == "cut":
        content = content[: len(content) * 2 // 3]
    elif how == "hole":
        start = len(content) // 2
        content[start : start + 2000] = bytes(2000)
    out = tmp_path / f"{how}{path.suffix}"
    out.write_bytes(content)
    return out


@pytest.mark.parametrize("kind", ["h264 long", "h264 open", "xvid"])
def test_a_damaged_file_never_gives_other_frames_than_whole_ones(files, kind, tmp_path):
    path, frames = files[kind]
    bad = damaged(path, "cut", tmp_path)
    try:
        length = num_frames(bad, "pyav")
    except DataError:
        return
    for number in range(length):
        try:
            read = read_frames(bad, [number], "pyav")[0]
        except DataError:
            continue
        if number < length - 8:  # the last ones may be patched up by the decoder
            np.testing.assert_array_equal(read, frames[number])


@pytest.mark.parametrize("turns", [1, 2, 3])
def test_rotated_videos_are_turned_by_every_decoder(tmp_path, turns):
    """Phones store frames lying and say in the file's matrix how to turn them; decord and torchcodec heed it."""
    path = write_video(tmp_path / "a.mp4", scene(6, 64, 128), "libx264", {})
    upright = in_order(path)
    content = path.read_bytes()
    at = content.index(b"tkhd") + 4 + 4 + 20 + 16  # version and flags, times and ids, layer and volume
    cos, sin = {1: (0, 1), 2: (-1, 0), 3: (0, -1)}[turns]
    matrix = struct.pack(">9i", *(int(x * 65536) for x in (cos, sin, 0, -sin, cos, 0, 0, 0)), 2**30)
    assert struct.unpack(">i", content[at : at + 4]) == (65536,)
    path.write_bytes(content[:at] + matrix + content[at + 36 :])
    for backend in BACKENDS:
        read = read_video(path, backend).astype(int)
        expected = np.rot90(upright, -turns, axes=(1, 2))
        assert read.shape == expected.shape, backend
        assert np.abs(read - expected).mean() < 2, backend


@example([0])
@given(st.lists(st.integers(0, 39), min_size=1, max_size=6))
@settings(deadline=None, max_examples=10)
def test_backends_with_commas_are_the_first_that_can(files, numbers):
    path, _ = files["h264"]
    for first, second in itertools.permutations(BACKENDS, 2):
        both = read_frames(path, numbers, f"{first},{second}")
        np.testing.assert_array_equal(both, read_frames(path, numbers, first))


def test_a_width_that_decord_cannot_read_is_read_by_pyav(tmp_path):
    path = write_video(tmp_path / "narrow.mp4", scene(6, 48, 48), "libx264", {})
    with pytest.raises(DataError, match="cannot be decoded"):
        read_video(path, "decord")
    np.testing.assert_array_equal(read_video(path, "auto"), in_order(path))


@pytest.mark.parametrize("second", [(64, 64), (1, 1)])
def test_frames_of_another_size_are_named_and_never_spread(tmp_path, second):
    paths = [tmp_path / "0.mkv", tmp_path / "1.mkv"]
    for path, (height, width) in zip(paths, ((48, 64), second), strict=True):
        write_video(path, scene(4, 64, 64)[:, :height, :width], "ffv1", {})
    with pytest.raises(DataError, match=r"frames of \(48, 64\) and of"):
        Mixed(paths).read([0, 5], lambda shape: np.empty(shape, np.uint8))


class Mixed(PyavReader):
    """The frames of several files, one after the other."""

    def __init__(self, paths):
        self.paths = paths
        super().__init__(paths[0])

    def _wanted(self, numbers):
        pictures = itertools.chain.from_iterable(PyavReader(path)._from_start() for path in self.paths)
        yield from ((number, picture) for number, picture in enumerate(pictures) if number in numbers)


def test_files_are_closed_once_read(files):
    import gc
    from pathlib import Path

    def num_open():
        return sum(1 for link in Path("/proc/self/fd").iterdir() if link.exists() and link.resolve() in named)

    named = {path for path, _ in files.values()}
    gc.collect()  # what other tests left
    gc.disable()
    before = num_open()
    try:
        for kind, (path, frames) in files.items():
            decoder = OwnDecoder()
            for _ in range(3):
                read_clips(path, lambda length: np.array([[length - 1]]), "pyav", decoder)
                assert num_frames(path, "pyav") == len(frames)
            assert num_open() == before, kind
    finally:
        gc.enable()
