"""Finding listed videos on the disk: links, files that are gone, many videos of one name."""

import shutil

import pytest
from miniatures import put, write

from vmae.data import lookup
from vmae.data.foreign import read_foreign
from vmae.data.listing import prepare
from vmae.data.lookup import Entry, VideoFiles
from vmae.errors import DataError


def prepared(folder, root, **options):
    listing = read_foreign([folder / "lists"], "videomae", root, None, None)
    return prepare(listing, VideoFiles(root), folder / "made.csv", **options)


def listed(folder, train, test):
    for word, names in (("train", train), ("val", test)):
        write(folder / "lists" / f"{word}.csv", "".join(f"{name} {i % 2}\n" for i, name in enumerate(names)))


def test_many_videos_of_one_name_are_each_looked_up_once(tmp_path, monkeypatch):
    """ID/clip.mp4 a hundred thousand times: a search among all of that name, for each, would take hours."""
    names = [f"{i:04d}/clip" for i in range(300)]
    for name in names:
        path = tmp_path / "videos" / f"{name}.mp4"
        path.parent.mkdir(parents=True)
        path.touch()
    asked = []
    plain = lookup.without_ending
    monkeypatch.setattr(lookup, "without_ending", lambda name: asked.append(name) or plain(name))
    videos = VideoFiles(tmp_path / "videos")
    assert [videos.find(Entry((name,), 0, "train", "")) for name in names] == [f"{name}.mp4" for name in names]
    assert videos.find(Entry(("7/clip",), 0, "train", "")) is None
    assert len(asked) < 5 * len(names)


def test_two_links_to_one_folder_are_both_a_way_to_its_videos(tmp_path):
    for name in "abcd":
        put(tmp_path / "pool" / "sub" / f"{name}.mp4")
    root = tmp_path / "videos"
    root.mkdir()
    for split in ("train", "val"):
        (root / split).symlink_to(tmp_path / "pool")
    (tmp_path / "pool" / "ring").symlink_to(root)
    listed(tmp_path, ["train/sub/a.mp4", "train/ring/train/sub/b.mp4"], ["val/sub/c.mp4", "val/sub/d.mp4"])
    made = prepared(tmp_path, root)
    assert [row.path for row in made.labelled.rows] == ["a.mp4", "b.mp4", "c.mp4", "d.mp4"]
    listed(tmp_path, ["train/sub/a.mp4", "train/sub/b.mp4"], ["val/sub/b.mp4", "val/sub/c.mp4"])
    with pytest.raises(DataError, match=r"1 videos are listed in more than one split; .*train\.csv:2.*val\.csv:1"):
        prepared(tmp_path, root)


@pytest.mark.parametrize("link", ["symlink_to", "hardlink_to"])
def test_one_file_under_two_names_is_not_in_two_splits(tmp_path, link):
    for name in ("a", "b", "c"):
        put(tmp_path / "videos" / f"{name}.mp4")
    getattr(tmp_path / "videos" / "again.mp4", link)(tmp_path / "videos" / "b.mp4")
    shutil.copy(tmp_path / "videos" / "a.mp4", tmp_path / "videos" / "copy.mp4")
    listed(tmp_path, ["a.mp4", "b.mp4"], ["c.mp4", "copy.mp4"])
    prepared(tmp_path, tmp_path / "videos")
    listed(tmp_path, ["a.mp4", "b.mp4"], ["c.mp4", "again.mp4"])
    with pytest.raises(DataError, match=r"in more than one split; the first: 'b\.mp4' and 'again\.mp4' in train .* and test"):
        prepared(tmp_path, tmp_path / "videos")


def test_a_link_that_leads_nowhere_is_an_absent_video(tmp_path):
    for name in "abc":
        put(tmp_path / "videos" / f"{name}.mp4")
    (tmp_path / "videos" / "d.mp4").symlink_to(tmp_path / "moved away.mp4")
    listed(tmp_path, ["a.mp4", "b.mp4"], ["c.mp4", "d.mp4"])
    with pytest.raises(DataError, match=r"1 of 2 test videos are not below .*'d\.mp4' \(.*val\.csv:2\)"):
        prepared(tmp_path, tmp_path / "videos")
    made = prepared(tmp_path, tmp_path / "videos", skip_absent=True)
    assert [entry.names for entry in made.absent] == [("d.mp4",)]
    assert made.labelled.counts() == {"train": 2, "test": 1}
