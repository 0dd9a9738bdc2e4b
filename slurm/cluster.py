"""Hands a plan's missing runs to SLURM: as arrays where they are alike, behind their parents where they are not.

A submission is written down before sbatch is called (`jobs/batches/<job name>.json`) and in each run's directory after it, so
a submit that dies in between is finished by the next one, which finds the jobs in the queue by their name.
"""

import hashlib
import json
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slurm import control
from slurm.profile import Resources, SlurmProfile
from slurm.script import clean_environment, make_executor, parameters, script_text, send, write_jobs
from vmae.claim import read_json
from vmae.config import Run
from vmae.errors import SchedulerError, Unanswered
from vmae.files import write_atomic
from vmae.job import PackedJob, RunJob
from vmae.runs import Store, now

UNANSWERED_S = 120.0  # in which slurmctld has worked off what waits for it; a job that it then does not show, it has not


@dataclass(frozen=True)
class Batch:
    """One call of sbatch: an array of jobs, or a single one; each job works on one run, or on a pack of several."""

    jobs: tuple[tuple[str, ...], ...]
    stage: str
    dependencies: tuple[str, ...]

    @property
    def name(self) -> str:
        """The job name: the run's id, or a hash over the ids of all."""
        if self.runs == self.jobs[0][:1]:
            return self.runs[0]
        return "vmae-" + hashlib.sha256(" ".join(self.runs).encode()).hexdigest()[:12]

    @property
    def runs(self) -> tuple[str, ...]:
        """All runs of the batch."""
        return tuple(id_ for job in self.jobs for id_ in job)


