"""What submit says: commands that mean the same plan, the right cause where nothing starts, and no knob that does nothing."""

import re
import shlex

import pytest
from pretended_slurm import PretendedSlurm
from typer.testing import CliRunner

from slurm import control
from slurm.cluster import SlurmLauncher
from sweeps.__main__ import app
from vmae.errors import ConfigError, RunDirError, SchedulerError

PLAN = ("--set", "finetune.optim.epochs=5", "--seeds", "0,1")


@pytest.fixture
def slurm(tmp_path, monkeypatch):
    return PretendedSlurm(tmp_path, monkeypatch)


def command_in(text, verb):
    """The words after `python -m sweeps` of a command that was printed, to its comma or end of line."""
    found = re.search(rf"python -m sweeps ({verb} [^\n]*?)(, submits|\n)", text)
    assert found, text
    return shlex.split(found[1])


def test_the_command_that_shows_a_submission_shows_that_plan(slurm):
    said = slurm("submit", "smoke", *PLAN).output
    shown = CliRunner().invoke(app, command_in(said, "status"))
    assert "smoke: 24 queued" in shown.output


def test_the_command_that_watches_what_the_queue_did_not_take_watches_that_plan(slurm):
    slurm.profile.write_text(slurm.profile.read_text() + "max_submitted = 3\n")
    said = slurm("submit", "smoke", *PLAN, "--only", "seed=1").output
    assert "submitted 3 of 12" in said
    slurm.pass_time()
    assert CliRunner().invoke(app, command_in(said, "watch")).exit_code == 0
    assert len(list(slurm.store.root.glob("*/result.json"))) == 12


def test_a_colleague_goes_on_with_a_sweep_and_doubles_nothing(slurm, monkeypatch):
    """squeue shows the jobs of those it is asked for: of everybody who submitted here."""
    slurm("submit", "smoke")
    jobs = set(slurm.jobs)
    monkeypatch.setattr(control, "user", lambda: "colleague")
    assert "0 of 12 runs to submit; 12 queued" in slurm("submit", "smoke").output
    assert set(slurm.jobs) == jobs
    assert "nothing to delete" not in slurm("prune", "smoke", "--yes").output
    assert len(list(slurm.store.root.glob("*/config.json"))) == 12, "what waits in a colleague's queue is not pruned"


def test_a_colleagues_jobs_take_no_room_in_my_queue(slurm, monkeypatch):
    slurm.profile.write_text(slurm.profile.read_text() + "max_submitted = 4\n")
    slurm("submit", "smoke")
    assert len(slurm.jobs) == 4
    monkeypatch.setattr(control, "user", lambda: "colleague")
    slurm("submit", "smoke")
    assert len(slurm.jobs) == 8


def test_a_submit_whose_parents_are_missing_names_them(slurm, monkeypatch):
    local = CliRunner().invoke(app, ["submit", "smoke", "--only", "stage=finetune", "--runs", str(slurm.store.root)])
    for said in (slurm("submit", "smoke", "--only", "stage=finetune"), local):
        assert isinstance(said.exception, RunDirError)
        assert "4 parents are neither done nor taken up: pretrain tube 0.75 seed 0" in str(said.exception)
    assert not list(slurm.store.root.glob("*/config.json"))


def test_children_of_a_run_that_is_at_work_elsewhere_do_not_wait_for_room(slurm):
    """SLURM could not let them wait for a process that it does not know."""
    slurm("submit", "smoke", "--only", "stage=pretrain", "--only", "arm=tube 0.9")
    (run,) = set(slurm.owner.values())
    slurm.jobs.clear()
    slurm.store.run(run).claim.write_text('{"host": "elsewhere", "pid": 1, "started": "1"}')
    said = slurm("submit", "smoke", "--only", "stage=finetune", "--only", "arm=tube 0.9").output
    assert "submitted 0 of 1: the parents of the rest are at work elsewhere" in said


