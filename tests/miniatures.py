"""Miniature copies of the data sets' downloads: real folder and list formats, tiny videos."""

import csv
import functools
import itertools
import json
import tempfile
from pathlib import Path

import av
import numpy as np
from typer.testing import CliRunner

from vmae.__main__ import app
from vmae.data.listing import files_among, prepare
from vmae.data.lookup import VideoFiles
from vmae.data.make import encode
from vmae.data.official import read_official
from vmae.errors import DataError

SSV2_TEMPLATES = (
    "Approaching [something] with your camera",
    "[Something] colliding with [something]",
    "Putting [number of] things",
)
HMDB51_NAMES = (
    "April_09_brush_hair_u_nm_np1_ba_goo_0.avi",
    "#122_Cleaning_Up_The_Beach_f_nm_np1_fr_med_1.avi",
    "Baseball;_Pitching_&_more_(pt._1)_np1_le_bad_2.avi",
    "Prelinger's HabitPat1954_u_cm_np1_ri_med_3.avi",
    "Mädchen 剣道!_[2]_f_cm_np1_ba_med_4.avi",
    "unused_5.avi",
)


@functools.cache
def content(kind: int, ending: str) -> bytes:
    """The bytes of a tiny video; `kind` decides the pixels."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"video.{ending}"
        frames = np.random.default_rng(kind).integers(0, 256, (20, 32, 32, 3), dtype=np.uint8)
        if ending == "mp4":
            encode(path, frames)
        else:
            codec = {"avi": "mpeg4", "webm": "libvpx"}[ending]
            with av.open(str(path), "w") as container:
                stream = container.add_stream(codec, rate=12)
                stream.height, stream.width, stream.pix_fmt = 32, 32, "yuv420p"
                for frame in frames:
                    container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
                container.mux(stream.encode())
        return path.read_bytes()


def scene(count: int = 40, height: int = 48, width: int = 64, seed: int = 0) -> np.ndarray:
    """Frames of a moving, noisy scene: B-frames pay, and no two are alike."""
    rng = np.random.default_rng(seed)
    texture = rng.integers(0, 256, (height * 3, width * 3, 3)).astype(np.uint8)
    texture = texture.reshape(height * 3 // 4, 4, -1, 3)[:, :1].repeat(4, axis=1).reshape(height * 3, width * 3, 3)
    frames = np.stack([texture[t : t + height, 2 * t : 2 * t + width] for t in range(count)])
    return np.clip(frames + rng.normal(0, 4, frames.shape), 0, 255).astype(np.uint8)


def write_video(path: Path, frames: np.ndarray, codec: str, options: dict[str, str], title: str = "") -> Path:
    """A video at `path` as `codec` makes it."""
    with av.open(str(path), "w") as container:
        container.metadata["title"] = title
        stream = container.add_stream(codec, rate=25)
        stream.height, stream.width, stream.pix_fmt = *frames.shape[1:3], "yuv420p"
        stream.options = options
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    return path


def put(path: Path, kind: int = 0) -> Path:
    """A video at `path`, its kind of file by its ending."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content(kind % 8, path.suffix[1:]))
    return path


