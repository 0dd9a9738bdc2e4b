"""A claim is held by one live process: across machines, through kills, and through SLURM's requeues."""

import json
import os
import socket
import subprocess
import time

import pytest

from vmae import allocation
from vmae.claim import HEARTBEAT_S, Claim, process_identity
from vmae.errors import RunDirError


@pytest.fixture
def claim(tmp_path):
    return Claim(tmp_path / "claim.json")


def claimed_elsewhere(claim, **more):
    claim.path.write_text(json.dumps({"host": "another", "pid": 1, "started": "1"} | more))


def as_job(monkeypatch, job="12", restart="0"):
    for name, value in (("SUBMITIT_EXECUTOR", "slurm"), ("SLURM_PROCID", "0"), ("SLURM_JOB_ID", job)):
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("SLURM_RESTART_COUNT", restart)


def slurm_says(monkeypatch, state):
    monkeypatch.setattr(allocation, "job_state", lambda job: state)


def test_the_holder_is_named_and_nobody_else_gets_in(claim):
    with claim.held("the run"):
        assert claim.is_live()
        with pytest.raises(RunDirError, match=f"the run is being worked on by process {os.getpid()}"), claim.held("the run"):
            pass
        assert claim.is_live(), "the attempt took nothing away"
    assert not claim.path.exists()


def test_a_claim_of_another_machine_lives_as_long_as_its_heartbeat(claim):
    claimed_elsewhere(claim)
    assert claim.is_live()
    old = time.time() - HEARTBEAT_S - 1
    os.utime(claim.path, (old, old))
    assert not claim.is_live()
    claim.beat()
    assert claim.is_live()


def test_who_asked_slurm_knows_better(claim):
    claimed_elsewhere(claim, job="7")
    assert claim.is_live({"7"})
    assert not claim.is_live({"8"})
    assert not claim.is_live(set())


def test_a_requeued_job_takes_its_own_claim_over_at_once(claim, monkeypatch):
    """kill -9 on one node, requeue to another: the heartbeat is fresh, but it is the same job's."""
    claimed_elsewhere(claim, job="12", restart=0)
    as_job(monkeypatch, restart="1")
    with claim.held("the run"):
        assert claim.owner()["restart"] == 1


@pytest.mark.parametrize(
    ("state", "is_free"), [("RUNNING", False), ("COMPLETING", False), ("PENDING", True), ("", True), (None, False)]
)
def test_a_claim_of_another_job_is_taken_over_when_slurm_says_that_it_is_over(claim, monkeypatch, state, is_free):
    claimed_elsewhere(claim, job="7", restart=0)
    as_job(monkeypatch)
    slurm_says(monkeypatch, state)
    if is_free:
        with claim.held("the run"):
            assert claim.owner()["job"] == "12"
    else:
        with pytest.raises(RunDirError, match=r"on another \(job 7\)"), claim.held("the run"):
            pass


@pytest.mark.parametrize("job", ["7", "12"])
def test_a_job_of_another_cluster_on_the_same_file_system_lives_by_its_heartbeat(claim, monkeypatch, job):
    """Our SLURM would say of it that it is over, or speak of a job of our own that has its number."""
    claimed_elsewhere(claim, job=job, restart=1, cluster="other")
    as_job(monkeypatch)
    monkeypatch.setenv("SLURM_CLUSTER_NAME", "ours")
    slurm_says(monkeypatch, "")
    with pytest.raises(RunDirError, match="being worked on"), claim.held("the run"):
        pass
    late = time.time() - 2 * HEARTBEAT_S
    os.utime(claim.path, (late, late))
    with claim.held("the run"):
        assert claim.owner()["cluster"] == "ours"


def test_a_colleagues_process_that_the_machine_hides_lives_by_its_heartbeat(claim, monkeypatch):
    claim.path.write_text(json.dumps({"host": socket.gethostname(), "pid": 2**22 + 1, "started": "1"}))
    assert not claim.is_live()

    def kill(pid, number):
        raise PermissionError

    monkeypatch.setattr(os, "kill", kill)
    assert claim.is_live()


def test_a_reused_pid_is_another_process(claim):
    claim.path.write_text(json.dumps(process_identity(os.getpid()) | {"started": "1"}))
    assert not claim.is_live()


