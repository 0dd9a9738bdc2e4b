"""The local launcher: chains, queues, failures that stop only what depends on them; profiles are checked."""

import itertools
import json
import os
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slurm import profile as profiles
from slurm.launch import LocalLauncher, chains, queued
from slurm.profile import LocalProfile, load_profile
from vmae.allocation import num_sharing_gpu
from vmae.claim import process_identity
from vmae.data.video import PACKAGES
from vmae.errors import ConfigError
from vmae.runtime import DECODERS, visible_gpus


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
        self._process = type("Process", (), {"send_signal": staticmethod(lambda number: None)})

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


def test_what_a_launcher_holds_is_queued_for_everybody_until_its_job_ends(launcher, store):
    """What was started, too: its process claims the first run of its chain after seconds, and the rest when their turn comes."""
    assert queued(store) == {"p", "f", "e", "g", "h", "q"}
    launcher.tick(states())
    assert set(launcher.jobs) == {("p",), ("q",)}
    assert queued(store) == {"p", "f", "e", "g", "h", "q"}
    launcher.jobs[("p",)].over = True
    launcher.tick(states(p="done", q="running"))
    assert queued(store) == {"f", "e", "g", "h", "q"}
    launcher.stop()
    assert queued(store) == {"f", "e", "q"}
    for job in launcher.jobs.values():
        job.over = True
    launcher.tick(states(p="done"))
    assert queued(store) == set()


def test_the_note_of_a_launcher_that_is_gone_holds_nothing(launcher, store):
    launcher.close()
    assert queued(store) == set()
    note = store.jobs / "queue-here-1.json"
    note.write_text(json.dumps(process_identity(os.getpid()) | {"started": "0", "runs": ["p"]}))
    assert queued(store) == set()
    assert not note.exists()


def test_the_note_of_another_machine_holds_while_it_beats_and_is_left_to_it(launcher, store):
    launcher.close()
    note = store.jobs / "queue-there-1.json"
    note.write_text(json.dumps({"host": "there", "pid": 1, "started": "0", "runs": ["p"]}))
    assert queued(store) == {"p"}
    os.utime(note, (0, 0))
    assert queued(store) == set()
    assert note.exists(), "late is not dead"


def test_a_launcher_beats(launcher, store):
    (note,) = store.jobs.glob("queue-*.json")
    os.utime(note, (0, 0))
    launcher.tick(states(p="running", q="running"))
    os.utime(note, (0, 0))
    launcher.tick(states(p="running", q="running"))
    assert note.stat().st_mtime > 0


def test_children_wait_for_a_parent_that_slurm_brings_back(launcher):
    launcher.tick(states(p="requeued"))
    launcher.tick(states(p="requeued"))
    assert {("f", "e"), ("g", "h")} <= {*launcher.waiting, *launcher.jobs}


@pytest.fixture
def on_gpus(store, monkeypatch):
    """Start chains on a machine that offers GPUs; returns the launcher and, per job, the GPUs that it got."""

    def make(offered, num_jobs, jobs_per_gpu=1):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", offered)
        parents = dict.fromkeys("abcdef")
        profile = LocalProfile(kind="local", gpus_per_job=1, jobs_per_gpu=jobs_per_gpu)
        made = LocalLauncher(store, profile, num_jobs, chains(parents), parents)
        given = []

        def submit(job):
            given.append(made.executor.parameters["visible_gpus"])
            made.sharing = num_sharing_gpu()
            return FakeJob(store.root)

        monkeypatch.setattr(made.executor, "submit", submit)
        return made, given

    return make


@pytest.mark.parametrize("offered", ["5,2", "GPU-1a,GPU-2b", "3"])
def test_each_job_gets_a_gpu_of_its_own_among_those_that_the_user_offers(on_gpus, offered):
    made, given = on_gpus(offered, 6)
    free = dict.fromkeys("abcdef", "missing")
    made.tick(free)
    assert sorted(given) == sorted((gpu,) for gpu in offered.split(","))
    assert made.sharing == 1
    next(iter(made.jobs.values())).over = True
    made.tick(free)
    assert given[-1] == given[0], "the one that became free"


