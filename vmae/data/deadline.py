"""Calls in processes that can be killed: one that hangs, spins or crashes is blamed, its process replaced, the rest goes on.

A decoder can spin in C while it holds the interpreter's lock, where no thread, alarm or signal handler runs; only SIGKILL from
outside ends it.
"""

import os
import pickle
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from multiprocessing import Pipe, spawn
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, Literal, TypeVar

from vmae.errors import DataError, VmaeError
from vmae.interrupt import STOP_SIGNALS

Item = TypeVar("Item")
Value = TypeVar("Value")
TICK_S = 0.2
DISK_S = 300.0  # in which a disk may not answer, on top of a deadline: it says nothing about a file
PROC = Path("/proc")  # on Linux
START_S = 300.0  # a cold network file system can take minutes to hand over a decoder's libraries
# As multiprocessing spawns (search path, main module), but allowed in a daemon too, which a loader's worker is.
BOOT = "from multiprocessing import connection, spawn; c = connection.Connection({}); spawn.prepare(c.recv()); c.recv()(c)"

NOT_BEGUN = object()  # the answer of a process that was killed while it waited: nobody's fault


@dataclass(frozen=True)
class Blamed:
    """Why an item has no result: its call raised, passed the deadline, or took its process down."""

    kind: Literal["raised", "deadline", "died"]
    reason: str

    def of(self, path: Path) -> str:
        """Return the reason with the file's name before it, which those who raise say themselves."""
        return self.reason if self.kind == "raised" else f"{path}: {self.reason}"

    def without(self, path: Path) -> str:
        """Return the reason without the file's name, for a table that has it in another column."""
        return self.reason.removeprefix(f"{path}: ")


