"""Random access to the frames of one open file, through decord, PyAV or torchcodec: one class each, alike from outside.

`len` is the number of frames; `read` takes frame numbers in rising order, each once, and returns exactly those. What is raised
is the backend's own; vmae.data.video makes one error of it.
"""

import bisect
import itertools
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from vmae.errors import DataError

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.packet import Packet
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

MAX_KEPT_BYTES = 256 * 2**20  # of a file's packets, or of decoded pictures; beyond, they are read again
MAX_SIDE_PX = 8192  # a damaged header can promise pictures that no memory holds
# One packet, one picture: where that holds, frame numbers follow from the packets' times alone.
ONE_PICTURE_PER_PACKET = {"h264", "hevc", "av1", "vp9", "mjpeg", "png", "ffv1", "rawvideo", "prores"}
INTRA_ONLY = {"mjpeg", "png", "ffv1", "rawvideo", "prores"}
# Where decord gives the frames asked for, as far as a header tells. Elsewhere (mpeg4 and h263 with B-frames, mpeg1, mpeg2, open
# groups of HEVC, anything in avi or ts) it gives neighbouring ones and says nothing.
DECORD_CONTAINERS = {"mov,mp4,m4a,3gp,3g2,mj2": "mp4, mov", "matroska,webm": "mkv, webm"}
DECORD_CODECS = ("h264", "vp8", "vp9")


def check_count(path: Path | str, count: int, promised: int) -> None:
    """Raise DataError if clearly fewer frames came than the file says it has (0: it does not say)."""
    if count < 0.98 * promised - 1:  # packed frames of old avi files are counted and hold no picture
        raise DataError(f"{path}: {count} of {promised} frames can be decoded; the file is damaged")


def open_video(path: Path | str) -> "InputContainer":
    """Open a file with PyAV; a title that is not UTF-8 is no failure (as from PyAV 19 on, which no longer takes the argument)."""
    import av

    lenient: dict[str, Any] = {"metadata_errors": "ignore"} if int(av.__version__.partition(".")[0]) < 19 else {}
    container: InputContainer = av.open(str(path), **lenient)
    return container


def video_stream(path: Path | str, container: "InputContainer") -> "VideoStream":
    """Return the first video stream of an open file, to be decoded by one thread; DataError if there is none."""
    if not container.streams.video:
        raise DataError(f"{path}: no video stream")
    stream = container.streams.video[0]
    stream.thread_type = "NONE"
    return stream


def quarter_turns(picture: "VideoFrame") -> int:
    """Return how often a picture that is stored lying is turned, 0 to 3, as np.rot90 counts."""
    return round(picture.rotation / 90) % 4


def pictures_of(path: Path | str, container: "InputContainer", stream: "VideoStream") -> Iterator["VideoFrame"]:
    """Yield a video's pictures from first to last; DataError at the end if clearly fewer came than the file says it shows."""
    count = num_shown = num_hidden = 0
    for packet in container.demux(stream):
        num_hidden += packet.is_discard
        num_shown += packet.size > 0 and not packet.is_discard
        for picture in packet.decode():
            count += 1
            yield picture
    check_count(path, count, _promised(container, stream, num_shown if num_hidden else None))


def _promised(container: "InputContainer", stream: "VideoStream", num_shown: int | None) -> int:
    """Return the frames that a file says it shows, 0 if it does not say.

    An mp4 that was cut without coding it anew (`ffmpeg -ss -c copy`, a phone's trimming) holds pictures that its edit list hides,
    and counts them in its header: the length of what is shown tells, and the packets, `num_shown`, where some are marked hidden.
    """
    promised: int = stream.frames
    if "mov" in container.format.name and stream.duration and stream.time_base and stream.average_rate:
        promised = min(promised, round(stream.duration * stream.time_base * stream.average_rate))
    return promised if num_shown is None else min(promised, num_shown)


class Reader(Protocol):
    """An open video."""

    def __len__(self) -> int:
        """Return the number of frames."""
        ...

    def read(self, numbers: Sequence[int], place: Callable[[tuple[int, ...]], np.ndarray]) -> np.ndarray:
        """Return the frames with these rising `numbers`, uint8 [len(numbers), H, W, 3], in memory that `place(shape)` gives."""
        ...

    def __iter__(self) -> Iterator[np.ndarray]:
        """Yield all frames from first to last, uint8 [H, W, 3], without keeping them."""
        ...

    def close(self) -> None:
        """Give back what it holds at once; left to the collector of cycles, memory would grow."""
        ...


