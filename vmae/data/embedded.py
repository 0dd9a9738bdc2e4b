"""The embedded video set: moving digits as real H.264 files, deterministic from a seed, with two label sets on the same clips.

**motion** (8 directions, 4 pairs of opposites): a still frame says nothing, and a clip played backwards has the opposite label.
**appearance** (10 digits): only what is shown; the motion is a nuisance. Digits of holdout and test clips are disjoint from those
of pretrain and train clips. This module is read by the planner, so numpy and PyAV are imported only where videos are made.
"""

import json
import os
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from vmae.errors import DataError, near
from vmae.files import write_atomic

EMBEDDED_VERSION = 1
SIZES: dict[str, dict[str, int]] = {
    "tiny": {"pretrain": 64, "train": 32, "holdout": 32, "test": 32},
    "quick": {"pretrain": 3000, "train": 400, "holdout": 240, "test": 480},
    "full": {"pretrain": 7000, "train": 3500, "holdout": 1000, "test": 2000},
}
LABEL_SETS = {"motion": 8, "appearance": 10}
VIDEOS_PER_TASK = 40


def embedded_dir(data_root: Path, size: str, seed: int) -> Path:
    """Return the folder of one embedded set; DataError for an unknown size."""
    if size not in SIZES:
        raise DataError(f"embedded set size {size!r}{near(size, SIZES)}")
    return data_root / "embedded" / f"digits-{size}-seed{seed}-v{EMBEDDED_VERSION}"


def manifest_file(data_root: Path, size: str, seed: int, labels: str) -> Path:
    """Return the manifest of a label set, `motion` or `appearance`; both list the same videos in the same order."""
    if labels not in LABEL_SETS:
        raise DataError(f"label set {labels!r}{near(labels, LABEL_SETS)}")
    return embedded_dir(data_root, size, seed) / f"{labels}.csv"


def video_path(split: str, index: int) -> str:
    """Return the path of a video, relative to the set's folder."""
    return f"videos/{split}/{index:05d}.mp4"


def make_embedded(data_root: Path, size: str, seed: int = 0, num_workers: int | None = None, progress: bool = True) -> Path:
    """Render and encode what is missing of a set and return its folder.

    Safe to interrupt and call again: files appear whole or not at all, the manifests and info.json last.

    Args:
        num_workers: processes; None takes all cores allowed to this process.
        progress: show a bar with time to go.

    Raises:
        DataError: unknown size, or a root that cannot be written.
    """
    from vmae.data.manifest import VideoRow, list_sha256, write_manifest
    from vmae.data.scene import Scene, draw_specs

    folder = embedded_dir(data_root, size, seed)
    info_file = folder / "info.json"
    if info_file.exists():
        return folder
    scene = Scene()
    missing = []
    try:
        for split, count in SIZES[size].items():
            (folder / "videos" / split).mkdir(parents=True, exist_ok=True)
            missing += [(split, i) for i in range(count) if not (folder / video_path(split, i)).exists()]
    except OSError as error:
        raise DataError(f"cannot write {folder}: {error.strerror}") from error
    _encode_all(folder, size, seed, missing, num_workers or num_cpus(), progress)

    hashes = {}
    for labels in LABEL_SETS:
        rows = [
            VideoRow(video_path(split, i), getattr(spec, labels), split)
            for split, count in SIZES[size].items()
            for i, spec in enumerate(draw_specs(scene, seed, split, count))
        ]
        write_manifest(folder / f"{labels}.csv", rows)
        hashes[labels] = list_sha256(rows)
    info = {"size": size, "seed": seed, "version": EMBEDDED_VERSION, "scene": asdict(scene), "videos": SIZES[size]}
    write_atomic(info_file, (json.dumps(info | {"list_sha256": hashes, "encoder": ENCODER}, indent=1) + "\n").encode())
    return folder


ENCODER = {"codec": "libx264", "pix_fmt": "yuv420p", "fps": 12, "crf": "10", "preset": "veryfast", "g": "20", "bf": "0"}


def encode(path: Path, frames: Any) -> None:
    """Write uint8 `frames` [T, H, W, 3] as H.264 mp4, atomically; equal frames give equal bytes."""
    import av

    def write(temporary: Path) -> None:
        with av.open(str(temporary), "w", format="mp4", options={"fflags": "+bitexact"}) as container:
            stream = container.add_stream(str(ENCODER["codec"]), rate=int(str(ENCODER["fps"])))
            stream.height, stream.width = frames.shape[1:3]
            stream.pix_fmt = str(ENCODER["pix_fmt"])
            stream.codec_context.thread_count = 1
            stream.options = {k: str(ENCODER[k]) for k in ("crf", "preset", "g", "bf")} | {"flags": "+bitexact"}
            for frame in frames:
                container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
            container.mux(stream.encode())

    write_atomic(path, write)


def num_cpus() -> int:
    """Return the cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _encode_some(folder: Path, size: str, seed: int, split: str, indices: list[int]) -> int:
    from vmae.data.scene import Scene, draw_specs, render

    scene = Scene()
    specs = draw_specs(scene, seed, split, SIZES[size][split])
    for index in indices:
        encode(folder / video_path(split, index), render(scene, specs[index]))
    return len(indices)


def _encode_all(folder: Path, size: str, seed: int, missing: list[tuple[str, int]], num_workers: int, progress: bool) -> None:
    from rich.progress import Progress

    tasks = []
    for split in SIZES[size]:
        indices = [i for s, i in missing if s == split]
        tasks += [(split, indices[k : k + VIDEOS_PER_TASK]) for k in range(0, len(indices), VIDEOS_PER_TASK)]
    with (
        Progress(disable=not progress or not missing) as bar,
        ProcessPoolExecutor(min(num_workers, max(1, len(tasks))), mp_context=get_context("spawn")) as pool,
    ):
        shown = bar.add_task(f"embedded set {size}: {len(missing)} videos", total=len(missing))
        futures = [pool.submit(_encode_some, folder, size, seed, split, indices) for split, indices in tasks]
        try:
            for future in as_completed(futures):
                bar.advance(shown, future.result())
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
