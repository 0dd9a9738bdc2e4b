"""`Store` and `RunDir`: the one owner of every file name on disk, of who works on a run, and of a run's true state.

<root>/<run id>/config.json          what the run is; written first, checked against the id on every opening
                runtime.json         how it is to run here (threads, workers, device); never identity
                metrics.jsonl        rows while it trains
                last.pt, previous.pt checkpoints to resume from
                model.safetensors    final weights
                reconstruction.npz   a few held-out clips: original, hidden, reconstruction (pretrain)
                predictions.csv      one row per video (evaluate)
                claim.json           the process at work, if any
                stopped.json         why the last attempt ended without a result
                result.json          last thing written: done
<root>/sweeps/<name>/plan.json       what was meant to run; all that a report needs
<root>/jobs/                         the launcher's own files and logs
"""

import contextlib
import json
import os
import socket
import time
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from vmae.config import Run
from vmae.errors import ConfigError, RunDirError
from vmae.files import write_atomic
from vmae.identity import run_id
from vmae.recipe import load_run
from vmae.results import Result, read_result

State = Literal["done", "diverged", "running", "interrupted", "failed", "blocked", "queued", "missing"]
STATES: tuple[State, ...] = ("done", "diverged", "running", "interrupted", "failed", "blocked", "queued", "missing")


def default_root() -> Path:
    """Return the store's root: $VMAE_RUNS, or `runs` in the working directory."""
    return Path(os.environ.get("VMAE_RUNS", "runs"))


@dataclass(frozen=True)
class RunDir:
    """The directory of one run."""

    path: Path

    config = property(lambda self: self.path / "config.json")
    runtime = property(lambda self: self.path / "runtime.json")
    metrics = property(lambda self: self.path / "metrics.jsonl")
    checkpoint = property(lambda self: self.path / "last.pt")
    previous_checkpoint = property(lambda self: self.path / "previous.pt")
    weights = property(lambda self: self.path / "model.safetensors")
    reconstruction = property(lambda self: self.path / "reconstruction.npz")
    predictions = property(lambda self: self.path / "predictions.csv")
    claim = property(lambda self: self.path / "claim.json")
    stopped = property(lambda self: self.path / "stopped.json")
    result = property(lambda self: self.path / "result.json")

    @property
    def id(self) -> str:
        """The run id: the directory's name."""
        return self.path.name

    def create(self, run: Run) -> None:
        """Write config.json if it is not there; RunDirError if it is there and says something else."""
        if self.config.exists():
            self.load()
        else:
            write_atomic(self.config, (run.model_dump_json(indent=1) + "\n").encode())

    def load(self) -> Run:
        """Read the config; RunDirError if it is absent, unreadable or does not hash to the directory's name."""
        try:
            run = load_run(self.config.read_text(encoding="utf-8"), str(self.config))
        except FileNotFoundError:
            raise RunDirError(f"{self.path} is not a run directory: it has no config.json") from None
        except ConfigError as error:
            raise RunDirError(f"{error}; the run directory was edited or written by another version") from None
        if (actual := run_id(run)) != self.id:
            raise RunDirError(
                f"{self.config} hashes to {actual}, not to its directory's name {self.id}: the config was edited "
                f"or the directory renamed; restore it, or remove the directory and submit again"
            )
        return run

    def read_result(self) -> Result | None:
        """Return the result, or None while the run is not done."""
        return read_result(self.result) if self.result.exists() else None

    def read_stopped(self) -> dict[str, Any]:
        """Return why the last attempt ended ({} if it did not end badly): `state`, `reason`, `at`."""
        return _read_json(self.stopped)

    def stop(self, state: Literal["interrupted", "failed"], reason: str) -> None:
        """Record that this attempt ended without a result."""
        at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        write_atomic(self.stopped, (json.dumps({"state": state, "reason": reason, "at": at}) + "\n").encode())

    @contextlib.contextmanager
    def claimed(self) -> Iterator[None]:
        """Hold the run for this process; RunDirError if another live process holds it.

        A claim whose process is gone (kill -9, reboot) is taken over. On another host a claim counts as live for ten
        minutes after its last heartbeat (`beat`).
        """
        mine = self.path / f".claim.{os.getpid()}"
        try:
            mine.write_text(json.dumps(process_identity(os.getpid())), encoding="utf-8")
            if self.claim.exists() and not self.is_claimed():
                # Renaming lets only one of several newcomers take a dead claim away.
                with contextlib.suppress(FileNotFoundError):
                    self.claim.rename(mine.with_suffix(".dead"))
            os.link(mine, self.claim)  # unlike open("x"), the claim appears with its content
        except FileExistsError:
            owner = _read_json(self.claim)
            raise RunDirError(f"{self.path} is being worked on by process {owner.get('pid')} on {owner.get('host')}") from None
        except OSError as error:
            raise RunDirError(f"cannot write {self.claim}: {error.strerror}") from error
        finally:
            for leftover in (mine, mine.with_suffix(".dead")):
                with contextlib.suppress(OSError):
                    leftover.unlink()
        self.stopped.unlink(missing_ok=True)
        try:
            yield
        finally:
            self.claim.unlink(missing_ok=True)

    def beat(self) -> None:
        """Renew the claim's heartbeat."""
        with contextlib.suppress(OSError):
            os.utime(self.claim)

    def is_claimed(self) -> bool:
        """Return whether a live process works on this run."""
        owner = _read_json(self.claim)
        if not owner:
            return False
        if owner.get("host") == socket.gethostname():
            return process_identity(owner["pid"]) == owner
        return bool(time.time() - self.claim.stat().st_mtime < 600)

    def state(self) -> State:
        """Return the run's own state from its files; `blocked` and `queued` need the plan and the launcher."""
        if result := self.read_result():
            return result.status
        if self.is_claimed():
            return "running"
        recorded: State = self.read_stopped().get("state", "missing")
        if recorded == "missing" and (self.checkpoint.exists() or self.previous_checkpoint.exists()):
            return "interrupted"  # killed without a word: a checkpoint is there, the process is not
        return recorded


