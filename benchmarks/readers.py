"""Clips per second and core of every way to read, beside the naive one and the decoders' own loops, on the same videos.

    python benchmarks/readers.py
    python benchmarks/readers.py --videos 4 --rounds 3 --opens 10000

Videos of 10 s, 340 x 256 px, 30 frames/s, H.264 with a key frame every 250 frames, as data sets are handed out. A clip is 16
frames, stride 4, at a random start; a random box of it is scaled to 224 px (of 128 px: to 112). Ways take turns, video
by video; the processor time of all processes that take part is counted; a ratio is the median over rounds of the round's ratio.

    naive      the released loader's way: decord, one clip per opening, PIL, floats that are normalised
    own loop   what the decoder's documentation shows, then our crop
    ours       what training does: decoding processes with deadlines, uint8; 4 clips of one opening; 4 crops of one clip
    packed     vmae data pack: JPEG at quality 90, and uint8 frames of 128 px

`--opens N` then reads N clips through each decoder and prints how its process's memory grew.
"""

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import av
import decord
import numpy as np
import torch
from PIL import Image
from rich.progress import track

from vmae.data.augment import random_view
from vmae.data.demand import AS_RELEASED
from vmae.data.frames import DecodedFrames, FrameSource
from vmae.data.guarded import GuardedDecoder
from vmae.data.manifest import VideoRow, read_manifest, write_manifest
from vmae.data.pack import Packing, pack
from vmae.data.packed import PackedFrames
from vmae.data.transcode import transcode
from vmae.data.video import available_backends, backend_version, read_clips
from vmae.model.blocks import IMAGENET_MEAN, IMAGENET_STD
from vmae.provenance import provenance

HEIGHT, WIDTH, NUM_FRAMES, FPS = 256, 340, 300, 30
FRAMES, STRIDE = 16, 4
MEAN, STD = (torch.tensor(values).view(3, 1, 1, 1) for values in (IMAGENET_MEAN, IMAGENET_STD))
Read = Callable[[int, np.random.Generator], int]  # video -> clips that were read


