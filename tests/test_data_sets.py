"""Each data set from its download's formats to the report, on miniatures; as files, transcoded and packed."""

import csv
import json
import subprocess
import sys

import numpy as np
import pytest
from helpers import ROOT, clean_environment
from miniatures import MAKE, command

from analysis.collect import load_study
from analysis.report import write_report
from sweeps import registry, scales
from vmae.arms import SCRATCH, Arm
from vmae.data.manifest import beside, read_manifest
from vmae.data.source import frames_of, listed_set
from vmae.job import work
from vmae.study import Ablation, Sweep, make_plan

DOC = "Does masking matter here?\n\nExpected: it does.\n\nCost: seconds."


@pytest.mark.parametrize("form", ["transcoded", "packed"])
def test_what_was_made_of_a_data_set_is_planned_as_the_data_set_is(form, tmp_path, monkeypatch):
    """docs/data.md's way to a pre-training on smaller videos: the folder that was made is VMAE_DATA."""
    root, splits = MAKE["hmdb51"](tmp_path, tuple(f"class {i:02d}" for i in range(scales.LISTS["hmdb51"][2])))
    labelled = tmp_path / "lists" / "hmdb51.csv"
    command("prepare", "hmdb51", "--root", root, "--splits", splits, "--out", labelled, "--heldout", 100)
    other_form(form, [labelled], tmp_path / form)
    monkeypatch.setenv("VMAE_DATA", str(tmp_path / form))
    plan = make_plan(registry.load("hmdb51", "paper"))
    files = {run.pretrain.data.manifest for run in plan.runs.values() if run.stage == "pretrain"}
    assert files == {str(tmp_path / form / "hmdb51-pretrain.csv")}
    assert not scales.missing_inputs(plan)
    before, made = (read_manifest(folder / "hmdb51-pretrain.csv") for folder in (labelled.parent, tmp_path / form))
    assert [(row.label, row.split) for row in made.rows] == [(row.label, row.split) for row in before.rows]
    assert all(old.path in new.path for old, new in zip(before.rows, made.rows, strict=True))
    assert made.about.parent == "hmdb51.csv"


@pytest.mark.parametrize("form", ["packed", "transcoded"])
def test_two_data_sets_that_were_made_are_joined_as_the_docs_say(form, tmp_path, runtime):
    """Their lists stand in one folder, each finds its own frames, and what they list is what it was."""
    lists = {}
    for name in ("ssv2", "k400"):
        root, splits = MAKE[name](tmp_path / "download")
        lists[name] = tmp_path / "data" / f"{name}.csv"
        command("prepare", name, "--root", root, "--splits", splits, "--out", lists[name], "--heldout", 2)
    (block,) = [part for part in (ROOT / "docs/data.md").read_text().split("```") if "--out data/packed/$name" in part]
    words = block.removeprefix("bash\n").partition("VMAE_DATA=")[0].replace("--short-side 128", "--short-side 24 --workers 1")
    if form == "transcoded":
        words = words.replace("data pack", "data transcode")
        words = words.replace(r"s|\"shards\"|\"$name/shards\"|", r"s|\"root\": \".\"|\"root\": \"$name\"|")
    vmae = f'vmae() {{ "{sys.executable}" -m vmae "$@"; }}\nset -e\n'
    subprocess.run(["bash", "-c", vmae + words], cwd=tmp_path, env=clean_environment(PYTHONPATH=str(ROOT)), check=True)
    place = runtime.model_copy(update={"cache": False})
    for name, split in (("ssv2", "train"), ("k400", "train"), ("ssv2-pretrain", "pretrain"), ("k400-pretrain", "pretrain")):
        own = read_manifest(tmp_path / "data" / "packed" / name.partition("-")[0] / f"{name}.csv")
        joined = read_manifest(tmp_path / "data" / "packed" / f"{name}.csv")
        assert joined.list_sha256 == own.list_sha256
        assert joined.about.classes == own.about.classes
        one, other = (frames_of(manifest, split, place) for manifest in (own, joined))
        assert len(one) == len(other) > 0
        for video in range(len(one)):
            found, expected = (source.read(video, lambda length: np.arange(length)[None]) for source in (other, one))
            assert np.array_equal(found, expected)


def other_form(form, lists, out):
    """The two lists as files, transcoded, or packed."""
    if form == "files":
        return lists
    words = ("transcode",) if form == "transcoded" else ("pack", "--format", "raw")
    command(*words, lists[0], "--out", out, "--short-side", 24, "--workers", 1)
    return [out / file.name for file in lists]


@pytest.mark.parametrize(
    ("dataset", "form"),
    [("ssv2", "files"), ("k400", "packed"), ("ucf101", "transcoded"), ("hmdb51", "files"), ("hmdb51", "packed")],
)
def test_from_the_download_to_the_report(dataset, form, recipe, store, runtime, tmp_path):
    root, splits = MAKE[dataset](tmp_path / "download")
    labelled = tmp_path / "lists" / f"{dataset}.csv"
    command("prepare", dataset, "--root", root, "--splits", splits, "--out", labelled, "--heldout", 2)
    pretraining = labelled.with_stem(f"{dataset}-pretrain")
    bad = read_manifest(labelled).select("test")[0]
    read_manifest(labelled).absolute(bad).write_bytes(b"a web page instead of a video")
    for file in (labelled, pretraining):
        command("scan", file, "--workers", 1)
    labelled, pretraining = other_form(form, [labelled, pretraining], tmp_path / form)
    num_classes = len(read_manifest(labelled).about.classes)
    here = recipe.replace(
        {
            "grid.size_px": 16,
            "pretrain.data": listed_set(pretraining, dataset).model_dump(),
            "finetune.data": listed_set(labelled, dataset, num_classes).model_dump(),
            "pretrain.repeats": 2,
            "pretrain.optim.batch_size": 4,
            "pretrain.optim.epochs": 1,
            "finetune.optim.batch_size": 4,
            "finetune.optim.epochs": 1,
            "evaluate.num_crops": 3,
        }
    )
    ablation = Ablation("masking", DOC, "", (Arm("tube", {}), Arm("frame", {"pretrain.mask.kind": "frame"}), SCRATCH), "tube")
    plan = make_plan(Sweep("miniature", "Miniatures.", (ablation,), {dataset: here}, (0,)))
    store.write_plan("miniature", plan.to_json())
    place = runtime.model_copy(update={"cache": False, "max_quarantined": 0.5})
    for id_, run in plan.runs.items():
        store.run(id_).create(run)
    results = [work(store.run(id_), place) for id_ in plan.runs]
    assert {result.status for result in results} == {"done"}
    for result in results:
        if result.stage == "evaluate":
            expected = len(read_manifest(labelled).select("test"))
            assert (result.metrics["num_scored"], result.metrics["num_expected"]) == (expected - 1, expected)
            assert bad.path in result.metrics["unread"][0]
            rows = list(csv.DictReader(store.run(result.run_id).predictions.open(encoding="utf-8")))
            assert {len(row["frames"].split(";")) for row in rows} == {here.evaluate.num_clips}
            assert {len(clip.split()) for row in rows for clip in row["frames"].split(";")} == {here.grid.num_frames}
    report = write_report(load_study(store, "miniature"), tmp_path / "report")
    text = report.file.read_text(encoding="utf-8")
    assert dataset in text
    assert "missing" not in text
    assert json.loads(beside(labelled, "about.json").read_text(encoding="utf-8"))["made"]
