"""Runs a plan's missing runs on this machine, through submitit's local executor.

submitit starts the processes and keeps their logs; whether a run is done is read from its directory, never from submitit.
A chain of runs in which each has one waiting child is one job, which spares a process start per run.
"""

import contextlib
import json
import os
import signal
import socket
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from slurm.profile import LocalProfile
from vmae.allocation import SHARING_GPU
from vmae.claim import Claim, process_identity
from vmae.errors import ConfigError
from vmae.files import write_atomic
from vmae.job import RunJob
from vmae.runs import AT_WORK, FINISHED, State, Store, now
from vmae.runtime import num_cpus, visible_gpus

UNLIMITED_MIN = 365 * 24 * 60


def chains(parents: Mapping[str, str | None]) -> list[tuple[str, ...]]:
    """Cut pending runs {id: parent or None}, parents first, into the longest chains that never have to wait in the middle.

    >>> chains({"p": None, "f": "p", "e": "f"})
    [('p', 'f', 'e')]
    >>> chains({"p": None, "f": "p", "g": "p"})
    [('p',), ('f',), ('g',)]
    """
    children: dict[str, list[str]] = {}
    for id_, parent in parents.items():
        if parent is not None and parent in parents:
            children.setdefault(parent, []).append(id_)
    found = []
    for id_, parent in parents.items():
        if parent is not None and len(children.get(parent, ())) == 1:
            continue  # in the middle of the chain that its parent is in
        chain = [id_]
        while len(children.get(chain[-1], ())) == 1:
            chain.append(children[chain[-1]][0])
        found.append(tuple(chain))
    return found


def check_gpus(profile: LocalProfile, offered: Sequence[str]) -> None:
    """Raise ConfigError where jobs are to have a GPU and none is offered."""
    if profile.gpus_per_job and not offered:
        raise ConfigError(
            f"gpus_per_job = {profile.gpus_per_job}, but this machine offers no GPU (CUDA_VISIBLE_DEVICES: "
            f"{os.environ.get('CUDA_VISIBLE_DEVICES', 'not set')!r}); allowed here: 0, which runs on the CPU"
        )


@dataclass
class LocalLauncher:
    """A queue of chains and the jobs at work on them; `tick` moves it on."""

    store: Store
    profile: LocalProfile
    num_jobs: int
    waiting: list[tuple[str, ...]]
    parents: Mapping[str, str | None]
    jobs: dict[tuple[str, ...], Any] = field(default_factory=dict)
    _slots: dict[tuple[str, ...], int] = field(default_factory=dict)
    _gpus: list[str] = field(default_factory=visible_gpus)
    _logs: dict[str, Path] = field(default_factory=dict)
    _noted: list[str] | None = None

    def __post_init__(self) -> None:
        """Prepare submitit's folder and say which runs are queued here."""
        import submitit

        if self.profile.gpus_per_job:
            check_gpus(self.profile, self._gpus)
            self.num_jobs = min(self.num_jobs, len(self._gpus) * self.profile.jobs_per_gpu)
        self.executor = submitit.LocalExecutor(folder=self.store.jobs)
        self.executor.update_parameters(timeout_min=UNLIMITED_MIN, stderr_to_stdout=True)
        self._note_queue()

    @property
    def is_over(self) -> bool:
        """Whether nothing waits and nothing runs."""
        return not (self.waiting or self.jobs)

    @property
    def has_news(self) -> bool:
        """Whether a job has ended that `tick` has not collected."""
        return any(job.done() for job in self.jobs.values())

    def tick(self, states: Mapping[str, State]) -> None:
        """Collect finished jobs, drop chains that cannot run, start what is ready."""
        for chain in [chain for chain, job in self.jobs.items() if job.done()]:
            del self.jobs[chain], self._slots[chain]
        at_work = {id_ for chain in self.jobs for id_ in chain}
        for chain in list(self.waiting):
            parent = self.parents[chain[0]]
            parent_state = "done" if parent is None else states[parent]
            parent_comes = parent in at_work or parent_state in AT_WORK
            if states[chain[0]] in (*FINISHED, "running") or not (parent_state == "done" or parent_comes):
                self.waiting.remove(chain)
            elif parent_state == "done" and len(self.jobs) < self.num_jobs:
                self.waiting.remove(chain)
                self._start(chain)
        self._note_queue()

    def stop(self) -> None:
        """Start nothing more and ask what runs to save and stop."""
        self.waiting.clear()
        self._note_queue()
        for job in self.jobs.values():
            with contextlib.suppress(ProcessLookupError):
                job._process.send_signal(signal.SIGTERM)  # submitit's controller forwards it to the task

    def close(self) -> None:
        """Take back the word on what is queued here."""
        _queue_file(self.store).unlink(missing_ok=True)

    def log_of(self, run_id: str) -> Path | None:
        """Return the log of the job that works or worked on a run, if this launcher started it."""
        return self._logs.get(run_id)

    def _start(self, chain: tuple[str, ...]) -> None:
        slot = min(set(range(self.num_jobs)) - set(self._slots.values()))
        if self.profile.gpus_per_job:  # past submitit's check, which knows GPUs by number alone, not by UUID
            self.executor.parameters |= {"gpus_per_node": 1, "visible_gpus": (self._gpus[slot % len(self._gpus)],)}
        threads = str(self.profile.runtime.num_threads or num_cpus())
        sharing = {SHARING_GPU: str(-(-self.num_jobs // len(self._gpus)))} if self.profile.gpus_per_job else {}
        with _environment(OMP_NUM_THREADS=threads, **sharing), _ignoring_ctrl_c():
            job = self.executor.submit(RunJob([str(self.store.run(id_).path) for id_ in chain]))
        self.jobs[chain], self._slots[chain] = job, slot
        self._logs |= dict.fromkeys(chain, job.paths.stdout)
        for id_ in chain:
            self.store.run(id_).write_submission({"executor": "local", "job_id": str(job.job_id), "at": now()})

    def _note_queue(self) -> None:
        """Write down what waits, and what was started until its job ends: its process takes seconds to claim the first run."""
        ids = [id_ for chain in (*self.jobs, *self.waiting) for id_ in chain]
        if ids == self._noted:
            Claim(_queue_file(self.store)).beat()
        else:
            write_atomic(_queue_file(self.store), json.dumps({**process_identity(os.getpid()), "runs": ids}).encode())
            self._noted = ids


def queued(store: Store) -> set[str]:
    """Return the runs that live launchers hold, here or on another machine: those that wait and those not claimed yet."""
    found: set[str] = set()
    for note in map(Claim, store.jobs.glob("queue-*.json")):
        content = note.owner()
        if note.is_live():
            found |= set(content.get("runs", ()))
        elif content.get("host") == socket.gethostname():  # of another machine it might be late, not dead
            with contextlib.suppress(OSError):  # of somebody who may only look
                note.path.unlink(missing_ok=True)
    return found


def _queue_file(store: Store) -> Path:
    return store.jobs / f"queue-{socket.gethostname()}-{os.getpid()}.json"


@contextlib.contextmanager
def _environment(**values: str) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


@contextlib.contextmanager
def _ignoring_ctrl_c() -> Iterator[None]:
    """Start children that ignore Ctrl-C: submitit's controller would otherwise kill its task one second after it."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
