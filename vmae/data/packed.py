"""Packed frames: every frame of a list's videos, resized and stored by itself, in a few large files; the reader of them.

A shard is NAME.bin and NAME.json. Of each of its videos, NAME.bin holds the bytes of each frame one after the other, and before
them two uint32 per frame: its length and its crc32. NAME.json says where each video begins, or why it is not there, in one line;
the next line is that one's crc32. Frame i is frame i of the video, as JPEG or as uint8 [H, W, 3].
"""

import json
import os
import zlib
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import simplejpeg

from vmae.data.manifest import Manifest, VideoRow
from vmae.data.video import Choose, each_once
from vmae.errors import DataError
from vmae.files import write_atomic

HEAD = np.dtype([("length", "<u4"), ("crc", "<u4")])
MAX_OPEN = 64


@dataclass(frozen=True)
class Place:
    """Where a video's frames are: shard, first byte, number of frames, their size; or why they are nowhere.

    `source` is size and time of change (ns) of the file that was packed, where they were noted.
    """

    shard: str
    form: str
    offset: int = 0
    frames: int = 0
    height: int = 0
    width: int = 0
    reason: str = ""
    source: Sequence[int] | None = None


def shard_file(folder: Path, number: int) -> Path:
    """Return the index of a shard; its frames are beside it."""
    return folder / f"shard-{number:05d}.json"


def packed_folder(manifest: Manifest) -> Path:
    """Return where the shards of a packed list lie; DataError if it is not packed."""
    if manifest.about.packed is None:
        raise DataError(f"{manifest.file} lists video files, no packed frames")
    return manifest.file.parent / manifest.about.packed


def write_index(index: Path, num_bytes: int, form: str, videos: Mapping[str, Mapping[str, Any]]) -> None:
    """Write a shard's index, atomically, once its frames are there.

    Args:
        num_bytes: of all its frames and their heads.
        form: jpeg or raw; it stands here, for a list that is taken from a packed one says of itself how it was taken.
        videos: by path, the fields of Place that differ between them.
    """
    line = json.dumps({"bytes": num_bytes, "form": form, "videos": videos}, ensure_ascii=False).encode("utf-8")
    write_atomic(index, line + f"\n{zlib.crc32(line):08x}\n".encode())


def read_index(index: Path) -> dict[str, Place]:
    """Return where a shard's videos are, by path; DataError if it was damaged or cut since it was written."""
    try:
        line, _, check = index.read_bytes().partition(b"\n")
        if check != f"{zlib.crc32(line):08x}\n".encode():
            raise DataError(f"{index} is damaged; pack again")
        values = json.loads(line)
        data = index.with_suffix(".bin")
        if data.stat().st_size != values["bytes"]:
            raise DataError(f"{data} has {data.stat().st_size} bytes, {index.name} says {values['bytes']}; pack again")
        return {path: Place(data.name, values["form"], **place) for path, place in values["videos"].items()}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"cannot read {index}: {type(error).__name__}: {error}; pack again") from None


def stored_bytes(folder: Path, place: Place) -> bytes:
    """Return a video's heads and frames as they are stored."""
    with (folder / place.shard).open("rb") as file:
        file.seek(place.offset)
        head = file.read(place.frames * HEAD.itemsize)
        return head + file.read(int(np.frombuffer(head, HEAD)["length"].sum(dtype=np.int64)))


def places(manifest: Manifest) -> dict[str, Place]:
    """Return where each video of a packed list is, by path; DataError if a shard is missing or does not fit the list."""
    folder = packed_folder(manifest)
    found: dict[str, Place] = {}
    for index in sorted(folder.glob("shard-*.json")):
        found |= read_index(index)
    missing = [row.path for row in manifest.rows if row.path not in found]
    if missing:
        raise DataError(f"{len(missing)} of {len(manifest.rows)} videos are in no shard of {folder}; the first: {missing[0]}")
    return found


class PackedFrames:
    """Reads packed frames; a FrameSource.

    Args:
        rows: which of the manifest's videos.
    """

    equal_frames = None

    def __init__(self, manifest: Manifest, rows: Sequence[VideoRow]) -> None:
        self._open: OrderedDict[str, int] = OrderedDict()
        known = places(manifest)
        self._folder = packed_folder(manifest)
        self._paths = [row.path for row in rows]
        self._places = [known[path] for path in self._paths]
        self.bad: Mapping[int, str] = {
            i: f"{manifest.file}: {path}: {place.reason}"
            for i, (path, place) in enumerate(zip(self._paths, self._places, strict=True))
            if place.reason
        }

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_open": OrderedDict()}

    def __del__(self) -> None:
        for descriptor in self._open.values():
            os.close(descriptor)

    def __len__(self) -> int:
        return len(self._places)

    def read(self, video: int, choose: Choose) -> np.ndarray:
        """Return clips, see FrameSource; each frame is read and decoded once. DataError also where its bytes are damaged."""
        if video in self.bad:
            raise DataError(self.bad[video])
        place = self._places[video]
        numbers, where = each_once(choose(place.frames), place.frames, self._name(video))
        frames = np.empty((len(numbers), place.height, place.width, 3), np.uint8)
        try:
            contents = self._contents(video, numbers)
        except (OSError, OverflowError, MemoryError) as error:  # of the file system, or of a head that promises too much
            raise DataError(f"{self._name(video)}: {error or type(error).__name__}") from None
        for frame, content in zip(frames, contents, strict=True):
            self._decode(content, frame, video)
        clips: np.ndarray = frames[where]
        return clips

    def gather(self, videos: Sequence[int], indices: np.ndarray) -> np.ndarray:
        """Videos are read one by one."""
        raise NotImplementedError

    def _contents(self, video: int, numbers: np.ndarray) -> list[bytes]:
        place = self._places[video]
        descriptor = self._descriptor(place.shard)
        content = os.pread(descriptor, place.frames * HEAD.itemsize, place.offset)
        if len(content) < place.frames * HEAD.itemsize:
            raise DataError(f"{self._name(video)}: the shard ends too early")
        head = np.frombuffer(content, HEAD)
        starts = place.offset + head.nbytes + np.concatenate([[0], np.cumsum(head["length"], dtype=np.int64)])
        contents = []
        for number in numbers:
            content = os.pread(descriptor, int(head["length"][number]), int(starts[number]))
            if zlib.crc32(content) != head["crc"][number]:
                raise DataError(f"{self._name(video)}: the bytes of frame {number} are damaged")
            contents.append(content)
        return contents

    def _decode(self, content: bytes, frame: np.ndarray, video: int) -> None:
        if self._places[video].form == "raw":
            frame[...] = np.frombuffer(content, np.uint8).reshape(frame.shape)
            return
        try:
            simplejpeg.decode_jpeg(content, buffer=frame)
        except ValueError as error:
            raise DataError(f"{self._name(video)}: {error}") from None

    def _name(self, video: int) -> str:
        return f"{self._folder / self._places[video].shard}: {self._paths[video]}"

    def _descriptor(self, shard: str) -> int:
        if shard in self._open:
            self._open.move_to_end(shard)
            return self._open[shard]
        try:
            self._open[shard] = os.open(self._folder / shard, os.O_RDONLY)
        except OSError as error:
            raise DataError(f"cannot read {self._folder / shard}: {error.strerror}") from None
        if len(self._open) > MAX_OPEN:
            os.close(self._open.popitem(last=False)[1])
        return self._open[shard]
