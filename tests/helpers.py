"""What tests share besides fixtures: the checkout's root, running a chain in this process, a clean environment."""

import os
import signal
import socket
from collections.abc import Callable
from pathlib import Path

from vmae.config import PretrainRun
from vmae.identity import run_id
from vmae.job import work
from vmae.recipe import Recipe
from vmae.results import Result, read_metrics
from vmae.runs import RunDir, Store
from vmae.runtime import RuntimeConfig

ROOT = Path(__file__).parent.parent


def run_chain(store: Store, recipe: Recipe, runtime: RuntimeConfig, upto: str = "evaluate") -> dict[str, Result]:
    """Run a recipe's stages in this process, up to and including `upto`."""
    results = {}
    for run in recipe.runs():
        place = store.run(run_id(run))
        place.create(run)
        results[run.stage] = work(place, runtime)
        if run.stage == upto:
            break
    return results


def prepare(store: Store, recipe: Recipe, stage: str = "pretrain", runtime: RuntimeConfig | None = None) -> RunDir:
    """Make the directory of a recipe's run of one stage, as submit does."""
    run = next(run for run in recipe.runs() if run.stage == stage)
    place = store.run(run_id(run))
    place.create(run)
    if runtime:
        place.runtime.write_text(runtime.model_dump_json())
    return place


def numbers(place: RunDir) -> list:
    """The rows of a run's log that time and place should not change."""
    return [(row.step, row.metric, row.value) for row in read_metrics(place.metrics) if row.metric in ("loss", "lr", "grad_norm")]


def assert_equal_runs(place: RunDir, other: RunDir) -> None:
    """The same log, the same weights, bit for bit."""
    assert numbers(place) == numbers(other)
    assert numbers(place)
    assert place.weights.read_bytes() == other.weights.read_bytes()


def assert_close_runs(place: RunDir, other: RunDir) -> None:
    """The same losses and weights but for their last digits."""
    import torch

    from vmae.train.checkpoint import load_weights

    found, expected = ([value for _, name, value in numbers(one) if name == "loss"] for one in (place, other))
    torch.testing.assert_close(torch.tensor(found), torch.tensor(expected), rtol=2e-4, atol=1e-5)
    weights = load_weights(other.weights)
    for name, tensor in load_weights(place.weights).items():
        torch.testing.assert_close(tensor, weights.pop(name), rtol=1e-2, atol=1e-4, msg=name)
    assert not weights


def around_update(monkeypatch, before: Callable = lambda training: None, after: Callable = lambda training: None) -> None:
    """Do something before and after each optimiser step of any training."""
    from vmae.train import training

    update = training.Training.update

    def around(self, loss_of, *inputs):
        before(self)
        update(self, loss_of, *inputs)
        after(self)

    monkeypatch.setattr(training.Training, "update", around)


def interrupt_after(monkeypatch, num_steps: int) -> None:
    """Send this process a stop signal after that many steps of any training."""

    def interrupt(training):
        if training.progress.step == num_steps:
            os.kill(os.getpid(), signal.SIGTERM)

    around_update(monkeypatch, after=interrupt)


def noise(run: PretrainRun) -> tuple:
    """Two clips of a pre-training's geometry, the same at every call, and their masks."""
    import torch

    from vmae.model.masking import draw_batch

    num_frames, size_px = run.masked.reading(run.grid)[0], run.grid.size_px
    clips = torch.rand(2, 3, num_frames, size_px, size_px, generator=torch.Generator().manual_seed(0))
    return clips, torch.from_numpy(draw_batch(run.masked.mask, run.grid, 0, 0, range(2)))


def clean_environment(**more: str) -> dict[str, str]:
    """The environment for a subprocess: this one's, threads limited, nothing of ours set."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("VMAE_", "MAKE"))}
    return kept | {"OMP_NUM_THREADS": "1"} | more


def free_port() -> int:
    """A local port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
