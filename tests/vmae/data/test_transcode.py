"""Transcoded videos look as their sources do to every reader, and only a video's own faults put it into quarantine."""

import struct
import subprocess
import sys

import av
import numpy as np
import pytest
from helpers import ROOT, clean_environment
from miniatures import scene, write_video

from vmae.data.manifest import VideoRow, write_manifest
from vmae.data.quarantine import read_quarantine
from vmae.data.transcode import Coding, transcode
from vmae.data.video import read_video
from vmae.errors import DataError

BT709, MPEG, JPEG = 1, 1, 2  # of AVColorSpace and AVColorRange


def one(folder, path="a.mp4"):
    write_manifest(folder / "list.csv", [VideoRow(path, 0, "train")])
    return folder / "list.csv"


def coloured(path, matrix, full_range):
    """A video of four strong colours, whose numbers stand for them as its header says."""
    frames = np.zeros((6, 64, 96, 3), np.uint8)
    for (top, left), colour in {
        (0, 0): (200, 30, 40),
        (0, 48): (30, 190, 60),
        (32, 0): (40, 60, 220),
        (32, 48): (250,) * 3,
    }.items():
        frames[:, top : top + 32, left : left + 48] = colour
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=12)
        stream.height, stream.width, stream.pix_fmt = 64, 96, "yuvj420p" if full_range else "yuv420p"
        stream.options = {"crf": "1"}
        stream.codec_context.color_range = JPEG if full_range else MPEG
        if matrix == "ITU709":
            stream.codec_context.colorspace = BT709
        for frame in frames:
            picture = av.VideoFrame.from_ndarray(frame, format="rgb24")
            picture = picture.reformat(format=stream.pix_fmt, dst_colorspace=matrix, dst_color_range=JPEG if full_range else MPEG)
            container.mux(stream.encode(picture))
        container.mux(stream.encode())
    return frames


@pytest.mark.parametrize("full_range", [False, True])
@pytest.mark.parametrize("matrix", ["ITU601", "ITU709"])
def test_colours_stay(tmp_path, matrix, full_range):
    meant = coloured(tmp_path / "a.mp4", matrix, full_range)
    made = transcode(one(tmp_path), tmp_path / "out", Coding(64), num_workers=1, progress=False)
    for backend in ("pyav", "decord"):
        new = read_video(made.absolute(made.rows[0]), backend).astype(int)
        inside = np.abs(new - meant)[:, 16::32, 24::48]  # the middles of the four
        assert inside.max() <= 5, f"{backend}: {inside.max()} of 255 apart"


@pytest.mark.parametrize("turns", [1, 2, 3])
def test_a_video_that_is_stored_lying_comes_out_upright(tmp_path, turns):
    path = write_video(tmp_path / "a.mp4", scene(6, 64, 128), "libx264", {})
    content = path.read_bytes()
    at = content.index(b"tkhd") + 4 + 4 + 20 + 16
    cos, sin = {1: (0, 1), 2: (-1, 0), 3: (0, -1)}[turns]
    matrix = struct.pack(">9i", *(int(x * 65536) for x in (cos, sin, 0, -sin, cos, 0, 0, 0)), 2**30)
    path.write_bytes(content[:at] + matrix + content[at + 36 :])
    made = transcode(one(tmp_path), tmp_path / "out", Coding(64, crf=8), num_workers=1, progress=False)
    for backend in ("pyav", "decord"):
        new, old = (read_video(file, backend).astype(int) for file in (made.absolute(made.rows[0]), path))
        assert new.shape == old.shape
        assert np.abs(new - old).mean() < 12, "the scene's noise; turned wrongly it is above 40"
    assert (made.rows[0].facts["width"], made.rows[0].facts["height"]) == (old.shape[2], old.shape[1])


SCRIPT = """
import resource, signal, sys
from pathlib import Path
from vmae.data.transcode import Coding, transcode
if __name__ == "__main__":
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20000, 20000))
    transcode(Path(sys.argv[1]), Path(sys.argv[2]), Coding(64), num_workers=1, progress=False)
"""


def test_no_video_is_blamed_for_a_full_disk(tmp_path):
    """The kernel lets no file grow beyond 20 kB, which ends a write as a full disk does."""
    noise = np.random.default_rng(0).integers(0, 256, (20, 64, 64, 3), dtype=np.uint8)
    write_video(tmp_path / "0.mp4", scene(6), "libx264", {})
    write_video(tmp_path / "1.mp4", noise, "libx264", {})
    file = tmp_path / "list.csv"
    write_manifest(file, [VideoRow(f"{i}.mp4", 0, "train") for i in range(2)])
    (tmp_path / "script.py").write_text(SCRIPT)
    words = [sys.executable, str(tmp_path / "script.py"), str(file), str(tmp_path / "out")]
    done = subprocess.run(words, env=clean_environment(PYTHONPATH=str(ROOT)), capture_output=True, text=True, check=False)
    assert "RunDirError: cannot write" in done.stderr
    assert "1 of 2 videos are transcoded, the same call goes on" in done.stderr
    assert not (tmp_path / "out" / "list.csv").exists(), "a list that lacks healthy videos is not written"
    made = transcode(file, tmp_path / "out", Coding(64), num_workers=1, progress=False)
    assert not read_quarantine(made.file)
    assert [len(read_video(made.absolute(row))) for row in made.rows] == [6, 20]


@pytest.mark.parametrize("path", ["../a.mp4", "/nowhere/a.mp4"])
def test_nothing_is_written_outside_of_the_folder(tmp_path, path):
    (tmp_path / "in").mkdir()
    source = write_video(tmp_path / "a.mp4", scene(4), "libx264", {})
    listed = one(tmp_path / "in", str(source) if path.startswith("/") else path)
    with pytest.raises(DataError, match=r"1 paths of .*list\.csv lead out of the folder.*name a root in list\.about\.json"):
        transcode(listed, tmp_path / "out", Coding(16), num_workers=1, progress=False)
    assert sorted(file.name for file in tmp_path.rglob("*") if file.is_file()) == ["a.mp4", "list.csv"]


def test_a_source_that_cannot_be_read_is_blamed_itself(tmp_path):
    write_video(tmp_path / "0.mp4", scene(4), "libx264", {})
    (tmp_path / "1.mp4").symlink_to(tmp_path / "1.mp4")
    file = tmp_path / "list.csv"
    write_manifest(file, [VideoRow(f"{i}.mp4", 0, "train") for i in range(3)])
    made = transcode(file, tmp_path / "out", Coding(16), num_workers=1, progress=False)
    reasons = {row.path[-9:]: row.reason for row in read_quarantine(made.file).values()}
    assert set(reasons) == {"1.mp4.mp4", "2.mp4.mp4"}
    assert "No such file" in reasons["2.mp4.mp4"]
    assert "symbolic links" in reasons["1.mp4.mp4"]


def test_a_file_whose_original_is_gone_is_kept(tmp_path):
    for i in range(2):
        write_video(tmp_path / f"{i}.mp4", scene(4 + i), "libx264", {})
    file = tmp_path / "list.csv"
    write_manifest(file, [VideoRow(f"{i}.mp4", 0, "train") for i in range(2)])
    transcode(file, tmp_path / "out", Coding(16), num_workers=1, progress=False)
    (tmp_path / "0.mp4").unlink()
    made = transcode(file, tmp_path / "out", Coding(16), num_workers=1, progress=False)
    assert [len(read_video(made.absolute(row))) for row in made.rows] == [4, 5]
    assert not read_quarantine(made.file)
