"""Re-encodes a list's videos small and quick to seek in: H.264, a short side at most so long, a key frame every few frames.

What is made is another data set, for its pixels are others: its list has paths of its own, which say what was done, and so
another hash. Frame i of the new file is frame i of the old one. Safe to interrupt and call again: files are whole or not there.
"""

import functools
import glob
import itertools
import json
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path, PurePosixPath
from typing import Any

import av
import numpy as np

from vmae.data.alone import alone_in, clear_away
from vmae.data.deadline import Blamed, DeadlinePool
from vmae.data.decoders import open_video, pictures_of, quarter_turns, video_stream
from vmae.data.made import Made, begin, finish, source_of
from vmae.data.manifest import About, Manifest, VideoRow, beside, read_manifest
from vmae.data.pack import short_side
from vmae.data.quarantine import reasons_by_path
from vmae.data.video import backend_version, read_clips
from vmae.errors import DataError, Interrupted, RunDirError
from vmae.files import write_atomic
from vmae.runtime import num_cpus

SECONDS_PER_VIDEO = 600.0
LEAST_PSNR_DB = 25.0  # of brightness, for 4:2:0 keeps little of small coloured things; crf 18 has about 40, another picture 15
RGB_MATRIX = 0  # AVCOL_SPC_RGB: a source that is no YUV; its pictures are made BT.601, which is what readers assume
LUMA = np.array([0.299, 0.587, 0.114])
Task = tuple[str, Path, Path]  # a video's path in the list, its file, the new file


@dataclass(frozen=True)
class Coding:
    """How videos are written."""

    short_side_px: int = 256
    gop_frames: int = 12
    crf: int = 18
    preset: str = "veryfast"

    def __post_init__(self) -> None:
        if self.short_side_px < 16 or self.gop_frames < 1 or not 0 <= self.crf <= 51:
            raise DataError(
                f"short side {self.short_side_px} px, GOP {self.gop_frames}, crf {self.crf}; "
                f"allowed: 16 px or more, 1 frame or more, 0 to 51"
            )

    @property
    def name(self) -> str:
        """The first folder of every path in the new list."""
        return f"short{self.short_side_px}-gop{self.gop_frames}-crf{self.crf}"


@dataclass(frozen=True)
class Unwritten:
    """Why a new file could not be written: a full disk says nothing about a video."""

    reason: str


def transcode(
    file: Path,
    out: Path,
    coding: Coding = Coding(),  # frozen
    num_workers: int | None = None,
    timeout_s: float = SECONDS_PER_VIDEO,
    progress: bool = True,
) -> Manifest:
    """Re-encode the videos of the manifest `file` into the folder `out`, or finish that, and return the new list, out/NAME.csv.

    Lists that were taken from it (NAME-pretrain.csv) are written there too, of the same files. Each new file is read again and
    compared with the old one: the number of frames, and first, middle and last frame. Videos that are in quarantine or cannot be
    decoded keep their row and are in the new list's quarantine.

    Args:
        num_workers: processes; None takes all cores allowed to this one.
        timeout_s: seconds for one video, after which its process is killed.
        progress: show a bar with time to go.

    Raises:
        DataError: an unusable manifest, a folder that was begun with other settings or another list, none can be read; another
            call is writing there.
        RunDirError: a new file cannot be written; no video is blamed for that.
        Interrupted: by Ctrl-C; the same call goes on.
    """
    manifest = read_manifest(file)
    if manifest.about.packed is not None:
        raise DataError(f"{file} lists packed frames, which are no videos")
    made = asdict(coding) | {
        "source": file.name,
        "source_sha256": manifest.list_sha256,
        "decoder": backend_version("pyav"),
        "encoder": f"libx264 of FFmpeg's libavcodec {'.'.join(map(str, av.library_versions['libavcodec']))}",
    }
    if outside := [row.path for row in manifest.rows if PurePosixPath(row.path).is_absolute() or ".." in Path(row.path).parts]:
        raise DataError(
            f"{len(outside)} paths of {file} lead out of the folder that they are relative to, so out of {out} too; "
            f"the first: {outside[0]!r}; name a root in {beside(file, 'about.json').name} that all videos are below"
        )
    encode = functools.partial(_encode, coding)
    with alone_in(out, "transcoding to"), DeadlinePool(num_workers or num_cpus()) as pool:
        begin(out, made, manifest)
        clear_away(out / coding.name)
        found = dict(_encode_all(manifest, out / coding.name, lambda todo: pool.run(encode, todo, timeout_s), progress))
        return _finish(manifest, out, coding, made, found)


