"""Packed and transcoded lists: the same videos frame by frame, other identities; interruption changes nothing, damage is said."""

import io
import json
import pickle

import av
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from miniatures import scene, write_video
from PIL import Image
from typer.testing import CliRunner

from vmae.__main__ import app
from vmae.data import pack as packing_module
from vmae.data import transcode as transcode_module
from vmae.data.demand import demand
from vmae.data.manifest import About, VideoRow, beside, read_manifest, write_about, write_manifest
from vmae.data.pack import Packing, pack
from vmae.data.packed import PackedFrames, shard_file
from vmae.data.quarantine import Quarantined, read_quarantine, write_quarantine
from vmae.data.scan import scan
from vmae.data.source import frames_of, listed_set, manifest_of
from vmae.data.transcode import Coding, transcode
from vmae.data.video import read_video
from vmae.errors import ConfigError, DataError, Interrupted
from vmae.runtime import RuntimeConfig

SIZES = ((48, 64), (96, 64), (40, 60), (64, 128))


@pytest.fixture(scope="module")
def listed(tmp_path_factory):
    """Seven videos: of unequal sizes, two whose names differ in the ending, one that is none, one in quarantine."""
    folder = tmp_path_factory.mktemp("made")
    (folder / "clips é").mkdir()
    rows = []
    for i, (height, width) in enumerate(SIZES):
        path = f"clips é/{i}.mp4"
        write_video(folder / path, scene(14 + i, height, width, seed=i), "libx264", {})
        rows.append(VideoRow(path, i % 2, "train", {"id": f"v{i}"}))
    write_video(folder / "clips é" / "0.avi", scene(9, seed=9), "mpeg4", {})
    (folder / "broken.mp4").write_bytes(b"no video")
    write_video(folder / "ugly.mp4", scene(5), "libx264", {})
    rows += [VideoRow(name, 0, "test") for name in ("clips é/0.avi", "broken.mp4", "ugly.mp4")]
    file = folder / "set.csv"
    write_manifest(file, rows)
    write_about(file, About(classes=("one", "two")))
    write_quarantine(file, [Quarantined("ugly.mp4", "ugly", "hand")])
    return file


def resized(frames, most_px):
    short = min(frames.shape[1:3])
    if short <= most_px:
        return frames
    size = tuple(round(side * most_px / short) for side in (frames.shape[2], frames.shape[1]))
    return np.stack([np.asarray(Image.fromarray(frame).resize(size, Image.Resampling.BILINEAR)) for frame in frames])


def through_jpeg(frames, quality):
    def one(frame):
        content = io.BytesIO()
        Image.fromarray(frame).save(content, "JPEG", quality=quality)
        return np.asarray(Image.open(content))

    return np.stack([one(frame) for frame in frames])


@pytest.fixture(scope="module", params=["raw", "jpeg"])
def packed(request, listed, tmp_path_factory):
    out = tmp_path_factory.mktemp(request.param)
    return pack(listed, out, Packing(44, request.param, 90, videos_per_shard=2), num_workers=2, progress=False)


def test_packed_frames_are_the_resized_ones(packed, listed):
    source = PackedFrames(packed, packed.rows)
    manifest = read_manifest(listed)
    for video, row in enumerate(manifest.rows[:5]):
        expected = resized(read_video(manifest.absolute(row)), 44)
        if packed.about.made["form"] == "jpeg":
            expected = through_jpeg(expected, 90)
        read = source.read(video, lambda length: np.arange(length)[None])[0]
        np.testing.assert_array_equal(read, expected)
        facts = packed.rows[video].facts
        assert (facts["frames"], facts["height"], facts["width"]) == expected.shape[:3]


