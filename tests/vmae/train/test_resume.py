"""Interrupted equals uninterrupted: same rows, same weights, bit for bit on the CPU."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest
import torch
from helpers import ROOT, around_update, assert_equal_runs, clean_environment, interrupt_after, numbers, prepare, run_chain

from vmae.errors import CheckpointError, Interrupted
from vmae.job import work
from vmae.runs import Store
from vmae.train.checkpoint import load_checkpoint, load_weights


@pytest.fixture
def dropping(recipe):
    """All that draws random numbers or keeps a state besides weights and optimiser."""
    return recipe.replace(
        {
            "pretrain.mask.count": "bernoulli",
            "finetune.drop_path_rate": 0.2,
            "finetune.head_dropout": 0.2,
            "finetune.mix.mixup": 0.8,
            "finetune.mix.cutmix": 1.0,
            "finetune.repeats": 2,
            "finetune.clip.erase_prob": 0.5,
            "finetune.clip.sampling": "tsn",
            "finetune.ema_decay": 0.9,
        }
    )


@pytest.mark.parametrize("stage", ["pretrain", "finetune"])
def test_stopped_at_every_step(stage, dropping, store, tmp_path, runtime, monkeypatch):
    """A signal at each step boundary in turn, log interval 3 so that stops fall inside it, then one undisturbed run beside."""
    slow_log = runtime.model_copy(update={"log_every_steps": 3})
    reference = Store(tmp_path / "reference")
    run_chain(reference, dropping, slow_log, upto=stage)
    if stage == "finetune":
        run_chain(store, dropping, slow_log, upto="pretrain")
    place = prepare(store, dropping, stage)

    num_stops = 0
    around_update(monkeypatch, after=lambda training: os.kill(os.getpid(), signal.SIGUSR2))
    while not place.result.exists():
        try:
            work(place, slow_log)
        except Interrupted:
            num_stops += 1
            assert place.state() == "interrupted"
            assert "SIGUSR2 at step" in place.read_stopped()["reason"]
    assert num_stops >= 6
    assert place.read_result().compute["num_restarts"] == num_stops
    assert_equal_runs(place, reference.run(place.id))
    assert not place.checkpoint.exists(), "a done run keeps no checkpoint"


def test_kill_9_in_the_middle(recipe, store, tmp_path, runtime):
    """The process is shot while training; what the next one makes is what an undisturbed one makes."""
    slow = recipe.replace({"pretrain.optim.epochs": 60})
    reference = Store(tmp_path / "reference")
    run_chain(reference, slow, runtime, upto="pretrain")
    place = prepare(store, slow, "pretrain")
    place.runtime.write_text(runtime.model_copy(update={"checkpoint_every_s": 0.0}).model_dump_json())
    command = [sys.executable, "-m", "vmae", "run", str(place.path)]
    process = subprocess.Popen(command, cwd=ROOT, env=clean_environment(), stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while len(numbers(place)) < 60 and time.monotonic() < deadline:
        assert process.poll() is None, "it finished before it could be shot"
        time.sleep(0.02)
    process.kill()
    process.wait()
    assert place.state() == "interrupted", "killed without a word, but a checkpoint is there"
    assert not place.result.exists()
    result = work(place)
    assert result.compute["num_restarts"] == 1
    assert_equal_runs(place, reference.run(place.id))


def test_a_damaged_checkpoint_falls_back_to_the_one_before(recipe, store, tmp_path, runtime, monkeypatch, capsys):
    reference = Store(tmp_path / "reference")
    run_chain(reference, recipe, runtime, upto="pretrain")
    place = prepare(store, recipe, "pretrain")
    interrupt_after(monkeypatch, 5)
    with pytest.raises(Interrupted):
        work(place, runtime.model_copy(update={"checkpoint_every_s": 0.0}))
    assert place.previous_checkpoint.exists()
    place.checkpoint.write_bytes(place.checkpoint.read_bytes()[:1000])
    monkeypatch.undo()
    work(place, runtime)
    assert "resuming from previous.pt" in capsys.readouterr().out
    assert_equal_runs(place, reference.run(place.id))


def test_a_checkpoint_damaged_again_and_again_falls_back_each_time(recipe, store, tmp_path, runtime, monkeypatch):
    """The damaged one is never put in the place of the good one before it."""
    reference = Store(tmp_path / "reference")
    run_chain(reference, recipe, runtime, upto="pretrain")
    place = prepare(store, recipe, "pretrain")
    for num_steps in (3, 4, 5):
        with monkeypatch.context() as patched:
            interrupt_after(patched, num_steps)
            with pytest.raises(Interrupted):
                work(place, runtime.model_copy(update={"checkpoint_every_s": 0.0}))
        place.checkpoint.write_bytes(place.checkpoint.read_bytes()[:1000])
    work(place, runtime)
    assert_equal_runs(place, reference.run(place.id))


def test_no_usable_checkpoint_is_refused_not_restarted(recipe, store, runtime, monkeypatch):
    place = prepare(store, recipe, "pretrain")
    interrupt_after(monkeypatch, 5)
    with pytest.raises(Interrupted):
        work(place, runtime)
    place.checkpoint.write_bytes(b"not a checkpoint")
    with pytest.raises(CheckpointError, match=r"last\.pt.*remove them to start over"):
        work(place, runtime)
    assert place.state() == "failed"


def test_checkpoints_are_read_without_running_code(tmp_path, store, recipe):
    place = prepare(store, recipe, "pretrain")

    class Evil:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "executed"),)

    torch.save({"model": Evil()}, place.checkpoint)
    model = torch.nn.Linear(1, 1)
    with pytest.raises(CheckpointError):
        load_checkpoint(place, model, torch.optim.AdamW(model.parameters()))
    assert not (tmp_path / "executed").exists()


def test_weights_errors_name_the_file(tmp_path):
    with pytest.raises(CheckpointError, match=r"missing\.safetensors"):
        load_weights(tmp_path / "missing.safetensors")
    (tmp_path / "cut.safetensors").write_bytes(b"\x10\0\0\0\0\0\0\0{")
    with pytest.raises(CheckpointError, match=r"cut\.safetensors"):
        load_weights(tmp_path / "cut.safetensors")


def test_a_diverged_run_is_said_to_be_so_and_has_no_weights(recipe, store, runtime):
    wild = recipe.replace({"pretrain.optim.base_lr": 1e30, "pretrain.optim.warmup_epochs": 0})
    result = run_chain(store, wild, runtime, upto="pretrain")["pretrain"]
    place = store.run(result.run_id)
    assert result.status == place.state() == "diverged"
    assert "not finite at step" in result.metrics["reason"]
    assert not place.weights.exists()
    assert json.loads(place.result.read_text())["status"] == "diverged"


@pytest.mark.parametrize("checkpoint_every_s", [0.0, 1e9])
def test_a_diverged_run_leaves_its_last_good_state_and_the_videos_of_the_bad_step(
    recipe, store, runtime, monkeypatch, checkpoint_every_s
):
    """The loss of step 4 is no number; it is noticed at step 6 (the log's interval), or before it would be saved."""
    seen: list = []
    poison(monkeypatch, 4)
    around_update(monkeypatch, before=lambda training: seen.append(training.data.videos(training.progress.step)))
    place = prepare(store, recipe, "pretrain")
    slow_log = runtime.model_copy(update={"log_every_steps": 6, "checkpoint_every_s": checkpoint_every_s})
    assert work(place, slow_log).status == place.state() == "diverged"
    note = json.loads(place.diverged.read_text())
    assert (note["step"], note["videos"]) == (4, seen[3])
    assert note["last_saved_step"] == (3 if checkpoint_every_s == 0.0 else 0)
    assert place.checkpoint.exists() == (checkpoint_every_s == 0.0)
    if place.checkpoint.exists():
        state = torch.load(place.checkpoint, weights_only=True)
        assert state["progress"]["step"] == 3
        assert all(torch.isfinite(tensor).all() for tensor in state["model"].values())
    assert work(place, slow_log).status == "diverged", "asked again, it is over"


def poison(monkeypatch, *steps):
    """Make the loss of these steps (from 1) no number, whenever they are taken."""
    from vmae.train import training

    update = training.Training.update

    def poisoned(self, loss_of, *inputs):
        factor = float("nan") if self.progress.step + 1 in steps else 1.0
        update(self, lambda *parts: loss_of(*parts) * factor, *inputs)

    monkeypatch.setattr(training.Training, "update", poisoned)


@pytest.mark.parametrize("checkpoint_every_s", [0.0, 1e9])
@pytest.mark.parametrize("log_every_steps", [1, 6])
def test_a_step_left_out_is_a_step_that_never_changed_a_weight(
    recipe, tmp_path, runtime, monkeypatch, checkpoint_every_s, log_every_steps
):
    """Against a run whose optimiser is told to do nothing at that step: whenever it is noticed and whatever was saved."""
    recipe = recipe.replace({"pretrain.optim.max_left_out": 1})
    slow = runtime.model_copy(update={"log_every_steps": log_every_steps, "checkpoint_every_s": checkpoint_every_s})
    idle = prepare(Store(tmp_path / "idle"), recipe, "pretrain")
    with monkeypatch.context() as patched:
        take = torch.optim.AdamW.step
        around_update(patched, before=lambda training: setattr(training.optimizer, "is_idle", training.progress.step == 3))
        patched.setattr(torch.optim.AdamW, "step", lambda self: None if self.is_idle else take(self))
        assert work(idle, slow).status == "done"
    poison(monkeypatch, 4)
    place = prepare(Store(tmp_path / "bad"), recipe, "pretrain")
    result = work(place, slow)
    assert (result.status, result.compute["left_out"]) == ("done", [4])
    assert place.weights.read_bytes() == idle.weights.read_bytes()
    rows, others = (
        [row for row in numbers(p) if row[0] != 4 and (log_every_steps == 1 or row[1] == "lr")] for p in (place, idle)
    )
    assert rows == others
    assert not place.diverged.exists()


def test_an_interruption_after_going_back_changes_nothing(recipe, tmp_path, runtime, monkeypatch):
    recipe = recipe.replace({"pretrain.optim.max_left_out": 2})
    poison(monkeypatch, 2, 5)
    whole, cut = (prepare(Store(tmp_path / name), recipe, "pretrain") for name in ("whole", "cut"))
    assert work(whole, runtime).compute["left_out"] == [2, 5]
    with monkeypatch.context() as patched:
        interrupt_after(patched, 3)
        with pytest.raises(Interrupted):
            work(cut, runtime)
    assert work(cut, runtime).compute["left_out"] == [2, 5]
    assert_equal_runs(whole, cut)


def test_more_bad_steps_than_allowed_are_divergence(recipe, store, runtime, monkeypatch):
    poison(monkeypatch, 2, 4)
    place = prepare(store, recipe.replace({"pretrain.optim.max_left_out": 1}), "pretrain")
    assert work(place, runtime).status == "diverged"
    assert json.loads(place.diverged.read_text())["step"] == 4


def test_a_gradient_that_is_no_number_is_found_at_its_step(recipe, store, runtime, monkeypatch):
    hooks: list = []

    def poison_gradient(training):
        factor = float("inf") if training.progress.step == 3 else 1.0
        hooks.append(next(training.model.parameters()).register_hook(lambda gradient: gradient * factor))

    around_update(monkeypatch, before=poison_gradient, after=lambda training: hooks.pop().remove())
    place = prepare(store, recipe.replace({"pretrain.optim.max_left_out": 1}), "pretrain")
    result = work(place, runtime)
    assert (result.status, result.compute["left_out"]) == ("done", [4])
