"""From downloads to lists: each data set's real formats in miniature, other projects' lists, and what is refused and how."""

import shutil

import miniatures
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from miniatures import MAKE, command, prepared, put, write

from vmae.data.listing import files_among, prepare
from vmae.data.lookup import Entry, VideoFiles
from vmae.data.manifest import read_manifest
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


@pytest.mark.parametrize("dataset", EXPECTED)
def test_each_data_set_from_its_official_files(dataset, tmp_path):
    num_train, num_test, classes = EXPECTED[dataset]
    root, lists = MAKE[dataset](tmp_path)
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
    root, lists = MAKE[dataset](tmp_path)
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


def test_spaces_around_a_label_make_no_class_of_its_own(tmp_path):
    _, lists = miniatures.k400(tmp_path)
    before = read_official("k400", files_among([lists]))
    edit(lists, "train.csv", lambda b: b.replace(b"zumba,", b" zumba ,", 1))
    after = read_official("k400", files_among([lists]))
    assert after.classes == before.classes
    assert [entry.label for entry in after.entries] == [entry.label for entry in before.entries]


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
        ("ucf101", "classInd.txt", lambda b: b.replace(b"2 Apply", b"9" * 5000 + b" Apply"), "expected '2 ClassName'"),
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
        ("k400", "train.csv", lambda b: b.replace(b",0,10,", b",inf,10,", 1), ":2: time_start and time_end must be seconds"),
        ("ssv2", "*train.json", lambda b: b.replace(b"[something]", b"[somethink]", 1), "template 'Approaching somethink with"),
        ("ssv2", "*train.json", lambda b: b[:-5], "cannot read"),
        ("ssv2", "*train.json", lambda b: b"[" * 100_000, "cannot read"),
        ("ssv2", "*train.json", lambda b: b'{"id": 1}', "expected a JSON list"),
        ("ssv2", "*train.json", lambda b: b'[{"id": 1}]', "video 1: expected an object with id and template"),
        ("ssv2", "labels.json", lambda b: b.replace(b'"2"', b'"5"'), "labels of 3 classes must be 0 to 2, each once"),
    ],
)
def test_what_does_not_fit_is_refused_with_file_and_line(dataset, name, change, words, tmp_path):
    root, lists = MAKE[dataset](tmp_path)
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
        _, others = MAKE[dataset](folder)
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


def groups_of(rows):
    return {row.path.rpartition("_c")[0] for row in rows}


@pytest.mark.parametrize(("asked", "taken"), [(1, 3), (3, 3), (10, 9), (11, 12), (35, 33)])
def test_no_group_of_clips_is_torn_apart_by_a_hold_out(tmp_path, asked, taken):
    """UCF101's gNN are clips of one recording: half of one in train would tell what the other half shows."""
    root, lists = miniatures.ucf101(tmp_path, num_clips=3)
    words = ("prepare", "ucf101", "--root", root, "--splits", lists, "--out", tmp_path / "u.csv", "--holdout")
    text = command(*words, asked)
    made = read_manifest(tmp_path / "u.csv")
    assert made.counts() == {"train": 36 - taken, "holdout": taken, "test": 18}
    assert (f"{taken} videos held out, not {asked}: clips of one recording stay together" in text) == (asked != taken)
    assert not groups_of(made.select("holdout")) & groups_of(made.select("train"))
    labels = [row.label for row in made.select("holdout")]
    assert max(labels.count(label) for label in range(3)) - min(labels.count(label) for label in range(3)) <= 3
    pretraining = read_manifest(tmp_path / "u-pretrain.csv")
    assert {row.path for row in pretraining.select("pretrain")} == {row.path for row in made.select("train")}
    before = {row.path for row in made.select("holdout")}
    command(*words, min(asked + 4, 35))
    assert before <= {row.path for row in read_manifest(tmp_path / "u.csv").select("holdout")}


def test_two_copies_of_a_list_of_hmdb51_are_refused_with_both(tmp_path):
    """Of which one would decide by where it lies; other splits may be there as often as they like."""
    _, lists = miniatures.hmdb51(tmp_path)
    copy = lists / "old" / "sword_test_split1.txt"
    copy.parent.mkdir()
    copy.write_text("mended.avi 1\n")
    with pytest.raises(DataError) as caught:
        read_official("hmdb51", files_among([lists]))
    assert all(str(file) in str(caught.value) for file in (copy, lists / "sword_test_split1.txt"))
    assert read_official("hmdb51", files_among([lists]), 2).classes == ("brush_hair", "cartwheel", "sword")


def test_clips_of_one_film_are_a_group_of_hmdb51(tmp_path):
    names = ("A_film_sit_u_nm_np1_ba_goo_0", "A_film_sit_f_cm_np2_le_bad_13", "A_film_(2)_sit_f_cm_np2_le_med_1", "my own_2")
    write(tmp_path / "sit_test_split1.txt", "".join(f"{name}.avi {1 + (i > 2)} \n" for i, name in enumerate(names)))
    groups = [entry.group for entry in read_official("hmdb51", files_among([tmp_path])).entries]
    assert groups == ["sit/A_film_sit", "sit/A_film_sit", "sit/A_film_(2)_sit", ""]


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
