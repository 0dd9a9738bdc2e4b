"""Decodes every video of a list to its end, in processes that can be killed, and sets aside what training cannot use.

What is found stands beside the manifest: NAME.scan.csv with counts and reasons, and the quarantine. A file that has not changed
since an earlier scan is not decoded again, so an interrupted scan goes on where it was; one that training set aside is, on this
list or on one taken from it.
"""

import csv
import functools
import io
import json
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vmae.data.alone import alone
from vmae.data.deadline import Blamed, DeadlinePool
from vmae.data.decoders import MAX_SIDE_PX, open_video, pictures_of, video_stream
from vmae.data.manifest import FACTS, Manifest, ancestors, beside, check_root, descendants, read_manifest
from vmae.data.quarantine import Quarantined, read_quarantine, write_quarantine
from vmae.data.video import backend_version, read_clips, resolve_backend
from vmae.errors import DataError, Interrupted
from vmae.files import write_atomic
from vmae.runtime import num_cpus

if TYPE_CHECKING:
    from av.video.frame import VideoFrame
    from rich.progress import Progress

SECONDS_PER_VIDEO = 120.0
RESULTS_AHEAD = 1000


@dataclass(frozen=True)
class Seen:
    """What a scan saw of a video; `reason` says why it cannot be used, empty if it can."""

    path: str
    frames: int | None = None
    fps: float | None = None
    width: int | None = None
    height: int | None = None
    bytes: int | None = None
    mtime: int | None = None
    decoder: str = ""
    kind: str = ""
    reason: str = ""


Task = tuple[Path, Seen]  # a file to look at, and what is known of it without


@dataclass(frozen=True)
class Scan:
    """A finished scan: one row per video in the list's order, and how many of them were looked at now."""

    rows: tuple[Seen, ...]
    num_decoded: int

    @property
    def bad(self) -> tuple[Seen, ...]:
        """Those that cannot be used."""
        return tuple(row for row in self.rows if row.reason)


def examine(path: str, backend: str) -> dict[str, Any]:
    """Decode a video to its end, and its first and last frame as training would; return frames, fps, width and height.

    Raises DataError with the reason why it cannot be used.
    """
    import av

    try:
        with open_video(path) as container:
            stream = video_stream(path, container)
            width, height = stream.codec_context.width, stream.codec_context.height
            if max(width, height) > MAX_SIDE_PX:
                raise DataError(f"{path}: {width} x {height} px; at most {MAX_SIDE_PX} on a side are read")
            count, end_s = 0, 0.0
            fps = float(stream.average_rate or 0)
            for frame in pictures_of(path, container, stream):
                count += 1
                end_s = end_s if frame.time is None else frame.time + (_length_s(frame) or (fps and 1 / fps))
            length_s = float((stream.duration or 0) * (stream.time_base or 0))
            if not length_s and len(container.streams) == 1:  # webm says it only of the whole, which sound may outlast
                length_s = (container.duration or 0) / av.time_base
    except (av.FFmpegError, OSError) as error:
        raise DataError(f"{path}: cannot be decoded: {error.strerror}") from None
    if not count:
        raise DataError(f"{path}: no frame can be decoded")
    if fps and end_s < 0.9 * length_s - 0.5:
        raise DataError(f"{path}: frames end at {end_s:.1f} of {length_s:.1f} s; the file is damaged")
    read_clips(Path(path), lambda length: np.array([[0, length - 1]]), backend)
    return {"frames": count, "fps": fps, "width": width, "height": height}


def _length_s(frame: "VideoFrame") -> float:
    """Return for how long a frame is shown, 0 where the file does not say: the last may stand for seconds."""
    duration = getattr(frame, "duration", 0)  # not in older PyAV
    return float(duration * frame.time_base) if duration and frame.time_base else 0.0


def scan(
    file: Path,
    num_workers: int | None = None,
    timeout_s: float = SECONDS_PER_VIDEO,
    backend: str = "auto",
    again: bool = False,
    look: Callable[..., dict[str, Any]] = examine,
    progress: bool = True,
) -> Scan:
    """Look at every video of the manifest `file`, write what was seen beside it, and set the bad ones aside.

    Args:
        num_workers: processes; None takes all cores allowed to this one.
        timeout_s: seconds for one video, after which its process is killed.
        again: also look again at files that were bad and have not changed.
        look: called with a path and `backend` in another process; what `examine` does.
        progress: show a bar with time to go.

    Raises:
        DataError: an unusable manifest, none of its files there, another scan of it at work; Interrupted by Ctrl-C: the same
            call goes on.
    """
    manifest = read_manifest(file)
    if manifest.about.packed is not None:
        raise DataError(f"{file} lists packed frames: each was looked at when it was packed, and is checked when it is read")
    check_root(manifest)
    backend = resolve_backend(backend)
    decoder = backend_version(backend)
    look_at = functools.partial(_look, look, backend)
    try:
        lock = alone(beside(file, "scan.lock"), f"another process is scanning {file}; wait for it")
        with lock, DeadlinePool(num_workers or num_cpus()) as pool:
            doubted = _doubted(manifest)
            known = _known(manifest, decoder, again, {row.path for rows in doubted.values() for row in rows})
            done = _scan(manifest, known, decoder, lambda todo: pool.run(look_at, todo, timeout_s, RESULTS_AHEAD), progress)
            write_atomic(beside(file, "scan.csv"), _table(done.rows).encode("utf-8"))
            bad = [Quarantined(row.path, row.reason, "scan") for row in done.bad]
            write_quarantine(file, bad, replacing=("scan",), forgetting=doubted.pop(file))
            for taken, rows in doubted.items():
                if rows:
                    write_quarantine(taken, (), forgetting=rows)
            _journal(file).unlink()
    except OSError as error:
        raise DataError(f"cannot write beside {file}: {error.strerror}") from None
    return done


