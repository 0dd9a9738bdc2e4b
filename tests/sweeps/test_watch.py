"""What is submitted again by itself: whatever gets further, never for ever what gets nowhere."""

import json
import os
import re
import shlex

import pytest
from pretended import Pretended, asked, carry_out
from pretended_slurm import PretendedSlurm, finish
from typer.testing import CliRunner

from slurm import control
from slurm.look import submit_lock
from sweeps.__main__ import app
from sweeps.commands.pending import pending_of
from sweeps.smoke import SWEEP
from vmae.claim import process_identity
from vmae.errors import Interrupted, RunDirError, SchedulerError, Stuck
from vmae.study import make_plan

PLAN = make_plan(SWEEP)


@pytest.fixture
def place(store):
    """The first run's directory."""
    for id_, run in PLAN.runs.items():
        store.run(id_).create(run)
    return store.run(next(iter(PLAN.runs)))


def is_taken(store, place, is_watched=True):
    states = store.states({id_: PLAN.parents.get(id_) for id_ in PLAN.runs})
    assert states[place.id] == "interrupted"
    return place.id in pending_of(store, PLAN, states, set(PLAN.runs), frozenset(), is_watched)


def save(file, place, later_s=1.0):
    file.write_bytes(b"x")
    at = place.starts.stat().st_mtime + later_s
    os.utime(file, (at, at))


def test_watch_leaves_a_run_alone_that_was_killed_twice_from_one_checkpoint(store, place):
    for num_starts in (1, 2, 3):
        place.note_start(100, num_ranks=1)
        save(place.checkpoint, place, later_s=-1.0)
        assert is_taken(store, place) == (num_starts < 2)
        assert is_taken(store, place, is_watched=False), "who asks for it gets it"


def test_watch_takes_up_again_what_saved_more_before_it_was_killed(store, place):
    for step in (0, 50, 100, 100):
        place.note_start(step, num_ranks=1)
        save(place.checkpoint, place)
        assert is_taken(store, place)


def test_watch_leaves_a_job_alone_that_started_thrice_and_saved_nothing(store, place, monkeypatch):
    monkeypatch.setattr("vmae.allocation.job_id", lambda: "12")
    for _ in range(2):
        place.note_start(0, num_ranks=1)
    with pytest.raises(Stuck):
        place.note_start(0, num_ranks=1)
    place.stop("interrupted", "stuck")
    assert not is_taken(store, place)


def test_an_evaluation_that_is_interrupted_often_and_scores_more_each_time_goes_on(store, place, monkeypatch):
    """Its starts are all from step 0; what it has scored is in partial.json."""
    monkeypatch.setattr("vmae.allocation.job_id", lambda: "12")
    for _ in range(5):
        place.note_start(0, num_ranks=1)
        save(place.partial, place)
        place.stop("interrupted", "SIGTERM at a video")
        assert is_taken(store, place)


def test_a_search_does_not_start_again_and_again_what_gets_nowhere(store):
    class Killed(Pretended):
        def bring(self, made):
            self.num_made += 1
            for id_, run in made.runs.items():
                store.run(id_).create(run)
            first = store.run(next(iter(made.runs)))
            first.note_start(100, num_ranks=1)
            save(first.checkpoint, first, later_s=-1.0)
            return store.states({id_: made.parents.get(id_) for id_ in made.runs})

    execution = Killed(store)
    with pytest.raises(Interrupted, match="nothing of this round was told"):
        carry_out(store, asked(trials=4), execution)
    assert execution.num_made == 2


@pytest.fixture
def slurm(tmp_path, monkeypatch):
    return PretendedSlurm(tmp_path, monkeypatch, more="max_submitted = 5")


def num_done(slurm):
    return sum(slurm.store.run(id_).finished() is not None for id_ in PLAN.runs)


def test_watch_brings_a_sweep_through_a_queue_that_is_too_small(slurm):
    assert slurm("watch", "smoke").exit_code == 0
    assert num_done(slurm) == 12
    assert slurm.num_waits >= 3


def test_watch_waits_for_room_that_other_jobs_take(slurm):
    for k in range(5):
        slurm.add(str(k))
    slurm.meanwhile = lambda: slurm.jobs.pop(str(slurm.num_waits), None)
    said = slurm("watch", "smoke")
    assert said.exit_code == 0, said.output
    assert num_done(slurm) == 12


def test_watch_outlasts_a_slurm_that_does_not_answer_for_a_while(slurm):
    slurm.num_refusals = 5
    said = slurm("watch", "smoke")
    assert said.exit_code == 0, said.output
    assert "looking again" in said.output
    assert num_done(slurm) == 12


