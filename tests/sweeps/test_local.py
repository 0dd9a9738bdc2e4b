"""Waiting for a sweep on this machine leaves the cores to its jobs, and still notices what matters at once."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from slurm.launch import LocalLauncher
from slurm.profile import LocalProfile, load_profile
from sweeps import registry
from sweeps.commands import local
from sweeps.commands.pending import prepare_runs
from sweeps.commands.replaced import replaced
from sweeps.commands.rows import run_names
from vmae.errors import ConfigError
from vmae.runs import Store
from vmae.runtime import RuntimeConfig
from vmae.study import make_plan


class Waiting:
    """A clock, a look that takes time on it, and a launcher whose only job ends at some time; `looks` says when and at what."""

    def __init__(self, monkeypatch, tmp_path, look_s: float, ends_at_s: float) -> None:
        self.now, self.look_s, self.looks = 0.0, look_s, []
        self.plan, self.store = make_plan(registry.load("smoke")), Store(tmp_path)
        self.done = list(self.plan.runs)[:1]
        monkeypatch.setattr(local, "time", SimpleNamespace(monotonic=lambda: self.now, sleep=self._pass))
        monkeypatch.setattr(local, "look", self._look)
        over = property(lambda launcher: launcher.collected)
        news = property(lambda launcher: self.now >= ends_at_s)
        self.launcher = type("Launcher", (), {"is_over": over, "has_news": news, "collected": False, "tick": self._tick})()

    def _pass(self, seconds: float) -> None:
        self.now += seconds

    def _look(self, store, parents):
        self.now += self.look_s
        self.looks.append((self.now, set(parents)))
        return SimpleNamespace(states={id_: "done" if id_ in self.done else "missing" for id_ in parents})

    def _tick(self, states) -> None:
        assert set(states) == set(self.plan.runs), "what is not looked at again is still known"
        self.launcher.collected = self.launcher.has_news

    def through(self) -> None:
        local._wait(self.launcher, self.store, self.plan, dict.fromkeys(self.plan.runs, 1.0))


@pytest.mark.parametrize("look_s", [0.001, 0.05, 0.4])
def test_looking_takes_a_fiftieth_of_the_time_at_most(monkeypatch, tmp_path, look_s):
    waiting = Waiting(monkeypatch, tmp_path, look_s, ends_at_s=1000.0)
    waiting.through()
    assert look_s * len(waiting.looks) / waiting.now < 0.022
    assert waiting.now < 1000.0 + local.POLL_S + 2 * look_s, "the end of a job is seen at once"
    assert len(waiting.looks) > 20, "progress is shown"


def test_what_is_done_is_not_looked_at_again(monkeypatch, tmp_path):
    waiting = Waiting(monkeypatch, tmp_path, look_s=0.01, ends_at_s=5.0)
    waiting.through()
    assert waiting.looks[0][1] == set(waiting.plan.runs)
    assert all(looked == set(waiting.plan.runs) - set(waiting.done) for _, looked in waiting.looks[1:])


def test_a_run_that_is_queued_keeps_the_settings_that_its_code_knows(tmp_path):
    plan, store = make_plan(registry.load("smoke")), Store(tmp_path)
    first, then = RuntimeConfig(num_threads=1), RuntimeConfig(num_threads=2)
    prepare_runs(store, plan, first)
    queued, *others = plan.runs
    launcher = LocalLauncher(store, load_profile("local"), 1, [(queued,)], dict.fromkeys(plan.runs))
    prepare_runs(store, plan, then)
    launcher.close()
    read = {id_: RuntimeConfig.model_validate_json(store.run(id_).runtime.read_text()) for id_ in plan.runs}
    assert read.pop(queued) == first
    assert list(read.values()) == [then] * len(others)
    prepare_runs(store, plan, then)
    assert RuntimeConfig.model_validate_json(store.run(queued).runtime.read_text()) == then


def test_a_submit_says_what_overrides_and_seeds_it_replaces(tmp_path):
    store = Store(tmp_path)
    smoke = registry.load("smoke")
    first, second = make_plan(smoke), make_plan(smoke, {"pretrain.optim.epochs": 3})
    assert replaced(store, first) == []
    prepare_runs(store, first, RuntimeConfig())
    assert replaced(store, first) == []
    assert replaced(store, second) == ["replaces the plan of smoke with seeds 0; now seeds 0, pretrain.optim.epochs=3"]
    prepare_runs(store, second, RuntimeConfig())
    assert replaced(store, make_plan(replace(smoke, seeds=(0, 1))))
    store.plan_file("smoke").write_text("{")
    assert replaced(store, first) == [], "a damaged plan is written anew, not a reason to stop"


def test_a_submit_that_lacks_a_gpu_leaves_plan_and_runs_as_they_are(tmp_path, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    smoke, store = registry.load("smoke"), Store(tmp_path)
    first, second = make_plan(smoke), make_plan(replace(smoke, seeds=(7,)))
    prepare_runs(store, first, RuntimeConfig())
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    place = LocalProfile(kind="local", gpus_per_job=1)
    with pytest.raises(ConfigError, match="this machine offers no GPU"):
        local.run_here(store, second, place, None, second.runs, ())
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
    local.run_here(store, second, place, None, (), ())  # nothing is to run, so no GPU is missing


@pytest.mark.skipif(torch.cuda.is_available(), reason="here is one")
def test_jobs_that_end_before_their_runs_begin_are_said_with_their_reason(tmp_path, monkeypatch, capsys, data_root):
    """As where a driver is gone: the runs are not failed, and the same command goes on once it is back."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    monkeypatch.setattr(local.console, "width", 1000)
    plan, store = make_plan(registry.load("smoke")), Store(tmp_path)
    firsts = [id_ for id_, run in plan.runs.items() if run.stage == "pretrain"][:2]
    place = LocalProfile(
        kind="local", gpus_per_job=1, jobs_per_gpu=2, runtime=RuntimeConfig(num_threads=1, data_root=str(data_root))
    )
    states = local.run_here(store, plan, place, None, firsts, ())
    assert set(states.values()) == {"missing"}
    said = [line for line in capsys.readouterr().out.splitlines() if "not begun" in line]
    names = run_names(plan)
    assert len(said) == 1, "once for all"
    assert said[0].startswith(f"  not begun   {names[firsts[0]]}, {names[firsts[1]]}: ")
    assert "torch finds no CUDA device here; allowed: auto, cpu; log " in said[0]
    assert Path(said[0].rpartition("; log ")[2]).exists()
