"""A private SLURM on this machine, for tests and benchmarks: started by hand, stopped by pid, nothing outside its folder.

python tests/slurm/testbed.py FOLDER [--accounting]      # runs until Ctrl-C; prints the SLURM_CONF to export
"""

import argparse
import contextlib
import os
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

SBIN = "/usr/sbin:/sbin:/usr/local/sbin"
PROGRAMS = ("slurmctld", "slurmd", "sbatch", "munged")
ACCOUNTING_PROGRAMS = ("slurmdbd", "sacctmgr", "mariadbd", "mariadb-install-db")
START_S = 60

# SchedulerParameters and the short credential life make a requeued job start again within seconds (120 s by default).
CONFIG = """
ClusterName=bed
SlurmctldHost={host}
SlurmctldPort={controller}
AuthType=auth/munge
AuthInfo=socket={folder}/munge/socket,cred_expire=5
SlurmUser=root
SlurmdUser=root
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool.%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
ReturnToService=2
MpiDefault=none
SlurmdParameters=config_overrides
SlurmdTimeout=300
MaxArraySize={max_array_size}
MaxJobCount={max_jobs}
MinJobAge={min_job_age_s}
KillWait=5
JobRequeue={job_requeue}
SchedulerParameters=batch_sched_delay=0,sched_interval=1,bf_interval=1,sched_min_interval=0
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
{user_signal}
GresTypes=gpu
NodeName=n[1-{num_nodes}] NodeHostname={host} NodeAddr=127.0.0.1 Port=[{first}-{last}] CPUs={cpus} RealMemory=8000 Gres=gpu:{gpus}
PartitionName=main Nodes=ALL Default=YES PriorityTier=1 GraceTime={grace_s}
PartitionName=urgent Nodes=ALL PriorityTier=10
PartitionName=short Nodes=ALL MaxTime=5
{accounting}
"""
ACCOUNTING = """
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost={host}
AccountingStoragePort={database}
AccountingStoragePass={folder}/munge/socket
AccountingStorageEnforce=limits
JobAcctGatherType=jobacct_gather/linux
"""
DATABASE_DAEMON = """
AuthType=auth/munge
AuthInfo=socket={folder}/munge/socket
DbdHost={host}
DbdPort={database}
SlurmUser=root
LogFile={folder}/slurmdbd.log
PidFile={folder}/slurmdbd.pid
StorageType=accounting_storage/mysql
StorageLoc=slurm_acct_db
StorageUser=root
StorageHost=localhost
"""


def missing(accounting: bool = False) -> str | None:
    """Why no SLURM can be started here, None if one can."""
    if os.geteuid() != 0:
        return "starting a SLURM needs root"
    absent = [
        p for p in PROGRAMS + ACCOUNTING_PROGRAMS * accounting if shutil.which(p, path=f"{os.environ['PATH']}:{SBIN}") is None
    ]
    packages = "slurm-wlm munge" + " slurmdbd mariadb-server" * accounting
    return f"not installed: {', '.join(absent)} (Debian: {packages})" if absent else None


