"""Other projects' lists, and class folders: what is read, how splits are told, and what is refused where."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from miniatures import command, put, write

from vmae.data.foreign import read_foreign
from vmae.data.listing import prepare
from vmae.data.lookup import VideoFiles
from vmae.data.manifest import read_manifest
from vmae.errors import DataError


def foreign(folder, format, **options):
    given = {"split": None, "classes_file": None} | options
    places = given.pop("places", [folder])
    return read_foreign(places, format, folder, **given)


def rows(listing):
    return [(entry.names[0], entry.label, entry.split) for entry in listing.entries]


def test_videomaes_lists_with_spaces_bom_and_crlf(tmp_path):
    write(tmp_path / "train.csv", "\ufeffa b/c 1.mp4 3\r\n'é 影/d.mp4' 0\r\n\r\n/data/x 5.avi 1\r\n")
    for name in ("val", "test"):
        write(tmp_path / f"{name}.csv", "b/c 1.mp4 2\n")
    found = rows(foreign(tmp_path, "videomae"))
    assert found == [
        ("a b/c 1.mp4", 3, "train"),
        ("é 影/d.mp4", 0, "train"),
        ("/data/x 5.avi", 1, "train"),
        ("b/c 1.mp4", 2, "test"),
    ]


@pytest.mark.parametrize("format", ["videomae", "v2", "mae_st", "mmaction2"])
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    names=st.lists(
        st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"], exclude_characters="\"'\\/"), min_size=1), min_size=1
    ),
    end=st.sampled_from(["\n", "\r\n"]),
    bom=st.booleans(),
)
def test_any_name_is_read_from_any_format(format, tmp_path, names, end, bom):
    paths = [f"folder {i}/{name} {i}.mp4" for i, name in enumerate(names)]
    text = end.join(f"{path} {i}" for i, path in enumerate(paths))
    write(tmp_path / "train.csv", "\ufeff" * bom + text)
    assert rows(foreign(tmp_path, format)) == [(path, i, "train") for i, path in enumerate(paths)]


def test_v2s_pretraining_list_needs_no_labels(tmp_path):
    for i in range(20):
        put(tmp_path / "videos" / f"{i}.mp4", i)
    write(tmp_path / "pretrain.csv", "".join(f"videos/{i}.mp4 0 -1\n" for i in range(20)))
    text = command("prepare", "list", tmp_path / "pretrain.csv", "--format", "v2", "--out", tmp_path / "mine.csv")
    assert "18 pretrain, 2 holdout" in text
    assert not (tmp_path / "mine.csv").exists(), "there is nothing labelled to list"
    made = read_manifest(tmp_path / "mine-pretrain.csv")
    assert {row.label for row in made.rows} == {None}


@pytest.mark.parametrize(
    ("format", "line", "words"),
    [
        ("videomae", "frames/abc 0 120 5", ":1: 'frames/abc' with 3 numbers is a folder of frames"),
        ("v2", "frames/abc 120 5", ":1: 'frames/abc' with 2 numbers is a folder of frames"),
        ("mmaction2", "a.mp4 1 5", ":1: 'a.mp4 1 5' has 2 numbers behind the path"),
        ("videomae", "a.mp4", ":1: 'a.mp4' has no label"),
        ("videomae", "a.mp4 -1", ":1: 'a.mp4 -1' has no label, and split 'train' needs one"),
        ("v2", "a.mp4 0 -1", ":1: 'a.mp4 0 -1' has no label, and split 'train' needs one"),
        ("videomea", "a.mp4 1", "--format 'videomea'. Did you mean 'videomae'"),
        ("videomae", f"a.mp4 {'1' * 5000}", "has no label"),
        ("videomae", "", "no video is listed"),
    ],
)
def test_lines_that_do_not_fit(format, line, words, tmp_path):
    write(tmp_path / "train.csv", line)
    with pytest.raises(DataError) as caught:
        foreign(tmp_path, format)
    assert words in str(caught.value)


def videos(folder, **num_videos):
    """Videos `SPLIT/I.mp4` and the lines `path,label,split` that name them."""
    paths = [(split, f"{split}/{i}.mp4", i % 2) for split, count in num_videos.items() for i in range(count)]
    for i, (_, path, _) in enumerate(paths):
        put(folder / path, i)
    return "path,label,split\n" + "".join(f"{path},{label},{split}\n" for split, path, label in paths)


def test_a_csv_with_columns_becomes_the_lists_that_runs_read(tmp_path):
    """Every line keeps its path, label and split; what runs need beside them, pretrain and holdout, is made."""
    text = videos(tmp_path / "my videos", train=8, test=4)
    write(tmp_path / "my videos" / "mine.csv", text)
    words = ("prepare", "list", tmp_path / "my videos" / "mine.csv", "--format", "csv", "--holdout", 2)
    command(*words, "--out", tmp_path / "data" / "mine.csv")
    labelled, unlabelled = (read_manifest(tmp_path / "data" / f"mine{kind}.csv") for kind in ("", "-pretrain"))
    assert labelled.counts() == {"train": 6, "holdout": 2, "test": 4}
    assert unlabelled.counts() == {"pretrain": 6, "holdout": 2}
    kept = {f"{row.path},{row.label},{'train' if row.split == 'holdout' else row.split}" for row in labelled.rows}
    assert kept == set(text.splitlines()[1:])
    assert all(labelled.absolute(row).is_file() for row in labelled.rows)
    assert "is the list itself" in command(*words, "--out", tmp_path / "my videos" / "mine.csv", code=2)


@pytest.mark.parametrize(
    ("given", "counts"),
    [
        ({"train": 6, "val": 3, "test": 4}, {"train": 6, "holdout": 3, "test": 4}),
        ({"train": 6, "val": 3}, {"train": 6, "test": 3}),
        ({"training": 6, "holdout": 2, "testing": 4}, {"train": 6, "holdout": 2, "test": 4}),
    ],
)
def test_val_beside_test_is_for_choosing_and_alone_is_what_papers_report(tmp_path, given, counts):
    file = write(tmp_path / "mine.csv", videos(tmp_path, **given))
    made = prepare(foreign(tmp_path, "csv", places=[file]), VideoFiles(tmp_path), tmp_path / "out.csv")
    assert made.labelled.counts() == counts


@pytest.mark.parametrize(
    ("text", "options", "words"),
    [
        ("a.mp4,0,train\n", {}, "no column path, label, split"),
        ("path,label,split\na.mp4,0,trian\n", {}, ":2: split 'trian' would be read by no run. Did you mean 'train'?"),
        ("path;label;split\na.mp4;0;train\n", {}, ":1: no column path, label, split in 'path;label;split'"),
        ("path,label,split\na.mp4,0,other\n", {}, ":2: split 'other' of 'a.mp4'. Allowed: pretrain"),
        ("path,label,split\na.mp4,,train\n", {}, ":2: 'a.mp4' has no label, and split 'train' needs one"),
        ("path,label,split\na.mp4,1000000000000,train\n", {}, ":2: label 1000000000000 of 'a.mp4'; allowed: 0 to 99999"),
        ("path,label,split\na.mp4,0,train,b\n", {}, ":2: 1 values more than columns"),
        (f'path,label,split\n"a.mp4,0,train\n{"b" * 200_000}', {}, "field larger than field limit"),
        ("path,label,split\na.mp4,cat,train\n", {}, ":2: label 'cat' of 'a.mp4' is not an integer"),
        ("path,label,split\na.mp4,0,train\n", {"split": "train"}, "has a column for it"),
    ],
)
def test_columns_that_do_not_fit(tmp_path, text, options, words):
    file = write(tmp_path / "mine.csv", text)
    with pytest.raises(DataError) as caught:
        foreign(tmp_path, "csv", places=[file], **options)
    assert words in str(caught.value)


def test_what_listed_videos_lack_is_told(tmp_path):
    file = write(tmp_path / "mine.csv", "path,label,split\na.mp4,2,train\nb.mp4,2,test\n")
    words = ("prepare", "list", file, "--format", "csv")
    put(tmp_path / "a.mp4")
    put(tmp_path / "b.mp4", 1)
    said = command(*words, "--out", tmp_path / "out.csv")
    assert "3 classes, from 0 '0' to 2 '2'" in said
    assert "2 of them have no train video, the first: 0 '0'" in said
    (tmp_path / "b.mp4").unlink()
    assert "'b.mp4' (" in (said := command(*words, "--out", tmp_path / "again.csv", code=2))
    assert "mine.csv:3)" in said
    for folder in ("", tmp_path):
        assert "is a folder; give the list's name" in command(*words, "--out", folder, code=2)


def test_class_names_that_stand_twice_are_refused(tmp_path):
    file = write(tmp_path / "mine.csv", "path,label,split\na.mp4,1,train\n")
    names = write(tmp_path / "names", "jump\nrun\njump\n")
    with pytest.raises(DataError, match=r"names:3: class 'jump' stands already at .*names:1"):
        foreign(tmp_path, "csv", places=[file], classes_file=names)


def test_the_split_of_a_list_is_told_by_its_name_or_by_hand(tmp_path):
    file = write(tmp_path / "kinetics.csv", "a.mp4 1\n")
    with pytest.raises(DataError, match="its name tells no split; say which with --split pretrain"):
        foreign(tmp_path, "videomae", places=[file])
    assert rows(foreign(tmp_path, "videomae", places=[file], split="val")) == [("a.mp4", 1, "test")]
    with pytest.raises(DataError, match=r"--split 'tran'\. Did you mean 'train'"):
        foreign(tmp_path, "videomae", places=[file], split="tran")
    write(tmp_path / "val.csv", "a.mp4 1\n")
    write(tmp_path / "test.csv", "b.mp4 1\n")
    with pytest.raises(DataError, match="would both be split 'test' and differ"):
        foreign(tmp_path, "videomae")


def test_labels_beyond_the_map(tmp_path):
    put(tmp_path / "a.mp4")
    write(tmp_path / "train.csv", "a.mp4 3\n")
    names = write(tmp_path / "names of classes", "one\ntwo\nthree\n")
    words = ("prepare", "list", tmp_path / "train.csv", "--format", "mmaction2", "--out", tmp_path / "o.csv", "--classes", names)
    assert "train.csv:1: label 3 of 'a.mp4'; allowed: 0 to 2" in command(*words, code=2)


def test_equal_names_in_different_folders_stay_apart(tmp_path):
    for i, folder in enumerate(("a", "b", "b/a")):
        put(tmp_path / folder / "1.mp4", i)
    write(tmp_path / "train.csv", "a/1.mp4 0\nb/1.mp4 1\n")
    write(tmp_path / "val.csv", "b/a/1.mp4 1\n")
    made = prepare(foreign(tmp_path, "videomae"), VideoFiles(tmp_path), tmp_path / "out.csv")
    assert [row.path for row in made.labelled.rows] == ["a/1.mp4", "b/1.mp4", "b/a/1.mp4"]
    write(tmp_path / "val.csv", "1.mp4 1\n")
    with pytest.raises(DataError, match=r"val\.csv:1: '1' may be a/1\.mp4 or b/1\.mp4"):
        prepare(foreign(tmp_path, "videomae"), VideoFiles(tmp_path), tmp_path / "out.csv")


def test_class_folders(tmp_path):
    for split, name, count in (("train", "a b", 3), ("train", "é", 2), ("val", "é", 2)):
        for i in range(count):
            put(tmp_path / "set" / split / name / f"{i}.mp4", i)
    command("prepare", "list", tmp_path / "set", "--format", "folders", "--out", tmp_path / "mine.csv")
    made = read_manifest(tmp_path / "mine.csv", 2, ("train", "test"))
    assert made.counts() == {"train": 5, "test": 2}
    assert made.about.classes == ("a b", "é")
    put(tmp_path / "set" / "val" / "a  b" / "0.mp4")
    text = command("prepare", "list", tmp_path / "set", "--format", "folders", "--out", tmp_path / "mine.csv", code=2)
    assert "no class 'a  b' in train. Did you mean 'a b'" in text
    with pytest.raises(DataError, match="has no folder pretrain"):
        foreign(tmp_path / "set" / "train", "folders")


def test_two_folders_of_one_split_are_refused(tmp_path):
    for split in ("train", "val", "test"):
        put(tmp_path / split / "a" / "1.mp4")
    with pytest.raises(DataError, match=r"/test and .*/val would both be split 'test'; leave the one"):
        foreign(tmp_path, "folders")


@pytest.mark.parametrize("path", ["b.mp4", "a/deep/b.mp4", "a/deep/er/b.MP4"])
def test_a_video_outside_of_the_class_folders_is_never_left_out_silently(tmp_path, path):
    put(tmp_path / "train" / "a" / "1.mp4")
    put(tmp_path / "train" / path.lower()).rename(tmp_path / "train" / path)
    with pytest.raises(DataError, match=rf"1 videos are not in a class folder, as SPLIT/CLASS/VIDEO; the first: .*/train/{path}"):
        foreign(tmp_path, "folders")


def test_a_class_folder_may_be_a_link(tmp_path):
    put(tmp_path / "elsewhere" / "1.mp4")
    (tmp_path / "train").mkdir()
    (tmp_path / "train" / "a").symlink_to(tmp_path / "elsewhere")
    assert rows(foreign(tmp_path, "folders")) == [("train/a/1", 0, "train")]
