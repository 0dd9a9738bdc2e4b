"""Renders and encodes the embedded video set; `vmae data make` calls it."""

import json
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict
from multiprocessing import get_context
from pathlib import Path

import av
import numpy as np
from rich.progress import Progress

from vmae.data.embedded import DOMAINS, EMBEDDED_VERSION, SIZES, embedded_dir, video_path
from vmae.data.manifest import VideoRow, list_sha256, write_manifest
from vmae.data.scene import Scene, draw_specs, render
from vmae.errors import DataError
from vmae.files import write_atomic
from vmae.runtime import num_cpus

VIDEOS_PER_TASK = 40
# Every frame by itself: what a frame predicted from others, or a rate shared with them, leaves in its pixels tells how they move.
# No look-ahead: on frames this small x264 gave other bytes for equal frames about once in 600 videos (both in LOG.md).
X264 = {"qp": "10", "preset": "veryfast", "g": "1", "bf": "0", "x264-params": "rc-lookahead=0:mbtree=0:weightp=0"}
CODEC, PIX_FMT, FPS = "libx264", "yuv420p", 12


def make_embedded(
    data_root: Path, size: str, seed: int = 0, num_workers: int | None = None, progress: bool = True, domain: str = "moving"
) -> Path:
    """Render and encode what is missing of a set and return its folder.

    Safe to interrupt and call again: files appear whole or not at all, the manifests and info.json last.

    Args:
        num_workers: processes; None takes all cores allowed to this process.
        progress: show a bar with time to go.

    Raises:
        DataError: unknown size or domain, or a root that cannot be written.
    """
    folder = embedded_dir(data_root, size, seed, domain)
    info_file = folder / "info.json"
    if info_file.exists():
        return folder
    scene = Scene(travels=domain == "moving")
    missing = []
    try:
        for split, count in SIZES[size].items():
            (folder / "videos" / split).mkdir(parents=True, exist_ok=True)
            missing += [(split, i) for i in range(count) if not (folder / video_path(split, i)).exists()]
    except OSError as error:
        raise DataError(f"cannot write {folder}: {error.strerror}") from error
    _encode_all(folder, scene, size, seed, missing, num_workers or num_cpus(), progress)

    hashes = {}
    for labels in DOMAINS[domain]:
        rows = [
            VideoRow(video_path(split, i), getattr(spec, labels), split)
            for split, count in SIZES[size].items()
            for i, spec in enumerate(draw_specs(scene, seed, split, count))
        ]
        write_manifest(folder / f"{labels}.csv", rows)
        hashes[labels] = list_sha256(rows)
    encoder = {"codec": CODEC, "pix_fmt": PIX_FMT, "fps": FPS} | X264
    info = {"size": size, "seed": seed, "version": EMBEDDED_VERSION, "scene": asdict(scene), "videos": SIZES[size]}
    write_atomic(info_file, (json.dumps(info | {"list_sha256": hashes, "encoder": encoder}, indent=1) + "\n").encode())
    return folder


def encode(path: Path, frames: np.ndarray, key_frame_every: int = int(X264["g"])) -> None:
    """Write uint8 `frames` [T, H, W, 3] as H.264 mp4, atomically; equal frames give equal bytes.

    Args:
        key_frame_every: frames from one key frame to the next; the embedded set has 1, so that no frame depends on another.
    """

    def write(temporary: Path) -> None:
        with av.open(str(temporary), "w", format="mp4", options={"fflags": "+bitexact"}) as container:
            stream = container.add_stream(CODEC, rate=FPS)
            stream.height, stream.width = frames.shape[1:3]
            stream.pix_fmt = PIX_FMT
            stream.codec_context.thread_count = 1
            stream.options = X264 | {"g": str(key_frame_every), "flags": "+bitexact"}
            for frame in frames:
                container.mux(stream.encode(av.VideoFrame.from_ndarray(_yuv420(frame), format=PIX_FMT)))
            container.mux(stream.encode())

    write_atomic(path, write)


def _yuv420(frame: np.ndarray) -> np.ndarray:
    """Return planar BT.601 limited-range YUV 4:2:0 [3H/2, W] of RGB uint8 [H, W, 3], H and W even.

    Written out because swscale's result depends on the memory alignment of the frame, and equal frames must give equal bytes.
    """
    rgb = frame.astype(np.float64) / 255
    luma = 16 + rgb @ (65.481, 128.553, 24.966)
    blue, red = (128 + rgb @ weights for weights in ((-37.797, -74.203, 112.0), (112.0, -93.786, -18.214)))
    chroma = [plane.reshape(plane.shape[0] // 2, 2, -1, 2).mean(axis=(1, 3)).reshape(-1, frame.shape[1]) for plane in (blue, red)]
    planes: np.ndarray = np.rint(np.concatenate([luma, *chroma])).astype(np.uint8)
    return planes


def _encode_some(folder: Path, scene: Scene, size: str, seed: int, split: str, indices: list[int]) -> int:
    specs = draw_specs(scene, seed, split, SIZES[size][split])
    for index in indices:
        encode(folder / video_path(split, index), render(scene, specs[index]))
    return len(indices)


def _encode_all(
    folder: Path, scene: Scene, size: str, seed: int, missing: list[tuple[str, int]], num_workers: int, progress: bool
) -> None:
    tasks = []
    for split in SIZES[size]:
        indices = [i for s, i in missing if s == split]
        tasks += [(split, indices[k : k + VIDEOS_PER_TASK]) for k in range(0, len(indices), VIDEOS_PER_TASK)]
    with (
        Progress(disable=not progress or not missing) as bar,
        ProcessPoolExecutor(min(num_workers, max(1, len(tasks))), mp_context=get_context("spawn")) as pool,
    ):
        shown = bar.add_task(f"embedded set {size}: {len(missing)} videos", total=len(missing))
        futures = [pool.submit(_encode_some, folder, scene, size, seed, split, indices) for split, indices in tasks]
        try:
            for future in as_completed(futures):
                bar.advance(shown, future.result())
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