class Testbed:
    """Two nodes with fake GPUs; partitions main (default), urgent (preempts main) and short (5 minutes)."""

    __test__ = False  # not for pytest to collect

    def __init__(self, folder: Path, accounting: bool = False, send_user_signal: bool = True, **more: object) -> None:
        """Start everything; RuntimeError with the tail of its log if a server does not come up.

        `more` may set num_nodes, cpus, gpus, max_array_size, max_jobs, min_job_age_s, grace_s, job_requeue.
        """
        self.folder, self.accounting = folder, accounting
        self.host = socket.gethostname()
        settings = {
            "num_nodes": 2,
            "cpus": 4,
            "gpus": 2,
            "max_array_size": 11,
            "max_jobs": 10000,
            "min_job_age_s": 60,
            "grace_s": 10,
            "job_requeue": 1,
        }
        assert not set(more) - set(settings), more
        settings |= more
        self.nodes = [f"n{k + 1}" for k in range(int(str(settings["num_nodes"])))]
        controller, database, first = _free_ports(len(self.nodes) + 2)
        names = {"folder": folder, "host": self.host, "controller": controller, "database": database}
        names |= {"first": first, "last": first + len(self.nodes) - 1}
        for name in ("munge", "state"):
            (folder / name).mkdir(parents=True, mode=0o700)
        self.env = {
            "SLURM_CONF": str(folder / "slurm.conf"),
            "PATH": f"{os.environ['PATH']}:{SBIN}",
        }
        text = CONFIG.format(
            **names,
            **settings,
            user_signal="SlurmctldParameters=preempt_send_user_signal" if send_user_signal else "",
            accounting=ACCOUNTING.format(**names) if accounting else "",
        )
        (folder / "slurm.conf").write_text(text)
        devices = _devices(int(str(settings["gpus"])))
        (folder / "gres.conf").write_text(f"NodeName={','.join(self.nodes)} Name=gpu File={','.join(devices)}\n")
        try:
            self._start_munge()
            if accounting:
                self._start_database(DATABASE_DAEMON.format(**names))
            self.start_controller()
            for node in self.nodes:
                self.start_node(node)
            self.wait_ready()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> "Testbed":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def call(self, *words: str) -> str:
        """Run a command against this SLURM; CalledProcessError if it fails."""
        return subprocess.run(words, env={**os.environ, **self.env}, capture_output=True, text=True, check=True).stdout

    def start_node(self, name: str) -> None:
        self._daemon(f"slurmd.{name}", "slurmd", "-N", name)

    def stop_node(self, name: str) -> None:
        """Stop a node's slurmd; its running tasks go on."""
        self._stop(f"slurmd.{name}")

    def start_controller(self) -> None:
        self._daemon("slurmctld", "slurmctld")

    def stop_controller(self) -> None:
        self._stop("slurmctld")

    def wait_ready(self) -> None:
        """Wait until every node takes jobs."""

        def is_ready() -> bool:
            with contextlib.suppress(subprocess.CalledProcessError):
                states = self.call("sinfo", "-h", "-N", "-p", "main", "-o", "%t").split()
                return len(states) == len(self.nodes) and all(state in ("idle", "mix", "alloc", "comp") for state in states)
            return False

        self._wait(is_ready, "slurmctld")

    def clear(self) -> None:
        """Cancel every job and wait until the queue is empty."""
        deadline = time.monotonic() + START_S
        while ids := self.call("squeue", "-h", "-o", "%i", "-t", "PD,R,CG,CF,S").split():
            with contextlib.suppress(subprocess.CalledProcessError):
                self.call("scancel", "--signal=KILL", "--full", *ids)
                self.call("scancel", *ids)
            if time.monotonic() > deadline:
                raise RuntimeError(f"jobs that do not go: {self.call('squeue')}")
            time.sleep(0.5)

    def close(self) -> None:
        """Stop every server by its pid."""
        with contextlib.suppress(Exception):
            self.clear()
        for name in (*(f"slurmd.{node}" for node in self.nodes), "slurmctld", "slurmdbd", "mariadb", "munged"):
            self._stop(name)

    def _start_munge(self) -> None:
        folder = self.folder / "munge"
        (folder / "key").write_bytes(os.urandom(128))
        (folder / "key").chmod(0o400)
        places = {"key-file": "key", "socket": "socket", "seed-file": "seed", "log-file": "log"}
        options = [f"--{option}={folder / file}" for option, file in places.items()]
        self._daemon("munged", "munged", "--force", "--num-threads=2", *options, f"--pid-file={self.folder / 'munged.pid'}")
        self._wait((folder / "socket").exists, "munge/log")

    def _start_database(self, text: str) -> None:
        data, sock = self.folder / "mariadb", self.folder / "mariadb.sock"
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        subprocess.run(
            [
                "mariadb-install-db",
                "--no-defaults",
                "--user=root",
                f"--datadir={data}",
                "--auth-root-authentication-method=normal",
            ],
            env={**os.environ, **self.env},
            check=True,
            **quiet,
        )
        options = ["--no-defaults", "--user=root", f"--datadir={data}", f"--socket={sock}", "--skip-networking"]
        options += ["--innodb-lock-wait-timeout=900", f"--pid-file={self.folder / 'mariadb.pid'}"]
        with (self.folder / "mariadb.log").open("w") as log:
            subprocess.Popen(
                ["mariadbd", *options], env={**os.environ, **self.env}, stdout=log, stderr=log, start_new_session=True
            )
        self._wait(sock.exists, "mariadb.log")
        conf = self.folder / "slurmdbd.conf"
        conf.write_text(text)
        conf.chmod(0o600)
        self.env["MYSQL_UNIX_PORT"] = str(sock)
        self._daemon("slurmdbd", "slurmdbd")

        def has_cluster() -> bool:
            done = subprocess.run(
                ["sacctmgr", "-i", "add", "cluster", "bed"], env={**os.environ, **self.env}, capture_output=True, check=False
            )
            return done.returncode == 0 or b"already exists" in done.stdout + done.stderr

        self._wait(has_cluster, "slurmdbd.log")
        self.call("sacctmgr", "-i", "add", "account", "lab", "Cluster=bed")
        self.call("sacctmgr", "-i", "add", "user", "root", "Account=lab", "DefaultAccount=lab", "Cluster=bed")

    def _daemon(self, name: str, *words: str) -> None:
        done = subprocess.run(words, env={**os.environ, **self.env}, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"{name} does not start: {done.stderr}")
        self._wait(lambda: self._pid(name) is not None, f"{name}.log")

    def _pid(self, name: str) -> int | None:
        with contextlib.suppress(FileNotFoundError, ValueError):
            return int((self.folder / f"{name}.pid").read_text())
        return None

    def _stop(self, name: str) -> None:
        pid = self._pid(name)
        if pid is None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
        deadline = time.monotonic() + 20
        while Path(f"/proc/{pid}/exe").exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        (self.folder / f"{name}.pid").unlink(missing_ok=True)

    def _wait(self, is_ready: object, log: str) -> None:
        deadline = time.monotonic() + START_S
        while not is_ready():  # type: ignore[operator]
            if time.monotonic() > deadline:
                file = self.folder / log
                tail = file.read_text(errors="replace")[-2000:] if file.exists() else "no log"
                raise RuntimeError(f"not ready after {START_S} s; {log}:\n{tail}")
            time.sleep(0.1)