@dataclass
class SlurmLauncher:
    """Submits runs of a plan; what it does with a batch is `launch`, which dry runs replace.

    Args:
        runs: every run of the plan by id.
        parents: id of each run's parent, None where it has none.
        code: the snapshot that jobs start in.
        pack: runs per job.
        max_running: elements of one array at a time.
        estimates: seconds of each run, where known.
    """

    store: Store
    profile: SlurmProfile
    profile_name: str
    runs: Mapping[str, Run]
    parents: Mapping[str, str | None]
    code: Path
    pack: int = 1
    max_running: int | None = None
    estimates: Mapping[str, float | None] | None = None

    def submit(
        self,
        pending: Sequence[str],
        waiting: Mapping[str, str],
        room: int | None,
        launch: Callable[[Batch], list[str]] | None = None,
        progress: Callable[[int], None] = lambda _: None,
    ) -> list[str]:
        """Submit runs, parents before children, and return those that were: as many as there is room for.

        Args:
            pending: ids to submit.
            waiting: job id of every run that is in the queue already.
            room: jobs that the queue still takes; None: any number.
            launch: what to do with each batch instead of submitting it; returns a job id per job.
            progress: called with the number of runs of each batch.

        Raises:
            SchedulerError: sbatch refused; what was submitted before stays submitted and recorded.
        """
        job_of = dict(waiting)
        submitted: list[str] = []
        left = len(pending) if room is None else room
        for level in _levels(pending, self.parents):
            for batch in self._batches([id_ for id_ in level if self.can_wait(id_, job_of)], job_of):
                fitting = Batch(batch.jobs[:left], batch.stage, batch.dependencies)
                if not fitting.jobs:
                    return submitted
                job_ids = (launch or self.launch)(fitting)
                left -= len(fitting.jobs)
                job_of |= {id_: job_id for job_id, job in zip(job_ids, fitting.jobs, strict=True) for id_ in job}
                submitted += fitting.runs
                progress(len(fitting.runs))
        return submitted

    def launch(self, batch: Batch) -> list[str]:
        """Call sbatch, record the jobs, return their ids."""
        record = _batch_file(self.store, batch.name)
        facts = self._facts(batch)
        content = {"jobs": batch.jobs, "facts": facts}
        write_atomic(record, json.dumps(content).encode())
        try:
            job_ids = send(self.executor(batch), [_callable(self.store, job, self.code) for job in batch.jobs])
        except (Unanswered, KeyboardInterrupt):
            write_atomic(record, json.dumps({**content, "unanswered_since": time.time()}).encode())
            raise
        except SchedulerError:
            record.unlink()
            raise
        _record(self.store, batch.jobs, job_ids, facts)
        record.unlink()
        return job_ids

    def show(self, batch: Batch) -> str:
        """Return the sbatch script of a batch."""
        return script_text(self.executor(batch), len(batch.jobs))

    def expected_start(self, batch: Batch) -> str:
        """Ask SLURM when a batch would start, without submitting it; SchedulerError if it would be refused."""
        alone = Batch(batch.jobs, batch.stage, ())
        with tempfile.NamedTemporaryFile("w", suffix=".sh") as file, clean_environment():
            file.write(self.show(alone))
            file.flush()
            return control.call("sbatch", "--test-only", file.name, or_stderr=True)

    def executor(self, batch: Batch) -> Any:
        """Return submitit's executor for a batch."""
        given = self.profile.resources(batch.stage)
        pack = max(len(job) for job in batch.jobs)
        num_running = self.max_running or len(batch.jobs)
        values = parameters(self.profile, given, self.code, batch.name, batch.dependencies, pack, num_running)
        return make_executor(self.store, self.profile, values)

    def _facts(self, batch: Batch) -> dict[str, Any]:
        given = self.profile.resources(batch.stage)
        return {
            "executor": "slurm",
            "name": batch.name,
            "user": control.user(),
            "at": now(),
            "profile": self.profile_name,
            "code": self.code.name,
            "num_ranks": given.num_ranks,
            "num_gpus": given.nodes * given.gpus_per_node,
            "estimates_s": {id_: (self.estimates or {}).get(id_) for id_ in batch.runs},
            "unstarted": {id_: self._num_unstarted(id_) for id_ in batch.runs},
        }

    def _num_unstarted(self, id_: str) -> int:
        parent = self.parents[id_]  # whose lack, behind a pack, is no fault of its child's jobs
        return self.store.run(id_).num_unstarted() if parent is None or self._is_done(parent) else 0

    def can_wait(self, id_: str, job_of: Mapping[str, str]) -> bool:
        """Return whether a job of this run could start now, or wait in the queue for its parent's."""
        parent = self.parents[id_]
        return parent is None or parent in job_of or self._is_done(parent)

    def _is_done(self, id_: str) -> bool:
        return self.store.run(id_).finished() is not None

    def _batches(self, level: Sequence[str], job_of: Mapping[str, str]) -> Iterator[Batch]:
        """Cut runs that could all start now or behind their parents into batches of equal resources and dependencies."""
        groups: dict[tuple[Resources, tuple[str, ...]], list[str]] = {}
        for id_ in level:
            key = (self.profile.resources(self.runs[id_].stage), self._dependencies(id_, job_of))
            groups.setdefault(key, []).append(id_)
        size = control.max_array_size()
        for (_, dependencies), ids in groups.items():
            jobs = [tuple(ids[k : k + self.pack]) for k in range(0, len(ids), self.pack)]
            whole = [job for job in jobs if len(job) == len(jobs[0])]
            for alike in (whole, jobs[len(whole) :]):  # a last pack that is not full asks for less
                for first in range(0, len(alike), size):
                    yield Batch(tuple(alike[first : first + size]), self.runs[ids[0]].stage, dependencies)

    def _dependencies(self, id_: str, job_of: Mapping[str, str]) -> tuple[str, ...]:
        parent = self.parents[id_]
        if parent is None or parent not in job_of or self._is_done(parent):
            return ()
        # A pack fails if any of its runs does; whether the parent itself is done the child checks when it starts.
        packed = self.store.run(parent).read_submission().get("pack", 1) > 1 or (self.pack > 1)
        return (f"{'afterany' if packed else 'afterok'}:{job_of[parent]}",)


def adopt_orphans(store: Store, queue: Mapping[str, control.Job]) -> None:
    """Finish the records of submits that died between sbatch and their last word, or had no answer to it.

    Args:
        queue: asked for since those submits ended.
    """
    records = batches(store)
    sent = _sent(records, queue)
    for file, record in records.items():
        if job_ids := sent.get(file):
            code = store.root / "code" / record["facts"]["code"]
            callables = [_callable(store, job, code) for job in record["jobs"]]
            write_jobs(store, dict(zip(job_ids, callables, strict=True)))
            _record(store, record["jobs"], job_ids, record["facts"])
        elif _may_come(record):
            continue
        file.unlink(missing_ok=True)


