"""Jobs that SLURM has, or may have, and whose submit did not live to note them: adopted once, never submitted a second time."""

import pytest
from submitit.core.utils import DelayedSubmission
from test_submission import PARENTS, PLAN, launcher, srun_on_path  # noqa: F401

from slurm import control
from slurm.cluster import Batch, SlurmLauncher, adopt_orphans, unanswered
from slurm.look import look
from vmae.errors import SchedulerError, Unanswered
from vmae.job import PackedJob, RunJob


@pytest.mark.parametrize("is_array", [True, False])
def test_a_submit_that_died_after_sbatch_is_finished_by_the_next(tmp_path, monkeypatch, is_array):
    made = launcher(tmp_path)
    ids = list(PLAN.runs)[: 3 if is_array else 1]
    batch = Batch(tuple((id_,) for id_ in ids), "pretrain", ())
    monkeypatch.setattr(SlurmLauncher, "executor", lambda self, batch: None)

    class Killed(BaseException):
        pass

    def die(*_):
        raise Killed

    monkeypatch.setattr("slurm.cluster.send", die)
    with pytest.raises(Killed):
        made.launch(batch)
    assert not made.store.run(ids[0]).read_submission()
    names = [f"55_{k}" for k in range(3)] if is_array else ["55"]
    other = {"60+0": job("60+0", "part of a heterogeneous job of the user's")}
    adopt_orphans(made.store, other | {id_: job(id_, batch.name) for id_ in names})
    assert [made.store.run(id_).read_submission()["job_id"] for id_ in ids] == names
    assert not list((made.store.jobs / "batches").iterdir())


@pytest.mark.parametrize("size", [1, 3])
@pytest.mark.parametrize("pack", [1, 2])
def test_a_job_that_was_taken_without_an_answer_is_known_and_can_start(tmp_path, monkeypatch, srun_on_path, size, pack):  # noqa: F811
    """submitit reads what a job is to do from a file with the job's id, which nobody knew."""
    made, words = launcher(tmp_path / "runs", pack=pack), "Socket timed out on send/recv operation"
    sbatch(tmp_path / "bin", f"echo 'sbatch: error: Batch job submission failed: {words}' >&2; exit 1")
    ids = list(PLAN.runs)[:size]
    jobs = tuple(tuple(ids[k : k + pack]) for k in range(0, size, pack))
    batch = Batch(jobs, "pretrain", ())
    with pytest.raises(Unanswered, match=words):
        made.launch(batch)
    adopt_orphans(made.store, {"54": job("54", batch.name, "CANCELLED")})  # an earlier one of the same runs
    assert unanswered(made.store) == set(ids), "squeue may show it later; until then nobody submits it again"
    names = [f"55_{k}" for k in range(len(jobs))] if len(jobs) > 1 else ["55"]
    adopt_orphans(made.store, {id_: job(id_, batch.name) for id_ in names})
    assert not unanswered(made.store)
    for name, runs in zip(names, jobs, strict=True):
        assert {made.store.run(id_).read_submission()["job_id"] for id_ in runs} == {name}
        told = DelayedSubmission.load(made.store.jobs / f"{name}_submitted.pkl").function
        paths = [str(made.store.run(id_).path) for id_ in runs]
        assert told == (PackedJob([[path] for path in paths], str(made.code)) if len(runs) > 1 else RunJob(paths, str(made.code)))


@pytest.mark.parametrize(
    ("words", "is_open"),
    [
        ("Batch job submission failed: Zero Bytes were transmitted or received", True),
        ("Batch job submission failed: Unable to contact slurm controller (connect failure)", False),
        ("QOSMaxSubmitJobPerUserLimit", False),
    ],
)
def test_what_slurm_cannot_have_taken_is_missing_at_once(tmp_path, srun_on_path, words, is_open):  # noqa: F811
    made, run = launcher(tmp_path / "runs"), next(iter(PLAN.runs))
    sbatch(tmp_path / "bin", f"echo 'sbatch: error: {words}' >&2; exit 1")
    with pytest.raises(SchedulerError):
        made.launch(Batch(((run,),), "pretrain", ()))
    assert unanswered(made.store) == ({run} if is_open else set())


def test_what_never_shows_is_missing_after_a_while(tmp_path, monkeypatch, srun_on_path):  # noqa: F811
    made, run = launcher(tmp_path / "runs"), next(iter(PLAN.runs))
    sbatch(tmp_path / "bin", "echo 'sbatch: error: Socket timed out on send/recv operation' >&2; exit 1")
    with pytest.raises(Unanswered):
        made.launch(Batch(((run,),), "pretrain", ()))
    monkeypatch.setattr(control, "queue", lambda others: {})
    assert look(made.store, PARENTS).states[run] == "queued"
    monkeypatch.setattr("slurm.cluster.UNANSWERED_S", 0.0)
    assert look(made.store, PARENTS).states[run] == "missing"
    assert not list((made.store.jobs / "batches").iterdir())


def sbatch(folder, text):
    """Put an sbatch on PATH."""
    (folder / "sbatch").write_text(f"#!/bin/sh\n{text}\n")
    (folder / "sbatch").chmod(0o755)


def job(id_, name, state="PENDING"):
    fields = {"id": id_, "name": name, "state": state, "reason": "Priority", "nodes": "", "restarts": 0}
    known = control.Job.__dataclass_fields__
    return control.Job(**(fields | {name: 0 for name in known if name not in fields}))


def test_a_refused_submission_leaves_no_record(tmp_path, monkeypatch):
    made = launcher(tmp_path)
    monkeypatch.setattr(SlurmLauncher, "executor", lambda self, batch: None)

    def refuse(*_):
        raise SchedulerError("sbatch refuses: no")

    monkeypatch.setattr("slurm.cluster.send", refuse)
    with pytest.raises(SchedulerError):
        made.launch(Batch(((next(iter(PLAN.runs)),),), "pretrain", ()))
    assert not list((made.store.jobs / "batches").iterdir())