def write(path: Path, text: str, encoding: str = "utf-8") -> Path:
    """A text file at `path`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode(encoding))
    return path


def ssv2(folder: Path, num_train: int = 9, num_test: int = 6) -> tuple[Path, Path]:
    """Return root and lists of Something-Something v2: webm files by number, json lists with templates."""
    root, lists = folder / "20bn-something-something-v2", folder / "labels"
    plain = [template.replace("[", "").replace("]", "") for template in SSV2_TEMPLATES]
    write(lists / "labels.json", json.dumps({name: str(label) for label, name in enumerate(plain)}))
    for word, first, count in (("train", 100, num_train), ("validation", 500, num_test), ("test", 900, 2)):
        videos = []
        for i in range(count):
            put(root / f"{first + i}.webm", i)
            more = {"label": "approaching a cup", "template": SSV2_TEMPLATES[i % 3], "placeholders": ["a cup"]}
            videos.append({"id": str(first + i)} | ({} if word == "test" else more))
        write(lists / f"something-something-v2-{word}.json", json.dumps(videos, indent=1))
    return root, lists


def k400(folder: Path, by_class: bool = False) -> tuple[Path, Path]:
    """Return root and lists of Kinetics-400: clips named by id and times, in one folder per split or per class."""
    root, lists = folder / "k400", folder / "kinetics400"
    header = ["label", "youtube_id", "time_start", "time_end", "split", "is_cc"]
    for name, word, count in (("train", "train", 8), ("validate", "val", 4), ("test", "test", 2)):
        lists.mkdir(parents=True, exist_ok=True)
        with (lists / f"{name}.csv").open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(header)
            for i in range(count):
                label, id_ = ("zumba", "abseiling", "air drumming", 'it\'s, "art"')[i % 4], f"-_{word[:3]}{i:06d}"
                writer.writerow([label, id_, 7 * i, 7 * i + 10, word, 0])
                if word != "test":
                    put(root / (label if by_class else word) / f"{id_}_{7 * i:06d}_{7 * i + 10:06d}.mp4", i)
    return root, lists


def ucf101(folder: Path, num_clips: int = 1) -> tuple[Path, Path]:
    """Return root and lists of UCF101: avi files in class folders, `num_clips` of each group; lists with or without labels."""
    root, lists = folder / "UCF-101", folder / "ucfTrainTestlist"
    classes = ("ApplyEyeMakeup", "ApplyLipstick", "HandstandPushups")
    write(lists / "classInd.txt", "".join(f"{i} {name}\r\n" for i, name in enumerate(classes, start=1)))
    for number in (1, 2, 3):
        train, test = [], []
        for i, name in enumerate(classes, start=1):
            stem = name.replace("Handstand", "HandStand")
            for group, clip in itertools.product(range(1, 7), range(1, num_clips + 1)):
                path = f"{name}/v_{stem}_g{group:02d}_c{clip:02d}.avi"
                if number == 1:
                    put(root / path, i)
                (test if group % 3 == number - 1 else train).append((path, i))
        write(lists / f"trainlist{number:02d}.txt", "".join(f"{path} {i}\r\n" for path, i in train))
        write(lists / f"testlist{number:02d}.txt", "".join(f"{path}\r\n" for path, _ in test))
    return root, lists


def hmdb51(folder: Path, classes: tuple[str, ...] = ("brush_hair", "cartwheel", "sword")) -> tuple[Path, Path]:
    """Return root and lists of HMDB51: avi files with odd names in class folders, one list per class and split."""
    root, lists = folder / "hmdb51_org", folder / "testTrainMulti_7030_splits"
    for kind, name in enumerate(classes):
        for video in HMDB51_NAMES:
            put(root / name / video, kind)
        for number in (1, 2, 3):
            codes = [2 if i % 4 == number else 1 for i in range(5)] + [0]
            lines = [f"{video} {code} \n" for video, code in zip(HMDB51_NAMES, codes, strict=True)]
            write(lists / f"{name}_test_split{number}.txt", "".join(lines))
    return root, lists


MAKE = {"ssv2": ssv2, "k400": k400, "ucf101": ucf101, "hmdb51": hmdb51}


def command(*words, code=0):
    """Run `vmae data WORDS`; return its output, or with `code` the words it is refused with."""
    done = CliRunner().invoke(app, ["data", *map(str, words)])
    if code:
        assert isinstance(done.exception, DataError), done.output
        return str(done.exception)
    assert done.exit_code == 0, done.output + str(done.exception)
    return done.output


def prepared(dataset, folder, **options):
    """Make a data set in `folder` and its lists; return what was prepared, the videos' root and the official lists."""
    root, lists = MAKE[dataset](folder)
    made = prepare(read_official(dataset, files_among([lists])), VideoFiles(root), folder / f"{dataset}.csv", **options)
    return made, root, lists