def test_rows_stay_and_bad_ones_are_in_quarantine(packed, listed):
    before = read_manifest(listed)
    name = Packing(44, packed.about.made["form"]).name
    assert [row.path for row in packed.rows] == [f"{name}/{row.path}" for row in before.rows]
    assert [(row.label, row.split) for row in packed.rows] == [(row.label, row.split) for row in before.rows]
    assert packed.list_sha256 != before.list_sha256
    assert packed.about.classes == ("one", "two")
    assert packed.rows[0].facts["id"] == "v0"
    found = read_quarantine(packed.file)
    assert set(found) == {f"{name}/broken.mp4", f"{name}/ugly.mp4"}
    assert {row.by for row in found.values()} == {"pack"}
    assert "in quarantine by hand: ugly" in found[f"{name}/ugly.mp4"].reason
    assert set(PackedFrames(packed, packed.rows).bad) == {5, 6}


@settings(deadline=None, max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(video=st.integers(0, 4), data=st.data())
def test_any_frames_in_any_order(packed, video, data):
    source = pickle.loads(pickle.dumps(PackedFrames(packed, packed.rows)))
    everything = source.read(video, lambda length: np.arange(length)[None])[0]
    numbers = data.draw(st.lists(st.lists(st.integers(0, len(everything) - 1), min_size=3, max_size=3), min_size=1, max_size=4))
    np.testing.assert_array_equal(source.read(video, lambda _: np.array(numbers)), everything[np.array(numbers)])


@pytest.mark.parametrize("number", [-1, 1000])
def test_a_frame_outside_is_refused(packed, number):
    with pytest.raises(DataError, match=r"0\.mp4: frames .* asked for; it has 0 to 13"):
        PackedFrames(packed, packed.rows).read(0, lambda _: np.array([[number]]))


def content_of(folder):
    files = (path for path in sorted(folder.rglob("*")) if path.is_file() and path.suffix != ".lock")
    return {path.relative_to(folder): path.read_bytes() for path in files}


def test_an_interrupted_packing_goes_on_and_ends_the_same(listed, tmp_path, monkeypatch):
    how = Packing(32, "raw", videos_per_shard=2)
    whole = pack(listed, tmp_path / "whole", how, num_workers=1, progress=False)
    real, calls = packing_module._write_shard, []

    def stop_at_the_third(*arguments):
        calls.append(arguments)
        if len(calls) == 3:
            raise KeyboardInterrupt
        real(*arguments)

    monkeypatch.setattr(packing_module, "_write_shard", stop_at_the_third)
    with pytest.raises(Interrupted, match="2 of 4 shards"):
        pack(listed, tmp_path / "parts", how, num_workers=2, progress=False)
    kept = {path: path.stat().st_mtime_ns for path in (tmp_path / "parts" / "shards").glob("*.bin")}
    assert len(kept) == 2
    monkeypatch.undo()
    parts = pack(listed, tmp_path / "parts", how, num_workers=2, progress=False)
    assert {path: path.stat().st_mtime_ns for path in kept} == kept, "finished shards are kept"
    assert content_of(whole.file.parent) == content_of(parts.file.parent)


@pytest.mark.parametrize("make", ["pack", "transcode"])
def test_a_folder_begun_with_other_settings_is_refused(listed, tmp_path, make):
    def run(number):
        if make == "pack":
            return pack(listed, tmp_path, Packing(16, "jpeg", number), progress=False)
        return transcode(listed, tmp_path, Coding(16, crf=number), progress=False)

    run(30)
    with pytest.raises(DataError, match=r"(quality|crf) = 30, now 40; choose another folder"):
        run(40)
    run(30)


@pytest.mark.parametrize("damage", ["flip", "cut", "no index", "no data"])
def test_a_damaged_shard_is_said(listed, tmp_path, damage):
    made = pack(listed, tmp_path, Packing(32, "raw", videos_per_shard=2), num_workers=1, progress=False)
    index = shard_file(tmp_path / "shards", 0)
    data = index.with_suffix(".bin")
    content = bytearray(data.read_bytes())
    if damage == "flip":
        content[-5] ^= 1
        data.write_bytes(content)
        source = PackedFrames(made, made.rows)
        last = made.rows[1].facts["frames"] - 1
        assert source.read(1, lambda _: np.array([[last - 1]])).shape[1] == 1
        with pytest.raises(DataError, match=f"shard-00000.bin: .*1.mp4: the bytes of frame {last} are damaged"):
            source.read(1, lambda _: np.array([[last]]))
        return
    if damage == "cut":
        data.write_bytes(content[:-10])
    elif damage == "no index":
        index.unlink()
    else:
        data.unlink()
    with pytest.raises(DataError, match=r"shard-00000.* bytes|are in no shard of|cannot read .*shard-00000"):
        PackedFrames(made, made.rows)


def test_a_run_reads_packed_frames_as_its_data(listed, tmp_path):
    made = pack(listed, tmp_path, Packing(32, "jpeg"), num_workers=1, progress=False)
    runtime = RuntimeConfig(data_root=str(tmp_path / "data"))
    data = listed_set(made.file, "packed", 2)
    source = frames_of(manifest_of(data, runtime), "train", runtime)
    assert len(source) == len(SIZES)
    assert source.read(3, lambda length: np.array([[0, length - 1]])).shape == (1, 2, 32, 64, 3)
    assert data.list_sha256 != listed_set(listed, "files", 2).list_sha256, "other pixels are another data set"
    with pytest.raises(DataError, match="each was looked at when it was packed"):
        scan(made.file, progress=False)
    with pytest.raises(DataError, match="is packed already"):
        pack(made.file, tmp_path / "again", progress=False)
    with pytest.raises(DataError, match="packed frames, which are no videos"):
        transcode(made.file, tmp_path / "again", progress=False)


@pytest.fixture(scope="module")
def small(listed, tmp_path_factory):
    return transcode(listed, tmp_path_factory.mktemp("small"), Coding(44, gop_frames=5), num_workers=2, progress=False)


def test_transcoded_frames_are_the_resized_ones(small, listed):
    manifest = read_manifest(listed)
    for row, new in zip(manifest.rows[:5], small.rows, strict=False):
        expected, read = resized(read_video(manifest.absolute(row), "pyav"), 44), read_video(small.absolute(new), "pyav")
        height, width = (side // 2 * 2 for side in expected.shape[1:3])
        assert read.shape == (len(expected), height, width, 3)
        assert (new.facts["frames"], new.facts["height"], new.facts["width"]) == read.shape[:3]
        nearest = [np.abs(frame.astype(int) - expected[:, :height, :width]).mean(axis=(1, 2, 3)).argmin() for frame in read]
        assert nearest == list(range(len(expected))), "frame i stays frame i"


def test_key_frames_come_as_asked(small):
    with av.open(str(small.absolute(small.rows[1]))) as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
    times = sorted(packet.pts for packet in packets)
    assert [times.index(packet.pts) for packet in packets if packet.is_keyframe] == [0, 5, 10]


def test_transcoded_rows_stay_and_names_do_not_collide(small, listed):
    before = read_manifest(listed)
    assert [row.path for row in small.rows] == [f"short44-gop5-crf18/{row.path}.mp4" for row in before.rows]
    assert set(read_quarantine(small.file)) == {f"short44-gop5-crf18/{name}.mp4" for name in ("broken.mp4", "ugly.mp4")}
    assert small.list_sha256 != before.list_sha256
    assert small.about.classes == ("one", "two")
    assert not scan(small.file, num_workers=1, progress=False).rows[0].reason


def test_only_what_changed_is_transcoded_again(listed, tmp_path, monkeypatch):
    source = tmp_path / "in"
    source.mkdir()
    for i in range(3):
        write_video(source / f"{i}.mp4", scene(8, seed=i), "libx264", {})
    write_manifest(source / "list.csv", [VideoRow(f"{i}.mp4", 0, "train") for i in range(3)])
    made = transcode(source / "list.csv", tmp_path / "out", Coding(32), num_workers=1, progress=False)

    def times():
        return [made.absolute(row).stat().st_mtime_ns for row in made.rows]

    before = times()
    write_video(source / "1.mp4", scene(8, seed=7), "libx264", {})
    made.absolute(made.rows[2]).unlink()
    transcode(source / "list.csv", tmp_path / "out", Coding(32), num_workers=1, progress=False)
    assert [old == new for old, new in zip(before, times(), strict=True)] == [True, False, False]


def test_a_file_that_came_out_wrong_is_no_file(listed, tmp_path, monkeypatch):
    real = transcode_module._write

    def one_late(coding, source, target):
        about = real(coding, source, target)
        return about | {"frames": about["frames"] + 1}

    monkeypatch.setattr(transcode_module, "_write", one_late)
    task = ("x", read_manifest(listed).absolute(read_manifest(listed).rows[0]), tmp_path / "0.mp4")
    with pytest.raises(DataError, match="asked for"):
        transcode_module._encode(Coding(32), task)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Packing(4), "short side 4 px"),
        (lambda: Packing(64, "png"), "form 'png'; allowed: jpeg, raw"),
        (lambda: Packing(64, "jpeg", 0), "quality 0"),
        (lambda: Coding(gop_frames=0), "GOP 0"),
        (lambda: Coding(crf=60), "crf 60"),
    ],
)
def test_settings_that_make_no_sense_are_refused(make, words):
    with pytest.raises(DataError, match=words):
        make()


