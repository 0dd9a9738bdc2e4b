"""From a profile to an sbatch script: one srun task per GPU, notice before the limit, requeue, the code snapshot as directory."""

import contextlib
import os
import re
import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from slurm.profile import Resources, SlurmProfile
from vmae.allocation import LOST_ANSWER
from vmae.errors import SchedulerError, Unanswered
from vmae.files import write_atomic
from vmae.runs import Store

# A signal before the job can note it would kill it (USR1, USR2) or be lost with it: until Python listens, it is ignored.
PATIENT = 'sh -c \'trap "" USR1 USR2 TERM; exec "$@"\' sh'
# What a job must not inherit from the shell or allocation that submits it. SLURM_CONF says which cluster; it stays.
FOREIGN = ("SLURM_", "SBATCH_", "SRUN_", "SUBMITIT_", "TORCHELASTIC_", "MASTER_", "PMI_", "PMIX_")
FOREIGN_NAMES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "GROUP_RANK", "CUDA_VISIBLE_DEVICES")


def parameters(
    profile: SlurmProfile,
    given: Resources,
    code: Path,
    name: str,
    dependencies: Sequence[str],
    pack: int,
    max_running: int,
) -> dict[str, Any]:
    """Return submitit's parameters for jobs of resources `given`.

    Args:
        code: the snapshot that the job starts in.
        dependencies: such as "afterok:12"; `singleton` is added, so that of two jobs of one name only one runs.
        pack: runs per job, each with one task of its own.
        max_running: elements of an array at a time; submitit's own limit, where none is asked for, is 256.
    """
    gpus, tasks = given.gpus_per_node * pack, given.ranks_per_node * pack
    more = {
        "requeue" if profile.requeue else "no-requeue": True,
        "kill-on-invalid-dep": "yes",
        "chdir": str(code),
        **profile.sbatch,
    }
    # Of ranks, one that dies takes the others along; runs of a pack have nothing to do with each other.
    srun = [f"--cpus-per-task={given.cpus_per_task}", f"--kill-on-bad-exit={int(pack == 1)}"]
    srun += [f"--{option}={value}" for option, value in profile.srun.items()]
    values = {
        "job_name": name,
        "partition": given.partition,
        "account": given.account,
        "qos": given.qos,
        "constraint": given.constraint,
        "exclude": profile.exclude,
        "time": given.time_min,
        "nodes": given.nodes,
        "ntasks_per_node": tasks,
        "cpus_per_task": given.cpus_per_task,
        "gpus_per_node": gpus or None,
        "mem": None if given.mem_gb is None else f"{round(given.mem_gb * pack * 1024)}M",
        "signal_delay_s": min(given.signal_before_s, given.time_min * 20),
        "dependency": ",".join([*dependencies, "singleton"]),
        "setup": list(profile.setup) or None,
        "srun_args": srun,
        "stderr_to_stdout": True,
        "wckey": None,
        "array_parallelism": max_running,
        "additional_parameters": more,
    }
    return {key: value for key, value in values.items() if value is not None or key == "wckey"}


def make_executor(store: Store, profile: SlurmProfile, values: dict[str, Any]) -> Any:
    """Return submitit's executor, which writes the script and calls sbatch."""
    import submitit

    python = profile.python or shlex.quote(sys.executable)
    executor = submitit.SlurmExecutor(folder=store.jobs, python=f"{PATIENT} {python}")
    executor.update_parameters(**values)
    executor._throttling = 0.0  # 0.2 s per job by default: minutes for a thousand runs
    return executor


def script_text(executor: Any, num_tasks: int) -> str:
    """Return the sbatch script that `executor` would submit for an array of `num_tasks` (1: no array)."""
    import submitit

    shown = submitit.SlurmExecutor(folder=executor.folder, python=executor.python)
    shown.update_parameters(**executor.parameters)
    if num_tasks > 1:
        shown.parameters["map_count"] = num_tasks
    text: str = shown._make_submission_file_text(executor._submitit_command_str, "")
    return text


def send(executor: Any, jobs: Sequence[Any]) -> list[str]:
    """Submit callables as one job, or as one array, and return their job ids.

    Raises SchedulerError with sbatch's words where it refuses, Unanswered where SLURM may have the jobs all the same.
    """
    from submitit.core.utils import FailedJobError, FailedSubmissionError

    before = set(executor.folder.glob("*"))
    try:
        with clean_environment():
            if len(jobs) == 1:
                return [str(executor.submit(jobs[0]).job_id)]
            with executor.batch():
                sent = [executor.submit(job) for job in jobs]
            return [str(job.job_id) for job in sent]
    except (FailedJobError, FailedSubmissionError) as error:
        for orphan in set(executor.folder.glob("*")) - before:
            if orphan.suffix in (".pkl", ".sh") and len(orphan.stem.rpartition("_")[2]) == 32:
                orphan.unlink(missing_ok=True)
        said = sbatch_words(str(error))
        if isinstance(error, FailedSubmissionError) or re.search(LOST_ANSWER, said, re.IGNORECASE):
            raise Unanswered(
                f"slurmctld does not answer: {said}; whether it took the jobs the next look at the queue tells"
            ) from None
        raise SchedulerError(f"sbatch refuses: {said}") from None


def write_jobs(store: Store, jobs: Mapping[str, Any]) -> None:
    """Write what submitit starts jobs with, {job id: callable}, where the submit that sent them did not come to it."""
    from submitit.core.utils import DelayedSubmission, JobPaths

    for job_id, job in jobs.items():
        if not (file := JobPaths(store.jobs, job_id).submitted_pickle).exists():
            write_atomic(file, DelayedSubmission(job).dump)


def sbatch_words(text: str) -> str:
    """Return what sbatch itself said within an error message."""
    said = [line.split("sbatch: error: ", 1)[1] for line in text.splitlines() if "sbatch: error: " in line]
    return "; ".join(dict.fromkeys(said)) or " ".join(text.split())


@contextlib.contextmanager
def clean_environment() -> Iterator[None]:
    """Hide from children what belongs to the allocation, launcher or shell that this process runs in."""
    foreign = [name for name in os.environ if (name.startswith(FOREIGN) or name in FOREIGN_NAMES) and name not in ("SLURM_CONF",)]
    kept = {name: os.environ.pop(name) for name in foreign}
    try:
        yield
    finally:
        os.environ.update(kept)
