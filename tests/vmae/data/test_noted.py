"""Long lists and slow disks: a list is not read again for every command, and files are asked for many at a time."""

import os
import threading
from pathlib import Path

import pytest

from vmae.data import noted, source
from vmae.data.manifest import About, Manifest, VideoRow, check_files, read_manifest, write_about, write_manifest
from vmae.errors import DataError


@pytest.fixture
def long_list(tmp_path, monkeypatch):
    """A list that counts as long and was not touched just now; what is read of it is counted."""
    monkeypatch.setattr(source, "LONG", 2)
    monkeypatch.setattr(noted, "SETTLED_NS", -(10**18))
    reads = []
    monkeypatch.setattr(source, "read_manifest", lambda file, **more: reads.append(file) or read_manifest(file, **more))
    write_manifest(tmp_path / "list.csv", [VideoRow(f"{i}.mp4", i % 2, "train") for i in range(4)])
    write_about(tmp_path / "list.csv", About(classes=("a", "b")))
    return tmp_path / "list.csv", reads


def test_a_list_that_has_not_changed_is_read_once(long_list):
    file, reads = long_list
    first = source.listed_set(file, "mine", 2)
    assert source.listed_set(file, "mine", 2) == first
    assert len(reads) == 1
    assert first.counts == {"train": 4}
    assert first.list_sha256 == read_manifest(file).list_sha256
    source.listed_set(file, "mine")
    assert len(reads) == 2, "without classes other things are checked"


@pytest.mark.parametrize("change", ["list", "list of the same size and time", "about", "note"])
def test_what_has_changed_is_read_again_and_refused_again(long_list, change):
    file, _ = long_list
    source.listed_set(file, "mine", 2)
    if change == "about":
        write_about(file, About(classes=("a", "b", "c")))
        with pytest.raises(DataError, match="names 3 classes, 2 are asked for"):
            source.listed_set(file, "mine", 2)
        return
    if change == "note":
        file.with_suffix(".noted.json").write_text('{"of": ')
        assert source.listed_set(file, "mine", 2).counts == {"train": 4}
        return
    before = file.stat()
    file.write_text(file.read_text().replace("3.mp4,1", "3.mp4,7"))
    if "time" in change:
        os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    with pytest.raises(DataError, match=r"label 7 of '3\.mp4'; allowed: 0 to 1"):
        source.listed_set(file, "mine", 2)


def test_nothing_is_noted_of_short_lists_of_such_as_were_touched_just_now_or_where_it_cannot_be(long_list, monkeypatch):
    file, reads = long_list
    note = file.with_suffix(".noted.json")
    monkeypatch.setattr(noted, "SETTLED_NS", 5 * 10**9)
    source.listed_set(file, "mine", 2)
    assert not note.exists()
    monkeypatch.setattr(noted, "SETTLED_NS", -(10**18))
    monkeypatch.setattr(source, "LONG", 5)
    source.listed_set(file, "mine", 2)
    assert not note.exists()
    monkeypatch.setattr(source, "LONG", 2)
    note.mkdir()
    assert source.listed_set(file, "mine", 2).counts == {"train": 4}
    assert len(reads) == 3


def test_files_are_asked_for_many_at_a_time_and_once_each(tmp_path, monkeypatch):
    """On a network each question is a way there and back: 240,000 in turn would be minutes, in every rank of every run."""
    rows = tuple(VideoRow(f"{i}.mp4", 0, "train") for i in range(16))
    for row in rows[:-1]:
        (tmp_path / row.path).write_bytes(b"x")
    (tmp_path / "3.mp4").write_bytes(b"")
    asked, together, plain = [], threading.Barrier(8), Path.stat

    def stat(path, **more):
        asked.append(path.name)
        together.wait(30)
        return plain(path, **more)

    monkeypatch.setattr(Path, "stat", stat)
    with pytest.raises(DataError, match=r"2 of 16 videos .*; the first: .*3\.mp4 is empty"):
        check_files(Manifest(tmp_path / "list.csv", rows, ""), rows)
    assert sorted(asked) == sorted(row.path for row in rows)
