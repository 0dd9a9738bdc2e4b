"""What a run stands on goes while it trains (a process, its folder): it ends, says why, and goes on to the same bits."""

import json
import multiprocessing
import os
import queue
import random
import signal
import socket
import threading
from functools import partial

import pytest
import torch
from helpers import around_update, assert_equal_runs, prepare
from ranks import ends_as_torchrun_starts, run_as_torchrun_does, vmae, vmae_until

from vmae import allocation
from vmae.errors import ConfigError, VmaeError
from vmae.job import work
from vmae.runs import RunDir, Store
from vmae.train import distributed


def test_a_rank_that_is_shot_ends_the_other_and_the_next_start_reaches_the_same_bits(recipe, tmp_path, runtime):
    every_step = runtime.model_copy(update={"checkpoint_every_s": 0.0})
    whole, shot = (prepare(Store(tmp_path / name), recipe, runtime=every_step) for name in ("whole", "shot"))
    run_as_torchrun_does(whole.path, 2)
    run = str(shot.path)
    (left, said), (killed, _) = ends_as_torchrun_starts(
        (vmae, "run", run), (vmae_until, 3, partial(signal.raise_signal, signal.SIGKILL), "run", run)
    )
    assert killed == -signal.SIGKILL
    assert left not in (0, None, -signal.SIGKILL), "it neither waits for ever nor claims to be done"
    assert shot.state() == "failed", said
    assert shot.read_stopped()["reason"]
    run_as_torchrun_does(shot.path, 2)
    assert shot.read_starts()[-1]["step"] in (2, 3)
    assert_equal_runs(shot, whole)


@pytest.mark.usefixtures("forked")
def test_a_loader_process_that_is_shot_is_said_and_the_next_start_reaches_the_same_bits(recipe, tmp_path, runtime, monkeypatch):
    loading = runtime.model_copy(update={"checkpoint_every_s": 0.0, "num_workers": 2})
    whole, shot = (prepare(Store(tmp_path / name), recipe, runtime=loading) for name in ("whole", "shot"))
    work(whole, loading)

    def shoot(training):
        if training.progress.step == 1:  # two times two batches are read ahead; the sixth needs somebody
            pid = multiprocessing.active_children()[0].pid
            os.kill(pid, signal.SIGKILL)
            os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
            went_on.append(training.progress.step)

    went_on = []
    with monkeypatch.context() as patched:
        around_update(patched, after=shoot)
        with pytest.raises(RuntimeError, match="DataLoader worker"):
            work(shot, loading)
    assert went_on == [1], "it is heard where a batch is awaited, not in the middle of anything"
    assert shot.state() == "failed"
    assert "DataLoader worker" in shot.read_stopped()["reason"]
    work(shot, loading)
    assert_equal_runs(shot, whole)


def test_a_second_process_that_ends_meanwhile_does_not_hide_why_a_run_failed(recipe, store, runtime, monkeypatch):
    """As torch's handler does for the second of two loader processes: it raises in the middle of whatever is being done."""

    def handler(number, frame):
        raise RuntimeError("another process is gone")

    def fail(training):
        raise OSError("the first reason")

    stop = RunDir.stop

    def stop_while_one_ends(place, state, reason):
        os.kill(os.getpid(), signal.SIGCHLD)
        stop(place, state, reason)

    monkeypatch.setattr(RunDir, "stop", stop_while_one_ends)
    around_update(monkeypatch, after=fail)
    place = prepare(store, recipe, runtime=runtime)
    before = signal.signal(signal.SIGCHLD, handler)
    try:
        with pytest.raises(OSError, match="the first reason"):
            work(place, runtime)
        assert signal.getsignal(signal.SIGCHLD) is handler
    finally:
        signal.signal(signal.SIGCHLD, before)
    assert place.state() == "failed"
    assert "the first reason" in place.read_stopped()["reason"]


@pytest.mark.skipif(torch.cuda.is_available(), reason="here is one")
def test_a_gpu_that_is_not_there_is_said_before_anything_is_written(recipe, store, runtime):
    place = prepare(store, recipe, runtime=runtime)
    there = {path.name for path in place.path.iterdir()}
    with pytest.raises(ConfigError, match="torch finds no CUDA device here; allowed: auto, cpu"):
        work(place, runtime.model_copy(update={"device": "cuda"}))
    assert {path.name for path in place.path.iterdir()} == there
    assert place.state() == "missing"


@pytest.mark.skipif(torch.cuda.is_available(), reason="here is one")
def test_a_job_with_gpus_that_torch_cannot_use_does_not_take_the_cpu_instead(recipe, store, runtime, monkeypatch):
    """A driver that is gone, or a torch for CPUs: days of a GPU job at the speed of a CPU, without a word."""
    place = prepare(store, recipe, runtime=runtime)
    for name, value in {
        "SUBMITIT_EXECUTOR": "slurm",
        "SLURM_PROCID": "0",
        "SLURM_JOB_ID": "12",
        "SLURM_GPUS_ON_NODE": "2",
    }.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError, match="torch finds no CUDA device of the 2 that SLURM gave here; allowed: cpu"):
        work(place, runtime.model_copy(update={"device": "auto"}))
    assert place.state() == "missing"


def test_a_root_that_vanishes_is_said_and_when_it_is_back_the_run_goes_on(recipe, tmp_path, runtime, monkeypatch):
    every_step = runtime.model_copy(update={"checkpoint_every_s": 0.0, "log_every_steps": 1})
    whole, cut = (prepare(Store(tmp_path / name), recipe, runtime=every_step) for name in ("whole", "cut"))
    work(whole, every_step)

    def vanish(training):
        if training.progress.step == 3:
            (tmp_path / "cut").rename(tmp_path / "elsewhere")

    with monkeypatch.context() as patched:
        around_update(patched, before=vanish)
        with pytest.raises(VmaeError, match=f"cannot write {tmp_path / 'cut'}"):
            work(cut, every_step)
    assert not (tmp_path / "cut").exists(), "nothing is made up in its place"
    (tmp_path / "elsewhere").rename(tmp_path / "cut")
    cut.claim.unlink()  # of a process that would have ended
    assert cut.state() == "interrupted"
    work(cut, every_step)
    assert_equal_runs(cut, whole)


def test_a_port_that_is_taken_is_passed_over(tmp_path):
    first = random.Random(f"{allocation.job_id()} {allocation.restart_count()}").randrange(
        distributed.LOWEST_PORT, distributed._first_ephemeral_port()
    )
    with socket.socket() as taken:
        taken.bind(("0.0.0.0", first))
        taken.listen()
        store = distributed._meet(0, 1, tmp_path / "rendezvous.json")
        store.set("here", "yes")
        where = json.loads((tmp_path / "rendezvous.json").read_text())
    assert where["port"] != first
    assert store.get("here") == b"yes"


def test_ranks_of_one_host_meet_though_its_name_leads_nowhere(tmp_path, monkeypatch):
    """As in a container whose own name nobody resolves."""
    monkeypatch.setattr(socket, "gethostname", lambda: "nowhere.invalid")
    file, met = tmp_path / "rendezvous.json", queue.Queue()
    first = distributed._meet(0, 2, file)
    threading.Thread(target=lambda: met.put(distributed._meet(1, 2, file)), daemon=True).start()
    met.get(timeout=30).set("here", "yes")
    assert first.get("here") == b"yes"