def _free_ports(count: int) -> tuple[int, int, int]:
    """A port for the controller, one for the database, and the first of consecutive ones for the nodes."""
    for first in range(21000 + os.getpid() % 5000, 32000, count):
        with contextlib.ExitStack() as stack:
            try:
                for port in range(first, first + count):
                    probe = stack.enter_context(socket.socket())
                    probe.bind(("", port))
            except OSError:
                continue
            return first, first + 1, first + 2
    raise RuntimeError("no free ports")


def _devices(count: int) -> list[str]:
    """Existing character devices to stand for GPUs: SLURM wants a file for each."""
    found = [
        f"/dev/{name}"
        for name in ("tty0", "tty1", "tty2", "tty3", "null", "zero", "full", "random")
        if Path(f"/dev/{name}").exists()
    ]
    return found[:count]


def main() -> None:
    """Run a test bed until Ctrl-C."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--accounting", action="store_true")
    given = parser.parse_args()
    if reason := missing(given.accounting):
        raise SystemExit(reason)
    with Testbed(given.folder.absolute(), given.accounting) as bed:
        print("\n".join(f"export {name}={value}" for name, value in bed.env.items()), flush=True)
        with contextlib.suppress(KeyboardInterrupt):
            signal.pause()


if __name__ == "__main__":
    main()
