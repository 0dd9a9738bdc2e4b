"""Shared: the tiny embedded set (made once), a recipe that trains on it in seconds, stores and a way to run a chain."""

import os
from pathlib import Path

import pytest

from sweeps.presets import quick
from vmae.data.make import make_embedded
from vmae.identity import run_id
from vmae.job import work
from vmae.recipe import Recipe
from vmae.results import Result
from vmae.runs import Store
from vmae.runtime import RuntimeConfig

ROOT = Path(__file__).parent.parent
TINY = {
    "encoder.width": 16,
    "encoder.depth": 2,
    "encoder.num_heads": 2,
    "pretrain.decoder.width": 8,
    "pretrain.decoder.num_heads": 2,
    "pretrain.data.size": "tiny",
    "pretrain.optim.batch_size": 16,
    "pretrain.optim.epochs": 2,
    "pretrain.optim.warmup_epochs": 0.5,
    "finetune.data.size": "tiny",
    "finetune.optim.batch_size": 16,
    "finetune.optim.epochs": 3,
    "finetune.optim.warmup_epochs": 0.5,
}


@pytest.fixture(scope="session")
def data_root(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("data")
    make_embedded(root, "tiny", seed=0, num_workers=2, progress=False)
    return root


@pytest.fixture(scope="session")
def recipe() -> Recipe:
    return quick("motion").replace(TINY)


@pytest.fixture
def store(tmp_path) -> Store:
    return Store(tmp_path / "runs")


@pytest.fixture(scope="session")
def runtime(data_root) -> RuntimeConfig:
    return RuntimeConfig(device="cpu", num_threads=1, data_root=str(data_root), log_every_steps=1, checkpoint_every_s=1e9)


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


def clean_environment(**more: str) -> dict[str, str]:
    """The environment for a subprocess: this one's, threads limited, nothing of ours set."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("VMAE_")}
    return kept | {"OMP_NUM_THREADS": "1"} | more
