"""What a cluster allows, and what follows from it: each finding is one line, with the profile field that it decides."""

import json
import os
import shlex
import socket
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from slurm import control
from slurm.check import LOCAL_FILE_SYSTEMS, file_system
from slurm.script import clean_environment
from vmae.errors import ConfigError, RunDirError, SchedulerError, near
from vmae.files import write_atomic

Kind = Literal["ok", "note", "problem"]
NUM_REPLACEMENTS = 300


@dataclass(frozen=True)
class Finding:
    """One line of the doctor's report."""

    kind: Kind
    text: str


def cluster(account: str | None = None) -> Iterator[Finding]:
    """Yield what slurm.conf, and where there is accounting the limits of `account`, mean for sweeps."""
    conf = control.config()
    yield Finding("ok", f"SLURM {conf.get('SLURM_VERSION', '?')}, cluster {conf.get('ClusterName', '?')}")
    grace = control.grace_times()
    for partition in control.partitions().values():
        limit = "no time limit" if partition.max_time_min is None else f"time up to {control.format_time(partition.max_time_min)}"
        default = " (default)" if partition.is_default else ""
        yield Finding(
            "ok",
            f"partition {partition.name}{default}: {partition.num_nodes} nodes with up to {partition.gpus} GPUs, "
            f"{partition.cpus} cores, {partition.mem_mb / 1024:.0f} GB; {limit}; GraceTime {grace.get(partition.name, 0)} s  "
            f"[partition, gpus_per_node, cpus_per_task, mem_gb, time]",
        )
    size = control.max_array_size()
    yield Finding("ok", f"MaxArraySize {size}, MaxJobCount {conf.get('MaxJobCount')}: larger arrays are split")
    if conf.get("JobRequeue") == "1":
        yield Finding("ok", "JobRequeue 1: an interrupted run queues itself again  [requeue]")
    else:
        yield Finding("note", "JobRequeue 0: jobs ask for it themselves (--requeue); the smoke job tries it  [requeue]")
    yield from _preemption(conf)
    most = control.max_submit(account)
    if control.has_accounting():
        yield Finding("ok", f"accounting: sacct explains lost jobs; MaxSubmitJobs {most or 'unlimited'}  [max_submitted]")
    else:
        yield Finding("note", "no accounting: how a lost job ended is not known; states come from files and squeue")
    yield Finding("ok", f"MinJobAge {conf.get('MinJobAge')}: so long squeue remembers a job; done runs are known by their files")


def _preemption(conf: dict[str, str]) -> Iterator[Finding]:
    mode, kind = conf.get("PreemptMode", "OFF"), conf.get("PreemptType", "(null)")
    if mode == "OFF" or "none" in kind or kind == "(null)":
        yield Finding("ok", "no preemption")
        return
    parameters = conf.get("PreemptParameters", "") + conf.get("SlurmctldParameters", "")
    if "send_user_signal" in parameters:
        notice = "jobs get their own signal first"
    else:
        notice = "jobs get SIGTERM and the partition's GraceTime (none: no time to save, keep runtime.checkpoint_every_s small)"
    yield Finding("ok", f"PreemptMode {mode} ({kind}): {notice}; KillWait {conf.get('KillWait')}")
    if "CANCEL" in mode:
        yield Finding("note", "preempted jobs are cancelled, not queued again: use `python -m sweeps watch`")
    if "SUSPEND" in mode:
        yield Finding("note", "preempted jobs may be suspended: they show as requeued and go on by themselves")


def run_root(root: Path) -> Iterator[Finding]:
    """Yield whether the run root can be written, replaces files whole, and may be seen by nodes."""
    probe = root / f".doctor.{socket.gethostname()}.{os.getpid()}"
    try:
        for k in range(NUM_REPLACEMENTS):
            write_atomic(probe, json.dumps({"k": k, "pad": "x" * 4096}).encode())
            if json.loads(probe.read_text(encoding="utf-8"))["k"] != k:
                yield Finding("problem", f"{root}: a file that was just replaced shows its old content here  [--runs]")
                return
        twin = probe.with_suffix(".link")
        os.link(probe, twin)
        twin.unlink()
    except (OSError, RunDirError) as error:
        yield Finding("problem", f"run root {root}: {error}; claims and checkpoints need rename and hard links  [--runs]")
        return
    finally:
        probe.unlink(missing_ok=True)
    yield Finding("ok", f"run root {root} ({file_system(root)}): {NUM_REPLACEMENTS} files replaced whole")
    if file_system(root) in LOCAL_FILE_SYSTEMS:
        yield Finding("note", "it lies on a file system of this machine; the smoke job tells whether nodes see it  [shared_root]")


def smoke_job(root: Path, asked: Mapping[str, str], limit_s: float, waiting: Callable[[str], None]) -> Iterator[Finding]:
    """Run a job of one task and yield what it saw: the run root, GPUs, torch, its signal, its requeue.

    Args:
        asked: profile fields that say where it runs and who pays: partition, account, qos, constraint.
        limit_s: seconds to wait for it.
        waiting: called with the reason while it waits.
    """
    folder = root / "jobs" / f"doctor-{os.getpid()}"
    folder.mkdir(parents=True, exist_ok=True)
    written = time.time()
    (folder / "from-login").write_text("x", encoding="utf-8")
    script = f"#!/bin/sh\nsrun {shlex.quote(sys.executable)} -c {shlex.quote(_PROBE)} {shlex.quote(str(folder))}\n"
    (folder / "job.sh").write_text(script, encoding="utf-8")
    words = ["--requeue", "--signal=USR2@60", "-t", "5", "-n1", "-J", "vmae-doctor", "-o", str(folder / "log")]
    words += [f"--{field}={value}" for field, value in asked.items()]
    words += ["--gpus-per-node=1"] if chosen(asked.get("partition")).gpus else []
    try:
        with clean_environment():  # as `submit` calls it
            job = control.call("sbatch", "--parsable", *words, str(folder / "job.sh")).strip().partition(";")[0]
    except SchedulerError as error:
        yield Finding("problem", f"the smoke job was not accepted: {error}  [partition, account, qos, constraint]")
        return
    try:
        yield from _follow(folder, job, written, limit_s, waiting)
    finally:
        control.cancel([job])


