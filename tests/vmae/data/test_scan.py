"""The scan names every bad video with its reason, survives decoders that spin or crash, and goes on where it was interrupted."""

import csv
import ctypes
import functools
import os
import re
import signal
import subprocess
import sys
import time

import av
import numpy as np
import pytest
from helpers import ROOT, clean_environment
from miniatures import content, put
from typer.testing import CliRunner

from vmae.__main__ import app
from vmae.data.listing import subset_list
from vmae.data.make import encode
from vmae.data.manifest import About, VideoRow, beside, check_files, read_manifest, write_about, write_manifest
from vmae.data.quarantine import Quarantined, quarantine_of, read_quarantine, write_quarantine
from vmae.data.scan import examine, read_scan, scan
from vmae.errors import DataError


def no_frames(path):
    with av.open(str(path), "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=12)
        stream.height, stream.width, stream.pix_fmt = 32, 32, "yuv420p"
        container.start_encoding()


def huge(path):
    encode(path, np.zeros((2, 16, 8200, 3), np.uint8))


def unreadable(path):
    """Root reads files of any mode, but not a link that points to itself."""
    if os.geteuid():
        put(path).chmod(0)
    else:
        path.symlink_to(path.name)


def crash_or_examine(path, backend):
    """A decoder with two planted faults: it spins with the interpreter's lock held, or takes its process down."""
    with open(path, "rb") as file:  # noqa: PTH123
        start = file.read(5)
    if start == b"SPIN!":
        ctypes.PyDLL(None).pause()
    if start == b"CRASH":
        os.kill(os.getpid(), signal.SIGSEGV)
    return examine(path, backend)


DAMAGES = {
    "empty": (lambda path: path.write_bytes(b""), "the file is empty"),
    "truncated": (lambda path: path.write_bytes(content(0, "mp4")[:-3000]), "cannot be decoded"),
    "cut": (lambda path: path.write_bytes(content(0, "avi")[: len(content(0, "avi")) // 2]), "the file is damaged"),
    "webm": (lambda path: path.write_bytes(content(0, "webm")[: len(content(0, "webm")) // 2]), "of 1.7 s; the file is damaged"),
    "container": (lambda path: path.write_bytes(b"<html>Video unavailable</html>" * 50), "cannot be decoded"),
    "frames": (no_frames, "no frame can be decoded|no video stream|cannot be decoded"),
    "huge": (huge, "8200 x 16 px; at most 8192 on a side"),
    "missing": (lambda path: None, "No such file"),
    "unreadable": (unreadable, "Permission denied|Too many levels of symbolic links"),
    "spin": (lambda path: path.write_bytes(b"SPIN!"), "not done after 3 s; its process was killed"),
    "crash": (lambda path: path.write_bytes(b"CRASH"), "its process was killed by SIGSEGV"),
}
ENDINGS = {"cut": "avi", "webm": "webm"}


@pytest.fixture
def listed(tmp_path):
    """Twenty good videos and one of each damage among them."""
    rows = [VideoRow(f"good/{i} é.mp4", i % 2, "train" if i < 12 else "test") for i in range(20)]
    for i, row in enumerate(rows):
        put(tmp_path / row.path, i)
    (tmp_path / "bad").mkdir()
    for i, (name, (damage, _)) in enumerate(DAMAGES.items()):
        row = VideoRow(f"bad/{name}.{ENDINGS.get(name, 'mp4')}", i % 2, "train" if i % 2 else "test")
        damage(tmp_path / row.path)
        rows.insert(2 * i, row)
    write_manifest(tmp_path / "list.csv", rows)
    return tmp_path / "list.csv"


def run(file, **options):
    return scan(file, **({"num_workers": 2, "timeout_s": 3.0, "look": crash_or_examine, "progress": False} | options))


@pytest.mark.parametrize("backend", ["decord", "pyav"])
def test_every_bad_video_is_named_with_its_reason_and_no_other(listed, backend):
    done = run(listed, backend=backend)
    assert [row.path for row in done.rows] == [row.path for row in read_manifest(listed).rows]
    reasons = {row.path: row.reason for row in done.bad}
    assert len(reasons) == len(DAMAGES)
    for path, reason in reasons.items():
        name = path.split("/")[1].split(".")[0]
        assert any(words in reason for words in DAMAGES[name][1].split("|")), f"{name}: {reason}"
    good = [row for row in done.rows if not row.reason]
    assert {(row.frames, row.fps, row.width, row.height) for row in good} == {(20, 12.0, 32, 32)}
    assert read_scan(listed) == done.rows
    assert {(row.path, row.reason, row.by) for row in read_quarantine(listed).values()} == {
        (p, r, "scan") for p, r in reasons.items()
    }
    assert not beside(listed, "scan.part.jsonl").exists()


def test_what_has_not_changed_is_not_decoded_again(listed):
    first = run(listed)
    assert run(listed).num_decoded == 0
    put(listed.parent / "bad" / "empty.mp4")
    put(listed.parent / "good" / "3 é.mp4", 5)
    again = run(listed)
    assert again.num_decoded == 2
    assert {row.path for row in first.bad} - {row.path for row in again.bad} == {"bad/empty.mp4"}
    assert "bad/empty.mp4" not in read_quarantine(listed), "a mended file is let out"
    assert run(listed, again=True).num_decoded == 8, "those that could be opened at all"


def test_others_words_stay(listed):
    run(listed)
    write_quarantine(listed, [Quarantined("good/1 é.mp4", "seen by eye: a still image", "hand")])
    write_quarantine(listed, [Quarantined("good/2 é.mp4", "a duplicate", "a colleague")])
    run(listed)
    by = {row.path: row.by for row in read_quarantine(listed).values() if row.by != "scan"}
    assert by == {"good/1 é.mp4": "hand", "good/2 é.mp4": "a colleague"}


SCRIPT = """
import sys, time
from pathlib import Path
from vmae.data.scan import examine, scan
def slow(path, backend):
    time.sleep(0.8)
    return examine(path, backend)
if __name__ == "__main__":
    scan(Path(sys.argv[1]), num_workers=2, look=slow, progress=False)
"""


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_an_interrupted_scan_goes_on(listed, tmp_path, how):
    (tmp_path / "script.py").write_text(SCRIPT)
    words = [sys.executable, str(tmp_path / "script.py"), str(listed)]
    process = subprocess.Popen(
        words,
        env=clean_environment(PYTHONPATH=str(ROOT)),
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a shell's background job begins with it ignored
    )
    journal = beside(listed, "scan.part.jsonl")
    while not journal.exists() or journal.read_text().count("\n") < 6:
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(how)
    _, text = process.communicate(timeout=60)
    assert how == signal.SIGKILL or "Interrupted: Ctrl-C at video" in text
    num_known = journal.read_text().count("\n")
    journal.write_text(journal.read_text() + '{"path": "half wri')
    done = run(listed)
    assert 0 < done.num_decoded <= len(done.rows) - num_known
    assert len(done.rows) == 20 + len(DAMAGES)


def test_the_command(listed):
    for name in ("spin", "crash"):
        (listed.parent / "bad" / f"{name}.mp4").unlink()
    done = CliRunner().invoke(app, ["data", "scan", str(listed), "--workers", "2"])
    assert done.exit_code == 0, done.output
    assert "31 videos, 26 looked at now, 11 bad" in done.output.replace("\n", " ")
    assert "11 cannot be read" in done.output
    assert "bad/empty.mp4: the file is empty" in done.output
    refused = CliRunner().invoke(app, ["data", "scan", str(listed.parent / "nothing.csv")])
    assert "no manifest at" in str(refused.exception)


def test_a_wrong_root_sets_nothing_aside(listed):
    """Neither do those who open the list ask for a scan: not one file is there, so it is the root that is wrong."""
    write_about(listed, About(root="elsewhere"))
    there = sorted(listed.parent.iterdir())
    manifest = read_manifest(listed)
    words = rf"none of {len(manifest.rows)} videos of {re.escape(str(listed))} is below {re.escape(str(manifest.root))} "
    for refused in (lambda: run(listed), lambda: check_files(manifest, manifest.rows)):
        with pytest.raises(DataError, match=words + r"\(`root` in list.about.json\); have the videos moved\?") as caught:
            refused()
        assert "scan" not in str(caught.value)
    assert sorted(listed.parent.iterdir()) == there, "no quarantine, no journal"


def test_without_a_root_the_lists_folder_is_named(listed):
    moved = listed.parent / "elsewhere" / listed.name
    moved.parent.mkdir()
    listed.rename(moved)
    with pytest.raises(DataError, match=r"is below .*elsewhere \(the list's own folder; `root` in list.about.json may name"):
        run(moved)


def test_a_list_taken_from_another_has_its_quarantine(listed):
    write_quarantine(listed, [Quarantined("good/1 é.mp4", "a", "hand")])
    (taken,) = subset_list(listed, [5], 0, "train")
    write_quarantine(taken.file, [Quarantined("good/2 é.mp4", "b", "hand")])
    assert set(quarantine_of(taken)) == {"good/1 é.mp4", "good/2 é.mp4"}
    assert set(quarantine_of(read_manifest(listed))) == {"good/1 é.mp4"}
    write_about(listed, About(parent=taken.file.name))
    with pytest.raises(DataError, match=r"the lists it was taken from form a ring"):
        quarantine_of(taken)


def test_a_list_taken_from_another_is_not_decoded_again(listed):
    run(listed)
    (taken,) = subset_list(listed, [5], 0, "train")
    done = run(taken.file)
    assert (len(done.rows), done.num_decoded) == (len(taken.rows), 0)
    assert {row.path for row in done.bad} == set(quarantine_of(taken)) & {row.path for row in taken.rows}


@pytest.fixture
def sound(tmp_path):
    """Four good videos, a list taken from their list, and one taken from that."""
    rows = [VideoRow(f"good/{i}.mp4", i % 2, "train") for i in range(4)]
    for i, row in enumerate(rows):
        put(tmp_path / row.path, i)
    write_manifest(tmp_path / "sound.csv", rows)
    (child,) = subset_list(tmp_path / "sound.csv", [3], 0, "train")
    (grandchild,) = subset_list(child.file, [2], 0, "train")
    return read_manifest(tmp_path / "sound.csv"), child, grandchild


def by_training(file):
    return [row for row in read_quarantine(file).values() if row.by == "training"]


@pytest.mark.parametrize("is_sound", [True, False])
@pytest.mark.parametrize("generation", [1, 2])
def test_what_training_set_aside_on_a_list_taken_from_it_is_looked_at_again(sound, is_sound, generation):
    """A pre-training reads NAME-pretrain.csv, and people scan NAME.csv."""
    file, of = sound[0].file, sound[generation]
    run(file)
    path = of.rows[0].path
    if not is_sound:
        (file.parent / path).write_bytes(content(0, "mp4")[:-3000])
    words = [Quarantined(path, "not done after 60 s", "training"), Quarantined("gone.mp4", "elsewhere", "training")]
    write_quarantine(of.file, [*words, Quarantined("by eye.mp4", "a still image", "hand")])
    assert run(file).num_decoded == 1
    assert set(read_quarantine(of.file)) == {"gone.mp4", "by eye.mp4"}, "others' words, and videos that are not listed here"
    found = quarantine_of(of).get(path)
    assert (found and found.by) == (None if is_sound else "scan")


def _set_aside_and_examine(file, row, path, backend):
    if path.endswith(row.path):
        write_quarantine(file, [row])
    return examine(path, backend)


@pytest.mark.parametrize("generation", [0, 1])
def test_what_training_sets_aside_while_a_scan_runs_stays(sound, generation):
    file, on = sound[0].file, sound[generation].file
    before, after = (row.path for row in sound[2].rows)
    write_quarantine(on, [Quarantined(before, "before", "training")])
    meanwhile = Quarantined(after, "meanwhile", "training")
    run(file, look=functools.partial(_set_aside_and_examine, on, meanwhile))
    assert by_training(on) == [meanwhile]
    assert run(file).num_decoded == 1
    assert by_training(on) == []


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("path,reason\n", ":1: no column by"),
        ("path,reason,by\na.mp4,,scan\n", ":2: path, reason or by is empty"),
    ],
)
def test_a_damaged_quarantine_says_where(listed, text, words):
    beside(listed, "quarantine.csv").write_text(text)
    with pytest.raises(DataError) as caught:
        read_quarantine(listed)
    assert "list.quarantine.csv" + words in str(caught.value)


def test_a_damaged_table_of_a_scan_says_where(listed):
    run(listed)
    file = beside(listed, "scan.csv")
    with file.open(newline="") as text:
        rows = list(csv.reader(text))
    rows[1][rows[0].index("bytes")] = "many"
    with file.open("w", newline="") as text:
        csv.writer(text).writerows(rows)
    with pytest.raises(DataError, match=r"list\.scan\.csv:2: not a row of a scan: .*delete the file and scan again"):
        run(listed)