@pytest.mark.parametrize("text", ["", "{", "[]", "null"])
def test_a_damaged_claim_holds_nothing(claim, text):
    claim.path.write_text(text)
    assert not claim.is_live()
    with claim.held("the run"):
        assert claim.is_live()


def test_array_elements_are_jobs_of_their_own(monkeypatch):
    as_job(monkeypatch, job="13")
    monkeypatch.setenv("SLURM_ARRAY_JOB_ID", "12")
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "3")
    assert allocation.job_id() == "12_3"


def test_only_a_job_at_work_is_requeued(monkeypatch, capsys):
    """A job that its user has cancelled would come back to life."""
    as_job(monkeypatch)
    asked = []
    monkeypatch.setattr(allocation, "_said", lambda *words: asked.append(words))
    monkeypatch.setattr(allocation, "REQUEUE_PAUSE_S", 0.0)
    for state in ("COMPLETING", "CANCELLED", "", None):
        slurm_says(monkeypatch, state)
        assert not allocation.requeue()
        assert ("squeue is not there" in capsys.readouterr().out) == (state is None), "as in a container"
    assert not asked
    slurm_says(monkeypatch, "RUNNING")
    assert allocation.requeue()
    assert asked == [("scontrol", "requeue", "12")]


@pytest.mark.parametrize(
    ("words", "num_asked"),
    [
        ("slurm_requeue error: Socket timed out on send/recv operation", 2),
        ("Unable to contact slurm controller (connect failure)", 2),
        ("Job does not have requeue enabled", 1),
    ],
)
def test_a_busy_controller_is_asked_again_and_a_refusal_is_taken(monkeypatch, words, num_asked):
    """Given up on, the job would count as failed, and SLURM would drop the jobs that wait for it."""
    as_job(monkeypatch)
    slurm_says(monkeypatch, "RUNNING")
    monkeypatch.setattr(allocation, "REQUEUE_PAUSE_S", 0.0)
    asked = []

    def say(*command):
        asked.append(command)
        if len(asked) == 1:
            raise subprocess.CalledProcessError(1, command, stderr=words)

    monkeypatch.setattr(allocation, "_said", say)
    assert allocation.requeue() == (num_asked == 2)
    assert len(asked) == num_asked


def test_a_slow_newcomer_does_not_take_the_live_successor_of_a_dead_claim_away(claim, monkeypatch):
    """Two find the same claim dead; the quicker one is at work before the slower one has cleared anything."""
    claim.path.write_text(json.dumps({"host": socket.gethostname(), "pid": 2**22 + 1, "started": "1"}))
    quicker = json.dumps(process_identity(1))
    asked = []

    def is_live(this, active_jobs=None):
        found = real(this, active_jobs)
        if not asked and this.path == claim.path:
            asked.append(found)
            claim.path.write_text(quicker)
        return found

    real = Claim.is_live
    monkeypatch.setattr(Claim, "is_live", is_live)
    with pytest.raises(RunDirError, match="process 1 on"), claim.held("the run"):
        pass
    assert asked == [False]
    assert claim.path.read_text() == quicker
    assert list(claim.path.parent.iterdir()) == [claim.path], "nothing is left behind"


def test_who_died_while_clearing_a_dead_claim_is_no_obstacle(claim):
    dead = json.dumps({"host": socket.gethostname(), "pid": 2**22 + 1, "started": "1"})
    for path in (claim.path, claim.path.with_name(".claim.turn")):
        path.write_text(dead)
    with claim.held("the run"):
        assert claim.is_live()
    assert not list(claim.path.parent.iterdir())


def test_a_process_that_was_held_for_dead_leaves_its_successors_claim(claim):
    with claim.held("the run"):
        claim.path.write_text(json.dumps(process_identity(1)))
    assert claim.owner() == process_identity(1)


@pytest.mark.parametrize("beats", [True, False])
def test_a_holder_without_steps_lives_on_for_other_machines_where_a_thread_beats(claim, monkeypatch, beats):
    monkeypatch.setattr("vmae.claim.HEARTBEAT_S", 0.5)
    with claim.held("the search", beats):
        monkeypatch.setattr(socket, "gethostname", lambda: "another host")
        time.sleep(1.5)
        assert claim.is_live() == beats
        if beats:
            with pytest.raises(RunDirError, match="the search is being worked on"), claim.held("the search"):
                pass
    assert not claim.path.exists()
