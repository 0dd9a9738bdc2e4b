"""What can be known to fail is refused before any job exists: the profile against the cluster, the plan against the profile."""

import os
import socket
from collections.abc import Iterable, Mapping
from pathlib import Path

from slurm import control
from slurm.profile import Resources, SlurmProfile
from vmae.config import FinetuneRun, PretrainRun, Run
from vmae.errors import ConfigError, RunDirError, near

# File systems of one machine. Others (nfs, lustre, gpfs, ceph, beegfs ...) may be seen by many.
LOCAL_FILE_SYSTEMS = {"ext2", "ext3", "ext4", "xfs", "btrfs", "zfs", "f2fs", "tmpfs", "ramfs", "overlay"}


def check_profile(profile: SlurmProfile, where: str, runs: Iterable[Run], pack: int, store_root: Path) -> None:
    """Refuse what this cluster cannot run.

    Args:
        where: the profile's name, for the message.
        runs: the runs that are to be submitted.
        pack: runs per job.
        store_root: where runs lie.

    Raises:
        ConfigError: unknown partition, a time limit over the partition's, more GPUs or cores than a node has (of several
            partitions: all of them), a batch that the ranks cannot share, runs of several tasks in a pack, a run root that the
            nodes do not see.
        SchedulerError: SLURM is absent or does not answer.
    """
    known = control.partitions()
    used: dict[str, control.Partition] = {}
    for stage, stage_runs in _by_stage(runs).items():
        given = profile.resources(stage)
        named = _partitions(given, known, where)
        _check_fits_one(given, named, pack, f"profile {where}, {stage}")
        used |= {partition.name: partition for partition in named}
        for run in stage_runs:
            _check_shares(run, given, where)
    for partition in used.values():
        _check_root(profile, partition, where, store_root)


def _partitions(given: Resources, known: Mapping[str, control.Partition], where: str) -> list[control.Partition]:
    """Return the partitions that a run may start in: those it names, or the cluster's default."""
    if given.partition is not None:
        names = given.partition.split(",")
        if unknown := [name for name in names if name not in known]:
            raise ConfigError(f"profile {where}: no partition {unknown[0]!r}{near(unknown[0], sorted(known))}")
        return [known[name] for name in names]
    default = next((partition for partition in known.values() if partition.is_default), None)
    if default is None:
        raise ConfigError(f"profile {where}: partition is not set and the cluster has no default; there: {', '.join(known)}")
    return [default]


def _check_fits_one(given: Resources, partitions: Iterable[control.Partition], pack: int, where: str) -> None:
    """Raise the first partition's ConfigError where a run fits none: of several, SLURM starts it where it fits."""
    refusals = []
    for partition in partitions:
        try:
            return _check_fits(given, partition, pack, where)
        except ConfigError as error:
            refusals.append(error)
    raise refusals[0]


def _by_stage(runs: Iterable[Run]) -> dict[str, list[Run]]:
    found: dict[str, list[Run]] = {}
    for run in runs:
        found.setdefault(run.stage, []).append(run)
    return found


def _check_fits(given: Resources, partition: control.Partition, pack: int, where: str) -> None:
    has = f"a node of partition {partition.name} has"
    if pack > 1 and given.num_ranks > 1:
        raise ConfigError(f"{where}: --pack {pack} needs runs of one task; this profile gives each run {given.num_ranks}")
    if given.gpus_per_node * pack > partition.gpus:
        raise ConfigError(f"{where}: gpus_per_node = {given.gpus_per_node}{_times(pack)}; {has} {partition.gpus}")
    if (cores := given.ranks_per_node * given.cpus_per_task * pack) > partition.cpus:
        raise ConfigError(f"{where}: {cores} cores per node (tasks x cpus_per_task{_times(pack)}); {has} {partition.cpus}")
    if given.mem_gb is not None and given.mem_gb * pack * 1024 > partition.mem_mb:
        raise ConfigError(f"{where}: mem_gb = {given.mem_gb}{_times(pack)}; {has} {partition.mem_mb / 1024:.1f}")
    if given.nodes > partition.num_nodes:
        raise ConfigError(f"{where}: nodes = {given.nodes}; partition {partition.name} has {partition.num_nodes}")
    if partition.max_time_min is not None and given.time_min > partition.max_time_min:
        limit = control.format_time(partition.max_time_min)
        raise ConfigError(f"{where}: time = {given.time!r}; partition {partition.name} allows {limit} at most")


def _times(pack: int) -> str:
    return f" x --pack {pack}" if pack > 1 else ""


def _check_shares(run: Run, given: Resources, where: str) -> None:
    section = run.pretrain if isinstance(run, PretrainRun) else run.finetune if isinstance(run, FinetuneRun) else None
    if section is not None and section.optim.batch_size % given.num_ranks:
        raise ConfigError(
            f"profile {where}: {run.stage}.optim.batch_size = {section.optim.batch_size} is not divisible by the "
            f"{given.num_ranks} tasks that share it ({given.nodes} nodes x {given.ranks_per_node})"
        )


def _check_root(profile: SlurmProfile, partition: control.Partition, where: str, root: Path) -> None:
    try:
        root.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunDirError(f"cannot write the run root {root}: {error.strerror}") from error
    if not os.access(root, os.W_OK):
        raise RunDirError(f"cannot write the run root {root}: permission denied")
    here = {socket.gethostname(), socket.getfqdn(), "localhost", "127.0.0.1"}
    kind = file_system(root)
    if not profile.shared_root and kind in LOCAL_FILE_SYSTEMS and not here.issuperset(partition.hosts):
        raise ConfigError(
            f"the run root {root} lies on a file system of this machine alone ({kind}); the nodes of partition {partition.name} "
            f"({', '.join(sorted(partition.hosts)[:3])} ...) would not see it. Name a shared one with --runs or VMAE_RUNS, or "
            f"set shared_root = true in profile {where} if they do"
        )


def file_system(path: Path) -> str:
    """Return the type of the file system that `path` lies on ("" where the system does not tell)."""
    try:
        lines = Path("/proc/self/mountinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return ""
    resolved = path.resolve()
    best, kind = -1, ""
    for line in lines:
        fields, _, after = line.partition(" - ")
        mount = Path(fields.split()[4])
        if resolved.is_relative_to(mount) and len(mount.parts) >= best:
            best, kind = len(mount.parts), after.split()[0]
    return kind