def test_watch_waits_while_another_submit_holds_the_run_root(slurm, monkeypatch):
    """Two sweeps in one store are watched from two terminals, or a colleague submits."""
    looks, lock = [], submit_lock(slurm.store)

    def queue(others=()):
        looks.append(slurm.num_waits)
        lock.parent.mkdir(parents=True, exist_ok=True)
        if len(looks) == 2:
            lock.write_text(json.dumps(process_identity(os.getppid())))
        elif slurm.num_waits == 2:
            lock.unlink(missing_ok=True)
        return slurm.queue(others)

    monkeypatch.setattr(control, "queue", queue)
    said = slurm("watch", "smoke")
    assert said.exit_code == 0, said.exception
    assert "looking again" in said.output
    assert num_done(slurm) == 12


@pytest.mark.parametrize("num_refusals", [0, 3])
def test_a_search_goes_through_a_queue_that_is_too_small_and_does_not_always_answer(slurm, num_refusals):
    slurm.num_refusals = num_refusals
    said = slurm("search", "run", "lr_from_scratch")
    assert said.exit_code == 0, said.exception
    assert "16 of 16 trials told, 0 of them failed" in said.output


def test_watch_gives_up_on_a_slurm_that_never_answers(slurm):
    slurm.num_refusals = 10_000
    assert isinstance(slurm("watch", "smoke").exception, SchedulerError)


def begin(slurm, id_):
    """Leave what a job leaves whose Python is not there on the node, or whose GPU does not answer: a log."""
    job = slurm.store.run(id_).read_submission()["job_id"]
    slurm.store.jobs.mkdir(exist_ok=True)
    (slurm.store.jobs / f"{job}_0_log.out").write_text("python: not found")


def test_watch_does_not_send_for_ever_what_dies_before_it_starts(slurm):
    slurm.end = lambda id_: begin(slurm, id_)
    said = slurm("watch", "smoke")
    assert said.exit_code == 1
    assert "4 lost, 8 missing" in said.output
    assert said.output.count("its job ended before the run could start") == 4
    sent = [id_ for id_ in slurm.owner.values() if PLAN.runs[id_].stage == "pretrain"]
    assert len(sent) == 8, "twice each"
    assert "began and ended before the run could start" in slurm("why", sent[0]).output
    slurm.end = lambda id_: finish(slurm.store, id_)
    assert slurm("submit", "smoke", "--retry", "lost").exit_code == 0
    assert slurm("watch", "smoke").exit_code == 0
    assert num_done(slurm) == 12


@pytest.mark.parametrize("is_down", [True, False])
def test_why_says_what_it_can_where_accounting_says_nothing(slurm, monkeypatch, is_down):
    def ended(job_ids):
        if is_down:
            raise SchedulerError("sacct refuses: Problem talking to the database")
        return {}

    monkeypatch.setattr(control, "has_accounting", lambda: True)
    monkeypatch.setattr(control, "ended", ended)
    slurm.end = lambda id_: begin(slurm, id_)
    slurm("submit", "smoke")
    slurm.pass_time()
    said = slurm("why", next(iter(PLAN.runs)))
    assert said.exit_code == 0
    assert ("Problem talking to the database" if is_down else "it has forgotten the job") in said.output


def test_why_tells_of_the_runs_of_a_search(slurm):
    """Its rounds have plans without ablations, so without a baseline."""
    slurm("search", "run", "lr_from_scratch")
    cell, *_ = slurm.store.read_search("lr_from_scratch")["cells"]
    for id_ in cell["trials"][1]["runs"].values():
        said = slurm("why", id_)
        assert said.exit_code == 0, said.exception
        assert "in sweep lr_from_scratch.round-" in said.output


def test_children_that_began_before_their_parent_was_done_are_no_runs_that_vanish(slurm):
    """Behind a pack they start whatever became of it; a parent may take several jobs where requeue is forbidden."""

    def end(id_):
        parent = PLAN.parents.get(id_)
        if parent is not None and (slurm.num_waits <= 6 or slurm.store.run(parent).finished() is None):
            begin(slurm, id_)
        elif parent is not None or slurm.num_waits > 5:
            finish(slurm.store, id_)
        else:
            slurm.store.run(id_).note_start(slurm.num_waits, num_ranks=1)
            slurm.store.run(id_).stop("interrupted", "SIGUSR2")

    slurm.end = end
    assert slurm("watch", "smoke").exit_code == 0
    assert num_done(slurm) == 12


def test_jobs_that_never_began_are_sent_again(slurm):
    """As those that SLURM drops with their parent, or that somebody cancels."""
    slurm.end = lambda id_: finish(slurm.store, id_) if slurm.num_waits > 4 else None
    assert slurm("watch", "smoke").exit_code == 0
    assert num_done(slurm) == 12