class DecordReader:
    """Through decord; no frame is repeated where one cannot be decoded (`fault_tol`).

    DataError for kinds of files of which it is known to give other frames than were asked for. H.264 with open groups of
    pictures, which no header tells, is not noticed: there too it can give neighbouring frames.
    """

    def __init__(self, path: Path) -> None:
        import decord  # imported late: loading it before torch in a parent of workers can freeze them (decord issue 251)

        _check_decord_is_exact(path)
        self._video = decord.VideoReader(str(path), ctx=decord.cpu(0), num_threads=1, fault_tol=1)

    def __len__(self) -> int:
        return len(self._video)

    def read(self, numbers: Sequence[int], place: Callable[[tuple[int, ...]], np.ndarray]) -> np.ndarray:
        """Return the frames, see Reader."""
        batch: Any = self._video.get_batch(list(numbers))
        frames = place(tuple(batch.shape))
        frames[...] = batch.asnumpy()
        return frames

    def __iter__(self) -> Iterator[np.ndarray]:
        """Yield all frames, see Reader."""
        return _one_by_one(self)

    def close(self) -> None:
        """Give back what it holds."""
        del self._video


def _check_decord_is_exact(path: Path) -> None:
    with open_video(path) as container:
        codec, form = video_stream(path, container).codec_context.name, container.format.name
    if codec not in DECORD_CODECS or form not in DECORD_CONTAINERS:
        raise DataError(
            f"{path}: {codec} in {form}, of which decord can give wrong frames; it is used for {', '.join(DECORD_CODECS)} "
            f"in {', '.join(DECORD_CONTAINERS.values())}; take decode_backend = 'pyav'"
        )


def _one_by_one(reader: "DecordReader | TorchcodecReader") -> Iterator[np.ndarray]:
    for number in range(len(reader)):
        yield reader.read([number], lambda shape: np.empty(shape, np.uint8))[0]


class TorchcodecReader:
    """Through torchcodec, with its exact seek."""

    def __init__(self, path: Path) -> None:
        from torchcodec.decoders import VideoDecoder

        self._video = VideoDecoder(str(path), dimension_order="NHWC", num_ffmpeg_threads=1, seek_mode="exact")

    def __len__(self) -> int:
        return len(self._video)

    def read(self, numbers: Sequence[int], place: Callable[[tuple[int, ...]], np.ndarray]) -> np.ndarray:
        """Return the frames, see Reader."""
        batch = self._video.get_frames_at(list(numbers)).data.numpy()
        frames = place(batch.shape)
        frames[...] = batch
        return frames

    def __iter__(self) -> Iterator[np.ndarray]:
        """Yield all frames, see Reader."""
        return _one_by_one(self)

    def close(self) -> None:
        """Give back what it holds."""
        del self._video