def _finish(manifest: Manifest, out: Path, coding: Coding, made: dict[str, Any], found: dict[str, Any]) -> Manifest:
    rows = [
        VideoRow(f"{coding.name}/{row.path}.mp4", row.label, row.split, _facts(row, found[row.path])) for row in manifest.rows
    ]
    reasons = {new.path: what for row, new in zip(manifest.rows, rows, strict=True) if isinstance(what := found[row.path], str)}
    if len(reasons) == len(rows):
        raise DataError(f"not one of {len(rows)} videos can be transcoded; the first: {next(iter(reasons.values()))}")
    return finish(manifest, out, Made(About(classes=manifest.about.classes, made=made), rows, reasons, "transcode"))


def _facts(row: VideoRow, found: dict[str, Any] | str) -> dict[str, Any]:
    kept = {"id": row.facts["id"]} if "id" in row.facts else {}
    return kept if isinstance(found, str) else kept | {name: found[name] for name in ("frames", "fps", "width", "height")}


def _encode_all(
    manifest: Manifest,
    folder: Path,
    encode: Callable[[Sequence[Task]], Iterator[tuple[Task, dict[str, Any] | Unwritten | Blamed]]],
    progress: bool,
) -> Iterator[tuple[str, dict[str, Any] | str]]:
    """Yield, by path, what is known of each video's new file, or why there is none; `encode` makes them in other processes."""
    from rich.progress import Progress

    set_aside = reasons_by_path(manifest, manifest.rows)
    todo = []
    for row in manifest.rows:
        target = folder / f"{row.path}.mp4"
        if row.path in set_aside:
            yield row.path, set_aside[row.path]
        elif known := _finished(manifest.absolute(row), target):
            yield row.path, known
        else:
            todo.append((row.path, manifest.absolute(row), target))
    done = 0
    try:
        with Progress(disable=not progress) as bar:
            shown = bar.add_task(f"transcoding {len(todo)} videos", total=len(todo))
            for (path, source, target), result in encode(todo):
                if isinstance(result, Unwritten):
                    raise RunDirError(f"{result.reason}; {done} of {len(todo)} videos are transcoded, the same call goes on")
                if isinstance(result, Blamed):
                    for left in (target, *target.parent.glob(f".{glob.escape(target.name)}.*.tmp")):  # by one that was killed
                        left.unlink(missing_ok=True)
                    yield path, result.without(source)
                else:
                    yield path, result
                done += 1
                bar.advance(shown)
    except KeyboardInterrupt:
        raise Interrupted(f"Ctrl-C; {done} of {len(todo)} videos are transcoded") from None


def _note(target: Path) -> Path:
    return target.with_name(f".{target.name}.json")


def _finished(source: Path, target: Path) -> dict[str, Any] | None:
    """Return what was noted of a finished file whose source has not changed since; it may be gone, now that it is transcoded."""
    try:
        known: dict[str, Any] = json.loads(_note(target).read_text(encoding="utf-8"))
        return known if target.is_file() and source_of(source) in (None, known["source"]) else None
    except (OSError, ValueError, KeyError):
        return None


def _encode(coding: Coding, task: Task) -> dict[str, Any] | Unwritten:
    """Write a video's new file, look at it, and return what is to be known of it; runs in another process."""
    _, source, target = task
    stat = source.stat()
    about: dict[str, Any] = {}

    def write(temporary: Path) -> None:
        about.update(_write(coding, source, temporary))
        _compare(source, temporary, about)

    try:
        write_atomic(target, write)
        about["source"] = [stat.st_size, stat.st_mtime_ns]
        write_atomic(_note(target), json.dumps(about).encode())
    except RunDirError as error:
        return Unwritten(str(error))
    return about


