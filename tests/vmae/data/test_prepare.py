"""From downloads to lists: each data set's real formats in miniature, other projects' lists, and what is refused and how."""

import csv
import json
import shutil

import miniatures
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from miniatures import put, write
from typer.testing import CliRunner

from vmae.__main__ import app
from vmae.data.foreign import read_foreign
from vmae.data.listing import Entry, VideoFiles, files_among, prepare
from vmae.data.manifest import FACTS, beside, list_sha256, read_manifest
from vmae.data.official import read_official
from vmae.data.subset import subset
from vmae.errors import DataError
from vmae.sections import SubsetConfig

EXPECTED = {  # train, test, classes in the order of their labels
    "ssv2": (9, 6, ("Approaching something with your camera", "Something colliding with something", "Putting number of things")),
    "k400": (8, 4, ("abseiling", "air drumming", 'it\'s, "art"', "zumba")),
    "ucf101": (12, 6, ("ApplyEyeMakeup", "ApplyLipstick", "HandstandPushups")),
    "hmdb51": (12, 3, ("brush_hair", "cartwheel", "sword")),
}


def command(*words, code=0):
    done = CliRunner().invoke(app, ["data", *map(str, words)])
    if code:
        assert isinstance(done.exception, DataError), done.output
        return str(done.exception)
    assert done.exit_code == 0, done.output + str(done.exception)
    return done.output


def prepared(dataset, folder, **options):
    root, lists = getattr(miniatures, dataset)(folder)
    made = prepare(read_official(dataset, files_among([lists])), VideoFiles(root), folder / f"{dataset}.csv", **options)
    return made, root, lists


@pytest.mark.parametrize("dataset", EXPECTED)
def test_each_data_set_from_its_official_files(dataset, tmp_path):
    num_train, num_test, classes = EXPECTED[dataset]
    root, lists = getattr(miniatures, dataset)(tmp_path)
    out = tmp_path / "data" / f"{dataset}.csv"
    text = command("prepare", dataset, "--root", root, "--splits", lists, "--out", out, "--heldout", 2)
    labelled, pretraining = (
        read_manifest(out, len(classes), ("train", "test")),
        read_manifest(out.with_stem(f"{dataset}-pretrain")),
    )
    assert labelled.counts() == {"train": num_train, "test": num_test}
    assert pretraining.counts() == {"pretrain": num_train, "holdout": 2}
    assert labelled.about.classes == classes
    assert f"{len(classes)} classes, from 0 {classes[0]!r}" in text
    for row in labelled.rows:
        path = labelled.absolute(row)
        assert path.read_bytes()
        assert (row.facts["bytes"], row.facts["mtime"]) == (path.stat().st_size, path.stat().st_mtime_ns)
    assert {row.path for row in pretraining.select("pretrain")} == {row.path for row in labelled.select("train")}
    assert {row.path for row in pretraining.select("holdout")} < {row.path for row in labelled.select("test")}
    assert pretraining.about.parent == f"{dataset}.csv"


@pytest.mark.parametrize("dataset", EXPECTED)
def test_a_list_does_not_depend_on_where_things_lie(dataset, tmp_path):
    made, root, lists = prepared(dataset, tmp_path / "here")
    other = tmp_path / "else where" / "deep"
    shutil.copytree(root, other / "videos" / root.name)
    again = prepare(read_official(dataset, files_among([lists])), VideoFiles(other), tmp_path / "other.csv")
    assert again.labelled.list_sha256 == made.labelled.list_sha256
    assert again.labelled.absolute(again.labelled.rows[0]).is_relative_to(other)


def test_labels_are_the_classes_of_the_files(tmp_path):
    made, _, _ = prepared("hmdb51", tmp_path)
    for row in made.labelled.rows:
        assert row.path.startswith(made.labelled.about.classes[row.label])
    made, _, _ = prepared("ssv2", tmp_path)
    assert [row.label for row in made.labelled.select("train")] == [0, 1, 2] * 3
    made, _, _ = prepared("k400", tmp_path)
    by_id = {row.facts["id"]: made.labelled.about.classes[row.label] for row in made.labelled.rows}
    assert by_id["-_tra000002_000014_000024"] == "air drumming"


@pytest.mark.parametrize("number", [1, 2, 3])
@pytest.mark.parametrize("dataset", ["ucf101", "hmdb51"])
def test_the_three_splits_differ(dataset, number, tmp_path):
    root, lists = getattr(miniatures, dataset)(tmp_path)
    tests = [
        {entry.names for entry in read_official(dataset, files_among([lists]), n).entries if entry.split == "test"}
        for n in (1, 2, 3)
    ]
    assert len(tests[number - 1]) > 0
    assert tests[number - 1] not in tests[: number - 1]
    with pytest.raises(DataError, match=r"split4|list04"):
        read_official(dataset, files_among([lists]), 4)
    assert root.exists()


