"""The local launcher: chains, queues, failures that stop only what depends on them; profiles are checked."""

import itertools
import json
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slurm import profile as profiles
from slurm.launch import LocalLauncher, chains, queued
from slurm.profile import LocalProfile, load_profile
from vmae.claim import process_identity
from vmae.errors import ConfigError


@given(st.lists(st.integers(0, 30), min_size=1, max_size=25))
def test_chains_cover_every_run_once_and_wait_only_at_their_start(choices):
    """Random forests: each node picks an earlier node as parent, or none."""
    parents = {str(i): (None if pick >= i else str(pick)) for i, pick in enumerate(choices)}
    found = chains(parents)
    flat = [id_ for chain in found for id_ in chain]
    assert sorted(flat) == sorted(parents)
    for chain in found:
        for parent, child in itertools.pairwise(chain):
            assert parents[child] == parent
            assert list(parents.values()).count(parent) == 1, "a parent with two children is not kept from either"
    starts = [chain[0] for chain in found]
    assert all(parents[s] is None or list(parents.values()).count(parents[s]) > 1 for s in starts), "chains are as long as can be"


def test_a_parent_that_is_done_is_not_waited_for():
    assert chains({"f": "p", "e": "f"}) == [("f", "e")]


class FakeJob:
    def __init__(self, folder):
        self.over, self.job_id = False, "1"
        self.paths = type("Paths", (), {"stdout": folder / "log"})

    def done(self):
        return self.over


@pytest.fixture
def launcher(store, monkeypatch):
    parents = {"p": None, "f": "p", "e": "f", "g": "p", "h": "g", "q": None}
    made = LocalLauncher(store, LocalProfile(kind="local"), 2, chains(parents), parents)
    monkeypatch.setattr(made.executor, "submit", lambda job: FakeJob(store.root))
    return made


def states(**given_states):
    return dict.fromkeys(("p", "f", "e", "g", "h", "q"), "queued") | given_states


def test_children_start_when_their_parent_is_done_and_jobs_are_limited(launcher):
    launcher.tick(states())
    assert set(launcher.jobs) == {("p",), ("q",)}
    launcher.tick(states(p="running", q="running"))
    assert len(launcher.jobs) == 2
    launcher.jobs[("p",)].over = True
    launcher.tick(states(p="done", q="running"))
    assert set(launcher.jobs) == {("q",), ("f", "e")}
    launcher.jobs[("q",)].over = launcher.jobs[("f", "e")].over = True
    launcher.tick(states(p="done", q="done", f="done", e="done"))
    assert set(launcher.jobs) == {("g", "h")}
    launcher.jobs[("g", "h")].over = True
    launcher.tick(states(**dict.fromkeys("pqfegh", "done")))
    assert launcher.is_over


@pytest.mark.parametrize("end", ["failed", "missing", "interrupted", "diverged"])
def test_children_of_a_run_that_did_not_finish_are_dropped(launcher, end):
    launcher.tick(states())
    for job in launcher.jobs.values():
        job.over = True
    launcher.tick(states(p=end, q="done", f="blocked", g="blocked"))
    assert launcher.is_over


def test_a_run_at_work_elsewhere_is_left_to_it_and_its_children_wait(launcher):
    launcher.tick(states(p="running"))
    assert set(launcher.jobs) == {("q",)}
    assert set(launcher.waiting) == {("f", "e"), ("g", "h")}


def test_what_waits_is_queued_for_everybody_until_the_launcher_is_gone(launcher, store):
    assert queued(store) == {"p", "f", "e", "g", "h", "q"}
    launcher.tick(states())
    assert queued(store) == {"f", "e", "g", "h"}
    launcher.close()
    assert queued(store) == set()
    dead = {"owner": process_identity(os.getpid()) | {"started": "0"}, "runs": ["p"]}
    (store.jobs / "queue-1.json").write_text(json.dumps(dead))
    assert queued(store) == set()


def test_stopping_starts_nothing_more(launcher):
    launcher.stop()
    launcher.tick(states())
    assert launcher.is_over


def test_every_profile_loads():
    for path in profiles.FOLDER.glob("*.toml"):
        assert load_profile(path.stem)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('kind = "local"\njobz = 2', r"bad\.toml: jobz: unknown key. Did you mean 'jobs'"),
        ('kind = "cloud"', r"bad\.toml: kind = 'cloud'"),
        ("kind = ", r"bad\.toml"),
        ('kind = "local"\njobs = 0', r"jobs = 0"),
        ('kind = "local"\n[runtime]\nnum_treads = 1', r"runtime\.num_treads: unknown key. Did you mean 'num_threads'"),
    ],
)
def test_a_bad_profile_names_the_file_and_the_near_word(text, words, tmp_path, monkeypatch):
    (tmp_path / "bad.toml").write_text(text)
    monkeypatch.setattr(profiles, "FOLDER", tmp_path)
    with pytest.raises(ConfigError, match=words):
        load_profile("bad")


def test_an_unknown_profile_names_the_near_one():
    with pytest.raises(ConfigError, match=r"no profile 'locl'. Did you mean 'local'"):
        load_profile("locl")
