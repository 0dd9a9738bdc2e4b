"""One look at where runs stand: their directories, the queues of launchers on this machine, and one call of squeue."""

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slurm import control
from slurm.cluster import adopt_orphans, batches, sent_jobs, submitters, unanswered
from slurm.launch import queued
from vmae.claim import Claim
from vmae.errors import RunDirError
from vmae.runs import RunDir, State, Store


@dataclass(frozen=True)
class Look:
    """States by run id, and for runs that SLURM has in its queue their job."""

    states: Mapping[str, State]
    jobs: Mapping[str, control.Job]
    submissions: Mapping[str, Mapping[str, Any]]

    def count(self, *states: State) -> int:
        """Return how many runs are in one of `states`."""
        return sum(state in states for state in self.states.values())


def submit_lock(store: Store) -> Path:
    """Return the claim file that a submit holds."""
    return store.jobs / "submit.json"


def look(store: Store, parents: Mapping[str, str | None]) -> Look:
    """Return the one true state of each run of {id: parent or None}, parents first.

    Raises SchedulerError where runs were given to SLURM and it does not answer: their state cannot be told without it.
    """
    open_ids = [id_ for id_ in parents if store.run(id_).finished() is None]
    records = batches(store)  # before the queue is asked for: a submit may note its jobs, and delete its record, at any time
    is_quiet = bool(records) and not Claim(submit_lock(store)).is_live()
    submissions = {id_: record for id_ in open_ids if (record := store.run(id_).read_submission())}
    jobs: dict[str, control.Job] = {}
    if records or any(record["executor"] == "slurm" for record in submissions.values()):
        queue = control.queue(submitters(store, submissions.values()))
        if is_quiet and not Claim(submit_lock(store)).is_live():  # else squeue may have answered before a submit sent its jobs
            with contextlib.suppress(RunDirError, OSError):  # of somebody who may only look; a submit says what it cannot write
                adopt_orphans(store, queue)
        submissions |= {id_: record for id_, record in sent_jobs(records, queue).items() if id_ in open_ids}
        found = {id_: queue.get(str(record["job_id"])) for id_, record in submissions.items() if record["executor"] == "slurm"}
        # A number comes again after years, or on a cluster that was set up anew; then the name is another.
        names = {id_: record.get("name") for id_, record in submissions.items()}
        jobs = {id_: job for id_, job in found.items() if job and job.is_active and names[id_] in (None, job.name)}
    active: dict[str, State] = dict.fromkeys((queued(store) | unanswered(store)) & set(parents), "queued")
    for id_, job in jobs.items():
        if job.is_waiting:
            active[id_] = "requeued" if job.has_begun else "queued"
        elif not _has_failed(store.run(id_), job):
            active[id_] = "running"
    return Look(store.states(parents, active), jobs, submissions)


def _has_failed(run_dir: RunDir, job: control.Job) -> bool:
    """Return whether a run failed in this start of its job: one run of a pack, or a job on its way out."""
    stopped = run_dir.read_stopped()
    return (stopped.get("state"), stopped.get("job"), stopped.get("restart")) == ("failed", job.id, job.restarts)