def test_odd_names_arrive_unchanged(tmp_path):
    made, root, _ = prepared("hmdb51", tmp_path)
    names = {row.path.split("/")[1] for row in made.labelled.rows}
    assert names == set(miniatures.HMDB51_NAMES) - {"unused_5.avi"}
    assert all((root / row.path).is_file() for row in made.labelled.rows)


def test_lists_in_latin_1_and_names_in_nfd_are_found(tmp_path):
    root, lists = miniatures.hmdb51(tmp_path)
    for file in lists.glob("*.txt"):
        file.write_bytes(file.read_text(encoding="utf-8").replace("剣道", "").encode("latin-1"))
    for folder in root.iterdir():
        (folder / miniatures.HMDB51_NAMES[4]).rename(folder / "Ma\u0308dchen !_[2]_f_cm_np1_ba_med_4.avi")
    made = prepare(read_official("hmdb51", files_among([lists])), VideoFiles(root), tmp_path / "h.csv")
    assert made.labelled.counts() == {"train": 12, "test": 3}


def test_kinetics_in_class_folders_is_the_same_videos(tmp_path):
    root, lists = miniatures.k400(tmp_path, by_class=True)
    made = prepare(read_official("k400", files_among([lists])), VideoFiles(root), tmp_path / "k.csv")
    assert made.labelled.counts() == {"train": 8, "test": 4}
    assert made.labelled.select("train")[1].path == "abseiling/-_tra000001_000007_000017.mp4"


def test_kinetics_lists_without_splits_are_told_by_their_names(tmp_path):
    root, lists = miniatures.k400(tmp_path)
    for name in ("train", "validate", "test"):
        rows = [line.split(",")[:-2] for line in (lists / f"{name}.csv").read_text().splitlines() if '"' not in line]
        rows = [row[1:] for row in rows] if name == "test" else rows  # the first release of the test list had no labels
        write(lists / f"kinetics_400_{name}.csv", "".join(",".join(row) + "\n" for row in rows))
        (lists / f"{name}.csv").unlink()
    made = prepare(read_official("k400", files_among([lists])), VideoFiles(root), tmp_path / "k.csv")
    assert made.labelled.counts() == {"train": 6, "test": 3}


def test_transcoded_files_stand_for_the_listed_ones(tmp_path):
    root, lists = miniatures.ucf101(tmp_path)
    for path in list(root.rglob("*.avi")):
        put(path.with_suffix(".mp4"))
    with pytest.raises(DataError, match=r"trainlist01\.txt:1: .* may be .*avi or .*mp4 below .*--ending"):
        prepare(read_official("ucf101", files_among([lists])), VideoFiles(root), tmp_path / "u.csv")
    made = prepare(read_official("ucf101", files_among([lists])), VideoFiles(root, ["mp4"]), tmp_path / "u.csv")
    assert {row.path[-4:] for row in made.labelled.rows} == {".mp4"}


def test_absent_videos_are_counted_and_left_out_only_when_asked(tmp_path):
    root, lists = miniatures.ucf101(tmp_path)
    for group in (1, 2):
        (root / "ApplyLipstick" / f"v_ApplyLipstick_g{group:02d}_c01.avi").unlink()
    (root / "ApplyEyeMakeup" / "v_ApplyEyeMakeup_g03_c01.avi").unlink()
    words = ("prepare", "ucf101", "--root", root, "--splits", lists, "--out", tmp_path / "u.csv")
    text = command(*words, code=2)
    assert "2 of 12 train videos, 1 of 6 test videos are not below" in text
    assert "the first: 'ApplyLipstick/v_ApplyLipstick_g01_c01.avi'" in text
    assert not (tmp_path / "u.csv").exists()
    assert "3 listed videos are not there and were left out" in command(*words, "--skip-absent")
    made = read_manifest(tmp_path / "u.csv")
    assert made.counts() == {"train": 10, "test": 5}
    assert made.about.made["absent"] == {"train": 2, "test": 1}


def test_a_ring_of_links_is_walked_once(tmp_path):
    root, lists = miniatures.ucf101(tmp_path)
    (root / "ApplyLipstick" / "up").symlink_to(root)
    made = prepare(read_official("ucf101", files_among([lists])), VideoFiles(root), tmp_path / "u.csv")
    assert len(made.labelled.rows) == 18


