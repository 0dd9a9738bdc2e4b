"""Shared: the tiny embedded set (made once), a recipe that trains on it in seconds, and a store."""

import multiprocessing
from pathlib import Path

import pytest
from hypothesis import settings

from sweeps.presets import tiny
from vmae.data.make import make_embedded
from vmae.recipe import Recipe
from vmae.runs import Store
from vmae.runtime import RuntimeConfig

settings.register_profile("vmae", deadline=None)  # no test depends on how fast the machine is
settings.load_profile("vmae")


@pytest.fixture(scope="session")
def data_root(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("data")
    make_embedded(root, "tiny", seed=0, num_workers=2, progress=False)
    return root


@pytest.fixture(scope="session")
def recipe() -> Recipe:
    return tiny("motion").replace({"pretrain.optim.warmup_epochs": 0.5, "finetune.optim.warmup_epochs": 0.5})


@pytest.fixture
def store(tmp_path) -> Store:
    return Store(tmp_path / "runs")


@pytest.fixture(scope="session")
def runtime(data_root) -> RuntimeConfig:
    return RuntimeConfig(device="cpu", num_threads=1, data_root=str(data_root), log_every_steps=1, checkpoint_every_s=1e9)


@pytest.fixture
def forked():
    """Loader processes that are children of the test and have what it patched, as they are before Python 3.14."""
    method = multiprocessing.get_start_method(allow_none=True)
    multiprocessing.set_start_method("fork", force=True)
    yield
    multiprocessing.set_start_method(method, force=True)