def _journal(file: Path) -> Path:
    """Return where a scan of the manifest `file` notes what it sees, for the next call if it is interrupted."""
    return beside(file, "scan.part.jsonl")


def _doubted(manifest: Manifest) -> dict[Path, list[Quarantined]]:
    """Return what training has set aside of a manifest's videos, by list: its own, and those taken from it.

    Read before any video is looked at: what training sets aside meanwhile may be newer than the look, and stays.
    """
    listed = {row.path for row in manifest.rows}
    found = {file: read_quarantine(file).values() for file in (manifest.file, *descendants(manifest.file))}
    return {file: [row for row in rows if row.by == "training" and row.path in listed] for file, rows in found.items()}


def _known(manifest: Manifest, decoder: str, again: bool, doubted: Collection[str]) -> dict[str, Seen]:
    """Return, by path, what earlier scans by the same decoder saw of the videos that are not `doubted`."""
    tables = [row for file in (*reversed(ancestors(manifest)), manifest.file) for row in read_scan(file)]
    known = {row.path: row for row in (*tables, *_read_journal(_journal(manifest.file))) if row.decoder == decoder}
    return {path: row for path, row in known.items() if path not in doubted and not (again and row.reason)}


def _scan(
    manifest: Manifest,
    known: Mapping[str, Seen],
    decoder: str,
    look_at: Callable[[Iterator[Task]], Iterator[tuple[Task, dict[str, Any] | Blamed]]],
    progress: bool,
) -> Scan:
    """Return what is known of each video whose file has not changed, and of the others what `look_at` sees, noted at once."""
    seen: dict[str, Seen] = {}
    num_decoded = num_bad = 0
    try:
        with _bar(progress) as bar, _journal(manifest.file).open("a", encoding="utf-8") as notes:
            shown = bar.add_task(manifest.file.name, total=len(manifest.rows), bad=0)
            for task, result in look_at(_unseen(manifest, known, seen, decoder)):
                found = _judged(task, result)
                seen[found.path] = found
                num_decoded, num_bad = num_decoded + 1, num_bad + bool(found.reason)
                notes.write(json.dumps(asdict(found)) + "\n")
                notes.flush()
                bar.update(shown, completed=len(seen), bad=num_bad)
            done = Scan(tuple(seen[row.path] for row in manifest.rows), num_decoded)
            bar.update(shown, completed=len(seen), bad=len(done.bad))
    except KeyboardInterrupt:
        raise Interrupted(f"Ctrl-C at video {len(seen)} of {len(manifest.rows)}") from None
    return done


def read_scan(file: Path) -> tuple[Seen, ...]:
    """Return what the last finished scan of the manifest `file` saw; DataError if its table is damaged."""
    path = beside(file, "scan.csv")
    if not path.is_file():
        return ()
    try:
        reader = csv.DictReader(io.StringIO(path.read_text(encoding="utf-8-sig"), newline=""))
    except UnicodeDecodeError as error:
        raise DataError(f"cannot read {path}: {error}; delete the file and scan again") from None
    try:
        return tuple(Seen(**{name: FACTS.get(name, str)(text) for name, text in row.items() if text}) for row in reader)
    except (TypeError, ValueError) as error:
        raise DataError(f"{path}:{reader.line_num}: not a row of a scan: {error}; delete the file and scan again") from None


def _read_journal(path: Path) -> Iterator[Seen]:
    """Yield what an interrupted scan saw; a line may be half written."""
    for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else ():
        try:
            yield Seen(**json.loads(line))
        except (ValueError, TypeError):
            continue


def _unseen(manifest: Manifest, known: Mapping[str, Seen], seen: dict[str, Seen], decoder: str) -> Iterator[Task]:
    """Yield the videos to look at, with their size and time of change; put the others straight into `seen`."""
    for row in manifest.rows:
        path = manifest.absolute(row)
        try:
            stat = path.stat()
        except OSError as error:
            seen[row.path] = Seen(row.path, kind="raised", reason=error.strerror or str(error))
            continue
        before = known.get(row.path)
        if before and (before.bytes, before.mtime) == (stat.st_size, stat.st_mtime_ns):
            seen[row.path] = before
        elif stat.st_size == 0:
            seen[row.path] = Seen(row.path, bytes=0, mtime=stat.st_mtime_ns, kind="raised", reason="the file is empty")
        else:
            yield path, Seen(row.path, bytes=stat.st_size, mtime=stat.st_mtime_ns, decoder=decoder)


def _look(look: Callable[..., dict[str, Any]], backend: str, task: Task) -> dict[str, Any]:
    return look(str(task[0]), backend)


def _judged(task: Task, result: dict[str, Any] | Blamed) -> Seen:
    path, about = task
    if not isinstance(result, Blamed):
        return replace(about, **result)
    return replace(about, kind=result.kind, reason=result.without(path))


def _table(rows: Sequence[Seen]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(column.name for column in fields(Seen))
    writer.writerows(["" if value is None else value for value in asdict(row).values()] for row in rows)
    return text.getvalue()


def _bar(progress: bool) -> "Progress":
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    text, bad = TextColumn("{task.description}"), TextColumn("{task.fields[bad]} bad")
    return Progress(
        text, BarColumn(), MofNCompleteColumn(), bad, TimeElapsedColumn(), TimeRemainingColumn(), disable=not progress
    )