def test_a_root_without_any_of_them_is_refused_even_then(tmp_path):
    _, lists = miniatures.ucf101(tmp_path)
    put(tmp_path / "other" / "a.mp4")
    with pytest.raises(DataError, match=r"so train and test would be empty; is --root right\?"):
        prepare(
            read_official("ucf101", files_among([lists])), VideoFiles(tmp_path / "other"), tmp_path / "u.csv", skip_absent=True
        )
    with pytest.raises(DataError, match=r"no video below"):
        VideoFiles(lists)
    with pytest.raises(DataError, match=r"no folder .*nowhere"):
        VideoFiles(tmp_path / "nowhere")


def edit(lists, name, change):
    file = next(lists.rglob(name))
    file.write_bytes(change(file.read_bytes()))


@pytest.mark.parametrize(
    ("dataset", "name", "change", "words"),
    [
        (
            "ucf101",
            "testlist01.txt",
            lambda b: b + b"ApplyLipstick/v_ApplyLipstick_g01_c01.avi\n",
            "1 videos are listed in more than one split",
        ),
        ("ucf101", "trainlist01.txt", lambda b: b + b.splitlines()[0], "1 videos are listed more than once"),
        ("ucf101", "trainlist01.txt", lambda b: b.replace(b".avi 2", b".avi 3", 1), ":5: label 3 of 'ApplyLipstick/"),
        (
            "ucf101",
            "trainlist01.txt",
            lambda b: b + b"Juggling/v_g01.avi 4\n",
            ":13: 'Juggling/v_g01.avi 4' is not in a class folder",
        ),
        ("ucf101", "classInd.txt", lambda b: b.replace(b"2 Apply", b"3 Apply"), ":2: '3 ApplyLipstick'; expected '2 ClassName'"),
        ("ucf101", "testlist01.txt", lambda b: b"", "no test video in"),
        ("hmdb51", "sword_test_split1.txt", lambda b: b.replace(b" 1 ", b" 3 ", 1), "expected a file name and 0, 1 or 2"),
        ("hmdb51", "sword_test_split1.txt", lambda b: b"\0" + b, "is no text file"),
        (
            "k400",
            "validate.csv",
            lambda b: b.replace(b"zumba", b"zunba"),
            ":2: no train video has label 'zunba'. Did you mean 'zumba'",
        ),
        ("k400", "train.csv", lambda b: b.replace(b"youtube_id", b"id"), ":1: no column youtube_id"),
        ("k400", "train.csv", lambda b: b.replace(b",train,", b",trian,", 1), ":2: split 'trian'. Did you mean 'train'"),
        ("k400", "train.csv", lambda b: b.replace(b",0,10,", b",x,10,", 1), ":2: time_start and time_end must be seconds"),
        ("ssv2", "*train.json", lambda b: b.replace(b"[something]", b"[somethink]", 1), "template 'Approaching somethink with"),
        ("ssv2", "*train.json", lambda b: b[:-5], "cannot read"),
        ("ssv2", "*train.json", lambda b: b'{"id": 1}', "expected a JSON list"),
        ("ssv2", "*train.json", lambda b: b'[{"id": 1}]', "video 1: expected an object with id and template"),
        ("ssv2", "labels.json", lambda b: b.replace(b'"2"', b'"5"'), "labels of 3 classes must be 0 to 2, each once"),
    ],
)
def test_what_does_not_fit_is_refused_with_file_and_line(dataset, name, change, words, tmp_path):
    root, lists = getattr(miniatures, dataset)(tmp_path)
    edit(lists, name, change)
    text = command("prepare", dataset, "--root", root, "--splits", lists, "--out", tmp_path / "out.csv", code=2)
    assert words in text
    assert not (tmp_path / "out.csv").exists()


@pytest.mark.parametrize("given", EXPECTED)
@pytest.mark.parametrize("dataset", EXPECTED)
def test_the_files_of_another_data_set_are_refused(dataset, given, tmp_path):
    root, lists = getattr(miniatures, given)(tmp_path)
    if dataset == given:
        assert read_official(dataset, files_among([lists])).entries
    else:
        assert command("prepare", dataset, "--root", root, "--splits", lists, "--out", tmp_path / "out.csv", code=2)


def test_bom_and_crlf_in_official_lists(tmp_path):
    root, lists = miniatures.k400(tmp_path)
    for file in lists.glob("*.csv"):
        file.write_bytes(b"\xef\xbb\xbf" + file.read_bytes())
    for folder, dataset in ((tmp_path / "s", "ssv2"), (tmp_path / "u", "ucf101")):
        _, others = getattr(miniatures, dataset)(folder)
        for file in others.iterdir():
            file.write_bytes(b"\xef\xbb\xbf" + file.read_bytes().replace(b"\r\n", b"\n").replace(b"\n", b"\r\n"))
        assert len(read_official(dataset, files_among([others])).classes) == 3
    assert len(prepare(read_official("k400", files_among([lists])), VideoFiles(root), tmp_path / "k.csv").labelled.rows) == 12


