"""Videos that were cut without coding them anew, or whose last picture stays: whole, though their headers count otherwise."""

import struct

import av
import numpy as np
import pytest
from miniatures import scene, write_video

from vmae.data.manifest import VideoRow, write_manifest
from vmae.data.scan import examine
from vmae.data.transcode import Coding, transcode
from vmae.data.video import num_frames, read_frames
from vmae.errors import DataError

FRAMES = scene(40)
# Packets that tell the frames, and packets that do not.
CODECS = {"h264": ("libx264", {"bf": "3", "g": "12"}), "mpeg4": ("mpeg4", {"g": "12"})}


def remuxed(old, new, earlier_frames=0, **options):
    """The packets of a file in another, shown so many frames earlier: those before zero are hidden by an edit list."""
    with av.open(str(old)) as source, av.open(str(new), "w", options=options) as container:
        stream = container.add_stream_from_template(source.streams.video[0])
        shift = earlier_frames * int(1 / (25 * source.streams.video[0].time_base))
        for packet in source.demux(source.streams.video[0]):
            if packet.dts is not None:
                packet.pts, packet.dts, packet.stream = packet.pts - shift, packet.dts - shift, stream
                container.mux(packet)
    return new


def trimmed(folder, codec, first, last):
    """40 frames in an mp4 of which an edit list shows frames first to last - 1, as `ffmpeg -ss -c copy` and phones leave it."""
    path = remuxed(write_video(folder / "whole.mp4", FRAMES, *CODECS[codec]), folder / f"{codec}.mp4", first)
    content = bytearray(path.read_bytes())
    scale = struct.unpack_from(">I", content, content.index(b"mvhd") + 16)[0]
    struct.pack_into(">I", content, content.index(b"elst") + 12, (last - first) * scale // 25)
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize(("first", "last"), [(5, 40), (0, 22), (0, 12), (15, 31)])
def test_what_an_edit_list_hides_is_no_damage(codec, first, last, tmp_path):
    path = trimmed(tmp_path, codec, first, last)
    with av.open(str(path)) as container:
        assert container.streams.video[0].frames == 40
        shown = [picture.to_ndarray(format="rgb24") for picture in container.decode(video=0)]
    assert abs(len(shown) - (last - first)) <= 1
    assert examine(str(path), "pyav")["frames"] == num_frames(path, "pyav") == len(shown)
    numbers = [len(shown) - 1, 3, 0]
    np.testing.assert_array_equal(read_frames(path, numbers, "pyav"), [shown[number] for number in numbers])
    write_manifest(tmp_path / "list.csv", [VideoRow(path.name, 0, "train")])
    made = transcode(tmp_path / "list.csv", tmp_path / "small", Coding(short_side_px=32), 1, progress=False)
    assert made.rows[0].facts["frames"] == len(shown)


@pytest.mark.parametrize("ending", ["mp4", "webm", "mkv"])
def test_a_last_picture_that_stays_is_no_damage_and_a_cut_file_is(ending, tmp_path):
    """Recorders of screens and phones write a picture only when something moves."""
    path = tmp_path / f"video.{ending}"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libvpx-vp9" if ending == "webm" else "libx264", rate=25)
        stream.height, stream.width, stream.pix_fmt, stream.options = 48, 64, "yuv420p", {"bf": "0"}
        packets = [p for frame in FRAMES for p in stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24"))]
        packets += stream.encode()
        packets[-1].duration = 9 * 25
        for packet in packets:
            container.mux(packet)
    assert examine(str(path), "pyav")["frames"] == 40
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(DataError):
        examine(str(path), "pyav")


def test_frames_that_are_missing_are_damage_with_an_edit_list_too(tmp_path):
    """x264 writes one: its first picture is not at zero."""
    whole = write_video(tmp_path / "whole.mp4", FRAMES, *CODECS["h264"])
    path = remuxed(whole, tmp_path / "first.mp4", movflags="faststart")
    content = path.read_bytes()
    path.write_bytes(content[: len(content) * 7 // 10])
    for read in (lambda path: examine(str(path), "pyav"), lambda path: num_frames(path, "pyav")):
        with pytest.raises(DataError):
            read(path)