@dataclass(frozen=True)
class Store:
    """All runs and sweeps below one root."""

    root: Path

    def run(self, id_: str) -> RunDir:
        """Return the directory of a run."""
        return RunDir(self.root / id_)

    def plan_file(self, sweep: str) -> Path:
        """Return where the plan of a sweep stands."""
        return self.root / "sweeps" / sweep / "plan.json"

    @property
    def jobs(self) -> Path:
        """The launcher's files and logs."""
        return self.root / "jobs"

    def write_plan(self, sweep: str, plan: dict[str, Any]) -> None:
        """Write plan.json atomically."""
        write_atomic(self.plan_file(sweep), (json.dumps(plan, indent=1) + "\n").encode())

    def read_plan(self, sweep: str) -> dict[str, Any]:
        """Read plan.json; RunDirError names the command that makes it."""
        path = self.plan_file(sweep)
        if not path.exists():
            there = sorted(p.parent.name for p in path.parent.parent.glob("*/plan.json"))
            raise RunDirError(
                f"no plan of sweep {sweep!r} in {self.root}; there: {', '.join(there) or 'none'}. "
                f"Make it with: python -m sweeps submit {sweep}"
            )
        plan: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return plan

    def states(self, parents: Mapping[str, str | None], waiting: Collection[str] = ()) -> dict[str, State]:
        """Return the one true state of each run of {id: parent id or None}, parents before children.

        A run without a result is `queued` if it is among `waiting` (what launchers hold), and `blocked` while its parent
        failed, diverged or is itself blocked.
        """
        states: dict[str, State] = {}
        for id_, parent in parents.items():
            state = self.run(id_).state()
            if state not in ("done", "diverged", "running"):
                if parent is not None and states.get(parent) in ("failed", "diverged", "blocked"):
                    state = "blocked"
                elif id_ in waiting:
                    state = "queued"
            states[id_] = state
        return states


def _read_json(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, json.JSONDecodeError):
        return {}
    return values if isinstance(values, dict) else {}


def process_identity(pid: int) -> dict[str, Any]:
    """Return host, pid and start time of a process ({} if it is gone): a reused pid differs in its start time."""
    try:
        after_name = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        started, is_zombie = after_name[19], after_name[0] == "Z"
    except FileNotFoundError:
        if Path("/proc/self").exists():
            return {}
        try:  # no /proc (macOS): existence is all that can be known
            os.kill(pid, 0)
        except (ProcessLookupError, PermissionError):
            return {}
        started, is_zombie = "", False
    return {} if is_zombie else {"host": socket.gethostname(), "pid": pid, "started": started}
