"""Packs a list: decodes each video once, resizes its frames, and stores them for reading one by one (vmae.data.packed).

What is made is another data set, for its pixels are others: its list has paths of its own, which say what was done, and so
another hash. Safe to interrupt and call again: shards are whole or not there, and one that was cut since is made again.
"""

import functools
import io
import json
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image

from vmae.data.deadline import Blamed, DeadlinePool
from vmae.data.manifest import About, Manifest, VideoRow, read_manifest, write_about, write_manifest
from vmae.data.packed import HEAD, Place, places, read_index, shard_file, write_index
from vmae.data.quarantine import Quarantined, reasons_of, write_quarantine
from vmae.data.video import backend_version, read_video, resolve_backend
from vmae.errors import DataError, Interrupted
from vmae.files import write_atomic
from vmae.runtime import num_cpus

VIDEOS_PER_SHARD = 64  # of 10 s: 0.5 GB as JPEG of 256 px, 1.3 GB as bytes of 128 px: few files, and little lost by Ctrl-C
SECONDS_PER_VIDEO = 120.0


@dataclass(frozen=True)
class Packing:
    """How frames are stored: their short side at most so long, as JPEG of a quality or as bytes."""

    short_side_px: int = 256
    form: Literal["jpeg", "raw"] = "jpeg"
    quality: int = 90
    videos_per_shard: int = VIDEOS_PER_SHARD

    def __post_init__(self) -> None:
        if self.form not in ("jpeg", "raw"):
            raise DataError(f"form {self.form!r}; allowed: jpeg, raw")
        if self.short_side_px < 8 or not 1 <= self.quality <= 100:
            raise DataError(f"short side {self.short_side_px} px, quality {self.quality}; allowed: 8 px or more, 1 to 100")
        if self.videos_per_shard < 1:
            raise DataError(f"{self.videos_per_shard} videos per shard; allowed: 1 or more")

    @property
    def name(self) -> str:
        """The first folder of every path in the new list."""
        return f"short{self.short_side_px}-{f'jpeg{self.quality}' if self.form == 'jpeg' else 'raw'}"


@dataclass(frozen=True)
class Stored:
    """A video's frames as they are written."""

    content: bytes
    frames: int
    height: int
    width: int


def pack(
    file: Path,
    out: Path,
    packing: Packing = Packing(),  # frozen
    num_workers: int | None = None,
    timeout_s: float = SECONDS_PER_VIDEO,
    backend: str = "auto",
    progress: bool = True,
) -> Manifest:
    """Pack the videos of the manifest `file` into the folder `out`, or finish that, and return the new list, out/NAME.csv.

    Videos that are in quarantine or cannot be decoded keep their row; they have no frames and are in the new list's quarantine.

    Args:
        num_workers: processes; None takes all cores allowed to this one.
        timeout_s: seconds for one video, after which its process is killed.
        progress: show a bar with time to go.

    Raises:
        DataError: an unusable manifest, a folder that was begun with other settings or another list, none can be read.
        Interrupted: by Ctrl-C; the same call goes on.
    """
    manifest = read_manifest(file)
    if manifest.about.packed is not None:
        raise DataError(f"{file} is packed already")
    made = asdict(packing) | {
        "source": file.name,
        "source_sha256": manifest.list_sha256,
        "decoder": backend_version(resolve_backend(backend)),
        "pillow": version("pillow"),
    }
    shards = out / "shards"
    begin(out, made, file.name)
    _write_shards(manifest, shards, packing, functools.partial(_store, packing, backend), (num_workers, timeout_s, progress))
    packed = out / file.name
    named = [VideoRow(f"{packing.name}/{row.path}", row.label, row.split, row.facts) for row in manifest.rows]
    about = About(classes=manifest.about.classes, made=made, packed="shards")
    found = places(Manifest(packed, tuple(named), "", about))
    if all(place.reason for place in found.values()):
        raise DataError(f"not one of {len(named)} videos can be read; the first: {next(iter(found.values())).reason}")
    rows = [_with_facts(row, found[row.path]) for row in named]
    return finish(packed, about, rows, {path: place.reason for path, place in found.items() if place.reason}, "pack")


def begin(out: Path, made: dict[str, Any], name: str) -> None:
    """Note in a folder what is being made there.

    Args:
        name: of the list that will stand in it.

    Raises DataError if something else was begun there, naming what differs, or if a list of that name is there already.
    """
    note = out / "made.json"
    if (out / name).exists() and not note.exists():
        raise DataError(f"{out / name} is a list that was not made here and would be lost; choose another folder")
    try:
        before = json.loads(note.read_text(encoding="utf-8"))
    except FileNotFoundError:
        write_atomic(note, (json.dumps(made, indent=1) + "\n").encode())
        return
    except (OSError, ValueError) as error:
        raise DataError(f"cannot read {note}: {error}") from None
    keys = [key for key in {**before, **made} if before.get(key) != made.get(key)]
    differs = [f"{key} = {before.get(key)!r}, now {made.get(key)!r}" for key in keys]
    if differs:
        raise DataError(f"{out} was begun with other settings: {'; '.join(differs)}; choose another folder, or delete this one")


