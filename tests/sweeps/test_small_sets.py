"""HMDB51 and UCF101 in one command each: the paper's recipe on the official lists, and the paper's numbers in the docstring."""

import csv
from pathlib import Path

import miniatures
import pytest
from helpers import ROOT
from typer.testing import CliRunner

from sweeps import registry
from sweeps.__main__ import app
from sweeps.scales import LISTS, missing_inputs
from vmae.config import PretrainRun
from vmae.data.listing import files_among, prepare
from vmae.data.lookup import VideoFiles
from vmae.data.official import read_official
from vmae.study import make_plan

STAND_INS = {"hmdb51": "digits-motion-small", "ucf101": "digits-appearance"}


@pytest.fixture(autouse=True)
def no_lists(tmp_path, monkeypatch):
    monkeypatch.setenv("VMAE_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("VMAE_RUNS", str(tmp_path / "runs"))


@pytest.mark.parametrize("name", STAND_INS)
def test_one_data_set_two_arms_at_the_papers_scale(name):
    plan = make_plan(registry.load(name))
    assert plan.sweep.preset == "paper"
    assert [(cell.dataset, cell.arm) for cell in plan.cells] == [(name.upper(), "scratch"), (name.upper(), "VideoMAE")]
    (pretraining,) = {run.pretrain.optim.epochs for run in plan.runs.values() if isinstance(run, PretrainRun)}
    assert pretraining == {"hmdb51": 4800, "ucf101": 3200}[name]
    whole = make_plan(registry.load("paper_tables234", "paper"))
    assert set(plan.runs) <= set(whole.runs), "what Table 2 has run is not run again"


@pytest.mark.parametrize("name", STAND_INS)
def test_the_same_on_embedded_videos(name):
    sweep = registry.load(f"{name}-tiny")
    assert list(sweep.recipes) == [STAND_INS[name]]


@pytest.mark.parametrize("name", STAND_INS)
def test_the_numbers_expected_are_the_papers(name):
    with (ROOT / "analysis" / "paper.csv").open(newline="") as file:
        rows = {(row["case"], row["dataset"]): row["value"] for row in csv.DictReader(file) if row["table"] == "vmae.t2"}
    doc = registry.load(name).doc
    for case in ("VideoMAE", "from_scratch"):
        assert f"{case.removeprefix('from_')} {rows[case, name.upper()]}" in doc
    assert f"{LISTS[name][0]:,} videos" in doc


@pytest.mark.parametrize("name", STAND_INS)
def test_a_plan_names_the_lists_that_are_missing_and_no_others(name):
    found = CliRunner().invoke(app, ["plan", name])
    assert found.exit_code == 0, found.output
    text = found.output.replace("\n", "")
    assert f"{name}-pretrain.csv" in text
    assert "ssv2" not in text
    assert "pth" not in text, "no weights are needed"


@pytest.mark.parametrize(
    ("name", "lists"),
    [
        ("masking", {"ssv2-pretrain.csv", "ssv2.csv", "k400-pretrain.csv", "k400.csv"}),
        ("small_data", {"ssv2-pretrain.csv", "ssv2.csv", "hmdb51-pretrain.csv", "hmdb51.csv"}),
        ("evidence_long", {"ssv2-pretrain.csv", "ssv2.csv", "k400-pretrain.csv"}),
    ],
)
def test_a_list_is_missing_only_where_a_run_reads_it(name, lists):
    """A sweep has recipes of data sets that its ablations do not ask about, and K400 may be only pre-trained on."""
    plan = make_plan(registry.load(name, "paper"))
    assert {Path(file).name for file in missing_inputs(plan)} == lists


def test_a_plan_takes_the_prepared_lists(tmp_path):
    classes = LISTS["hmdb51"][2]
    root, lists = miniatures.hmdb51(tmp_path, tuple(f"class {i:02d}" for i in range(classes)))
    prepare(read_official("hmdb51", files_among([lists])), VideoFiles(root), tmp_path / "data" / "hmdb51.csv", heldout=100)
    plan = make_plan(registry.load("hmdb51"))
    counts = [run.pretrain.data.counts for run in plan.runs.values() if isinstance(run, PretrainRun)]
    assert counts[0] == {"pretrain": 4 * classes, "holdout": classes}
    assert "not there yet" not in CliRunner().invoke(app, ["plan", "hmdb51"]).output