class DeadlinePool:
    """Processes that stay from one `run` to the next, until the `with` block ends or `close` is called.

    They start when they are first needed, hear no stop signal (the caller does), and end with it, even one that is killed.
    """

    def __init__(self, num_workers: int) -> None:
        assert num_workers >= 1
        self.num_workers = num_workers
        self._idle: list[_Worker] = []

    def __enter__(self) -> "DeadlinePool":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Kill every process that waits for work; those of an unfinished `run` are its own."""
        while self._idle:
            self._idle.pop().kill()

    def run(
        self, function: Callable[[Item], Value], items: Iterable[Item], timeout_s: float, ahead: int | None = None
    ) -> Iterator[tuple[Item, Value | Blamed]]:
        """Yield each item with `function(item)`, or with what it is blamed for, in the order of `items`.

        Args:
            function: one that a new process can import, or a partial of one.
            items: read as they are needed.
            timeout_s: seconds a call may take. A new process's imports do not count, nor time in which this process was stopped,
                nor, up to DISK_S, in which the disk does not answer.
            ahead: items begun beyond the first unfinished one, which bounds what waits in memory; None: 4 per process.

        Raises:
            DataError: a process cannot import `function`.
        """
        ahead = max(self.num_workers, 4 * self.num_workers if ahead is None else ahead)
        packed, source = pickle.dumps(function), iter(items)
        running: dict[int, tuple[_Worker, Item]] = {}
        known: dict[int, tuple[Item, Value | Blamed]] = {}
        first = begun = 0
        is_read = False
        try:
            while True:
                while not is_read and len(running) < self.num_workers and begun - first < ahead:
                    try:
                        item = next(source)
                    except StopIteration:
                        is_read = True
                    else:
                        running[begun] = self._ask(packed, item, timeout_s), item
                        begun += 1
                if first in known:
                    yield known.pop(first)
                    first += 1
                elif running:
                    answers = _answers({number: worker for number, (worker, _) in running.items()}, timeout_s)
                    for number, answer in answers.items():
                        worker, item = running.pop(number)
                        if answer is NOT_BEGUN:
                            running[number] = self._ask(packed, item, timeout_s), item
                            continue
                        known[number] = item, answer
                        if worker.is_alive:
                            self._idle.append(worker)
                else:
                    return
        finally:
            for worker, _ in running.values():
                worker.kill()

    def _ask(self, packed: bytes, item: object, timeout_s: float) -> "_Worker":
        while self._idle:
            worker = self._idle.pop()
            try:
                worker.ask(packed, item, timeout_s)
                return worker
            except OSError:  # it was killed while it waited
                worker.kill()
        worker = _Worker()
        worker.ask(packed, item, timeout_s)
        return worker


class _Worker:
    """One process and the clock of what it does."""

    def __init__(self) -> None:
        self.connection, theirs = Pipe()
        with theirs:
            command = [sys.executable, "-c", BOOT.format(theirs.fileno())]
            nowhere = subprocess.DEVNULL
            one_thread = os.environ | {"OMP_NUM_THREADS": "1"}  # there are as many processes as there is work for
            # Inherited, so deaf from its first instruction: a signal to the whole process group is for the caller, and a process
            # that it ended would be a video blamed, or a run failed.
            before = signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
            try:
                self.process = subprocess.Popen(
                    command, pass_fds=[theirs.fileno()], stdin=nowhere, stdout=nowhere, stderr=nowhere, env=one_thread
                )
            finally:
                signal.pthread_sigmask(signal.SIG_SETMASK, before)
        about = spawn.get_preparation_data("deadline worker")
        about.pop("authkey", None)
        self.connection.send(about)
        self.connection.send(_serve)
        self.packed, self.num_answers = b"", 0
        self.has_begun, self.is_alive = False, True
        self.spent_s = self.disk_s = self.seen_s = 0.0

    def ask(self, packed: bytes, item: object, timeout_s: float) -> None:
        """Hand over an item, and the function if it is another than before; OSError if the process is gone."""
        if packed != self.packed:
            self.connection.send(packed)
            self.packed = packed
        self.connection.send((item, timeout_s))
        self.has_begun, self.spent_s, self.disk_s, self.seen_s = False, 0.0, 0.0, time.monotonic()

    def is_late(self, timeout_s: float) -> bool:
        """Return whether the present call has had its time; a long step of the clock is one in which the caller was stopped.

        Waiting for a disk is not counted, unless it takes minutes: while a file server is away, every file would be blamed.
        """
        now = time.monotonic()
        step_s = min(now - self.seen_s, 5 * TICK_S)
        self.seen_s = now
        if self.disk_s < DISK_S and _waits_for_disk(self.process.pid):
            self.disk_s += step_s
        else:
            self.spent_s += step_s
        return self.spent_s > (timeout_s if self.has_begun else START_S)

    def kill(self) -> int:
        """End the process and return how it ended: a code, or less than zero for a signal."""
        self.is_alive = False
        self.process.kill()
        self.connection.close()
        return self.process.wait()


def _waits_for_disk(pid: int) -> bool:
    """Return whether a process is in a read that the disk or file server has not answered yet (state D)."""
    try:
        return (PROC / str(pid) / "stat").read_bytes().rpartition(b")")[2].split()[0] == b"D"
    except (OSError, IndexError):  # no Linux, or it is gone
        return False


def _answers(running: dict[int, _Worker], timeout_s: float) -> dict[int, Any]:
    """Wait a tick at most and return what has come by then, by item; workers that are late or gone are dead afterwards."""
    answers: dict[int, Any] = {}
    has_spoken = wait([worker.connection for worker in running.values()], TICK_S)
    for number, worker in running.items():
        if worker.connection in has_spoken:
            try:
                kind, value = worker.connection.recv()
            except (EOFError, OSError):
                answers[number] = _end(worker)
                continue
            if kind == "begun":
                worker.has_begun, worker.spent_s = True, 0.0
            elif kind == "unloadable":
                raise DataError(f"a worker process cannot import its function: {value}")
            else:
                worker.num_answers += 1
                answers[number] = Blamed("raised", value) if kind == "raised" else value
        elif worker.is_late(timeout_s):
            worker.kill()
            if not worker.has_begun:
                raise DataError(f"a worker process was not ready after {START_S:g} s")
            answers[number] = Blamed("deadline", f"not done after {timeout_s:g} s; its process was killed")
    return answers


def _end(worker: _Worker) -> object:
    try:
        code = worker.process.wait(timeout=10)
    except subprocess.TimeoutExpired:
        code = worker.kill()
    worker.kill()
    how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with code {code}"
    if worker.has_begun:
        return Blamed("died", f"its process {how}")
    if not worker.num_answers:
        raise DataError(f"a worker process {how} while it started")
    return NOT_BEGUN


def _serve(connection: Connection) -> None:
    """Answer in a worker process, until the caller is gone."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    function: Callable[[Any], Any] | None = None
    while True:
        try:
            message = connection.recv()
        except (EOFError, OSError):
            os._exit(0)
        if isinstance(message, bytes):
            try:
                function = pickle.loads(message)
            except Exception as error:
                connection.send(("unloadable", f"{type(error).__name__}: {error}"))
            continue
        item, timeout_s = message
        _limit_processor_time(timeout_s)
        assert function is not None
        connection.send(("begun", None))
        try:
            answer = "value", function(item)
        except VmaeError as error:
            answer = "raised", str(error)
        except Exception as error:
            answer = "raised", f"{type(error).__name__}: {error}"
        try:
            connection.send(answer)
        except (pickle.PicklingError, TypeError, AttributeError) as error:
            connection.send(("raised", f"what it returned cannot be sent: {error}"))


def _limit_processor_time(timeout_s: float) -> None:
    """Let the kernel end this process if it spins on after its caller was killed and can no longer end it."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    soft = int(usage.ru_utime + usage.ru_stime + timeout_s * (os.cpu_count() or 1)) + 2
    resource.setrlimit(resource.RLIMIT_CPU, (soft if hard == resource.RLIM_INFINITY else min(soft, hard), hard))