def finish(file: Path, about: About, rows: Sequence[VideoRow], reasons: Mapping[str, str], by: str) -> Manifest:
    """Write a list that was made of another, with what stands beside it, and return it.

    Args:
        reasons: why videos are set aside, by path; `by` is whose word that is.
    """
    write_about(file, about)
    write_manifest(file, rows)
    write_quarantine(file, [Quarantined(path, reason, by) for path, reason in reasons.items()], replacing=(by,))
    return read_manifest(file)


def _write_shards(
    manifest: Manifest,
    folder: Path,
    packing: Packing,
    store: Callable[[Path], Stored],
    how: tuple[int | None, float, bool],
) -> None:
    from rich.progress import Progress

    num_workers, timeout_s, progress = how
    rows, reasons = manifest.rows, reasons_of(manifest, manifest.rows)
    firsts = [*range(0, len(rows), packing.videos_per_shard), len(rows)]
    todo = [(n, rows[a:b]) for n, (a, b) in enumerate(pairwise(firsts)) if not _is_whole(shard_file(folder, n))]
    set_aside = {rows[position].path: reason for position, reason in reasons.items()}
    wanted = [manifest.absolute(row) for _, part in todo for row in part if row.path not in set_aside]
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with Progress(disable=not progress) as bar, DeadlinePool(num_workers or num_cpus()) as pool:
            shown = bar.add_task(f"packing {len(wanted)} videos", total=len(wanted))
            stored = pool.run(store, wanted, timeout_s)

            def contents(part: Sequence[VideoRow]) -> Iterator[tuple[VideoRow, Stored | Blamed]]:
                for row in part:
                    if row.path in set_aside:
                        yield row, Blamed("raised", set_aside[row.path])
                    else:
                        yield row, next(stored)[1]
                        bar.advance(shown)

            for number, part in todo:
                _write_shard(shard_file(folder, number), contents(part), packing, manifest)
    except KeyboardInterrupt:
        raise Interrupted(f"Ctrl-C; {len(list(folder.glob('shard-*.json')))} of {len(firsts) - 1} shards are packed") from None
    except OSError as error:
        raise DataError(f"cannot write {folder}: {error.strerror or error}") from None


def _is_whole(index: Path) -> bool:
    try:
        return bool(read_index(index))
    except DataError:
        return False


def _write_shard(index: Path, contents: Iterator[tuple[VideoRow, Stored | Blamed]], packing: Packing, manifest: Manifest) -> None:
    name = packing.name
    videos: dict[str, dict[str, Any]] = {}

    def write(temporary: Path) -> None:
        with temporary.open("wb") as file:
            for row, content in contents:
                if isinstance(content, Blamed):
                    videos[f"{name}/{row.path}"] = {"reason": content.reason.removeprefix(f"{manifest.absolute(row)}: ")}
                    continue
                about = {"offset": file.tell(), "frames": content.frames, "height": content.height, "width": content.width}
                videos[f"{name}/{row.path}"] = about
                file.write(content.content)

    data = index.with_suffix(".bin")
    write_atomic(data, write)
    write_index(index, data.stat().st_size, packing.form, videos)


def _store(packing: Packing, backend: str, path: Path) -> Stored:
    """Decode a video and return its frames as they are stored; runs in another process."""
    frames = read_video(path, backend)
    size = short_side(frames.shape[2], frames.shape[1], packing.short_side_px)
    contents = []
    for frame in frames:
        image = Image.fromarray(frame)
        if size != image.size:
            image = image.resize(size, Image.Resampling.BILINEAR)
        contents.append(image.tobytes() if packing.form == "raw" else _jpeg(image, packing.quality))
    head = np.array([(len(content), zlib.crc32(content)) for content in contents], HEAD)
    return Stored(head.tobytes() + b"".join(contents), len(contents), size[1], size[0])


def _jpeg(image: Image.Image, quality: int) -> bytes:
    content = io.BytesIO()
    image.save(content, "JPEG", quality=quality)
    return content.getvalue()


def short_side(width: int, height: int, most_px: int) -> tuple[int, int]:
    """Return width and height with the short side at most `most_px`, in the same proportion; never larger."""
    short = min(width, height)
    return (width, height) if short <= most_px else (round(width * most_px / short), round(height * most_px / short))


def _with_facts(row: VideoRow, place: Place) -> VideoRow:
    kept = {name: value for name, value in row.facts.items() if name in ("id", "fps")}
    facts = kept | ({} if place.reason else {"frames": place.frames, "width": place.width, "height": place.height})
    return VideoRow(row.path, row.label, row.split, facts)
