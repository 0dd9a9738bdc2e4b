"""What is not on disk stops only the runs that read it: --only can ask for the others."""

import pytest
from typer.testing import CliRunner

from slurm import control
from sweeps import registry
from sweeps.__main__ import app
from sweeps.commands.options import selected
from sweeps.commands.submitting import check_data
from vmae.data.manifest import VideoRow, write_manifest
from vmae.errors import CheckpointError, DataError, SchedulerError
from vmae.runtime import RuntimeConfig
from vmae.study import make_plan

WORDS = ("paper_table1", "--preset", "paper", "--only", "dataset=SSV2", "--only", "arm=tube 0.9")


@pytest.fixture(autouse=True)
def ssv2_alone(tmp_path, monkeypatch):
    """The lists of one data set, with fewer videos, none of them on this machine."""
    for name, splits in (("ssv2-pretrain", ("pretrain", "holdout")), ("ssv2", ("train", "test"))):
        rows = [VideoRow(f"{split}{i}.webm", i % 174, split) for split in splits for i in range(2000)]
        write_manifest(tmp_path / "data" / f"{name}.csv", rows)
    monkeypatch.setenv("VMAE_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("VMAE_RUNS", str(tmp_path / "runs"))


@pytest.fixture
def plan():
    return make_plan(registry.load("paper_table1", "paper"))


def check(plan, *only):
    check_data(plan, RuntimeConfig(), False, selected(plan, list(only)) if only else None)


def test_lists_and_weights_that_only_others_read_may_be_absent(plan, capsys):
    check(plan, "dataset=SSV2", "arm=tube 0.9", "arm=VideoMAE", "arm=scratch")
    said = capsys.readouterr().out
    assert "ssv2-pretrain.csv" in said
    assert "k400" not in said
    with pytest.raises(DataError, match=r"no manifest at .*k400.*\.csv; `vmae data prepare` makes one"):
        check(plan)


def test_what_an_ancestor_reads_is_looked_at_though_it_was_not_chosen(plan):
    with pytest.raises(DataError, match=r"no manifest at .*k400-pretrain\.csv"):
        check(plan, "dataset=SSV2", "arm=K400", "stage=evaluate")


def test_the_weights_of_a_chosen_run_are_looked_at(plan):
    with pytest.raises(CheckpointError, match=r"mae_pretrain_vit_base\.pth"):
        check(plan, "dataset=SSV2", "arm=images")


def test_submit_and_watch_look_at_what_they_were_asked_for(monkeypatch):
    """Here the videos would have to be there; on a cluster the next thing is to ask SLURM."""
    with pytest.raises(DataError, match=r"none of \d+ videos of .*ssv2-pretrain\.csv"):
        raise CliRunner().invoke(app, ["submit", *WORDS]).exception

    def refuse(*_):
        raise SchedulerError("no SLURM")

    monkeypatch.setattr(control, "queue", refuse)
    with pytest.raises(SchedulerError, match="no SLURM"):
        raise CliRunner().invoke(app, ["watch", *WORDS, "--profile", "slurm"]).exception
