"""Claims: a file that says which live process holds something. Across machines, and through SLURM's requeues."""

import contextlib
import json
import os
import socket
import threading
import time
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from vmae import allocation
from vmae.errors import Busy, RunDirError

HEARTBEAT_S = 600  # a claim of another machine counts as live for so long after its last beat, if nothing better is known


@dataclass(frozen=True)
class Claim:
    """The claim at `path`: host, process and, inside SLURM, job and restart of whoever holds it."""

    path: Path

    @contextlib.contextmanager
    def held(self, what: str, beats: bool = False, says: Mapping[str, Any] = MappingProxyType({})) -> Iterator[None]:
        """Hold the claim for this process; Busy if another live one has it.

        A claim whose process is gone (kill -9, reboot, requeue) is taken over.

        Args:
            what: is held, for the message.
            beats: whether a thread renews the heartbeat, for a holder that does not call `beat` between its steps.
            says: what else `owner` shall tell, as json has it.
        """
        mine = self.path.with_name(f".{self.path.stem}.{socket.gethostname()}.{os.getpid()}")
        identity = _identity() | dict(says)
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            mine.write_text(json.dumps(identity), encoding="utf-8")
            self._clear_if_dead(mine)
            os.link(mine, self.path)  # unlike open("x"), the claim appears with its content
        except FileExistsError:
            owner = self.owner()
            job = f" (job {owner['job']})" if owner.get("job") else ""
            raise Busy(f"{what} is being worked on by process {owner.get('pid')} on {owner.get('host')}{job}") from None
        except OSError as error:
            raise RunDirError(f"cannot write {self.path}: {error.strerror}") from error
        finally:
            with contextlib.suppress(OSError):
                mine.unlink()
        over = threading.Event()
        if beats:
            threading.Thread(target=self._keep_beating, args=(identity, over), daemon=True).start()
        try:
            yield
        finally:
            over.set()
            # Unless another process took this one for dead and has the claim now. One that cannot be deleted is harmless: it
            # counts as dead once this process ends.
            if self.owner() == identity:
                with contextlib.suppress(OSError):
                    self.path.unlink(missing_ok=True)

    def _clear_if_dead(self, mine: Path) -> None:
        """Delete the claim of a dead process.

        Newcomers take turns, for a slow one that has seen the dead claim could otherwise delete the claim of a faster one. The
        turn is a claim too: if its holder dies, the next newcomer deletes it.
        """
        if not self.path.exists() or self.is_live(_ask_slurm(self.owner())):
            return
        turn = Claim(self.path.with_name(f".{self.path.stem}.turn"))
        if turn.path.exists() and not turn.is_live(_ask_slurm(turn.owner())):
            turn.path.unlink(missing_ok=True)
        os.link(mine, turn.path)
        try:
            if not self.is_live(_ask_slurm(self.owner())):
                self.path.unlink(missing_ok=True)
        finally:
            turn.path.unlink(missing_ok=True)

    def owner(self) -> dict[str, Any]:
        """Return what the claim says of its holder, {} if there is none."""
        return read_json(self.path)

    def beat(self) -> None:
        """Renew the heartbeat."""
        with contextlib.suppress(OSError):
            os.utime(self.path)

    def _keep_beating(self, identity: dict[str, Any], over: threading.Event) -> None:
        while not over.wait(HEARTBEAT_S / 10):
            if self.owner() == identity:  # not a successor's
                self.beat()

    def is_live(self, active_jobs: Collection[str] | None = None) -> bool:
        """Return whether a live process holds the claim.

        Args:
            active_jobs: SLURM jobs known to be at work, which decides for a claim of another machine; None: not known.
        """
        owner = self.owner()
        if not owner:
            return False
        identity = {key: owner.get(key) for key in ("host", "pid", "started")}
        if owner.get("host") == socket.gethostname() and not _is_hidden(owner["pid"]):
            return process_identity(owner["pid"]) == identity
        job = _job(owner)
        if job and job == allocation.job_id():
            return bool(owner.get("restart") == allocation.restart_count())  # an earlier start of this very job is over
        if job and active_jobs is not None:
            return job in active_jobs
        try:
            return time.time() - self.path.stat().st_mtime < HEARTBEAT_S
        except FileNotFoundError:
            return False


def process_identity(pid: int) -> dict[str, Any]:
    """Return host, pid and start time of a process ({} if it is gone): a reused pid differs in its start time."""
    try:
        after_name = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        started, is_zombie = after_name[19], after_name[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        if Path("/proc/self").exists():
            return {}
        try:  # no /proc (macOS): existence is all that can be known
            os.kill(pid, 0)
        except (ProcessLookupError, PermissionError):
            return {}
        started, is_zombie = "", False
    return {} if is_zombie else {"host": socket.gethostname(), "pid": pid, "started": started}


def read_json(path: Path) -> dict[str, Any]:
    """Return the object in a json file, {} if there is none or it is damaged."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError, json.JSONDecodeError, UnicodeDecodeError):
        return {}
    return values if isinstance(values, dict) else {}


def _identity() -> dict[str, Any]:
    identity = process_identity(os.getpid())
    if job := allocation.job_id():
        identity |= {"job": job, "restart": allocation.restart_count(), "cluster": allocation.cluster()}
    return identity


def _is_hidden(pid: int) -> bool:
    """Return whether a process is another user's, of whom this machine shows nothing (/proc mounted with hidepid)."""
    try:
        os.kill(pid, 0)
    except PermissionError:
        return Path("/proc/self").exists() and not Path(f"/proc/{pid}").exists()
    except (ProcessLookupError, OverflowError):
        pass
    return False


def _job(owner: dict[str, Any]) -> str | None:
    """Return the job of a claim; None if another cluster's on the same file system: ours has another of that number, or none."""
    here = allocation.cluster()
    return owner.get("job") if owner.get("cluster", here) == here or not here else None


def _ask_slurm(owner: dict[str, Any]) -> set[str] | None:
    """Return {job} or an empty set if SLURM says whether the job of a foreign claim is at work; None if it cannot say."""
    job = _job(owner)
    if not job or owner.get("host") == socket.gethostname() or job == allocation.job_id():
        return None
    state = allocation.job_state(job)
    if state is None:
        return None
    return {job} if state in allocation.AT_WORK else set()
