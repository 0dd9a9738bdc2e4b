"""Packs a list: decodes each video once, resizes its frames, and stores them for reading one by one (vmae.data.packed).

What is made is another data set, for its pixels are others: its list has paths of its own, which say what was done, and so
another hash. Safe to interrupt and call again: shards are whole or not there, and one that was cut since is made again. A later
call looks again at what could not be read and at what has changed, and keeps the rest.
"""

import functools
import io
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image

from vmae.data.alone import alone_in, clear_away
from vmae.data.deadline import Blamed, DeadlinePool
from vmae.data.made import Made, begin, finish, source_of
from vmae.data.manifest import About, Manifest, VideoRow, read_manifest
from vmae.data.packed import HEAD, Place, places, read_index, shard_file, stored_bytes, write_index
from vmae.data.quarantine import reasons_by_path
from vmae.data.video import backend_version, resolve_backend, through_frames
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
    """A video's frames as they are written, with their heads before them."""

    head: bytes
    content: bytes | bytearray
    frames: int
    height: int
    width: int


@dataclass(frozen=True)
class _Shard:
    """A shard, and what is known of its videos.

    Args:
        index: its file.
        old: what it holds, by path of the source; empty where it is not whole.
        set_aside: why videos are not to be opened, by path of the source.
        sources: size and time of change of each video's file, None where there is none.
    """

    index: Path
    rows: Sequence[VideoRow]
    old: Mapping[str, Place]
    set_aside: Mapping[str, str]
    sources: Mapping[str, Sequence[int] | None]

    def keeps(self, path: str) -> bool:
        """Return whether what is stored of a video, or why nothing is, still holds; what could not be read is tried again."""
        place = self.old.get(path)
        if place is None:
            return False
        if place.reason:
            return path in self.set_aside
        return place.source is None or self.sources[path] in (None, place.source)  # originals may be gone once packed

    @property
    def to_open(self) -> list[str]:
        """The videos that are decoded for it, by path."""
        return [row.path for row in self.rows if not self.keeps(row.path) and row.path not in self.set_aside]

    @property
    def is_done(self) -> bool:
        """Whether nothing is to be done."""
        return all(self.keeps(row.path) for row in self.rows)


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

    Lists that were taken from it (NAME-pretrain.csv) are written there too, of the same frames.
    Videos that are in quarantine or cannot be decoded keep their row; they have no frames and are in the new list's quarantine.

    Args:
        num_workers: processes; None takes all cores allowed to this one.
        timeout_s: seconds for one video, after which its process is killed.
        progress: show a bar with time to go.

    Raises:
        DataError: an unusable manifest, a folder that was begun with other settings or another list, none can be read; another
            call is writing there.
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
    shards, store = out / "shards", functools.partial(_store, packing, backend)
    with alone_in(out, "packing to"), DeadlinePool(num_workers or num_cpus()) as pool:
        begin(out, made, manifest)
        clear_away(shards)
        _write_shards(manifest, shards, packing, lambda paths: pool.run(store, paths, timeout_s), progress)
        return _finish(manifest, out, packing, made)


def _finish(manifest: Manifest, out: Path, packing: Packing, made: Mapping[str, Any]) -> Manifest:
    """Write the new list, and those that were taken from the old one, of what the shards hold."""
    packed = out / manifest.file.name
    named = [VideoRow(f"{packing.name}/{row.path}", row.label, row.split, row.facts) for row in manifest.rows]
    about = About(classes=manifest.about.classes, made=made, packed="shards")
    found = places(Manifest(packed, tuple(named), "", about))
    if all(place.reason for place in found.values()):
        raise DataError(f"not one of {len(named)} videos can be read; the first: {next(iter(found.values())).reason}")
    rows = [_with_facts(row, found[row.path]) for row in named]
    reasons = {row.path: found[row.path].reason for row in rows if found[row.path].reason}
    return finish(manifest, out, Made(about, rows, reasons, "pack"))