@pytest.mark.parametrize("only", ["stage=pretrain", "arm=tube 0.9"])
def test_watch_judges_what_it_was_asked_for(slurm, only):
    said = slurm("watch", "smoke", "--only", only)
    assert said.exit_code == 0, said.output
    assert 0 < num_done(slurm) < 12


def test_watch_ends_where_nothing_can_start(slurm):
    """Fine-tunings alone, and nobody makes their pre-trainings."""
    assert slurm("watch", "smoke", "--only", "stage=finetune").exit_code == 1


def test_watch_ends_with_1_once_all_that_is_left_has_failed(slurm):
    slurm.end = lambda id_: slurm.store.run(id_).stop("failed", "no disk")
    assert slurm("watch", "smoke").exit_code == 1
    assert num_done(slurm) == 0


@pytest.mark.parametrize("what", ["smoke", "a run"])
def test_what_is_watched_is_not_cancelled_under_the_watch(slurm, monkeypatch, what):
    """Its runs would be submitted again; once nobody watches they can be, also where the watch was killed."""
    cancelled, refused = [], []
    monkeypatch.setattr(control, "cancel", cancelled.extend)
    name = next(iter(PLAN.runs)) if what == "a run" else what
    slurm.meanwhile = lambda: refused.append(slurm("cancel", name, "--yes"))
    assert slurm("watch", "smoke").exit_code == 0
    assert refused
    assert all("sweep smoke is watched (process " in str(done.exception) for done in refused)
    assert not list(slurm.store.jobs.glob("watch-*.json"))
    note = {**process_identity(os.getpid()), "sweep": "smoke", "runs": list(PLAN.runs)}
    (slurm.store.jobs / "watch-here-1.json").write_text(json.dumps(note | {"started": "0"}))
    slurm.add("900", "smoke")
    done = slurm("cancel", name, "--yes")
    assert done.exit_code == 0, done.exception


def test_a_run_is_not_cancelled_under_the_search_that_would_submit_it_again(slurm, monkeypatch):
    monkeypatch.setattr(control, "cancel", lambda jobs: pytest.fail("cancelled"))
    answers = []
    slurm.meanwhile = lambda: answers.append(slurm("cancel", next(reversed(slurm.owner.values())), "--yes"))
    assert slurm("search", "run", "lr_from_scratch").exit_code == 0
    assert answers
    assert all("is watched (process " in str(done.exception) for done in answers)


def test_a_watch_of_other_runs_is_no_hindrance(slurm, monkeypatch):
    monkeypatch.setattr(control, "cancel", lambda jobs: None)
    answers = []
    evaluation = next(id_ for id_, run in PLAN.runs.items() if run.stage == "evaluate")
    slurm.meanwhile = lambda: answers.append(slurm("cancel", evaluation, "--yes"))
    slurm("watch", "smoke", "--only", "stage=pretrain")
    assert answers
    assert all(done.exit_code == 0 for done in answers)


@pytest.mark.parametrize("later", [("--seeds", "0-2"), ("--set", "finetune.optim.epochs=5")])
@pytest.mark.parametrize("num_refusals", [0, 2])
def test_watch_does_not_put_its_plan_over_that_of_a_later_submit(slurm, later, num_refusals):
    """It ends, with the words that watch the plan which is there now."""
    slurm.num_refusals = num_refusals

    def submit():
        if slurm.num_waits == 3:
            assert slurm("submit", "smoke", *later).exit_code == 0

    slurm.meanwhile = submit
    said = slurm("watch", "smoke")
    assert isinstance(said.exception, RunDirError)
    plan = slurm.store.read_plan("smoke")
    assert "a later submit replaced the plan of smoke, now seeds 0" in str(said.exception)
    slurm.meanwhile = lambda: None
    words = shlex.split(re.search("python -m sweeps (watch .*?);", str(said.exception))[1])
    assert CliRunner().invoke(app, words).exit_code == 0
    assert slurm.store.read_plan("smoke") == plan
    assert all(slurm.store.run(id_).finished() for id_ in plan["runs"])
    assert slurm("watch", "smoke").exit_code == 0
    assert slurm.store.read_plan("smoke")["runs"].keys() == PLAN.runs.keys(), "the same command puts the former back"


def test_watch_goes_on_where_the_same_plan_is_submitted_again(slurm):
    slurm.meanwhile = lambda: slurm("submit", "smoke")
    assert slurm("watch", "smoke").exit_code == 0
    assert num_done(slurm) == 12


def test_watch_does_not_make_a_plan_again_that_was_pruned(slurm):
    slurm.meanwhile = lambda: slurm("prune", "smoke", "--yes")
    said = slurm("watch", "smoke")
    assert "the plan of smoke is gone" in str(said.exception)
    assert slurm.store.sweeps() == []
