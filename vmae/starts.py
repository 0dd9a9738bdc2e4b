"""starts.jsonl of a run directory: one line per start, and what it tells of attempts that get nowhere."""

import contextlib
import json
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vmae import allocation
from vmae.errors import RunDirError, Stuck

MAX_FRUITLESS = 2  # starts of one job, or attempts without a word, that may get nowhere


def note_start(file: Path, at: str, step: int, num_ranks: int, scored_more: bool) -> None:
    """Add the start of an attempt from `step`; Stuck if this job did so twice before and got nowhere.

    Without that, a job whose time limit is too short for one checkpoint would be requeued for ever.

    Args:
        scored_more: whether the last attempt has scored more videos: all attempts of an evaluation start from step 0.
    """
    start = {"at": at, "host": socket.gethostname(), "job": allocation.job_id(), "restart": allocation.restart_count()}
    earlier = [line for line in read_starts(file) if line["job"] and line["job"] == start["job"]]
    try:
        with file.open("a", encoding="utf-8") as lines:
            lines.write(json.dumps(start | {"step": step, "num_ranks": num_ranks}) + "\n")
    except OSError as error:
        raise RunDirError(f"cannot write {file}: {error.strerror}") from error
    is_stuck = len(earlier) >= MAX_FRUITLESS and all(line["step"] == step for line in earlier[-MAX_FRUITLESS:])
    if is_stuck and not scored_more:
        raise Stuck(
            f"job {start['job']} starts from step {step} for the third time; its time limit or its notice is too "
            f"short for one checkpoint (profile: time, signal_before_s, runtime.checkpoint_every_s)"
        )


def read_starts(file: Path) -> list[dict[str, Any]]:
    """Return the starts so far, oldest first; a half-written last line is left out."""
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return []
    found = []
    for line in lines:
        with contextlib.suppress(json.JSONDecodeError):
            found.append(json.loads(line))
    return found


def num_from_one_step(file: Path) -> int:
    """Return how many of the last starts were from the same step."""
    steps = [start["step"] for start in read_starts(file)]
    return next((n for n, step in enumerate(reversed(steps)) if step != steps[-1]), len(steps))


def num_unstarted(file: Path, submission: Mapping[str, Any], jobs: Path) -> int:
    """Return how many of the last SLURM jobs of a run began, as their logs in `jobs` show, and ended before they noted a start.

    Then the node lacked Python, the GPU or the code. A job that SLURM dropped from its queue has no log and is not counted.
    """
    job = submission.get("job_id")
    if "log" not in submission or any(start.get("job") == job for start in read_starts(file)):
        return 0
    return int(submission.get("num_unstarted", 0)) + (jobs / f"{job}_0_log.out").exists()


def saved_since(file: Path, saved: Path) -> bool:
    """Return whether the last start has written `saved`: by its time, as light floors cannot open checkpoints."""
    with contextlib.suppress(FileNotFoundError):
        return saved.stat().st_mtime_ns > file.stat().st_mtime_ns
    return False
