"""cancel: what other sweeps need stays, what no plan names can be reached, and the command that takes up again is right."""

import re
import shlex
from dataclasses import replace

import pytest
from pretended_slurm import PretendedSlurm, finish
from typer.testing import CliRunner

from slurm import control
from sweeps import registry
from sweeps.__main__ import app
from vmae.errors import ConfigError


@pytest.fixture
def slurm(tmp_path, monkeypatch):
    """A queue from which jobs are really taken."""
    made = PretendedSlurm(tmp_path, monkeypatch)
    monkeypatch.setattr(control, "cancel", lambda ids: [made.jobs.pop(id_) for id_ in ids])
    return made


def waiting(slurm):
    """The runs in the queue; of a pack all."""
    return {id_ for id_ in slurm.store.run_ids() if slurm.store.run(id_).read_submission().get("job_id") in slurm.jobs}


def runs_of(slurm, sweep):
    return set(slurm.store.read_plan(sweep)["runs"])


def take_up_again(said):
    words = shlex.split(re.search(r"python -m sweeps (.*) takes them up again", said.output)[1])
    return CliRunner().invoke(app, words)


def two_sweeps(slurm):
    """Runs of two sweeps in the queue: those of the first, of which the second has some too, and those of the second."""
    slurm("submit", "tuned_lr_from_scratch")
    slurm("submit", "tuned_lr_per_mask")
    mine, other = runs_of(slurm, "tuned_lr_from_scratch"), runs_of(slurm, "tuned_lr_per_mask")
    assert mine & other
    assert mine - other
    assert waiting(slurm) == mine | other
    return mine, other


def test_what_another_sweep_needs_stays_and_is_counted(slurm):
    mine, other = two_sweeps(slurm)
    said = slurm("cancel", "tuned_lr_from_scratch", "--yes")
    assert waiting(slurm) == other
    assert f"{len(mine & other)} runs stay, for other sweeps have them too" in said.output
    assert f"tuned_lr_per_mask ({len(mine & other)}); --shared" in said.output
    assert f"cancelled {len(mine - other)} runs" in said.output
    assert "nothing else of tuned_lr_from_scratch is in SLURM's queue" in slurm("cancel", "tuned_lr_from_scratch", "--yes").output


def test_shared_runs_are_cancelled_when_asked_for_and_the_question_says_whose_they_are(slurm, monkeypatch):
    mine, other = two_sweeps(slurm)
    asked = []
    monkeypatch.setattr("typer.confirm", lambda text, abort: asked.append(text))
    slurm("cancel", "tuned_lr_from_scratch", "--shared")
    assert asked == [f"cancel {len(mine)} runs of tuned_lr_from_scratch, also of tuned_lr_per_mask ({len(mine & other)})?"]
    assert waiting(slurm) == other - mine


def test_a_run_that_is_named_is_cancelled_whoever_else_has_it(slurm):
    mine, other = two_sweeps(slurm)
    evaluation = next(id_ for id_ in mine & other if slurm.store.run(id_).load().stage == "evaluate")
    assert "cancelled 1 runs" in slurm("cancel", evaluation, "--yes").output
    assert waiting(slurm) == (mine | other) - {evaluation}


@pytest.mark.parametrize("words", [(), ("--seeds", "0,3"), ("--set", "finetune.optim.epochs=5", "--seeds", "2")])
def test_the_command_that_takes_up_again_submits_the_same_runs_to_the_same_place(slurm, words):
    slurm("submit", "smoke", *words)
    before = waiting(slurm)
    said = slurm("cancel", "smoke", "--yes")
    assert waiting(slurm) == set(), "also of a plan that only its options ask for"
    assert take_up_again(said).exit_code == 0
    assert waiting(slurm) == before


def test_a_search_that_was_cancelled_is_taken_up_on_slurm_with_its_budget(slurm):
    assert slurm("search", "run", "lr_from_scratch", "--trials", "4").exit_code == 0
    cell, *_ = slurm.store.read_search("lr_from_scratch")["cells"]
    place = slurm.store.run(cell["trials"][0]["runs"]["evaluate"])
    place.result.unlink()
    slurm.add("900", place.read_submission()["name"])
    place.write_submission(place.read_submission() | {"job_id": "900"})
    said = slurm("cancel", "lr_from_scratch", "--yes")
    assert slurm.jobs == {}
    assert take_up_again(said).exit_code == 0
    assert slurm.store.read_search("lr_from_scratch")["num_trials"] == 4
    assert f"--profile {slurm.profile} --runs {slurm.store.root}" in said.output


def test_jobs_that_also_work_on_runs_of_a_plan_stay_whole(slurm):
    slurm("submit", "smoke", "--seeds", "0,1", "--pack", "2")
    jobs = set(slurm.jobs)
    slurm("submit", "smoke", "--seeds", "0", "--pack", "2")
    left = next(id_ for id_ in slurm.store.run_ids() if id_ not in runs_of(slurm, "smoke"))
    with pytest.raises(ConfigError, match="also works on other runs"):
        raise slurm("cancel", left, "--yes").exception
    assert "12 runs stay, for their jobs also work on runs that a plan names" in slurm("cancel", "--unplanned", "--yes").output
    assert set(slurm.jobs) == jobs
    slurm("cancel", "smoke", "--seeds", "0,1", "--yes")
    assert slurm.jobs == {}


def test_runs_that_a_changed_declaration_left_behind_are_said_and_the_command_cancels_them(slurm, monkeypatch):
    slurm("submit", "smoke")
    former = waiting(slurm)
    done, *_ = (id_ for id_ in slurm.store.read_plan("smoke")["runs"])
    slurm.jobs.pop(slurm.store.run(done).read_submission()["job_id"])
    finish(slurm.store, done)
    load = registry.load

    def changed(name, preset=None):
        sweep = load(name, preset)
        return replace(
            sweep, recipes={name: recipe.replace({"pretrain.optim.base_lr": 0.0123}) for name, recipe in sweep.recipes.items()}
        )

    monkeypatch.setattr(registry, "load", changed)
    said = slurm("submit", "smoke").output
    assert "replaces the plan of smoke: 12 of its runs are none of what it declares now" in said
    assert "11 runs of it are still at work (11 queued), and no plan names them now" in said
    assert len(waiting(slurm)) == 23
    words = shlex.split(re.search(r"python -m sweeps (cancel .*) cancels them", said)[1])
    assert CliRunner().invoke(app, [*words, "--yes"]).exit_code == 0
    assert waiting(slurm) == runs_of(slurm, "smoke")
    assert not waiting(slurm) & former


@pytest.mark.parametrize("words", [("--seeds", "0"), ("--seeds", "0,1,2")])
def test_only_runs_that_no_plan_names_are_said_to_be_left_behind(slurm, words):
    slurm("submit", "smoke", "--seeds", "0,1")
    said = slurm("submit", "smoke", *words).output
    assert ("12 runs of it are still at work (12 queued)" in said) == (words[1] == "0")
    assert slurm("submit", "smoke", *words).output.count("still at work") == 0, "said once"


@pytest.mark.parametrize("words", [(), ("smoke", "--unplanned"), ("--unplanned", "--seeds", "1")])
def test_cancel_is_asked_for_one_thing(slurm, words):
    assert isinstance(slurm("cancel", *words).exception, ConfigError)
