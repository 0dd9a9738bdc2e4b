"""A real SLURM for tests marked `slurm`: started once per session and kind, cleared after each test."""

import os

import pytest
from testbed import Testbed, missing

SWITCH = "VMAE_TEST_SLURM"


def pytest_collection_modifyitems(items):
    """Leave out tests of a real SLURM unless asked for: they take minutes and start servers."""
    if os.environ.get(SWITCH) == "1":
        return
    skip = pytest.mark.skip(reason=f"starts a real SLURM; run with {SWITCH}=1 python -m pytest -m slurm")
    for item in items:
        if item.get_closest_marker("slurm"):
            item.add_marker(skip)


def start(tmp_path_factory, name, accounting=False, **more):
    if reason := missing(accounting):
        pytest.skip(reason)
    return Testbed(tmp_path_factory.mktemp(name), accounting, **more)


@pytest.fixture(scope="session")
def plain_bed(tmp_path_factory):
    """Without accounting; preemption by SIGTERM alone."""
    with start(tmp_path_factory, "plain", send_user_signal=False) as bed:
        yield bed


@pytest.fixture(scope="session")
def accounted_bed(tmp_path_factory):
    """With accounting; preemption by the job's own signal first."""
    with start(tmp_path_factory, "accounted", accounting=True) as bed:
        yield bed


def use(bed, monkeypatch):
    from slurm import control

    for name, value in bed.env.items():
        monkeypatch.setenv(name, value)
    control.config.cache_clear()
    bed.wait_ready()


@pytest.fixture(params=["plain_bed", "accounted_bed"])
def bed(request, monkeypatch):
    """Either kind, in turn."""
    made = request.getfixturevalue(request.param)
    use(made, monkeypatch)
    yield made
    made.clear()


@pytest.fixture
def plain(plain_bed, monkeypatch):
    use(plain_bed, monkeypatch)
    yield plain_bed
    plain_bed.clear()


@pytest.fixture
def accounted(accounted_bed, monkeypatch):
    use(accounted_bed, monkeypatch)
    yield accounted_bed
    accounted_bed.clear()
