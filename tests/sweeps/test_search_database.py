"""A search whose studies are in a real PostgreSQL, which the test starts: the same trials as in a journal, whatever is killed."""

import importlib.util
import sys

import pytest
from helpers import ROOT
from postgres import Postgres, programs
from pretended import Pretended, asked, carry_out

from sweeps.searching.journal import open_database
from sweeps.searching.space import Range
from vmae.errors import ConfigError, RunDirError
from vmae.runs import Store

pytestmark = pytest.mark.database


@pytest.fixture(scope="module")
def server():
    if programs() is None or importlib.util.find_spec("psycopg") is None:
        pytest.skip("not installed: a PostgreSQL server (Debian: postgresql), or psycopg")
    made = Postgres()
    yield made
    made.close()


@pytest.fixture
def empty(server):
    """The server, without studies."""
    import optuna

    yield server
    storage = open_database(server.url)
    for name in optuna.get_all_study_names(storage):
        optuna.delete_study(study_name=name, storage=storage)


def told(store):
    (cell,) = store.read_search("pretended")["cells"]
    return cell["trials"]


def test_a_database_and_a_journal_hold_the_same_trials(empty, tmp_path):
    here, there = Store(tmp_path / "here"), Store(tmp_path / "there")
    outcome = {3: "failed"}
    carry_out(here, asked(trials=16), Pretended(here, outcome=outcome))
    carry_out(there, asked(trials=8), Pretended(there, outcome=outcome), storage=empty.url)
    carry_out(there, asked(trials=16), storage=empty.url)
    assert told(here) == told(there)
    assert not list(there.root.glob("sweeps/*/journal.log*"))


def test_a_storm_of_kills_loses_and_doubles_nothing(empty, tmp_path):
    sys.path.insert(0, str(ROOT / "benchmarks"))
    from search_storm import Storm, storm

    assert sum(storm(tmp_path, Storm(trials=16, kills=4, work_s=0.3, storage=empty.url)).values()) > 0


def test_a_server_that_stops_is_said_and_the_same_command_goes_on(empty, tmp_path):
    store, other = Store(tmp_path / "runs"), Store(tmp_path / "other")

    class Stopped(Pretended):
        def bring(self, made):
            states = super().bring(made)
            if store.search_file("pretended").exists():
                empty.stop()
            return states

    try:
        with pytest.raises(RunDirError, match="the storage does not answer"):
            carry_out(store, asked(trials=12), Stopped(store), storage=empty.url)
    finally:
        empty.start()
    carry_out(store, asked(trials=12), storage=empty.url)
    carry_out(other, asked(trials=12))
    assert told(store) == told(other)


def test_a_changed_space_is_refused(empty, store):
    carry_out(store, asked(trials=4), storage=empty.url)
    with pytest.raises(ConfigError, match="changed since it began"):
        carry_out(store, asked(trials=4, space={"finetune.optim.base_lr": Range(1e-3, 1e-1, log=True)}), storage=empty.url)


def test_a_wrong_password_is_said_and_not_repeated(server):
    with pytest.raises(ConfigError, match="authentication failed") as caught:
        open_database(server.url_with("sesame"))
    assert "sesame" not in str(caught.value)
