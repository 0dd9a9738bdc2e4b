"""A job from its first line to its last, as SLURM starts it: signals, exit status, ranks, packs; SLURM's commands are fakes."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import helpers
import pytest
import torch
from helpers import ROOT, clean_environment, numbers, run_chain
from ranks import Rank, python

import vmae.provenance as origin
from vmae.errors import Interrupted, RunDirError, Stuck
from vmae.job import INTERRUPTED, STUCK, RunJob, work
from vmae.runs import Store
from vmae.train import evaluate as evaluation

FAKES = {
    "squeue": "echo RUNNING\n",
    "scontrol": 'echo "$@" >> "$REQUEUES"; exit ${REFUSED:-0}\n',
}


@pytest.fixture
def fakes(tmp_path):
    folder = tmp_path / "bin"
    folder.mkdir()
    for name, text in FAKES.items():
        (folder / name).write_text(f"#!/bin/sh\n{text}")
        (folder / name).chmod(0o755)
    (tmp_path / "requeues").touch()
    return {"PATH": f"{folder}:{os.environ['PATH']}", "REQUEUES": str(tmp_path / "requeues")}


HASTE = "import vmae.job as job\njob.PACK_S = 20\n"


def task_environment(fakes, rank=0, size=1, restart=0):
    """What srun tells a task of job 12."""
    facts = {"JOB_ID": 12, "PROCID": rank, "NTASKS": size, "LOCALID": rank, "RESTART_COUNT": restart}
    given = {f"SLURM_{name}": str(value) for name, value in facts.items()}
    return clean_environment(**fakes, **given, SUBMITIT_EXECUTOR="slurm")


def start(code, fakes, rank=0, size=1, restart=0):
    """A task as srun starts it."""
    environment, piped = task_environment(fakes, rank, size, restart), {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    return subprocess.Popen([sys.executable, "-c", HASTE + code], cwd=ROOT, env=environment, text=True, **piped)


def prepare(store, recipe, runtime, stage="pretrain", **settings):
    return helpers.prepare(store, recipe, stage, runtime.model_copy(update=settings))


def until(condition, process=None, limit_s=120):
    deadline = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < deadline
        assert process is None or process.poll() is None, process.communicate()[0]
        time.sleep(0.02)


def test_a_signal_before_torch_is_there_is_honoured(recipe, store, runtime, fakes):
    """It arrives while the job imports; the run saves after its first step, asks to be queued again and leaves at once."""
    place = prepare(store, recipe, runtime)
    code = f"import os, signal\nos.kill(os.getpid(), 0)\nj = job.RunJob([{str(place.path)!r}])\n"
    code += "w = job.RunJob._work\n"
    code += "job.RunJob._work = lambda *a: (os.kill(os.getpid(), signal.SIGUSR2), w(*a))\nj()"
    process = start(code, fakes)
    said = process.communicate(timeout=120)[0]
    assert process.returncode == INTERRUPTED, said
    assert "SIGUSR2 at step 1 of" in place.read_stopped()["reason"]
    assert place.checkpoint.exists()
    assert Path(fakes["REQUEUES"]).read_text() == "requeue 12\n"


def test_a_signal_after_the_work_does_not_make_a_failure(recipe, store, runtime, fakes):
    place = prepare(store, recipe, runtime)
    code = "import os, signal\nleave = job._leave\n"
    code += "def late(code):\n    job.ignore_stop_signals()\n    os.kill(os.getpid(), signal.SIGUSR2)\n    leave(code)\n"
    code += "job._leave = late\n"
    process = start(f"{code}job.RunJob([{str(place.path)!r}])()", fakes)
    said = process.communicate(timeout=120)[0]
    assert process.returncode == 0, said
    assert place.state() == "done"


def test_the_parent_is_checked_whatever_slurm_released(recipe, store, runtime, fakes):
    place = prepare(store, recipe, runtime, "finetune")
    process = start(f"job.RunJob([{str(place.path)!r}])()", fakes)
    said = process.communicate(timeout=120)[0]
    assert process.returncode == 1
    assert "error: the parent run" in said
    assert "Traceback" not in said
    assert place.state() == "missing"


def test_other_code_than_was_submitted_is_refused(recipe, store, runtime, tmp_path):
    place = prepare(store, recipe, runtime)
    with pytest.raises(RunDirError, match="not from the submitted code"):
        RunJob([str(place.path)], str(tmp_path))()
    assert place.state() == "missing"


def test_two_ranks_stopped_at_any_step_equal_two_that_are_not(recipe, store, tmp_path, runtime, fakes):
    """As srun starts them, over gloo; rank 1 alone gets the signal, and both stop at the same step."""
    reference, short = (
        Store(tmp_path / "reference"),
        recipe.replace({"pretrain.optim.batch_size": 32, "pretrain.optim.epochs": 1}),
    )
    places = [prepare(each, short, runtime, log_every_steps=3, checkpoint_every_s=1e9) for each in (reference, store)]
    stop = "import os, signal\nfrom vmae.train import training\nupdate = training.Training.update\n"
    stop += "def then_stop(self, *given):\n    update(self, *given)\n    os.kill(os.getpid(), signal.SIGUSR2)\n"
    stop += "training.Training.update = then_stop\n"
    num_starts = 0
    for place, is_stopped in zip(places, (False, True), strict=True):
        code = f"job.RunJob([{str(place.path)!r}])()"
        while not place.result.exists():
            tasks = [
                Rank(task_environment(fakes, rank, 2, num_starts), python, HASTE + stop * (rank == 1 and is_stopped) + code)
                for rank in (0, 1)
            ]
            ends = [task.join() for task in tasks]
            expected = 0 if place.result.exists() else INTERRUPTED
            assert [status for status, _ in ends] == [expected] * 2, ends
            num_starts += 1
    assert [line["step"] for line in places[1].read_starts()] == [0, 1, 2], "stopped after every step"
    assert numbers(places[0]) == numbers(places[1])
    assert places[0].weights.read_bytes() == places[1].weights.read_bytes()
    assert {line["num_ranks"] for line in places[1].read_starts()} == {2}


def test_a_job_that_gets_nowhere_is_not_queued_again(recipe, store, runtime, fakes, monkeypatch):
    place = prepare(store, recipe, runtime)
    monkeypatch.setattr("vmae.allocation.job_id", lambda: "12")
    for _ in range(2):
        place.note_start(step=0, num_ranks=1)
    with pytest.raises(Stuck, match="starts from step 0 for the third time"):
        place.note_start(step=0, num_ranks=1)
    process = start(f"job.RunJob([{str(place.path)!r}])()", fakes, restart=3)
    said = process.communicate(timeout=120)[0]
    assert process.returncode == STUCK, said
    assert Path(fakes["REQUEUES"]).read_text() == ""
    assert place.read_stopped()["state"] == "interrupted"
    monkeypatch.setattr("vmae.allocation.job_id", lambda: "13")
    place.note_start(step=0, num_ranks=1)  # another job may try again


def test_progress_between_starts_is_no_reason_to_stop(recipe, store, runtime, monkeypatch):
    place = prepare(store, recipe, runtime)
    monkeypatch.setattr("vmae.allocation.job_id", lambda: "12")
    for step in (0, 0, 5, 5, 9, 9, 12):
        place.note_start(step, num_ranks=1)
    assert place.fruitless_starts() == 1
    assert len(place.read_starts()) == 7


def test_a_pack_asks_once_and_after_all_have_saved(recipe, store, runtime, fakes):
    """Four tasks of one job: one is done, one fails, two are interrupted and leave as soon as the job is queued again."""
    recipes = [recipe.replace({"pretrain.optim.epochs": epochs}) for epochs in (2, 3, 500, 501)]
    places = [prepare(store, each, runtime, checkpoint_every_s=0.0) for each in recipes]
    places[1].checkpoint.write_bytes(b"x")
    chains = [[str(place.path)] for place in places]
    tasks = [start(f"job.PackedJob({chains!r})()", fakes, rank, 4) for rank in range(4)]
    until(lambda: all(len(numbers(place)) > 10 for place in places[2:]) and places[0].result.exists())
    for task in tasks[2:]:
        task.send_signal(signal.SIGUSR2)
    said = [task.communicate(timeout=120)[0] for task in tasks]
    assert [task.returncode for task in tasks] == [0, 1, INTERRUPTED, INTERRUPTED], said
    assert [place.state() for place in places] == ["done", "failed", "interrupted", "interrupted"]
    assert Path(fakes["REQUEUES"]).read_text() == "requeue 12\n"


def test_an_evaluation_stopped_at_every_batch_equals_one_that_is_not(recipe, store, tmp_path, runtime, monkeypatch):
    monkeypatch.setattr(evaluation, "CLIPS_PER_BATCH", 5)
    reference = Store(tmp_path / "reference")
    expected = run_chain(reference, recipe, runtime)["evaluate"]
    run_chain(store, recipe, runtime, upto="finetune")
    place = prepare(store, recipe, runtime, "evaluate")
    score = evaluation._rows

    def then_stop(*arguments):
        os.kill(os.getpid(), signal.SIGTERM)
        return score(*arguments)

    monkeypatch.setattr(evaluation, "_rows", then_stop)
    num_stops = 0
    while not place.result.exists():
        try:
            result = work(place)
        except Interrupted:
            assert "SIGTERM at video" in place.read_stopped()["reason"]
            num_stops += 1
    assert num_stops >= 3
    assert result.metrics == expected.metrics
    assert place.predictions.read_bytes() == reference.run(place.id).predictions.read_bytes()
    assert not place.partial.exists()


def test_a_damaged_result_is_set_aside_and_made_again(recipe, store, runtime, capsys):
    whole = run_chain(store, recipe, runtime, upto="pretrain")["pretrain"]
    place = store.run(whole.run_id)
    weights = place.weights.read_bytes()
    place.result.write_text('{"run_id": 1}')
    assert place.state() == "lost"
    assert work(place, runtime).metrics == whole.metrics
    assert place.weights.read_bytes() == weights
    assert place.path.joinpath("result.json.damaged").exists()
    assert "set aside" in capsys.readouterr().out


@pytest.mark.parametrize(("said", "driver"), [("echo 580.65.06; echo 580.65.06", "580.65.06"), ("exit 9", None), (None, None)])
def test_provenance_asks_for_the_driver(tmp_path, monkeypatch, said, driver):
    if said:
        (tmp_path / "nvidia-smi").write_text(f"#!/bin/sh\n{said}\n")
        (tmp_path / "nvidia-smi").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(origin, "code_version", dict)  # which asks git, and remembers the answer
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "a GPU")
    assert origin.provenance()["driver"] == driver


def test_provenance_says_which_instructions_torch_uses():
    """CPUs of one name differ in them, and so do the last digits of what they compute."""
    assert origin.provenance()["cpu_capability"] == torch.backends.cpu.get_cpu_capability()


def test_provenance_of_a_snapshot_is_the_submitted_commit(tmp_path):
    (tmp_path / "SNAPSHOT.json").write_text(json.dumps({"commit": "abc", "dirty": True}))
    (tmp_path / "vmae").symlink_to(ROOT / "vmae")
    code = "from vmae.provenance import code_version; print(code_version())"
    environment = clean_environment(PYTHONPATH=str(tmp_path))
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str({"commit": "abc", "dirty": True})