def _follow(folder: Path, job: str, written: float, limit_s: float, waiting: Callable[[str], None]) -> Iterator[Finding]:
    """Signal the job once it runs, queue it again once it says so, and yield what it saw until it runs a second time."""
    deadline, is_signalled, is_requeued = time.monotonic() + limit_s, False, False
    reason = "not seen by squeue"
    while time.monotonic() < deadline:
        seen = control.queue().get(job)
        reports = sorted(folder.glob("start-*.json"))
        if len(reports) >= 2:
            yield Finding("ok", "the signal arrived in the task; the job was queued again and started again  [signal_before_s]")
            return
        if seen is None or not seen.is_active:
            yield _early_end(folder, seen.state if seen else "gone")
            return
        if seen.state == "RUNNING" and reports and not is_signalled:
            is_signalled = True
            yield from _report(json.loads(reports[0].read_text(encoding="utf-8")), written)
            control.call("scancel", "--signal=USR2", job)
        if (folder / "signalled").exists() and not is_requeued:
            is_requeued = True
            try:
                control.call("scontrol", "requeue", job)
            except SchedulerError as error:
                yield Finding("note", f"{error}: set requeue = false, and let `python -m sweeps watch` submit again  [requeue]")
                return
        reason = f"{seen.state}, {seen.reason}"
        waiting(f"job {job}: {reason}")
        time.sleep(0.5)
    yield Finding("note", f"after {limit_s:.0f} s the smoke job is {reason}: what nodes see is not known yet; try --limit")


def _early_end(folder: Path, state: str) -> Finding:
    log = folder / "log"
    if not log.exists():
        return Finding("problem", f"the smoke job ended ({state}) and wrote nothing to {folder}: nodes do not see the run root")
    words = log.read_text(encoding="utf-8", errors="replace").strip()[-300:]
    return Finding("problem", f"the smoke job ended early ({state}): {words}  [python, setup]")


def _report(report: dict[str, Any], written: float) -> Iterator[Finding]:
    if report["sees_login_file"]:
        late_s = time.time() - report["at"]
        yield Finding("ok", f"node {report['host']} sees the run root; a file of its own appeared here within {late_s:.1f} s")
    else:
        age_s = report["at"] - written
        yield Finding("problem", f"node {report['host']} did not see a file written {age_s:.0f} s before  [--runs]")
    if report["torch"]:
        yield Finding("ok", f"Python {report['python']} with torch {report['torch']}  [python, setup]")
    else:
        yield Finding("problem", f"Python {report['python']} there cannot import torch: {report['error']}  [python, setup]")
    gpus = report["visible"]
    yield Finding("ok", f"the task sees GPUs: {gpus}; torch uses {report['num_cuda']}" if gpus else "the task was given no GPU")


def chosen(partition: str | None) -> control.Partition:
    """Return a partition by name, or the cluster's default; ConfigError with the near word for an unknown one."""
    there = control.partitions()
    if partition is not None and partition not in there:
        raise ConfigError(f"no partition {partition!r}{near(partition, sorted(there))}")
    return there[partition] if partition else next((p for p in there.values() if p.is_default), next(iter(there.values())))


def suggestion(asked: Mapping[str, str]) -> str:
    """Return a profile for a partition, as toml, with the fields that were asked for."""
    node = chosen(asked.get("partition"))
    minutes = min(node.max_time_min or 1440, 1440)
    cpus = max(1, node.cpus // max(node.gpus, 1))
    return "\n".join(
        (
            'kind = "slurm"',
            *(f"{field} = {json.dumps(value)}" for field, value in ({"partition": node.name} | dict(asked)).items()),
            f"gpus_per_node = {min(node.gpus, 1)}",
            f"cpus_per_task = {min(cpus, 10)}",
            f'time = "{control.format_time(minutes)}"',
            f"signal_before_s = {min(120, minutes * 20)}",
        )
    )


# Runs on a node, maybe with another Python and without this project.
_PROBE = """
import json, os, platform, signal, socket, sys, time
folder = sys.argv[1]
restart = os.environ.get("SLURM_RESTART_COUNT", "0")
signal.signal(signal.SIGUSR2, lambda *_: open(os.path.join(folder, "signalled"), "w").close())
torch, error, cuda = "", "", 0
try:
    import torch as t
    torch, cuda = t.__version__, t.cuda.device_count()
except Exception as e:
    error = repr(e)
facts = {"host": socket.gethostname(), "restart": restart, "at": time.time(), "python": platform.python_version(),
         "torch": torch, "error": error, "num_cuda": cuda, "visible": os.environ.get("CUDA_VISIBLE_DEVICES", ""),
         "sees_login_file": os.path.exists(os.path.join(folder, "from-login"))}
part = os.path.join(folder, ".part" + restart)
with open(part, "w") as file:
    json.dump(facts, file)
os.replace(part, os.path.join(folder, "start-" + restart + ".json"))
time.sleep(120)
"""
