"""Every call of SLURM's own commands, and what they print as plain values. Checked against SLURM 22.05."""

import functools
import os
import pwd
import re
import shutil
import subprocess
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from vmae.allocation import unfiltered
from vmae.errors import ConfigError, SchedulerError

# A job in one of these is still to come or at work. COMPLETING is, too: SLURM ends its tasks, and where it was requeued starts
# it again; squeue does not tell which, and a second job would take the run away from it.
SUSPENDED = {"SUSPENDED", "STOPPED"}
WAITING = {"PENDING", "REQUEUED", "REQUEUE_HOLD", "REQUEUE_FED", "SPECIAL_EXIT", "RESV_DEL_HOLD"} | SUSPENDED
RUNNING = {"RUNNING", "CONFIGURING", "RESIZING", "SIGNALING", "STAGE_OUT", "COMPLETING"}
JOB_FIELDS = ("JobArrayID", "State", "Reason", "NodeList", "RestartCnt", "TimeUsed", "UserName", "Name")  # a name may hold a |
CHUNK = 500  # job ids per command line
TIME_FORMS = "minutes, MM:SS, HH:MM:SS, D-HH, D-HH:MM or D-HH:MM:SS"


@dataclass(frozen=True)
class Job:
    """A line of squeue; `id` is 12, 12_3 for an element of an array, or 12+3 for a part of somebody's heterogeneous job."""

    id: str
    name: str
    state: str
    reason: str
    nodes: str
    restarts: int
    elapsed: str
    user: str

    @property
    def is_waiting(self) -> bool:
        """Whether it is in the queue and not at work."""
        return self.state in WAITING

    @property
    def has_begun(self) -> bool:
        """Whether, though it waits, it was at work before."""
        return self.restarts > 0 or self.state in SUSPENDED

    @property
    def is_active(self) -> bool:
        """Whether it is to come, at work, or on its way out and maybe back into the queue."""
        return self.is_waiting or self.state in RUNNING


@dataclass(frozen=True)
class Partition:
    """What sinfo says of a partition; cpus, memory and GPUs are those of its largest node."""

    name: str
    is_default: bool
    max_time_min: int | None
    cpus: int
    mem_mb: int
    gpus: int
    num_nodes: int
    hosts: frozenset[str]


def call(*words: str, timeout_s: float = 60.0, or_stderr: bool = False) -> str:
    """Run one SLURM command and return what it printed; with `or_stderr` also there, where stdout is empty.

    Raises SchedulerError if it is not installed, if slurmctld does not answer, or with its own words if it refuses.
    """
    if shutil.which(words[0]) is None:
        raise SchedulerError(f"no {words[0]} on this machine: SLURM profiles need it; without SLURM use --profile local")
    try:
        # A job may be called anything, in any encoding.
        done = subprocess.run(
            words, env=unfiltered(), capture_output=True, text=True, errors="replace", timeout=timeout_s, check=False
        )
    except subprocess.TimeoutExpired:
        raise SchedulerError(f"slurmctld does not answer: {words[0]} took longer than {timeout_s:.0f} s") from None
    if done.returncode == 0:
        return done.stdout or (done.stderr if or_stderr else "")
    said = " ".join(re.sub(rf"(slurm_load_\w+ error|{words[0]}: error|{words[0]}): ", "", done.stderr).split())
    if re.search(r"Unable to contact|Connection refused|Socket timed out|Communication connection failure", said):
        raise SchedulerError(f"slurmctld does not answer: {said}")
    if "configuration source" in said:
        raise SchedulerError("SLURM is installed here but not configured: no slurm.conf; set SLURM_CONF, or use a login node")
    raise SchedulerError(f"{words[0]} refuses: {said or f'exit status {done.returncode}'}")


