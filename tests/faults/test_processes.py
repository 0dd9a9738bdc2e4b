"""What a run stands on goes while it trains (a process, its folder): it ends, says why, and goes on to the same bits."""

import json
import multiprocessing
import os
import random
import signal
import socket

import pytest
import torch
from helpers import clean_environment, free_port
from ranks import Rank, python

from vmae import allocation
from vmae.errors import ConfigError, VmaeError
from vmae.identity import run_id
from vmae.job import work
from vmae.results import read_metrics
from vmae.runs import Store
from vmae.train import distributed

SHOT = """
import os, signal
from vmae.train import training
update = training.Training.update
def then_die(self, loss_of):
    update(self, loss_of)
    if self.progress.step == 3:
        os.kill(os.getpid(), signal.SIGKILL)
training.Training.update = then_die
"""


def prepare(store, recipe, runtime):
    run = recipe.runs()[0]
    place = store.run(run_id(run))
    place.create(run)
    place.runtime.write_text(runtime.model_dump_json())
    return place


def same(place, other):
    losses = [[row.value for row in read_metrics(p.metrics) if row.metric == "loss"] for p in (place, other)]
    return losses[0] == losses[1] and place.weights.read_bytes() == other.weights.read_bytes()


WORK = """
import os
from pathlib import Path
from vmae.job import work
from vmae.runs import RunDir
work(RunDir(Path(os.environ["PLACE"])))
"""


def start_two(place, code_of_rank_1=""):
    where = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()), "PLACE": str(place.path)}
    ranks = [
        Rank(clean_environment(RANK=str(r), LOCAL_RANK=str(r), **where), python, code)
        for r, code in enumerate((WORK, code_of_rank_1 + WORK))
    ]
    return [rank.join() for rank in ranks]


def test_a_rank_that_is_shot_ends_the_other_and_the_next_start_reaches_the_same_bits(recipe, tmp_path, runtime):
    every_step = runtime.model_copy(update={"checkpoint_every_s": 0.0})
    whole, shot = (prepare(Store(tmp_path / name), recipe, every_step) for name in ("whole", "shot"))
    assert [code for code, _ in start_two(whole)] == [0, 0]
    (left, said), (killed, _) = start_two(shot, SHOT)
    assert killed == -signal.SIGKILL
    assert left not in (0, None, -signal.SIGKILL), "it neither waits for ever nor claims to be done"
    assert shot.state() == "failed", said
    assert shot.read_stopped()["reason"]
    assert [code for code, _ in start_two(shot)] == [0, 0]
    assert shot.read_starts()[-1]["step"] in (2, 3)
    assert same(shot, whole)


def test_a_loader_process_that_is_shot_is_said_and_the_next_start_reaches_the_same_bits(recipe, tmp_path, runtime, monkeypatch):
    from vmae.train import training

    loading = runtime.model_copy(update={"checkpoint_every_s": 0.0, "num_workers": 2})
    whole, shot = (prepare(Store(tmp_path / name), recipe, loading) for name in ("whole", "shot"))
    work(whole, loading)
    update = training.Training.update

    def then_shoot(self, loss_of):
        update(self, loss_of)
        if self.progress.step == 1:  # two times two batches are read ahead; the sixth needs somebody
            for child in multiprocessing.active_children():
                os.kill(child.pid, signal.SIGKILL)

    with monkeypatch.context() as patched:
        patched.setattr(training.Training, "update", then_shoot)
        with pytest.raises(RuntimeError, match="DataLoader worker"):
            work(shot, loading)
    assert shot.state() == "failed"
    assert "DataLoader worker" in shot.read_stopped()["reason"]
    work(shot, loading)
    assert same(shot, whole)


@pytest.mark.skipif(torch.cuda.is_available(), reason="here is one")
def test_a_gpu_that_is_not_there_is_said_before_anything_is_written(recipe, store, runtime):
    place = prepare(store, recipe, runtime)
    there = {path.name for path in place.path.iterdir()}
    with pytest.raises(ConfigError, match="torch finds no CUDA device here; allowed: auto, cpu"):
        work(place, runtime.model_copy(update={"device": "cuda"}))
    assert {path.name for path in place.path.iterdir()} == there
    assert place.state() == "missing"


def test_a_root_that_vanishes_is_said_and_when_it_is_back_the_run_goes_on(recipe, tmp_path, runtime, monkeypatch):
    from vmae.train import training

    every_step = runtime.model_copy(update={"checkpoint_every_s": 0.0, "log_every_steps": 1})
    whole, cut = (prepare(Store(tmp_path / name), recipe, every_step) for name in ("whole", "cut"))
    work(whole, every_step)
    update = training.Training.update

    def then_vanish(self, loss_of):
        if self.progress.step == 3:
            (tmp_path / "cut").rename(tmp_path / "elsewhere")
        update(self, loss_of)

    with monkeypatch.context() as patched:
        patched.setattr(training.Training, "update", then_vanish)
        with pytest.raises(VmaeError, match=f"cannot write {tmp_path / 'cut'}"):
            work(cut, every_step)
    assert not (tmp_path / "cut").exists(), "nothing is made up in its place"
    (tmp_path / "elsewhere").rename(tmp_path / "cut")
    cut.claim.unlink()  # of a process that would have ended
    assert cut.state() == "interrupted"
    work(cut, every_step)
    assert same(cut, whole)


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
