"""Two calls at once on one list or folder, and what is left of a call that was killed."""

from threading import Thread

import numpy as np
import pytest

from vmae.data import transcode as transcoding
from vmae.data.alone import alone
from vmae.data.make import encode
from vmae.data.manifest import VideoRow, beside, write_manifest
from vmae.data.pack import Packing, pack
from vmae.data.quarantine import Quarantined, read_quarantine, write_quarantine
from vmae.data.scan import scan
from vmae.data.transcode import Coding, transcode
from vmae.errors import DataError


@pytest.fixture
def listed(tmp_path):
    for i in range(3):
        encode(tmp_path / "videos" / f"{i} [a].mp4", np.full((6, 32, 32, 3), 60 * i, np.uint8))
    write_manifest(tmp_path / "list.csv", [VideoRow(f"videos/{i} [a].mp4", 0, "train") for i in range(3)])
    return tmp_path / "list.csv"


WORK = {
    "scan": lambda file, out: scan(file, 1, progress=False),
    "pack": lambda file, out: pack(file, out, Packing(16, "raw"), 1, progress=False),
    "transcode": lambda file, out: transcode(file, out, Coding(16), 1, progress=False),
}


@pytest.mark.parametrize("work", WORK)
def test_a_second_call_is_refused_while_one_is_at_work_and_goes_on_after_it(work, listed, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    lock = beside(listed, "scan.lock") if work == "scan" else out / ".lock"
    with alone(lock), pytest.raises(DataError, match=rf"another process is .*{lock.name}"):
        WORK[work](listed, out)
    assert not list(out.iterdir())
    lock.touch()  # of one that was killed
    assert len(WORK[work](listed, out).rows) == 3
    assert not lock.exists()


def test_who_sets_a_video_aside_waits_for_who_does_so_now_and_loses_nothing_of_it(listed):
    lock, table = beside(listed, "quarantine.lock"), beside(listed, "quarantine.csv")
    other = Thread(target=write_quarantine, args=(listed, [Quarantined("second.mp4", "hangs", "training")]))
    with alone(lock):
        other.start()
        other.join(0.5)
        assert other.is_alive()
        assert not table.exists()
        table.write_text("path,reason,by\nfirst.mp4,ugly,hand\n")
    other.join()
    assert set(read_quarantine(listed)) == {"first.mp4", "second.mp4"}
    assert not lock.exists()


@pytest.mark.parametrize(("work", "inside"), [("pack", "shards"), ("transcode", "short16-gop12-crf18/videos")])
def test_what_a_killed_call_left_half_written_is_cleared_away(work, inside, listed, tmp_path):
    left = tmp_path / "out" / inside / ".half.bin.4711.4711.tmp"
    left.parent.mkdir(parents=True)
    left.write_bytes(bytes(99))
    (tmp_path / "out" / "mine.tmp").touch()
    WORK[work](listed, tmp_path / "out")
    assert not left.exists()
    assert (tmp_path / "out" / "mine.tmp").exists()


def hang(coding, source, target):
    target.write_bytes(b"half")
    while True:
        pass


def encode_or_hang(coding, task):
    if "1 [a]" in task[0]:
        transcoding._write = hang
    return transcoding._encode(coding, task)


def test_a_file_that_a_killed_process_left_is_cleared_away_with_it(listed, tmp_path, monkeypatch):
    monkeypatch.setattr(transcoding, "_encode", encode_or_hang)
    made = transcode(listed, tmp_path / "out", Coding(16), 1, timeout_s=2.0, progress=False)
    assert len(read_quarantine(made.file)) == 1
    assert not list((tmp_path / "out").rglob("*.tmp"))
