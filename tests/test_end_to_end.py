"""Videos -> submit -> report through the commands a user types; twice is the same as once; stopped and shot runs go on."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest
from helpers import ROOT, clean_environment

from vmae.job import work
from vmae.runs import Store


class Shell:
    """Commands from the checkout's root, with the test's own data and runs."""

    def __init__(self, data_root, folder):
        self.store, self.reports = Store(folder / "runs"), folder / "reports"
        self.environment = clean_environment(VMAE_DATA=str(data_root), VMAE_RUNS=str(self.store.root), COLUMNS="200")

    def start(self, *words):
        command = [sys.executable, "-m", *words]
        return subprocess.Popen(
            command, cwd=ROOT, env=self.environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )

    def run(self, *words, code=0):
        process = self.start(*words)
        text, _ = process.communicate(timeout=200)
        assert process.returncode == code, text
        return text

    def wait_for(self, what, process, seconds=100):
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if found := what():
                return found
            assert process.poll() is None, process.communicate()[0]
            time.sleep(0.05)
        raise AssertionError("it did not happen in time")


@pytest.fixture(scope="module")
def shell(data_root, tmp_path_factory):
    return Shell(data_root, tmp_path_factory.mktemp("end to end é"))


@pytest.fixture
def fresh(data_root, tmp_path):
    return Shell(data_root, tmp_path)


def results(store):
    return {file.parent.name: file.stat().st_mtime_ns for file in store.root.glob("*/result.json")}


def test_submit_report_and_submit_again(shell):
    planned = shell.run("sweeps", "plan", "smoke")
    assert "4 cells x 1 seeds: 12 runs declared, 0 shared, 12 to exist" in planned
    assert "(estimate)" in planned
    assert not shell.store.root.exists(), "plan changes nothing"

    text = shell.run("sweeps", "submit", "smoke", "--jobs", "2")
    assert "smoke: 12 done" in text
    before = results(shell.store)
    assert len(before) == 12

    text = shell.run("sweeps", "submit", "smoke")
    assert "0 of 12 runs to do, 12 done" in text
    assert results(shell.store) == before, "nothing is retrained"
    assert "smoke: 12 done" in shell.run("sweeps", "status", "smoke")

    text = shell.run("analysis", "report", "smoke", "--out", str(shell.reports))
    assert "| tube 0.9 | " in text
    for name in ("report.md", "figures/mask_sampling-digits-motion-ratio.png", "tables/mask_sampling-digits-motion.csv"):
        assert (shell.reports / "smoke" / name).stat().st_size > 0
    assert str(shell.reports / "smoke" / "report.md") in text
    report = (shell.reports / "smoke" / "report.md").read_text()
    assert "Not converged beyond copying" in report, "two epochs teach nothing, and the report says so"


def test_results_carry_their_provenance(shell):
    result = next(json.loads(p.read_text()) for p in shell.store.root.glob("*/result.json"))
    facts = result["provenance"]
    assert {"commit", "dirty", "cpu", "packages", "runtime", "device", "torch_threads", "num_ranks"} <= set(facts)
    assert facts["packages"]["torch"]


def test_a_sweep_grown_by_seeds_runs_only_what_is_new(shell):
    before = results(shell.store)
    text = shell.run("sweeps", "submit", "smoke", "--seeds", "0,1", "--jobs", "2")
    assert "12 of 24 runs to do, 12 done" in text
    after = results(shell.store)
    assert len(after) == 24
    assert {id_: after[id_] for id_ in before} == before


def pretraining_process(store):
    """Id and pid of a pre-training that has a checkpoint to resume from."""
    for claim in store.root.glob("*/claim.json"):
        place = store.run(claim.parent.name)
        if place.checkpoint.exists() and place.load().stage == "pretrain":
            return place.id, json.loads(claim.read_text())["pid"]
    return None


ONE = ("--only", "arm=tube 0.9")
TWO = (*ONE, "--only", "arm=random 0.9")
LONG = ("--set", "pretrain.optim.epochs=40", "--jobs", "1")


@pytest.fixture
def eager_profile(tmp_path):
    """A profile that saves all the time; not among the real ones, where a test that is killed would leave it."""
    profile = (ROOT / "slurm" / "profiles" / "local.toml").read_text()
    eager = profile.replace("checkpoint_every_s = 30", "checkpoint_every_s = 0.1")
    assert eager != profile
    path = tmp_path / "eager.toml"
    path.write_text(eager)
    return str(path)


def test_kill_9_then_submit_gives_the_weights_of_an_uninterrupted_run(fresh, eager_profile, runtime, tmp_path):
    words = ("sweeps", "submit", "smoke", *LONG, *TWO, "--profile", eager_profile)
    process = fresh.start(*words)
    id_, pid = fresh.wait_for(lambda: pretraining_process(fresh.store), process)
    os.kill(pid, signal.SIGKILL)
    text, _ = process.communicate(timeout=200)
    assert process.returncode == 1, text
    assert "interrupted" in text
    assert "smoke: 6 done, 6 missing" in fresh.run(*words)
    restarts = {p.parent.name: json.loads(p.read_text())["compute"] for p in fresh.store.root.glob("*/result.json")}
    assert {i for i, compute in restarts.items() if compute.get("num_restarts")} == {id_}, "one was resumed, none restarted"

    resumed, whole = fresh.store.run(id_), Store(tmp_path / "uninterrupted").run(id_)
    whole.create(resumed.load())
    work(whole, runtime)
    assert whole.weights.read_bytes() == resumed.weights.read_bytes()


def test_ctrl_c_saves_and_submit_goes_on(fresh, eager_profile):
    words = ("sweeps", "submit", "smoke", *LONG, *ONE, "--profile", eager_profile)
    process = fresh.start(*words)
    fresh.wait_for(lambda: pretraining_process(fresh.store), process)
    process.send_signal(signal.SIGINT)
    text, _ = process.communicate(timeout=100)
    assert "stopping: running runs save first" in text
    assert "SIGTERM at step" in text
    (log,) = (log.read_text() for log in fresh.store.jobs.glob("*_log.out") if "SIGTERM at step" in log.read_text())
    assert "Traceback" not in log, "stopping is no crash"
    assert "ERROR" not in log
    assert process.returncode == 1
    assert "smoke: 3 done, 9 missing" in fresh.run(*words)


def test_errors_are_one_line_before_any_job_exists(fresh, tmp_path):
    for words, expected in (
        (("sweeps", "plan", "smok"), "no sweep 'smok'. Did you mean 'smoke'"),
        (("sweeps", "submit", "smoke", "--set", "pretrain.mask.ration=1"), "no field 'ration'. Did you mean 'ratio'"),
        (("sweeps", "submit", "smoke", "--profile", "lokal"), "no profile 'lokal'"),
        (("sweeps", "submit", "smoke", "--seeds", "0,x"), "--seeds '0,x'"),
        (("sweeps", "submit", "smoke", "--set", "pretrain.data.seed=7"), "vmae data make --size tiny --seed 7"),
        (("analysis", "report", "smoke"), "no plan of sweep 'smoke'"),
        (("vmae", "run", str(tmp_path)), "is not a run directory"),
        (("vmae", "run", __file__), "is not a run directory"),
        (("vmae", "data", "info", "--size", "full"), "vmae data make --size full"),
    ):
        text = fresh.run(*words, code=2)
        assert text.startswith("error: "), text
        assert expected in text
        assert "Traceback" not in text
    assert not fresh.store.root.exists()


def test_an_unwritable_root_is_said(fresh, tmp_path):
    (tmp_path / "file").write_text("")
    text = fresh.run("sweeps", "submit", "smoke", "--runs", str(tmp_path / "file" / "runs"), code=2)
    assert "cannot write" in text
    assert "Traceback" not in text


def test_a_failing_run_blocks_its_children_only_and_is_retried_when_asked(fresh):
    fresh.run("sweeps", "submit", "smoke", "--prepare")
    plan = json.loads(fresh.store.plan_file("smoke").read_text())
    victim = next(cell for cell in plan["cells"] if cell["arm"] == "tube 0.9")["replicates"][0]["runs"]["pretrain"]
    (fresh.store.run(victim).path / "metrics.jsonl").mkdir()
    text = fresh.run("sweeps", "submit", "smoke", "--jobs", "2", *TWO, code=1)
    assert "3 done" in text
    assert "1 failed" in text
    assert "2 blocked" in text
    (fresh.store.run(victim).path / "metrics.jsonl").rmdir()
    assert "0 of 12 runs to do" in fresh.run("sweeps", "submit", "smoke", *TWO, code=1), "not again by itself"
    assert "smoke: 6 done, 6 missing" in fresh.run("sweeps", "submit", "smoke", *TWO, "--retry", "failed")


@pytest.mark.parametrize("command", ["sweeps", "sweeps submit", "analysis report", "vmae", "vmae data make"])
def test_help_teaches(fresh, command):
    text = fresh.run(*command.split(), "--help")
    assert "Usage:" in text
    assert len(text) > 300