def _write(coding: Coding, source: Path, target: Path) -> dict[str, Any]:
    count = 0
    with closing(_pictures(source)) as pictures, av.open(str(target), "w", format="mp4") as new:
        first = next(pictures)
        rate = first[1]
        made = new.add_stream("libx264", rate=rate.limit_denominator(1001))
        made.options = {"crf": str(coding.crf), "preset": coding.preset, "g": str(coding.gop_frames), "sc_threshold": "0"}
        made.codec_context.thread_count = 1
        made.pix_fmt = "yuv420p"
        made.width, made.height = _even(short_side(first[0].width, first[0].height, coding.short_side_px))
        for picture, _ in itertools.chain([first], pictures):
            small = picture.reformat(made.width, made.height, "yuv420p", interpolation="BICUBIC")
            if not count:
                _say_colours(made.codec_context, small)
            small.pts, small.time_base = count, 1 / rate.limit_denominator(1001)
            small.pict_type = 0
            new.mux(made.encode(small))
            count += 1
        new.mux(made.encode())
    return {"frames": count, "fps": float(rate), "width": made.width, "height": made.height}


def _pictures(source: Path) -> Generator[tuple[av.VideoFrame, Fraction]]:
    """Yield a video's pictures, upright, with its rate; a failure to read is a DataError, so none is taken for one to write."""
    count = 0
    try:
        with open_video(source) as container:
            stream = video_stream(source, container)
            for picture in pictures_of(source, container, stream):
                rate = stream.average_rate or Fraction(25)  # from PyAV 19 on a rational of its own
                yield _upright(picture), Fraction(rate.numerator, rate.denominator)
                count += 1
    except (av.FFmpegError, OSError) as error:
        raise DataError(f"{source}: cannot be decoded: {error.strerror}") from None
    if not count:
        raise DataError(f"{source}: no frame can be decoded")


def _upright(picture: av.VideoFrame) -> av.VideoFrame:
    """Return a picture as readers show it: phones store it lying, with a note how to turn it that the new file does not have."""
    turns = quarter_turns(picture)
    if not turns:
        return picture
    return av.VideoFrame.from_ndarray(np.ascontiguousarray(np.rot90(picture.to_ndarray(format="rgb24"), turns)), format="rgb24")


def _say_colours(encoder: Any, picture: av.VideoFrame) -> None:
    """Note in the new file how its numbers stand for colours: readers take what says nothing for BT.601 of limited range."""
    encoder.color_range = picture.color_range
    if picture.colorspace != RGB_MATRIX:
        encoder.colorspace = picture.colorspace
    for name in ("color_primaries", "color_trc"):
        if hasattr(picture, name):  # not in older PyAV
            setattr(encoder, name, getattr(picture, name))


def _even(size: tuple[int, int]) -> tuple[int, int]:
    return max(2, size[0] // 2 * 2), max(2, size[1] // 2 * 2)


def _compare(source: Path, target: Path, about: dict[str, Any]) -> None:
    """Raise DataError unless both have as many frames, and the same pictures at the ends and in the middle."""
    numbers = sorted({0, about["frames"] // 2, about["frames"] - 1})
    lengths: list[int] = []

    def choose(length: int) -> np.ndarray:
        lengths.append(length)
        return np.array([numbers])

    old, new = (read_clips(path, choose, "pyav")[0] for path in (source, target))
    if lengths != [about["frames"]] * 2:
        raise DataError(f"{source}: {lengths[0]} frames became {lengths[1]}")
    for number, before, after in zip(numbers, old, new, strict=True):
        picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(before), format="rgb24")
        wanted = picture.reformat(about["width"], about["height"], interpolation="BICUBIC").to_ndarray(format="rgb24")
        error = np.mean(((wanted.astype(np.float64) - after) @ LUMA) ** 2)
        psnr_db = 10 * np.log10(255**2 / max(error, 1e-9))
        if psnr_db < LEAST_PSNR_DB:
            raise DataError(f"{source}: frame {number} changed too much: {psnr_db:.0f} dB, at least {LEAST_PSNR_DB:.0f} expected")