def _write_shards(
    manifest: Manifest,
    folder: Path,
    packing: Packing,
    store: Callable[[Sequence[Path]], Iterator[tuple[Path, Stored | Blamed]]],
    progress: bool,
) -> None:
    """Write the shards that are missing or have changed; `store` yields each file with its frames, in other processes."""
    from rich.progress import Progress

    shards = list(_shards(manifest, folder, packing))
    todo = [(shard, shard.to_open) for shard in shards if not shard.is_done]
    where = {row.path: manifest.absolute(row) for row in manifest.rows}
    wanted = [where[path] for _, paths in todo for path in paths]
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with Progress(disable=not progress) as bar:
            shown = bar.add_task(f"packing {len(wanted)} videos", total=len(wanted))
            stored = store(wanted)

            def found(paths: Sequence[str]) -> Iterator[tuple[str, Stored | str]]:
                for path in paths:
                    file, result = next(stored)
                    bar.advance(shown)
                    yield path, result.without(file) if isinstance(result, Blamed) else result

            for shard, paths in todo:
                _write_shard(shard, found(paths), packing)
    except KeyboardInterrupt:
        raise Interrupted(f"Ctrl-C; {len(list(folder.glob('shard-*.json')))} of {len(shards)} shards are packed") from None
    except OSError as error:
        raise DataError(f"cannot write {folder}: {error.strerror or error}") from None


def _shards(manifest: Manifest, folder: Path, packing: Packing) -> Iterator[_Shard]:
    rows = manifest.rows
    set_aside = reasons_by_path(manifest, rows)
    for number, first in enumerate(range(0, len(rows), packing.videos_per_shard)):
        part, index = rows[first : first + packing.videos_per_shard], shard_file(folder, number)
        try:
            old = {path.removeprefix(f"{packing.name}/"): place for path, place in read_index(index).items()}
        except DataError:
            old = {}
        yield _Shard(index, part, old, set_aside, {row.path: source_of(manifest.absolute(row)) for row in part})


def _write_shard(shard: _Shard, found: Iterator[tuple[str, Stored | str]], packing: Packing) -> None:
    """Write a shard of what it keeps and what was found (frames, or why there are none), unless that is what stands there."""
    if shard.old:  # few are to be looked at again, so all of them fit into memory
        anew = dict(found)
        before = {path: place.reason for path, place in shard.old.items()}
        if all(isinstance(result, str) and result == before.get(path) for path, result in anew.items()):
            return
        found = iter(anew.items())
    data, videos = shard.index.with_suffix(".bin"), {}

    def write(temporary: Path) -> None:
        with temporary.open("wb") as file:
            for row in shard.rows:
                about: dict[str, Any]
                if shard.keeps(row.path) and not (place := shard.old[row.path]).reason:
                    about = _about(file.tell(), place) | {"source": place.source}
                    file.write(stored_bytes(shard.index.parent, place))
                elif row.path in shard.set_aside:
                    about = {"reason": shard.set_aside[row.path]}
                else:
                    path, result = next(found)
                    assert path == row.path, "found comes in the order of the rows"
                    if isinstance(result, str):
                        about = {"reason": result}
                    else:
                        about = _about(file.tell(), result) | {"source": shard.sources[path]}
                        file.write(result.head)
                        file.write(result.content)
                videos[f"{packing.name}/{row.path}"] = about

    write_atomic(data, write)
    write_index(shard.index, data.stat().st_size, packing.form, videos)


def _about(offset: int, place: Stored | Place) -> dict[str, Any]:
    return {"offset": offset, "frames": place.frames, "height": place.height, "width": place.width}


def _store(packing: Packing, backend: str, path: Path) -> Stored:
    """Decode a video and return its frames as they are stored; runs in another process."""
    return through_frames(path, functools.partial(_stored, packing), backend)


def _stored(packing: Packing, frames: Iterator[np.ndarray]) -> Stored:
    heads, contents, size = [], bytearray(), (0, 0)
    for frame in frames:
        image = Image.fromarray(frame)
        size = short_side(image.width, image.height, packing.short_side_px)
        if size != image.size:
            image = image.resize(size, Image.Resampling.BILINEAR)
        content = image.tobytes() if packing.form == "raw" else _jpeg(image, packing.quality)
        heads.append((len(content), zlib.crc32(content)))
        contents += content
    return Stored(np.array(heads, HEAD).tobytes(), contents, len(heads), size[1], size[0])


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
