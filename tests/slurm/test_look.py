"""Where runs stand while SLURM has their jobs: told from the queue and the run's files, through every stage of a job's life."""

import errno
import json
import os
from pathlib import Path

import pytest
from test_submission import PARENTS, PLAN, launcher

from slurm import control
from slurm.cluster import Batch, SlurmLauncher, adopt_orphans
from slurm.look import look, submit_lock
from sweeps.commands.pending import pending_of
from vmae import allocation
from vmae.claim import process_identity

RUN = next(id_ for id_, run in PLAN.runs.items() if run.stage == "pretrain")


@pytest.fixture
def store(tmp_path):
    """A store in which one pre-training is job 12_3."""
    made = launcher(tmp_path).store
    made.run(RUN).write_submission({"executor": "slurm", "job_id": "12_3", "at": "2026-01-01T00:00:00Z"})
    return made


@pytest.fixture
def squeue(monkeypatch):
    """Set what squeue says of job 12_3."""

    def says(state, restarts=0):
        job = control.Job("12_3", "vmae-0", state, "None", "n1", restarts, "1:00", "me")
        monkeypatch.setattr(control, "queue", lambda others: {job.id: job})

    return says


def as_job(monkeypatch, id_, restart):
    monkeypatch.setattr(allocation, "job_id", lambda: id_)
    monkeypatch.setattr(allocation, "restart_count", lambda: restart)


def is_taken_up(store, retried=frozenset()):
    return RUN in pending_of(store, PLAN, look(store, PARENTS).states, set(PLAN.runs), retried)


@pytest.mark.parametrize("state", sorted(control.WAITING | control.RUNNING | {"COMPLETING"}))
@pytest.mark.parametrize("word", ["interrupted", None])
def test_a_run_is_never_taken_from_a_job_that_is_in_the_queue(store, squeue, monkeypatch, state, word):
    """Least of all while a requeued job completes: it comes back, and one of two jobs would die with its children."""
    squeue(state)
    as_job(monkeypatch, "12_3", 0)
    store.run(RUN).checkpoint.write_bytes(b"x")
    if word:
        store.run(RUN).stop(word, "SIGUSR2 at step 3 of 9")
    assert not is_taken_up(store, {"failed", "lost"})
    assert look(store, PARENTS).jobs[RUN].id == "12_3", "what waits for the run waits for this job"


@pytest.mark.parametrize("state", ["COMPLETED", "CANCELLED", "FAILED", "TIMEOUT", "NODE_FAIL"])
def test_a_run_whose_job_is_over_is_taken_up(store, squeue, monkeypatch, state):
    squeue(state)
    store.run(RUN).stop("interrupted", "SIGTERM at step 3 of 9")
    assert is_taken_up(store)


@pytest.mark.parametrize(
    ("state", "restarts", "expected"),
    [("PENDING", 0, "queued"), ("PENDING", 1, "requeued"), ("SUSPENDED", 0, "requeued"), ("STOPPED", 0, "requeued")],
)
def test_what_waits_to_go_on_is_told_from_what_waits_to_begin(store, squeue, state, restarts, expected):
    squeue(state, restarts)
    assert look(store, PARENTS).states[RUN] == expected


def test_a_job_number_that_comes_again_is_another_job(store, squeue):
    """Numbers start anew after some years, or where the cluster was set up anew."""
    record = store.run(RUN).read_submission()
    squeue("RUNNING")
    store.run(RUN).write_submission({**record, "name": "vmae-0"})
    assert look(store, PARENTS).states[RUN] == "running"
    store.run(RUN).write_submission({**record, "name": RUN})
    assert look(store, PARENTS).states[RUN] == "missing"


@pytest.mark.parametrize(("job", "restart"), [("7", 0), ("12_3", 0), ("", 0)])
def test_a_run_that_starts_again_has_not_failed_whatever_became_of_an_earlier_start(store, squeue, monkeypatch, job, restart):
    """A retry says so only once its process holds the claim, and that takes the import of torch."""
    as_job(monkeypatch, job, restart)
    store.run(RUN).stop("failed", "no such file")
    squeue("RUNNING", restarts=1)
    assert look(store, PARENTS).states[RUN] == "running"
    assert not is_taken_up(store, {"failed"})


