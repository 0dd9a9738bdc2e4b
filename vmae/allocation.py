"""What a process knows of the job it runs in: on SLURM which job and task, and how to be queued again; who shares its GPU."""

import os
import re
import subprocess
import time

Task = tuple[int, int, int]  # rank, number of ranks, rank on this node
AT_WORK = {"RUNNING", "COMPLETING", "CONFIGURING", "RESIZING", "SIGNALING", "STAGE_OUT", "SUSPENDED", "STOPPED"}

# What SLURM's commands say when slurmctld may have done what it was asked, but is too busy to answer; and when it is away.
LOST_ANSWER = r"timed out|Zero Bytes|(receive|send) failure|send/recv|Unexpected message|reset by peer|Broken pipe"
AWAY = r"Unable to contact|connection failure|Connection refused"
REQUEUE_TRIES, REQUEUE_PAUSE_S = 4, 5.0

SHARING_GPU = "VMAE_JOBS_PER_GPU"  # set by the launcher on this machine

# Variables with which SLURM's commands show other jobs than they are asked for, or those of another cluster.
FILTERS = ("SQUEUE_", "SINFO_", "SACCT_", "SCANCEL_", "SLURM_CLUSTERS")


def unfiltered() -> dict[str, str]:
    """Return the environment in which SLURM's commands answer what they are asked."""
    return {name: value for name, value in os.environ.items() if not name.startswith(FILTERS)}


def in_job() -> bool:
    """Return whether this process is a task that srun started for a submitted job (not just a shell in an allocation)."""
    return os.environ.get("SUBMITIT_EXECUTOR") == "slurm" and "SLURM_PROCID" in os.environ


def job_id() -> str:
    """Return the job's id as squeue shows it, 12 or 12_3 for an element of an array; "" outside of jobs."""
    if not in_job():
        return ""
    if "SLURM_ARRAY_JOB_ID" in os.environ:
        return f"{os.environ['SLURM_ARRAY_JOB_ID']}_{os.environ['SLURM_ARRAY_TASK_ID']}"
    return os.environ["SLURM_JOB_ID"]


def cluster() -> str:
    """Return the name of the job's cluster; "" outside of jobs."""
    return os.environ.get("SLURM_CLUSTER_NAME", "") if in_job() else ""


def restart_count() -> int:
    """Return how often the job was requeued."""
    return int(os.environ.get("SLURM_RESTART_COUNT", 0))


def num_sharing_gpu() -> int:
    """Return how many jobs of a launcher on this machine share a GPU, this one included."""
    return int(os.environ.get(SHARING_GPU, 1))


def num_gpus() -> int:
    """Return the GPUs that SLURM gave this job on this node; 0 outside of jobs."""
    return int(os.environ.get("SLURM_GPUS_ON_NODE", 0)) if in_job() else 0


def task() -> Task:
    """Return which of the job's tasks this process is."""
    return int(os.environ["SLURM_PROCID"]), int(os.environ["SLURM_NTASKS"]), int(os.environ["SLURM_LOCALID"])


def job_state(job: str) -> str | None:
    """Return the state of a job, "" if SLURM no longer knows it, None if SLURM cannot be asked."""
    try:
        words = ("squeue", "-h", "-j", job, "-o", "%T")
        done = subprocess.run(words, env=unfiltered(), capture_output=True, text=True, timeout=60, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    if done.returncode:
        return "" if "Invalid job id" in done.stderr else None
    return done.stdout.strip()


def requeue() -> bool:
    """Queue this job again and return whether that worked; SLURM then ends its tasks.

    Only a job at work is: `scontrol requeue` would bring back one that its user has just cancelled (measured on 22.05).
    """
    for attempt in range(REQUEUE_TRIES):  # where many jobs are preempted at once, all ask at once
        time.sleep(REQUEUE_PAUSE_S if attempt else 0.0)
        state = job_state(job_id())
        if state not in ("RUNNING", None):  # cancelled, or queued again by an earlier try whose answer was lost
            return False
        try:
            if state is not None:
                _said("scontrol", "requeue", job_id())
                return True
        except (OSError, subprocess.SubprocessError) as error:
            said = str(getattr(error, "stderr", None) or error)
            print(f"not requeued: {said}", flush=True)
            if not re.search(f"{LOST_ANSWER}|{AWAY}", said, re.IGNORECASE):
                return False
    if state is None:
        print("not requeued: squeue is not there or does not answer; the next submit, or watch, goes on", flush=True)
    return False


def _said(*words: str) -> str:
    return subprocess.run(words, capture_output=True, text=True, timeout=60, check=True).stdout