@pytest.mark.parametrize(("num_jobs", "on_each"), [(6, [2, 2]), (3, [1, 2])])
def test_jobs_share_gpus_as_evenly_as_they_can(on_gpus, num_jobs, on_each):
    made, given = on_gpus("5,2", num_jobs, jobs_per_gpu=2)
    free = dict.fromkeys("abcdef", "missing")
    made.tick(free)
    assert sorted(Counter(given).values()) == on_each
    assert made.sharing == 2
    list(made.jobs.values())[1].over = True
    made.tick(free)
    assert given[-1] == given[1], "the one that has room again"


@pytest.mark.parametrize("offered", ["", "-1", "NoDevFiles", "-1,0"])
def test_where_no_gpu_is_offered_jobs_with_one_are_refused(on_gpus, offered):
    with pytest.raises(ConfigError, match="gpus_per_job = 1, but this machine offers no GPU"):
        on_gpus(offered, 2)


def test_without_the_variable_the_driver_is_asked(tmp_path, monkeypatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert visible_gpus() == []
    (tmp_path / "nvidia-smi").write_text(
        "#!/bin/sh\necho 'GPU 0: A (UUID: GPU-1)'; echo '  MIG 1g: x'; echo 'GPU 1: A (UUID: GPU-2)'\n"
    )
    (tmp_path / "nvidia-smi").chmod(0o755)
    assert visible_gpus() == ["0", "1"]
    profile = LocalProfile(kind="local", gpus_per_job=1, jobs=6)
    assert profile.num_jobs == 2
    assert profile.runtime.device == "cuda", "never the CPU instead"
    assert profile.model_copy(update={"jobs_per_gpu": 2}).num_jobs == 4


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
        (
            'kind = "local"\ngpus_per_job = 1\n[runtime]\ndevice = "cpu"',
            r"'cpu' contradicts gpus_per_job = 1; allowed: auto, cuda",
        ),
        ('kind = "local"\njobs_per_gpu = 2', r"jobs_per_gpu = 2, but gpus_per_job = 0: these jobs run on the CPU; allowed: 1"),
        ('kind = "local"\n[runtime]\ndevice = "cuda"', r"device = 'cuda' contradicts gpus_per_job = 0; allowed: auto, cpu"),
        ('kind = "slurm"\n[runtime]\ndevice = "cuda"', r"runtime.device = 'cuda' contradicts gpus_per_node = 0 of pretrain"),
        (
            'kind = "slurm"\ngpus_per_node = 1\n[stages.evaluate]\ngpus_per_node = 0\n[runtime]\ndevice = "cuda"',
            r"contradicts gpus_per_node = 0 of evaluate",
        ),
        ('kind = "slurm"\npython = ""', r"python = ''"),
        ('kind = "local"\n[runtime]\ndecode_backend = "pyav,decrod"', r"no decoder 'decrod'. Did you mean 'decord'"),
        ('kind = "local"\n[runtime]\ndata_root = ""', r"data_root is empty"),
        ('kind = "local"\n[runtime]\nnum_treads = 1', r"runtime\.num_treads: unknown key. Did you mean 'num_threads'"),
    ],
)
def test_a_bad_profile_names_the_file_and_the_near_word(text, words, tmp_path, monkeypatch):
    (tmp_path / "bad.toml").write_text(text)
    monkeypatch.setattr(profiles, "FOLDER", tmp_path)
    with pytest.raises(ConfigError, match=words):
        load_profile("bad")


def test_a_profile_may_begin_with_a_mark_and_its_data_lie_where_it_was_read(tmp_path, monkeypatch):
    """A byte-order mark, as editors on Windows write; jobs have working directories of their own."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "here.toml").write_text('\ufeffkind = "local"\n[runtime]\ndata_root = "videos"\n', encoding="utf-8")
    assert load_profile("here.toml").runtime.data_root == str(tmp_path / "videos")
    assert set(PACKAGES) == set(DECODERS)


def test_an_unknown_profile_names_the_near_one():
    with pytest.raises(ConfigError, match=r"no profile 'locl'. Did you mean 'local'"):
        load_profile("locl")