@pytest.mark.parametrize("state", ["RUNNING", "COMPLETING"])
def test_a_run_that_failed_in_this_start_of_a_job_has_failed(store, squeue, monkeypatch, state):
    """One run of a pack, or a job on its way out."""
    as_job(monkeypatch, "12_3", 1)
    store.run(RUN).stop("failed", "no such file")
    squeue(state, restarts=1)
    assert look(store, PARENTS).states[RUN] == "failed"
    assert not is_taken_up(store)


@pytest.mark.parametrize("is_single", [True, False])
@pytest.mark.parametrize("submitter", ["at work", "killed on another machine", "killed here"])
def test_jobs_are_known_by_their_name_before_their_submit_has_noted_them(tmp_path, monkeypatch, is_single, submitter):
    """One that was killed on another login node counts as live for ten minutes, and meanwhile its jobs run."""
    made = launcher(tmp_path)
    store, ids = made.store, list(PLAN.runs)[: 1 if is_single else 3]
    batch = Batch(tuple((id_,) for id_ in ids), "pretrain", ())
    monkeypatch.setattr(SlurmLauncher, "executor", lambda self, batch: None)
    monkeypatch.setattr("slurm.cluster.send", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        made.launch(batch)
    elsewhere = {"host": "login2", "pid": 7, "started": "1"}
    owner = {"at work": process_identity(os.getppid()), "killed on another machine": elsewhere, "killed here": {}}[submitter]
    submit_lock(store).write_text(json.dumps(owner))
    queue = {}
    monkeypatch.setattr(control, "queue", lambda others: queue)
    if submitter != "killed here":
        assert look(store, PARENTS).states[ids[0]] == "missing", "not sent yet"
    names = ["55"] if is_single else ["55_0", "55_1", "55_2"]
    states = ["RUNNING", "PENDING", "RUNNING"][: len(ids)]
    for name, state in zip(names, states, strict=True):
        queue[name] = control.Job(name, batch.name, state, "None", "n1", 0, "0:10", "me")
    place = store.run(ids[0])
    place.claim.write_text(json.dumps({"host": "n1", "pid": 7, "started": "1", "job": names[0], "restart": 0}))
    place.starts.write_text(json.dumps({"at": "x", "host": "n1", "job": names[0], "restart": 0, "step": 0, "num_ranks": 1}))
    seen = look(store, PARENTS)
    assert [seen.states[id_] for id_ in ids] == [state.replace("PENDING", "QUEUED").lower() for state in states]
    assert [seen.jobs[id_].id for id_ in ids] == names
    assert place.submission.exists() == (submitter == "killed here"), "a living submit notes them itself"
    before = {id_: seen.submissions[id_] for id_ in ids}
    adopt_orphans(store, queue)
    assert {id_: store.run(id_).read_submission() for id_ in ids} == before


def test_who_may_only_read_a_store_sees_where_its_runs_stand(store, squeue, monkeypatch):
    """Though a launcher and two submits that died left notes there, which others clear away."""
    squeue("RUNNING")
    array = [*[[id_] for id_ in PLAN.runs if id_ != RUN][:3], [RUN]]
    facts = {"executor": "slurm", "name": "vmae-0", "code": "abc", "estimates_s": dict.fromkeys(PLAN.runs)}
    notes = {
        store.jobs / "queue-here-1.json": {**process_identity(os.getpid()), "started": "0", "runs": [RUN]},
        store.jobs / "batches" / "vmae-0.json": {"jobs": array, "facts": facts},
        store.jobs / "batches" / "vmae-1.json": {},
    }
    (store.jobs / "batches").mkdir(parents=True)
    for file, content in notes.items():
        file.write_text(json.dumps(content))
    store.run(RUN).submission.unlink()
    read = Path.open

    def refuse(*_, **__):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "unlink", refuse)
    monkeypatch.setattr(Path, "mkdir", refuse)
    monkeypatch.setattr(Path, "open", lambda file, mode="r", **more: refuse() if "w" in mode else read(file, mode, **more))
    assert look(store, PARENTS).states[RUN] == "running"
    monkeypatch.undo()
    assert all(file.exists() for file in notes)