def sent_jobs(records: Mapping[Path, Mapping[str, Any]], queue: Mapping[str, control.Job]) -> dict[str, dict[str, Any]]:
    """Return what job.json will say of each run, {run id: record}, whose job is in the queue and not noted by its submit yet.

    Args:
        records: what `batches` returned before the queue was asked for.
    """
    notes: dict[str, dict[str, Any]] = {}
    for file, job_ids in _sent(records, queue).items():
        notes |= _notes(records[file]["jobs"], job_ids, records[file]["facts"])
    return notes


def _sent(records: Mapping[Path, Mapping[str, Any]], queue: Mapping[str, control.Job]) -> dict[Path, list[str]]:
    """Return the job ids of each batch that the queue shows under its name, of several the newest."""
    by_name: dict[str, list[int]] = {file.stem: [] for file, record in records.items() if record}
    for job in queue.values():
        if job.is_active and job.name in by_name:  # an earlier batch of the same runs has the same name
            by_name[job.name].append(int(job.id.partition("_")[0]))
    found = {}
    for file, record in records.items():
        if numbers := by_name.get(file.stem):
            newest, size = max(numbers), len(record["jobs"])
            found[file] = [f"{newest}_{k}" if size > 1 else str(newest) for k in range(size)]
    return found


def submitters(store: Store, submissions: Iterable[Mapping[str, Any]] = ()) -> set[str]:
    """Return the users whose jobs work on runs of the store: those of `submissions`, and of what a submit left behind."""
    left = (record.get("facts", {}) for record in batches(store).values())
    return {str(record["user"]) for record in (*submissions, *left) if "user" in record}


def unanswered(store: Store) -> set[str]:
    """Return the runs that SLURM may have jobs for, though it has not said so and squeue does not show them yet."""
    return {id_ for record in batches(store).values() if _may_come(record) for job in record["jobs"] for id_ in job}


def _may_come(record: Mapping[str, Any]) -> bool:
    since: float = record.get("unanswered_since", 0.0)
    return time.time() - since < UNANSWERED_S


def _callable(store: Store, job: Sequence[str], code: Path) -> RunJob | PackedJob:
    paths = [str(store.run(id_).path) for id_ in job]
    return PackedJob([[path] for path in paths], str(code)) if len(job) > 1 else RunJob(paths, str(code))


def _record(store: Store, jobs: Sequence[Sequence[str]], job_ids: Sequence[str], facts: Mapping[str, Any]) -> None:
    for id_, note in _notes(jobs, job_ids, facts).items():
        store.run(id_).write_submission(note)


def _notes(jobs: Sequence[Sequence[str]], job_ids: Sequence[str], facts: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    shared = {key: value for key, value in facts.items() if key not in ("estimates_s", "unstarted")}
    notes = {}
    for job_id, job in zip(job_ids, jobs, strict=True):
        for task, id_ in enumerate(job):
            more = {"job_id": job_id, "task": task, "pack": len(job), "estimate_s": facts["estimates_s"][id_]}
            more |= {"log": f"{job_id}_{task}_log.out", "num_unstarted": facts.get("unstarted", {}).get(id_, 0)}
            notes[id_] = {**shared, **more}
    return notes


def batches(store: Store) -> dict[Path, dict[str, Any]]:
    """Return what submits were about to send, by file: of those at work, and of those that ended before their last word."""
    return {file: read_json(file) for file in _batch_file(store, "x").parent.glob("*.json")}


def _batch_file(store: Store, name: str) -> Path:
    return store.jobs / "batches" / f"{name}.json"


def _levels(pending: Sequence[str], parents: Mapping[str, str | None]) -> list[list[str]]:
    """Cut pending runs, parents first, into those with no pending parent, their children, and so on."""
    depth: dict[str, int] = {}
    for id_ in pending:
        depth[id_] = depth.get(parents[id_] or "", -1) + 1
    levels: list[list[str]] = [[] for _ in range(max(depth.values(), default=-1) + 1)]
    for id_ in pending:
        levels[depth[id_]].append(id_)
    return levels
