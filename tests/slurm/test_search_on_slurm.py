"""A search on a real SLURM: its coordinator and its jobs are shot and preempted; the trials are those of an undisturbed one."""

import contextlib
import os
import signal
import subprocess
from collections import Counter
from itertools import cycle

import pytest
from commands import Sweeps

pytestmark = [pytest.mark.slurm, pytest.mark.timeout(900)]
SEARCH = ("sweeps", "search", "lr_per_mask", "--preset", "tiny", "--trials", "3")
BLOWS = ("coordinator", "kill9", "preempt")
NUM_BLOWS = 9


def told(sweeps):
    """Per cell: number, state, values and objective of each trial."""
    cells = sweeps.store.read_search("lr_per_mask-tiny")["cells"]
    return {
        cell["arm"]: [(trial["number"], trial["state"], trial["params"], trial["value"]) for trial in cell["trials"]]
        for cell in cells
    }


def working(sweeps):
    """A process that works on a run, and its SLURM job; None while there is none."""
    for claim in sweeps.store.root.glob("*/claim.json"):
        place = sweeps.store.run(claim.parent.name)
        held = place.held_claim()
        if held is not None and (job := place.read_submission().get("job_id")):
            return held.owner()["pid"], job
    return None


def test_a_search_that_is_shot_again_and_again_is_the_undisturbed_one(plain, tmp_path, data_root):
    for name in ("here", "there"):
        (tmp_path / name).mkdir()
    here, there = (Sweeps(tmp_path / name, data_root) for name in ("here", "there"))
    words = (*SEARCH, "--profile", str(there.profile), "--every", "1")
    coordinator, landed = there.start(*words), Counter()
    for blow, _ in zip(cycle(BLOWS), range(NUM_BLOWS), strict=False):
        there.until(lambda process=coordinator: process.poll() is not None or working(there))
        if not (found := working(there)):
            break
        pid, job = found
        if blow == "coordinator":
            landed[blow] += coordinator.poll() is None
            coordinator.kill()
            coordinator.communicate()
            coordinator = there.start(*words)
        elif blow == "kill9":
            with contextlib.suppress(ProcessLookupError):  # it may have ended meanwhile
                os.kill(pid, signal.SIGKILL)
                landed[blow] += 1
        else:
            with contextlib.suppress(subprocess.CalledProcessError):
                plain.call("scancel", "--signal=USR2", job)
                landed[blow] += 1
    text, _ = coordinator.communicate()
    while coordinator.returncode:  # a round whose runs were killed too often ends the command; the same one goes on
        assert "nothing of this round was told" in text, text
        coordinator = there.start(*words)
        text, _ = coordinator.communicate()
    here(*SEARCH, "--jobs", "2")
    assert told(there) == told(here)
    assert {arm: len(trials) for arm, trials in told(there).items()} == dict.fromkeys(told(here), 3)
    runs = [there.store.run(file.parent.name) for file in there.store.root.glob("*/result.json")]
    assert len(runs) == 28, "per cell a pre-training, three fine-tunings and three evaluations"
    assert min(landed[blow] for blow in BLOWS) > 0, landed