def user() -> str:
    """Return this user's name."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:  # in a container that does not know its users
        return os.environ.get("USER") or os.environ.get("LOGNAME") or "root"


def queue(others: Collection[str] = ()) -> dict[str, Job]:
    """Return the jobs of this user and of `others` by id, elements of arrays each for itself; one call of squeue.

    Of `others` those who have left have none. SchedulerError also where squeue prints something else than was asked for.
    """
    fields = ",".join(f"{field}:.256|" for field in JOB_FIELDS)
    text = call("squeue", "-u", ",".join(sorted({user(), *others})), "-r", "-h", "-t", "all", f"--Format={fields}")
    jobs = {}
    for line in text.splitlines():
        parts = line.removesuffix("|").split("|", len(JOB_FIELDS) - 1)
        if len(parts) < len(JOB_FIELDS):  # the rest of a name with a line break
            continue
        id_, state, reason, nodes, restarts, elapsed, owner, name = (part.strip() for part in parts)
        jobs[id_] = Job(id_, name, state, reason, nodes, int(restarts or 0), elapsed, owner)
    if text.strip() and not jobs:
        raise SchedulerError(f"squeue prints what cannot be read: {text.strip().splitlines()[0]!r}")
    return jobs


@functools.cache
def config() -> dict[str, str]:
    """Return slurm.conf as slurmctld sees it."""
    pairs = (line.partition("=") for line in call("scontrol", "show", "config").splitlines() if "=" in line)
    return {key.strip(): value.strip() for key, _, value in pairs}


def max_array_size() -> int:
    """Return how many elements an array may have: 1, which is no array, where there are none."""
    tasks = re.search(r"max_array_tasks=(\d+)", config().get("SchedulerParameters", ""))
    size = int(config().get("MaxArraySize", "1001"))
    return max(1, min(size, int(tasks[1])) if tasks else size)


def partitions() -> dict[str, Partition]:
    """Return the partitions by name; one call of sinfo."""
    found: dict[str, Partition] = {}
    for line in call("sinfo", "-h", "-N", "-o", "%P|%l|%c|%m|%G|%n").splitlines():
        name, limit, cpus, mem, gres, host = (part.strip() for part in line.split("|"))
        is_default, name = name.endswith("*"), name.rstrip("*")
        before = found.get(name, Partition(name, is_default, None, 0, 0, 0, 0, frozenset()))
        found[name] = Partition(
            name,
            is_default,
            None if limit == "infinite" else parse_time_min(limit),
            max(before.cpus, int(cpus.rstrip("+"))),
            max(before.mem_mb, int(mem.rstrip("+"))),
            max(before.gpus, gpus_in(gres)),
            before.num_nodes + 1,
            before.hosts | {host},
        )
    return found


def grace_times() -> dict[str, int]:
    """Return the seconds that each partition's jobs get between notice and end when they are preempted."""
    found = re.findall(r"PartitionName=(\S+).*?GraceTime=(\d+)", call("scontrol", "show", "partition", "-o"))
    return {name: int(seconds) for name, seconds in found}


def gpus_in(gres: str) -> int:
    """Return the GPUs of a node's generic resources.

    >>> gpus_in("gpu:a100:8(S:0-1),nvme:1"), gpus_in("gpu:2"), gpus_in("gpu:3090:4"), gpus_in("(null)")
    (8, 2, 4, 0)
    """
    return sum(int(count) for count in re.findall(r"(?:^|,)gpu(?::[^:,()]+)?:(\d+)(?=[,(]|$)", gres))


def has_accounting() -> bool:
    """Return whether sacct can tell anything."""
    return config().get("AccountingStorageType", "").endswith("slurmdbd") and shutil.which("sacct") is not None


def max_submit(account: str | None = None) -> int | None:
    """Return how many jobs this user may have in the queue, None where it is not known or there is no limit.

    Args:
        account: that is charged; None: the least of all accounts. One that is closed (0 jobs) does not count: SLURM refuses then.
    """
    if not has_accounting() or shutil.which("sacctmgr") is None:
        return None
    where = [f"user={user()}", f"cluster={config().get('ClusterName', '')}", *([f"account={account}"] if account else [])]
    try:
        text = call("sacctmgr", "-nP", "show", "assoc", "where", *where, "format=MaxSubmitJobs")
    except SchedulerError:  # its database is down, and SLURM takes jobs all the same
        return None
    limits = [int(word) for word in text.split() if word.isdigit() and int(word)]
    return min(limits, default=None)


def ended(job_ids: Sequence[str]) -> dict[str, str]:
    """Return how jobs ended, by id, as sacct says; {} without accounting."""
    if not job_ids or not has_accounting():
        return {}
    text = call("sacct", "-nPX", "-o", "JobID,State,ExitCode", "-j", ",".join(job_ids))
    found = {}
    for line in text.splitlines():
        id_, state, code = line.split("|")
        found[id_] = f"{state}, exit code {code}"
    return found


def cancel(job_ids: Collection[str]) -> None:
    """Cancel jobs."""
    ids = sorted(job_ids)
    for first in range(0, len(ids), CHUNK):
        call("scancel", *ids[first : first + CHUNK])


def parse_time_min(text: str) -> int:
    """Return a SLURM time as minutes, rounded up; ConfigError names the forms that are allowed.

    >>> parse_time_min("90"), parse_time_min("1:30:00"), parse_time_min("1-0"), parse_time_min("0:30")
    (90, 90, 1440, 1)
    """
    match = re.fullmatch(r"(?:(\d+)-)?(\d+)(?::(\d+))?(?::(\d+))?", text.strip())
    if match is None:
        raise ConfigError(f"{text!r} is no time limit; allowed: {TIME_FORMS}")
    days, *parts = (None if part is None else int(part) for part in match.groups())
    given = [part for part in parts if part is not None]
    if days is not None:
        hours, minutes, seconds = (*given, 0, 0)[:3]
    elif len(given) == 3:
        hours, minutes, seconds = given
    else:
        hours, (minutes, seconds) = 0, (*given, 0)[:2]
    total = -(-(((days or 0) * 24 + hours) * 3600 + minutes * 60 + seconds) // 60)
    if total == 0:
        raise ConfigError(f"{text!r} is no time limit: it is zero; allowed: {TIME_FORMS}")
    return total


def format_time(minutes: int) -> str:
    """Return minutes as SLURM writes them.

    >>> format_time(90), format_time(3000)
    ('1:30:00', '2-02:00:00')
    """
    days, rest = divmod(minutes, 1440)
    hours, left = divmod(rest, 60)
    return f"{days}-{hours:02}:{left:02}:00" if days else f"{hours}:{left:02}:00"
