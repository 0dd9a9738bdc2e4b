"""A manifest's own columns and what lies beside it: kept, no part of what is listed, refused with file and line when damaged."""

import csv
import json

import pytest
from miniatures import prepared

from vmae.data.manifest import FACTS, beside, list_sha256, read_manifest
from vmae.errors import DataError


def test_other_columns_are_read_kept_and_no_part_of_what_is_listed(tmp_path):
    made, _, _ = prepared("ucf101", tmp_path)
    rows = made.labelled.rows
    assert set(rows[0].facts) == {"id", "bytes", "mtime"}
    assert made.labelled.list_sha256 == list_sha256(rows)
    with made.labelled.file.open(newline="") as file:
        table = list(csv.DictReader(file))
    with made.labelled.file.open("w", newline="") as file:
        writer = csv.DictWriter(file, ["note", "fps", *table[0]])
        writer.writeheader()
        writer.writerows({**values, "note": "seen", "fps": "29.97", "mtime": ""} for values in table)
    again = read_manifest(made.labelled.file)
    assert again.list_sha256 == made.labelled.list_sha256
    assert again.rows[0].facts == {"id": rows[0].facts["id"], "bytes": rows[0].facts["bytes"], "fps": 29.97}
    assert set(again.rows[0].facts) <= set(FACTS)


def test_damaged_columns_and_class_names_say_where(tmp_path):
    made, _, _ = prepared("ucf101", tmp_path)
    file = made.labelled.file
    with pytest.raises(DataError, match=r"ucf101\.about\.json names 3 classes, 101 are asked for"):
        read_manifest(file, num_classes=101)
    text = file.read_text()
    file.write_text(text.replace(",0,train,", ",3,train,", 1))
    with pytest.raises(DataError, match=r"ucf101\.csv:2: label 3 of .*; allowed: 0 to 2"):
        read_manifest(file)
    file.write_text(text.replace(str(made.labelled.rows[0].facts["bytes"]), "many", 1))
    with pytest.raises(DataError, match=r"ucf101\.csv:2: bytes 'many' is no int"):
        read_manifest(file)
    for damage in ("{", "[]", json.dumps({"classes": ["a"]})):
        beside(file, "about.json").write_text(damage)
        with pytest.raises(DataError, match=r"cannot read .*ucf101\.about\.json"):
            read_manifest(file)


@pytest.mark.parametrize("again", ["./v/a.mp4", "v//a.mp4", "v/./a.mp4", "w/../v/a.mp4"])
def test_a_video_listed_twice_under_two_spellings_is_refused(tmp_path, again):
    (tmp_path / "a.csv").write_text(f"path,label,split\nv/a.mp4,0,train\nv/b.mp4,0,test\n{again},0,test\n")
    with pytest.raises(DataError, match=r"a\.csv:4: '.*a\.mp4' is listed already on line 2"):
        read_manifest(tmp_path / "a.csv")


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ("v.mp4,1_0,train", "label '1_0'"),
        ("v.mp4,\u0663,train", "label '\u0663'"),  # an Arabic 3
        ("v.mp4,1, train", "split ' train' of 'v.mp4' has spaces"),
    ],
)
def test_what_only_looks_like_a_label_or_a_split_is_refused(tmp_path, row, words):
    (tmp_path / "a.csv").write_text(f"path,label,split\n{row}\n", encoding="utf-8")
    with pytest.raises(DataError, match=f"a.csv:2: {words}"):
        read_manifest(tmp_path / "a.csv")