class PyavReader:
    """Through PyAV, exact and faster than decoding all that lies between.

    The packets are listed once, without decoding; their times in order number the frames. Decoding starts at the last key frame
    before the first one wanted, and pictures that neither are wanted nor help to predict others are left out. Files whose packets
    do not tell their frames (avi, which has no times of presentation; mpeg) are decoded from the start, once.
    """

    def __init__(self, path: Path) -> None:
        from av.video.reformatter import VideoReformatter

        self._path = path
        self._reformatter = VideoReformatter()
        self._container: Any = None
        self._open()
        if max(self._codec.width, self._codec.height) > MAX_SIDE_PX:
            raise DataError(f"{path}: {self._codec.width} x {self._codec.height} px; at most {MAX_SIDE_PX} on a side are read")
        self._packets: list[Packet[Any]] | None = []
        self._times: list[int] = []
        self._key_times: list[tuple[int, int]] = []  # time and position among the packets, in order of time
        self._pictures: list[VideoFrame] | None = None
        listable = INTRA_ONLY if self._stream.container.format.name == "avi" else ONE_PICTURE_PER_PACKET  # avi: pts are made up
        self._is_listed = self._codec.name in listable and self._list_packets()
        if not self._is_listed:
            self._packets = None
            self._count = self._count_pictures()

    def _open(self) -> None:
        if self._container is not None:
            self._container.close()
        self._container = open_video(self._path)
        self._stream = video_stream(self._path, self._container)
        self._codec = self._stream.codec_context

    def __len__(self) -> int:
        return len(self._times) if self._is_listed else self._count

    def read(self, numbers: Sequence[int], place: Callable[[tuple[int, ...]], np.ndarray]) -> np.ndarray:
        """Return the frames, see Reader."""
        frames: np.ndarray | None = None
        found = 0
        for number, picture in self._wanted(numbers):
            image = self._rgb(picture)
            if frames is None:
                frames = place((len(numbers), *image.shape))
            if image.shape != frames.shape[1:]:  # of one pixel a row or column would be spread over the frame
                raise DataError(f"{self._path}: cannot be decoded: frames of {frames.shape[1:3]} and of {image.shape[:2]} px")
            frames[bisect.bisect_left(numbers, number)] = image
            found += 1
            if found == len(numbers):
                return frames
        raise DataError(f"{self._path}: {found} of {len(numbers)} frames asked for can be decoded; the file is damaged")

    def __iter__(self) -> Iterator[np.ndarray]:
        """Yield all frames, see Reader."""
        count = 0
        for picture in self._from_start() if self._pictures is None else self._pictures:
            yield self._rgb(picture)
            count += 1
        if count != len(self):
            raise DataError(f"{self._path}: {count} of {len(self)} frames can be decoded; the file is damaged")

    def close(self) -> None:
        """Give back what it holds."""
        self._packets = self._pictures = None
        self._container.close()

    def _wanted(self, numbers: Sequence[int]) -> Iterator[tuple[int, "VideoFrame"]]:
        if self._is_listed:
            yield from self._from_key_frame(numbers)
            return
        wanted = set(numbers)
        pictures = self._from_start() if self._pictures is None else self._pictures
        yield from ((number, picture) for number, picture in enumerate(pictures) if number in wanted)

    def _list_packets(self) -> bool:
        """List the packets and return whether they tell the frames."""
        kept_bytes = position = 0
        for packet in self._container.demux(self._stream):
            if packet.size == 0:  # asks the decoder for what it holds back
                continue
            if packet.pts is None or packet.is_discard:
                return False
            self._times.append(packet.pts)
            if packet.is_keyframe:
                self._key_times.append((packet.pts, position))
            position += 1
            kept_bytes += packet.size
            if kept_bytes > MAX_KEPT_BYTES:
                self._packets = None
            if self._packets is not None:
                self._packets.append(packet)
        self._times.sort()
        self._key_times.sort()
        has_one_each = len(set(self._times)) == position == (self._stream.frames or position)
        return bool(self._key_times) and has_one_each

    def _count_pictures(self) -> int:
        """Decode all, keep the pictures unless they are too large, and return how many they are."""
        count, kept = 0, []
        for picture in self._from_start():
            count += 1
            if count * picture.width * picture.height * 3 // 2 <= MAX_KEPT_BYTES:
                kept.append(picture)
        self._pictures = kept if len(kept) == count else None
        return count

    def _from_key_frame(self, numbers: Sequence[int]) -> Iterator[tuple[int, "VideoFrame"]]:
        wanted = {self._times[number]: number for number in numbers}
        before = bisect.bisect_right(self._key_times, (self._times[numbers[0]], len(self._times))) - 1
        self._codec.flush_buffers()
        for packet in self._packets_from(self._key_times[max(before, 0)][1]):
            self._codec.skip_frame = "DEFAULT" if packet is None or packet.pts in wanted else "NONREF"
            for picture in self._codec.decode(packet):
                if picture.pts in wanted:
                    yield wanted[picture.pts], picture

    def _packets_from(self, first: int) -> Iterator["Packet[Any] | None"]:
        if self._packets is not None:
            yield from self._packets[first:]
        else:
            self._open()
            packets = (packet for packet in self._container.demux(self._stream) if packet.size)
            yield from itertools.islice(packets, first, None)
        yield None

    def _from_start(self) -> Iterator["VideoFrame"]:
        self._open()
        yield from pictures_of(self._path, self._container, self._stream)

    def _rgb(self, picture: "VideoFrame") -> np.ndarray:
        image: np.ndarray = self._reformatter.reformat(picture, format="rgb24").to_ndarray()
        turns = quarter_turns(picture)
        return np.rot90(image, turns) if turns else image


READERS: dict[str, Callable[[Path], Reader]] = {"decord": DecordReader, "pyav": PyavReader, "torchcodec": TorchcodecReader}