def test_a_hold_out_is_taken_out_of_train_nested_and_with_its_shares_of_classes(tmp_path):
    chosen = []
    for number in (3, 6):
        made, _, _ = prepared("ucf101", tmp_path / str(number), holdout=number)
        assert made.labelled.counts() == {"train": 12 - number, "holdout": number, "test": 6}
        assert made.pretraining.counts() == {"pretrain": 12 - number, "holdout": number}
        labels = [row.label for row in made.labelled.select("holdout")]
        assert {labels.count(label) for label in range(3)} == {number // 3}
        chosen.append({row.path for row in made.labelled.select("holdout")})
        assert not chosen[-1] & {row.path for row in made.pretraining.select("pretrain")}
    assert chosen[0] < chosen[1]
    with pytest.raises(DataError, match="--holdout 12 of 12 train videos leaves none; allowed: 0 to 11"):
        prepared("ucf101", tmp_path / "all", holdout=12)


def test_subset_lists_are_those_of_runs(tmp_path):
    made, _, _ = prepared("ucf101", tmp_path)
    text = command("subset", made.pretraining.file, "--sizes", "9,3", "--seed", 4)
    files = sorted(tmp_path.glob("ucf101-pretrain-*-seed4-*.csv"), key=lambda file: int(file.stem.split("-")[2]))
    assert len(files) == 2
    paths = []
    for file, size in zip(files, (3, 9), strict=True):
        manifest = read_manifest(file)
        assert manifest.list_sha256[:12] in file.name
        assert f"{size} pretrain, 6 holdout" in text
        paths.append({row.path for row in manifest.select("pretrain")})
        assert paths[-1] == subset(made.pretraining.select("pretrain"), size, SubsetConfig(num_videos=size, seed=4).seed)
        assert manifest.absolute(manifest.rows[0]).is_file()
    assert paths[0] < paths[1]
    assert "13 of 12 pretrain videos" in command("subset", made.pretraining.file, "--sizes", "13", code=2)
    assert "--sizes '1k'" in command("subset", made.pretraining.file, "--sizes", "1k", code=2)


# Other projects' lists


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
        ("videomae", "", "no video is listed"),
    ],
)
def test_lines_that_do_not_fit(format, line, words, tmp_path):
    write(tmp_path / "train.csv", line)
    with pytest.raises(DataError) as caught:
        foreign(tmp_path, format)
    assert words in str(caught.value)


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


words = st.text(st.sampled_from("ab é"), min_size=1, max_size=3).map(lambda word: f"({word})")


@settings(max_examples=50)
@given(st.sets(st.lists(words, min_size=1, max_size=4).map("/".join), min_size=1, max_size=12))
def test_every_path_finds_itself_whatever_else_is_there(tmp_path_factory, paths):
    root = tmp_path_factory.mktemp("videos")
    for path in paths:
        (root / f"{path}.mp4").parent.mkdir(parents=True, exist_ok=True)
        (root / f"{path}.mp4").touch()
    videos = VideoFiles(root)
    for path in paths:
        for listed in (path, f"{path}.mp4", f"{path}.avi"):
            assert videos.find(Entry((listed,), 0, "train", "list:1")) == f"{path}.mp4"
    assert videos.find(Entry(("(c)",), 0, "train", "list:1")) is None


@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"]), min_size=1), min_size=1, unique=True), st.data()
)
def test_any_name_is_read_from_hmdb51s_lists(tmp_path, names, data):
    codes = [data.draw(st.sampled_from("012")) for _ in names]
    text = "".join(f"{name} {i}.avi {code} \n" for i, (name, code) in enumerate(zip(names, codes, strict=True)))
    write(tmp_path / "a_b_test_split2.txt", text)
    write(tmp_path / "c_test_split2.txt", "one.avi 1\ntwo.avi 2\n")
    listing = read_official("hmdb51", files_among([tmp_path]), 2)
    expected = [
        (f"a_b/{name} {i}.avi", {"1": "train", "2": "test"}[code])
        for i, (name, code) in enumerate(zip(names, codes, strict=True))
        if code != "0"
    ]
    assert [(entry.names[0], entry.split) for entry in listing.entries if entry.label == 0] == expected
    assert listing.classes == ("a_b", "c")


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


# The manifest


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
