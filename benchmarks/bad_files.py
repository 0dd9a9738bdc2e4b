"""1,000 bad videos among 10,000: the scan names each, a training epoch finishes, an evaluation counts exactly.

    python benchmarks/bad_files.py --videos 10000 --bad 1000

Eight kinds of damage in equal parts: empty, truncated, another container (an HTML page), no frames, huge dimensions, a decoder
that spins with the interpreter's lock held, missing, unreadable. The good ones are links to a few generated videos. The spinning
decoder is planted: the scan's processes call `look` below, which spins on files that begin with a mark. Training and evaluation
use the real decoder; they never open what is in quarantine.
"""

import argparse
import ctypes
import os
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import av
import numpy as np

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT)]

from sweeps.presets import tiny  # noqa: E402
from vmae.data.make import encode  # noqa: E402
from vmae.data.manifest import VideoRow, read_manifest, write_manifest  # noqa: E402
from vmae.data.quarantine import read_quarantine  # noqa: E402
from vmae.data.scan import examine, scan  # noqa: E402
from vmae.data.source import frames_of, listed_set  # noqa: E402
from vmae.data.subset import subset_order  # noqa: E402
from vmae.errors import DataError  # noqa: E402
from vmae.identity import run_id  # noqa: E402
from vmae.runs import Store  # noqa: E402
from vmae.runtime import RuntimeConfig  # noqa: E402

KINDS = ("empty", "truncated", "container", "no frames", "huge", "spinning", "missing", "unreadable")
EXPECTED = {  # words of the reason, any of them
    "empty": ("the file is empty",),
    "truncated": ("cannot be decoded", "the file is damaged"),
    "container": ("cannot be decoded",),
    "no frames": ("no frame can be decoded", "no video stream", "cannot be decoded"),
    "huge": ("at most 8192 on a side",),
    "spinning": ("its process was killed",),
    "missing": ("No such file",),
    "unreadable": ("Permission denied", "Too many levels of symbolic links"),
}
MARK = b"a decoder spins on this"
SHARES = {"pretrain": 0.4, "holdout": 0.1, "train": 0.3, "test": 0.2}
BAD_SHARES = {"pretrain": 0.18, "holdout": 0.12, "train": 0.14, "test": 0.56}  # training splits stay below 5 % of themselves
NUM_CLASSES = 8
NUM_GOOD_FILES = 32


def look(path: str, backend: str) -> dict[str, Any]:
    """Examine a video, with the planted fault."""
    with Path(path).open("rb") as file:
        if file.read(len(MARK)) == MARK:
            ctypes.PyDLL(None).pause()
    return examine(path, backend)


def plant(folder: Path, num_videos: int, num_bad: int) -> tuple[Path, dict[str, str]]:
    """Write videos and manifest; return the manifest and {path: kind} of the bad ones."""
    rng = np.random.default_rng(0)
    good = []
    for i in range(NUM_GOOD_FILES):
        path = folder / "generated" / f"{i}.mp4"
        encode(path, rng.integers(0, 256, (18, 32, 32, 3), dtype=np.uint8))
        good.append(path)
    contents = {
        "truncated": good[0].read_bytes()[:-2000],
        "container": b"<html>Video unavailable</html>" * 50,
        "no frames": _no_frames(folder / "generated" / "no frames.mp4"),
        "huge": _huge(folder / "generated" / "huge.mp4"),
        "spinning": MARK,
        "empty": b"",
    }
    rows = []
    for split, share in SHARES.items():
        rows += [VideoRow(f"videos/{split}/{i:05d}.mp4", i % NUM_CLASSES, split) for i in range(round(num_videos * share))]
    bad: dict[str, str] = {}
    for split, share in BAD_SHARES.items():
        chosen = subset_order([row for row in rows if row.split == split], seed=1)[: round(num_bad * share)]
        bad |= {row.path: KINDS[(len(bad) + i) % len(KINDS)] for i, row in enumerate(chosen)}
    for i, row in enumerate(rows):
        path, kind = folder / row.path, bad.get(row.path)
        path.parent.mkdir(parents=True, exist_ok=True)
        if kind is None:
            path.hardlink_to(good[i % NUM_GOOD_FILES])
        elif kind in contents:
            path.write_bytes(contents[kind])
        elif kind == "unreadable":
            _unreadable(path, contents["container"])
    write_manifest(folder / "list.csv", rows)
    return folder / "list.csv", bad


def _unreadable(path: Path, content: bytes) -> None:
    """Make a file that nobody can open: root reads any mode, but not a link that points to itself."""
    if os.geteuid():
        path.write_bytes(content)
        path.chmod(0)
    else:
        path.symlink_to(path.name)


