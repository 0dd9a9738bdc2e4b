"""What hits a worker: at a call that changes something below the run root, or in how it sees what others changed there."""

import errno
import os
import signal
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

WRITES = {"os.rename": 1, "os.link": 1, "os.remove": 0, "os.truncate": 0, "os.mkdir": 0, "os.utime": 0}  # event: its path's place
NUM_POINTS = 60  # such calls at which a start may be hit; a run makes some 30 to 150
ERRORS = (errno.ENOSPC, errno.EROFS, errno.EIO)
KINDS = ("kill", "torn", "refuse", "refuse for good", "signal", "shot", "clock", "second", "stale")
DAY_S = 86_400.0
STALE_S = 3.0  # for so long a network file system may not show what another machine made


@dataclass(frozen=True)
class Fault:
    """What hits one start: a kind, the call at which it does, or the moment."""

    kind: str
    point: int = 0
    error: int = errno.ENOSPC
    delay_s: float = 0.0


class Struck:
    """In a worker: counts the calls that change something below `root` and does what was asked at the one that was asked."""

    def __init__(self, fault: Fault, root: Path, log: int) -> None:
        self.fault, self.root, self.log, self.count, self.refuses = fault, str(root), log, 0, False
        self.fsync, self.stat = os.fsync, os.stat
        self.seen: set[str] = set()
        self.changed_s: dict[Path, float] = {}
        self.has_hidden = False

    def arm(self) -> None:
        """From here on."""
        sys.addaudithook(self.hear)
        os.fsync = self.before_fsync
        if self.fault.kind == "stale":
            os.stat = self.instead_of_stat  # type: ignore[assignment]

    def hear(self, event: str, args: tuple) -> None:
        """Judge an audit event; raises OSError where the disk is to refuse."""
        if event == "open":
            path, mode, flags = args
            if (isinstance(mode, str) and set(mode) & set("wax+")) or flags & (os.O_WRONLY | os.O_RDWR):
                self.reach(path)
            elif self.fault.kind == "stale":
                self.look(path)
        elif event == "os.chmod":
            self.changed_s[Path(os.fspath(args[0]))] = time.time()
        elif event in WRITES:
            self.reach(args[WRITES[event]])

    def before_fsync(self, fd: int) -> None:
        """Stand for os.fsync."""
        if self.fault.kind == "torn" and self.count + 1 >= self.fault.point:
            os.write(self.log, b"torn\n")
            os.ftruncate(fd, os.fstat(fd).st_size // 2)
            os.kill(os.getpid(), signal.SIGKILL)
        self.reach(Path(f"/proc/self/fd/{fd}").readlink())
        self.fsync(fd)

    def instead_of_stat(self, path: Any, **words: Any) -> os.stat_result:
        """Stand for os.stat."""
        self.look(path)
        return self.stat(path, **words)

    def look(self, path: object) -> None:
        """Hide what another process made a moment ago in a folder that this one has not changed since, as NFS may."""
        if not isinstance(path, str | os.PathLike) or not (name := os.fspath(path)).startswith(self.root) or name in self.seen:
            return
        try:
            made_s = self.stat(name).st_ctime
        except OSError:
            return
        if made_s > max(time.time() - STALE_S, self.changed_s.get(Path(name).parent, 0.0)):
            if not self.has_hidden:
                os.write(self.log, b"stale\n")
            self.has_hidden = True
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), name)
        self.seen.add(name)

    def reach(self, path: object) -> None:
        """Count a call on `path`, and strike."""
        if not str(path).startswith(self.root):
            return
        self.count += 1
        self.seen.add(str(path))
        self.changed_s[Path(str(path)).parent] = time.time()
        if self.count == self.fault.point:
            if self.fault.kind == "kill":
                os.write(self.log, b"kill\n")
                os.kill(os.getpid(), signal.SIGKILL)
            if self.fault.kind == "clock":
                os.write(self.log, b"clock\n")
                now, self.fault = time.time, replace(self.fault, kind="none")
                time.time = lambda: now() + DAY_S * (1 if self.fault.error == errno.ENOSPC else -1)
            self.refuses = self.fault.kind.startswith("refuse")
            if self.refuses:
                os.write(self.log, f"{self.fault.kind}\n".encode())
        if self.refuses:
            self.refuses = self.fault.kind == "refuse for good"
            raise OSError(self.fault.error, os.strerror(self.fault.error), str(path))