def film(path: Path, seed: int, num_frames: int = NUM_FRAMES) -> None:
    """Write a video of a drifting texture, an object that moves over it, and a camera's noise."""
    rng = np.random.default_rng(seed)

    def blur(shape: tuple[int, int], cell: int) -> np.ndarray:
        small = rng.normal(size=(2 * shape[0] // cell, 2 * shape[1] // cell)).astype(np.float32)
        return np.asarray(Image.fromarray(small).resize((2 * shape[1], 2 * shape[0]), Image.Resampling.BICUBIC))

    coarse = np.stack([blur((HEIGHT, WIDTH), 12) for _ in range(3)], axis=-1)
    texture = np.clip(128 + 40 * coarse + 3 * blur((HEIGHT, WIDTH), 2)[..., None], 0, 255)
    drift = rng.uniform(-0.6, 0.6, size=2)
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=FPS)
        stream.height, stream.width, stream.pix_fmt = HEIGHT, WIDTH, "yuv420p"
        stream.options = {"g": "250", "crf": "23", "preset": "medium"}
        for t in range(num_frames):
            top, left = (int(side / 2 + step * t) % side for side, step in zip((HEIGHT, WIDTH), drift, strict=True))
            frame = texture[top : top + HEIGHT, left : left + WIDTH].copy()
            disc = (x - WIDTH / 2 - 80 * np.cos(t / 20 + seed)) ** 2 + (y - HEIGHT / 2 - 60 * np.sin(t / 13)) ** 2 < 1600
            frame[disc] = 255 - frame[disc]
            frame += rng.normal(0, 3, size=(HEIGHT, WIDTH, 1))
            picture = av.VideoFrame.from_ndarray(np.clip(frame, 0, 255).astype(np.uint8), format="rgb24")
            container.mux(stream.encode(picture))
        container.mux(stream.encode())


def start(length: int, rng: np.random.Generator) -> int:
    """Draw where a clip begins."""
    return int(rng.integers(length - (FRAMES - 1) * STRIDE))


def naive(paths: list[Path]) -> Read:
    """The released loader's way."""

    def read(video: int, rng: np.random.Generator) -> int:
        reader = decord.VideoReader(str(paths[video]), num_threads=1, ctx=decord.cpu(0))
        first = start(len(reader), rng)
        frames = reader.get_batch(list(range(first, first + FRAMES * STRIDE, STRIDE))).asnumpy()
        side = int(HEIGHT * rng.choice([1, 0.875, 0.75, 0.66]))
        top, left = int(rng.integers(HEIGHT - side + 1)), int(rng.integers(WIDTH - side + 1))
        box = (left, top, left + side, top + side)
        images = [Image.fromarray(frame).crop(box).resize((224, 224), Image.Resampling.BILINEAR) for frame in frames]
        stacked = torch.from_numpy(np.concatenate([np.asarray(image) for image in images], axis=2))
        floats = stacked.permute(2, 0, 1).contiguous().float().div(255).view(FRAMES, 3, 224, 224).transpose(0, 1)
        assert ((floats - MEAN) / STD).shape == (3, FRAMES, 224, 224)
        return 1

    return read


def view(frames: np.ndarray, rng: np.random.Generator, size_px: int = 224) -> None:
    """Crop and scale as training does."""
    clip = random_view(torch.from_numpy(frames).permute(3, 0, 1, 2), AS_RELEASED, size_px, rng)
    assert clip.shape == (3, FRAMES, size_px, size_px)


def pyav_loop(paths: list[Path]) -> Read:
    """PyAV's own: seek, decode until the last frame wanted, convert those wanted."""

    def read(video: int, rng: np.random.Generator) -> int:
        with av.open(str(paths[video])) as container:
            stream = container.streams.video[0]
            first = start(stream.frames, rng)
            wanted = set(range(first, first + FRAMES * STRIDE, STRIDE))
            assert stream.time_base
            assert stream.average_rate
            container.seek(int(first / stream.average_rate / stream.time_base), stream=stream)
            frames = []
            for frame in container.decode(stream):
                number = round(float(frame.pts * stream.time_base * stream.average_rate))
                if number in wanted:
                    frames.append(frame.to_ndarray(format="rgb24"))
                if number >= max(wanted):
                    break
        view(np.stack(frames), rng)
        return 1

    return read


def torchcodec_loop(paths: list[Path]) -> Read:
    """torchcodec's own: a decoder with exact seek, asked for the frames."""
    from torchcodec.decoders import VideoDecoder

    def read(video: int, rng: np.random.Generator) -> int:
        decoder = VideoDecoder(str(paths[video]), dimension_order="NHWC", num_ffmpeg_threads=1)
        first = start(len(decoder), rng)
        frames = decoder.get_frames_at(list(range(first, first + FRAMES * STRIDE, STRIDE))).data
        view(frames.numpy(), rng)
        return 1

    return read


def ours(source: FrameSource, num_clips: int = 1, num_crops: int = 1, size_px: int = 224) -> Read:
    """What training does: clips of one opening, crops of one clip."""

    def read(video: int, rng: np.random.Generator) -> int:
        def choose(length: int) -> np.ndarray:
            return np.stack([start(length, rng) + STRIDE * np.arange(FRAMES) for _ in range(num_clips)])

        for clip in source.read(video, choose):
            for _ in range(num_crops):
                view(clip, rng, size_px)
        return num_clips * num_crops

    return read


@dataclass
class Way:
    """A way to read, and the decoder whose process works for it."""

    read: Read
    decoder: GuardedDecoder | None = None

    def process_s(self) -> float:
        """Return the processor time so far of the decoding process, which works on for a moment after it has answered."""
        return sum(_ticks(pid) for pid in _pids(self.decoder)) / os.sysconf("SC_CLK_TCK") if self.decoder else 0.0


def ways(folder: Path, num_videos: int) -> dict[str, Way]:
    """Make the videos and return each way to read them."""
    paths = [folder / f"{i}.mp4" for i in range(num_videos)]
    for i, path in enumerate(track(paths, "filming")):
        film(path, i)
    listed = folder / "list.csv"
    write_manifest(listed, [VideoRow(path.name, None, "train") for path in paths])

    def decoded(file: Path, backend: str, **more: int) -> Way:
        manifest = read_manifest(file)
        source = DecodedFrames(manifest, manifest.rows, backend)
        return Way(ours(source, **more), source._decoder)

    def packed(short_side: int, form: Literal["jpeg", "raw"]) -> PackedFrames:
        manifest = pack(listed, folder / f"{form}{short_side}", Packing(short_side, form))
        return PackedFrames(manifest, manifest.rows)

    found = {"naive": Way(naive(paths)), "PyAV, own loop": Way(pyav_loop(paths))}
    available = available_backends()
    if "torchcodec" in available:
        found["torchcodec, own loop"] = Way(torchcodec_loop(paths))
    for name in available:
        found[f"ours, {name}"] = decoded(listed, name)
        found[f"ours, {name}, 4 clips"] = decoded(listed, name, num_clips=4)
        found[f"ours, {name}, 4 crops"] = decoded(listed, name, num_crops=4)
    found["transcoded (GOP 12), pyav"] = decoded(transcode(listed, folder / "short").file, "pyav")
    jpeg, raw = packed(256, "jpeg"), packed(128, "raw")
    found["packed JPEG"] = Way(ours(jpeg))
    found["packed JPEG, 4 crops"] = Way(ours(jpeg, num_crops=4))
    found["packed uint8, 128 px"] = Way(ours(raw, size_px=112))
    return found


def _pids(decoder: GuardedDecoder) -> list[int]:
    return [worker.process.pid for worker in decoder._pool._idle] if decoder._pool else []


def _ticks(pid: int) -> int:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
    return int(fields[11]) + int(fields[12])


def measure(num_videos: int, rounds: int) -> dict[str, list[float]]:
    """Return the milliseconds per clip of each way, by round."""
    spent: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        found = ways(Path(folder), num_videos)
        for way in found.values():
            way.read(0, np.random.default_rng(0))
        for number in track(range(rounds), "reading"):
            time.sleep(0.5)
            took = {name: -way.process_s() for name, way in found.items()}
            clips = dict.fromkeys(found, 0)
            for video in range(num_videos):
                for name, way in found.items():
                    before = time.process_time()
                    for k in range(10 if "packed" in name else 2):  # equal starts for all: what a clip costs depends on them
                        clips[name] += way.read(video, np.random.default_rng((number, video, k)))
                    took[name] += time.process_time() - before
            time.sleep(0.5)
            for name, way in found.items():
                spent.setdefault(name, []).append(1e3 * (took[name] + way.process_s()) / clips[name])
        for way in found.values():
            if way.decoder:
                way.decoder.close()
    return spent


def memory(num_opens: int) -> None:
    """Print how the memory of each decoder's process grows over many openings."""
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / f"{i}.mp4" for i in range(4)]
        for i, path in enumerate(paths):
            film(path, i, num_frames=20)
        for name in available_backends():
            decoder, rng = GuardedDecoder(60.0), np.random.default_rng(0)
            grown = []
            for i in track(range(num_opens), f"opening with {name}"):
                read_clips(paths[i % 4], lambda length, rng=rng: rng.integers(length, size=(1, 4)), name, decoder)  # type: ignore[misc]
                if i in (num_opens // 10, num_opens - 1):
                    grown.append(_resident_mb(_pids(decoder)[0]))
            early, late = (
                f"{mb:.1f} MB after {opens} openings" for mb, opens in zip(grown, (num_opens // 10, num_opens), strict=True)
            )
            print(f"{backend_version(name)}: {early}, {late}")
            decoder.close()


def _resident_mb(pid: int) -> float:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def table(spent: dict[str, list[float]]) -> str:
    """Return what was measured as a markdown table."""
    lines = ["| way to read | clips/s per core | times naive | times PyAV's own loop |", "| --- | --- | --- | --- |"]
    for name, values in spent.items():
        naive_, loop = (statistics.median(a / b for a, b in zip(spent[base], values, strict=True)) for base in list(spent)[:2])
        lines.append(f"| {name} | {1e3 / statistics.median(values):.0f} | {naive_:.1f} | {loop:.2f} |")
    return "\n".join(lines)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--videos", type=int, default=6)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--opens", type=int, default=0)
    parser.add_argument("--out", type=Path, help="also write what was measured, with its provenance, as json")
    options = parser.parse_args()
    torch.set_num_threads(1)
    spent = measure(options.videos, options.rounds)
    print(table(spent))
    if options.out:
        facts: dict[str, Any] = {"ms_per_clip": spent, "videos": options.videos, "provenance": provenance()}
        options.out.write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
    if options.opens:
        memory(options.opens)


if __name__ == "__main__":
    main()