def _no_frames(path: Path) -> bytes:
    with av.open(str(path), "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=12)
        stream.height, stream.width, stream.pix_fmt = 32, 32, "yuv420p"
        container.start_encoding()
    return path.read_bytes()


def _huge(path: Path) -> bytes:
    encode(path, np.zeros((2, 16, 8200, 3), np.uint8))
    return path.read_bytes()


def check_scan(file: Path, bad: dict[str, str], timeout_s: float) -> None:
    """Scan, and compare what it says with what was planted."""
    started = time.perf_counter()
    done = scan(file, timeout_s=timeout_s, look=look)
    took_s = time.perf_counter() - started
    reasons = {row.path: row.reason for row in done.bad}
    named = {path for path, reason in reasons.items() if path in bad and any(w in reason for w in EXPECTED[bad[path]])}
    print(f"scan: {len(done.rows)} videos in {took_s:.0f} s, {len(done.bad)} bad")
    for kind in KINDS:
        planted = [path for path in bad if bad[path] == kind]
        print(f"  {kind}: {len(named & set(planted))} of {len(planted)} named, e.g. {reasons.get(planted[0])}")
    assert named == set(bad), f"not named, or for another reason: {sorted(set(bad) - named)[:3]}"
    assert set(reasons) == set(bad), f"good ones blamed: {sorted(set(reasons) - set(bad))[:3]}"
    assert set(read_quarantine(file)) == set(bad)
    again = scan(file, timeout_s=timeout_s, look=look, progress=False)
    print(f"scan again: {again.num_decoded} decoded, {len(again.bad)} bad")
    assert (again.num_decoded, again.bad) == (0, done.bad)


def check_runs(file: Path, bad: dict[str, str], folder: Path) -> None:
    """Pre-train for an epoch, fine-tune, evaluate; compare the counts with what was planted."""
    from vmae.job import work  # here, so that the scan's processes do without torch

    runtime = RuntimeConfig(device="cpu", num_threads=1, cache=False, data_root=str(folder), log_every_steps=1000)
    unlabelled, labelled = listed_set(file, "planted"), listed_set(file, "planted", NUM_CLASSES)
    recipe = tiny("motion").replace(
        {
            "pretrain.data": unlabelled.model_dump(),
            "finetune.data": labelled.model_dump(),
            "pretrain.optim.epochs": 1,
            "pretrain.optim.warmup_epochs": 0.5,
            "finetune.optim.epochs": 1,
            "finetune.optim.warmup_epochs": 0.5,
            "evaluate.num_clips": 1,
        }
    )
    manifest, store = read_manifest(file), Store(folder / "runs")
    splits = {row.path: row.split for row in manifest.rows}
    num_bad, total = Counter(splits[path] for path in bad), manifest.counts()
    for run in recipe.runs():
        place = store.run(run_id(run))
        place.create(run)
        started = time.perf_counter()
        result = work(place, runtime)
        took_s = time.perf_counter() - started
        if run.stage == "evaluate":
            scored, expected, unread = (result.metrics[name] for name in ("num_scored", "num_expected", "unread"))
            print(f"evaluate: {scored} of {expected} scored, {len(unread)} named, {took_s:.0f} s")
            assert (scored, expected) == (total["test"] - num_bad["test"], total["test"])
            assert len(unread) == num_bad["test"]
            assert all("in quarantine by scan" in reason for reason in unread)
        else:
            split = "train" if run.stage == "finetune" else "pretrain"
            seen, replaced = result.compute["num_clips"], result.compute["num_replaced"]
            known = f"{num_bad[split]} of {total[split]} bad"
            print(f"{run.stage}: an epoch of {seen} clips, {replaced} replaced, {known}, {took_s:.0f} s")
            assert num_bad[split] - (total[split] - seen) <= replaced <= num_bad[split]
    strict = runtime.model_copy(update={"max_quarantined": 0.01})
    try:
        frames_of(manifest, "pretrain", strict)
    except DataError as error:
        print(f"with max_quarantined = 0.01: {str(error).partition(';')[0].replace(str(folder), '...')}")
    else:
        raise AssertionError("more than allowed were not refused")


def main() -> None:
    """Plant, scan, train, evaluate; an AssertionError says what was not as planted."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--videos", type=int, default=10_000)
    parser.add_argument("--bad", type=int, default=1_000)
    parser.add_argument("--seconds", type=float, default=2.0, help="deadline of one video in the scan")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bad-files-") as name:
        folder = Path(name)
        file, bad = plant(folder, options.videos, options.bad)
        print(f"planted {len(bad)} bad among {options.videos}")
        check_scan(file, bad, options.seconds)
        check_runs(file, bad, folder)
    print("all as planted")


if __name__ == "__main__":
    main()