def test_a_limit_that_is_known_only_when_it_is_met_names_the_field_that_keeps_it(slurm, monkeypatch):
    def refuse(launcher, batch):
        raise SchedulerError("sbatch refuses: QOSMaxSubmitJobPerUserLimit")

    monkeypatch.setattr(SlurmLauncher, "launch", refuse)
    assert "max_submitted in the profile" in str(slurm("submit", "smoke").exception)


def test_a_submit_does_what_can_be_done_and_says_what_cannot(slurm):
    slurm("submit", "smoke", "--only", "stage=pretrain", "--only", "arm=tube 0.9")
    slurm.pass_time()
    said = slurm("submit", "smoke", "--only", "stage=finetune").output
    assert "3 runs cannot start, for 3 parents" in said
    assert "submitted 1;" in said


def test_children_of_a_run_that_vanished_twice_wait_and_that_is_no_error(slurm):
    """A search goes on after it: such a trial has failed."""
    slurm.end = lambda id_: slurm.store.run(id_).note_start(0, num_ranks=1)
    for _ in range(2):
        assert "submitted 3;" in slurm("submit", "smoke", "--only", "arm=tube 0.9").output
        slurm.pass_time()
    for file in slurm.store.root.glob("*/starts.jsonl"):
        if slurm.store.own(file.parent.name).load().stage != "pretrain":
            file.unlink()
    said = slurm("submit", "smoke", "--only", "arm=tube 0.9")
    assert said.exit_code == 0
    assert "parents are neither done nor taken up: pretrain tube 0.9 seed 0" in said.output
    assert "lost)" in said.output


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--set", "finetune.seed=5"), "finetune.seed would do nothing: --seeds"),
        (("--set", "instead.contrast.seed=5"), "instead.contrast.seed would do nothing"),
        (("--seeds", "5000000000"), "seed 5000000000; allowed: 0 to 4294967295"),
        (("--seeds", "0-5000000000"), "1000 at most"),
    ],
)
def test_seeds_that_no_run_would_have_are_refused(slurm, words, message):
    said = slurm("submit", "smoke", *words)
    assert isinstance(said.exception, ConfigError)
    assert message in str(said.exception)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--jobs", "2"), "--jobs is for this machine"),
        (("--prepare", "--dry-run"), "--prepare and --dry-run contradict each other"),
        (("--dry-run", "--test-only"), "--dry-run and --test-only contradict each other"),
        (("--prepare", "--only", "stage=pretrain"), "--only would do nothing: --prepare writes"),
        (("--set", "finetune.optim.epochs=4", "--set", "finetune.optim.epochs=5"), "finetune.optim.epochs twice, to 4 and to 5"),
    ],
)
def test_options_that_contradict_each_other_or_do_nothing_are_refused(slurm, words, message):
    said = slurm("submit", "smoke", *words)
    assert isinstance(said.exception, ConfigError)
    assert message in str(said.exception)
    assert not slurm.store.root.exists() or not list(slurm.store.root.glob("*/config.json"))


@pytest.mark.parametrize("hours", ["-1", "nan"])
def test_a_budget_that_nothing_exceeds_is_refused(slurm, hours):
    assert slurm("submit", "smoke", "--max-gpu-hours", hours).exit_code == 2


@pytest.mark.parametrize("command", [("plan", "smoke"), ("status", "smoke"), ("gc",), ("prune",)])
def test_a_file_where_runs_should_lie_is_refused(tmp_path, command):
    (tmp_path / "file").write_text("")
    said = CliRunner().invoke(app, [*command, "--runs", str(tmp_path / "file")])
    assert isinstance(said.exception, RunDirError)
    assert "is no folder" in str(said.exception)


def test_seeds_of_data_and_subsets_are_knobs(slurm):
    ids = [slurm("plan", "smoke", "--set", f"pretrain.data.seed={seed}") for seed in (0, 1)]
    assert [said.exit_code for said in ids] == [0, 0]
