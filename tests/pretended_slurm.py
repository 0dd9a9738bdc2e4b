"""A SLURM in this process: its queue is a dict, its jobs end when time passes, and it can refuse to answer."""

from collections.abc import Callable, Collection
from pathlib import Path
from types import SimpleNamespace

from typer.testing import CliRunner, Result

from slurm import control
from slurm.cluster import Batch, SlurmLauncher, _record
from slurm.control import Job
from sweeps.__main__ import app
from sweeps.commands import cluster, searching, submitting
from vmae.errors import SchedulerError
from vmae.identity import cell_id
from vmae.results import Result as RunResult
from vmae.results import write_result
from vmae.runs import Store


def finish(store: Store, id_: str, **more: dict) -> None:
    """Leave a result of a run, and weights; `more` fills its compute and provenance."""
    run = store.own(id_).load()
    if run.stage != "evaluate":
        store.own(id_).weights.write_bytes(b"w")
    parts = {"metrics": {"top1": 50.0}, "compute": {}, "provenance": {}} | more
    write_result(store.own(id_).result, RunResult(id_, cell_id(run), run.stage, "done", **parts))


class PretendedSlurm:
    """What `sweeps` sees as SLURM; the commands wait by `pass_time`, which ends jobs by `end` and then calls `meanwhile`."""

    def __init__(self, folder: Path, monkeypatch, more: str = "") -> None:
        self.store, self.profile = Store(folder / "runs"), folder / "cluster.toml"
        self.profile.write_text(f'kind = "slurm"\ntime = "10"\n{more}\n')
        self.jobs: dict[str, Job] = {}
        self.owner: dict[str, str] = {}
        self.num_refusals, self.num_looks, self.num_waits = 0, 0, 0
        self.end: Callable[[str], None] = lambda id_: finish(self.store, id_)
        self.meanwhile: Callable[[], None] = lambda: None
        monkeypatch.setattr(control, "queue", self.queue)
        monkeypatch.setattr(control, "max_array_size", lambda: 1000)
        monkeypatch.setattr(control, "has_accounting", lambda: False)
        monkeypatch.setattr(control, "max_submit", lambda account: None)
        monkeypatch.setattr(SlurmLauncher, "launch", lambda launcher, batch: self.take(launcher, batch))
        monkeypatch.setattr(cluster, "check_profile", lambda *_: None)
        monkeypatch.setattr(cluster, "take_snapshot", lambda root: root / "code" / "abc")
        for module in (submitting, searching):
            monkeypatch.setattr(module, "check_data", lambda *_, **__: None)
        monkeypatch.setattr(submitting, "time", SimpleNamespace(sleep=lambda _: self.pass_time()))

    def __call__(self, *words: str) -> Result:
        """Run a command of `sweeps` with this store, and with this profile where it submits."""
        profile = ("--profile", str(self.profile)) if words[0] in ("submit", "watch", "plan", "search") else ()
        return CliRunner().invoke(app, [*words, *profile, "--runs", str(self.store.root)])

    def queue(self, others: Collection[str] = ()) -> dict[str, Job]:
        self.num_looks += 1
        if self.num_refusals and self.num_looks > 1:
            self.num_refusals -= 1
            raise SchedulerError("slurmctld does not answer: Socket timed out")
        return {id_: job for id_, job in self.jobs.items() if job.user in {control.user(), *others}}

    def add(self, id_: str, name: str = "another job") -> None:
        self.jobs[id_] = Job(id_, name, "PENDING", "Priority", "", 0, "0:00", control.user())

    def take(self, launcher: SlurmLauncher, batch: Batch) -> list[str]:
        ids = [str(100 + len(self.owner) + k) for k in range(len(batch.jobs))]
        for id_, job in zip(ids, batch.jobs, strict=True):
            self.add(id_, batch.name)
            self.owner[id_] = job[0]
        _record(launcher.store, batch.jobs, ids, launcher._facts(batch))
        return ids

    def pass_time(self) -> None:
        self.num_waits += 1
        assert self.num_waits < 100, "this never ends"
        for id_ in [id_ for id_ in self.jobs if id_ in self.owner]:
            del self.jobs[id_]
            self.end(self.owner[id_])
        self.meanwhile()