def test_nothing_readable_at_all_is_said(tmp_path):
    (tmp_path / "a.mp4").write_bytes(b"x")
    write_manifest(tmp_path / "list.csv", [VideoRow("a.mp4", 0, "train")])
    with pytest.raises(DataError, match="not one of 1 videos can be read"):
        pack(tmp_path / "list.csv", tmp_path / "p", progress=False)
    with pytest.raises(DataError, match="not one of 1 videos can be transcoded"):
        transcode(tmp_path / "list.csv", tmp_path / "t", progress=False)


def run(*words):
    return CliRunner().invoke(app, ["data", *map(str, words)])


def test_the_commands_say_what_was_made_and_what_is_needed(listed, tmp_path):
    done = run("pack", listed, "--out", tmp_path / "p", "--short-side", 32, "--format", "raw", "--workers", 1)
    assert done.exit_code == 0, done.output
    assert "7 videos, 2 bad" in done.output
    assert "broken.mp4" in done.output
    done = run("transcode", listed, "--out", tmp_path / "t", "--short-side", 32, "--gop", 4, "--workers", 1)
    assert done.exit_code == 0, done.output
    for file in (listed, tmp_path / "p" / "set.csv", tmp_path / "t" / "set.csv"):
        done = run("bench", file, "--frames", 4, "--stride", 2, "--size-px", 32, "--seconds", 0.1, "--clips-per-s", 1e9)
        assert done.exit_code == 0, f"{done.output} {done.exception}"
        assert "needed: 1000000000 clips/s" in done.output
        assert "too slow for" in done.output
    assert "packed frames" in run("bench", tmp_path / "p" / "set.csv", "--seconds", 0.1, "--frames", 4, "--size-px", 32).output


def test_what_a_gpu_takes_follows_from_the_model():
    small, base = (demand(model, "h200", 224, 16) for model in ("vit_s", "vit_b"))
    assert 1700 < base < 2300, "half of 3,950 clips/s, the floor by the study's count"
    assert small / base == pytest.approx(199.7 / 63.1, rel=0.03), "analytic minima of both"
    assert demand("vit_b", "v100", 224, 16) / base == pytest.approx(125 / 989)
    with pytest.raises(ConfigError, match=r"no GPU 'h10'. Did you mean 'h100'"):
        demand("vit_b", "h10", 224, 16)
    with pytest.raises(ConfigError, match="no model 'vit'"):
        demand("vit", "h100", 224, 16)


def test_an_about_without_packed_frames_is_written_as_before(tmp_path):
    write_about(tmp_path / "a.csv", About(classes=("x",)))
    assert "packed" not in json.loads(beside(tmp_path / "a.csv", "about.json").read_text())
