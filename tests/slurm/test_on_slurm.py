"""Sweeps on a real SLURM: submitted once, interrupted in every way, never lost, never doubled, and told truly."""

import os
import subprocess
import sys

import pytest
from commands import Sweeps
from helpers import ROOT

from vmae.results import read_metrics

pytestmark = [pytest.mark.slurm, pytest.mark.timeout(600)]
TWO = ("--only", "arm=tube 0.75", "--only", "arm=tube 0.9")  # arms, six runs
LONG = ("--set", "pretrain.optim.epochs=150", "--only", "stage=pretrain", "--only", "arm=tube 0.75")


@pytest.fixture
def sweeps(tmp_path, data_root):
    return Sweeps(tmp_path, data_root)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory, data_root):
    """The long pre-training, run on this machine without any scheduler."""
    folder = tmp_path_factory.mktemp("undisturbed")
    here = Sweeps(folder, data_root)
    here("sweeps", "submit", "smoke", *LONG, check=False)
    return next(here.store.run(p.parent.name) for p in here.store.root.glob("*/result.json"))


def long_run(sweeps, undisturbed):
    return sweeps.store.run(undisturbed.id)


def under_way(place):
    """Whether a run trains and has a checkpoint."""
    return place.claim.exists() and place.checkpoint.exists()


def assert_equal_runs(place, other):
    assert place.weights.read_bytes() == other.weights.read_bytes()
    rows, others = (
        [(row.step, row.metric, row.value) for row in read_metrics(each.metrics) if row.metric in ("loss", "lr", "grad_norm")]
        for each in (place, other)
    )
    assert rows == others


def test_a_sweep_is_submitted_once_and_reported(bed, sweeps, tmp_path):
    assert "12 of 12 runs to submit" in sweeps.submit()
    assert set(sweeps.states().values()) <= {"queued", "running", "done"}
    assert "0 of 12 runs to submit" in sweeps.submit(), "what is queued is kept"
    sweeps.until_over(bed)
    assert list(sweeps.states().values()) == ["done"] * 12
    assert "0 of 12 runs to submit; 12 done" in sweeps.submit()
    result = sweeps.store.run(sweeps.rows()[0]["id"]).read_result()
    assert list((sweeps.store.root / "code").glob(f"{result.provenance['commit'][:12]}*")), "provenance is the snapshot's"
    assert "| tube 0.9 |" in sweeps("analysis", "report", "smoke", "--out", str(tmp_path / "reports"))


BLOWS = [("plain", blow) for blow in ("preempt", "USR2", "requeue", "slurmd")]
BLOWS += [("accounted", blow) for blow in ("preempt", "TERM", "kill9")]


@pytest.mark.parametrize(("kind", "blow"), BLOWS)
def test_interrupted_equals_uninterrupted(request, kind, sweeps, undisturbed, blow):
    bed = request.getfixturevalue(kind)
    sweeps.submit(*LONG)
    place = long_run(sweeps, undisturbed)
    sweeps.until(lambda: under_way(place))
    job = place.read_submission()["job_id"]
    if blow == "preempt":
        for _ in bed.nodes:
            bed.call("sbatch", "-p", "urgent", "-N1", "--exclusive", "-o/dev/null", "--wrap", "sleep 2")
    elif blow == "requeue":
        bed.call("scontrol", "requeue", job)
    elif blow == "kill9":
        os.kill(place.held_claim().owner()["pid"], 9)
    elif blow == "slurmd":
        for node in bed.nodes:
            bed.stop_node(node)
            bed.start_node(node)
    else:
        bed.call("scancel", f"--signal={blow}", job)
    sweeps.until_over(bed)
    if blow == "kill9":  # SLURM calls that a failure and does not queue it again
        assert sweeps.states(*LONG[:2])[place.id] == "interrupted"
        sweeps.submit(*LONG)
        sweeps.until_over(bed)
    assert place.state() == "done", sweeps("sweeps", "why", place.id)
    assert_equal_runs(place, undisturbed)
    if blow != "slurmd":
        assert len(place.read_starts()) > 1, "it was interrupted"
        assert place.read_result().compute["num_restarts"] >= 1


def test_ranks_that_are_interrupted_equal_ranks_that_are_not(plain, tmp_path, data_root):
    """Two tasks on two nodes, signalled again and again, against the same two tasks left alone."""
    places = []
    for name, num_signals in (("quiet", 0), ("loud", 3)):
        (tmp_path / name).mkdir()
        sweeps = Sweeps(tmp_path / name, data_root, more="nodes = 2")
        sweeps.submit(*LONG)
        (row,) = [row for row in sweeps.rows(*LONG[:2]) if row["state"] != "missing"]
        place = sweeps.store.run(row["id"])
        for k in range(num_signals):
            sweeps.until(lambda place=place, k=k: len(place.read_starts()) == k + 1 and under_way(place))
            plain.call("scancel", "--signal=USR2", place.read_submission()["job_id"])
        sweeps.until_over(plain)
        assert place.state() == "done", sweeps("sweeps", "logs", place.id)
        places.append(place)
    quiet, loud = places
    assert {start["num_ranks"] for start in loud.read_starts()} == {2}
    assert len(loud.read_starts()) > 2
    assert_equal_runs(loud, quiet)


def test_a_cancelled_job_stays_cancelled_and_the_next_submit_goes_on(bed, sweeps, undisturbed):
    """scontrol requeue would bring back a job that is just being cancelled."""
    sweeps.submit(*LONG)
    place = long_run(sweeps, undisturbed)
    sweeps.until(lambda: under_way(place))
    assert "cancelled 1 runs" in sweeps("sweeps", "cancel", place.id, "--yes")
    sweeps.until_over(bed)
    assert sweeps.states(*LONG[:2])[place.id] == "interrupted"
    sweeps.submit(*LONG)
    sweeps.until_over(bed)
    assert_equal_runs(place, undisturbed)


def test_where_requeue_is_refused_the_next_submit_goes_on(plain, tmp_path, data_root, undisturbed):
    sweeps = Sweeps(tmp_path, data_root, more="requeue = false")
    sweeps.submit(*LONG)
    place = long_run(sweeps, undisturbed)
    sweeps.until(lambda: under_way(place))
    plain.call("scancel", "--signal=USR2", place.read_submission()["job_id"])
    sweeps.until_over(plain)
    assert place.read_stopped()["state"] == "interrupted"
    assert sweeps.states(*LONG[:2])[place.id] == "interrupted"
    told = sweeps("sweeps", "watch", "smoke", "--profile", str(sweeps.profile), "--every", "1", *LONG, check=False)
    assert "1 of 12 runs to submit" in told
    assert_equal_runs(place, undisturbed)


def test_a_short_time_limit_is_requeued_until_it_is_done(plain, tmp_path, data_root):
    """SLURM sends the notice up to a minute early, so a job of one minute may get it at once."""
    sweeps = Sweeps(tmp_path, data_root)
    sweeps.profile.write_text(sweeps.profile.read_text().replace('time = "5"', 'time = "1"\nsignal_before_s = 50'))
    words = [word.replace("150", "6000") for word in LONG]
    sweeps.submit(*words)
    (row,) = [row for row in sweeps.rows(*words[:2]) if row["state"] != "missing"]
    place = sweeps.store.run(row["id"])
    sweeps.until(lambda: len(place.read_starts()) >= 2 and under_way(place))
    steps = [start["step"] for start in place.read_starts()]
    assert steps[0] == 0 < steps[1]
    plain.call("scancel", place.read_submission()["job_id"])


def test_children_of_a_failed_run_are_blocked_and_come_with_its_retry(accounted, sweeps):
    bed = accounted
    sweeps.submit("--prepare")
    parent = next(row["id"] for row in sweeps.rows() if row["stage"] == "pretrain")
    place = sweeps.store.run(parent)
    place.checkpoint.write_bytes(b"no checkpoint")
    sweeps.submit(*TWO)
    sweeps.until_over(bed)
    states = sweeps.states()
    assert states[parent] == "failed"
    assert sum(state == "done" for state in states.values()) == 3
    assert sum(state == "blocked" for state in states.values()) == 2
    assert "0 of 12 runs to submit" in sweeps.submit(*TWO), "what failed is left alone"
    place.checkpoint.unlink()
    assert "3 of 12 runs to submit" in sweeps.submit(*TWO, "--retry", "failed")
    sweeps.until_over(bed)
    assert sum(state == "done" for state in sweeps.states().values()) == 6


def test_one_failing_run_of_a_pack_leaves_the_others_alone(plain, sweeps):
    bed = plain
    sweeps.submit("--prepare")
    pretrainings = [row["id"] for row in sweeps.rows() if row["stage"] == "pretrain"]
    bad = sweeps.store.run(pretrainings[1])
    bad.checkpoint.write_bytes(b"no checkpoint")
    assert "6 of 12" in sweeps.submit(*TWO, "--pack", "2")
    sweeps.until_over(bed)
    states = sweeps.states()
    assert states[bad.id] == "failed"
    assert "no usable checkpoint" in bad.read_stopped()["reason"]
    assert sum(state == "done" for state in states.values()) == 3
    assert sum(state == "blocked" for state in states.values()) == 2
    bad.checkpoint.unlink()
    assert "3 of 12 runs to submit" in sweeps.submit(*TWO, "--pack", "2", "--retry", "failed")
    sweeps.until_over(bed)
    assert sum(state == "done" for state in sweeps.states().values()) == 6


def test_a_pack_that_is_interrupted_saves_all_its_runs(plain, tmp_path, data_root):
    sweeps = Sweeps(tmp_path, data_root)
    words = ("--set", "pretrain.optim.epochs=150", "--only", "stage=pretrain")
    sweeps.submit(*words, "--pack", "4")
    places = [sweeps.store.run(row["id"]) for row in sweeps.rows(*words[:2]) if row["stage"] == "pretrain"]
    sweeps.until(lambda: all(under_way(place) for place in places))
    plain.call("scancel", "--signal=USR2", places[0].read_submission()["job_id"])
    sweeps.until_over(plain)
    assert [place.state() for place in places] == ["done"] * 4
    assert all(place.read_result().compute["num_restarts"] == 1 for place in places)


def test_a_limit_on_the_queue_is_kept_and_watch_submits_the_rest(accounted, sweeps):
    accounted.call("sacctmgr", "-i", "modify", "user", "root", "set", "MaxSubmitJobs=4")
    try:
        assert "submitted 4 of 6" in sweeps.submit(*TWO)
        sweeps("sweeps", "watch", "smoke", "--profile", str(sweeps.profile), "--every", "1", *TWO, check=False)
        assert sum(state == "done" for state in sweeps.states().values()) == 6
    finally:
        accounted.call("sacctmgr", "-i", "modify", "user", "root", "set", "MaxSubmitJobs=-1")


def test_looking_without_touching(plain, sweeps):
    scripts = sweeps.submit("--dry-run")
    assert scripts.count("#!/bin/bash") == 9, "four pre-trainings are an array, eight children stand alone"
    assert "to start at" in sweeps.submit("--test-only")
    assert "the cost is unknown until a run" in sweeps.submit("--max-gpu-hours", "1", check=False)
    assert set(sweeps.states().values()) == {"missing"}
    assert not plain.call("squeue", "-h").strip()


def test_what_is_told_of_a_run(accounted, sweeps, undisturbed):
    sweeps.submit(*LONG)
    place = long_run(sweeps, undisturbed)
    sweeps.until(lambda: under_way(place))
    (row,) = [row for row in sweeps.rows(*LONG[:2]) if row["id"] == place.id]
    assert row["state"] == "running"
    assert row["num_steps"] == 600
    assert 0 < row["step"] < 600
    assert row["node"] in accounted.nodes
    assert row["eta_s"] > 0
    told = sweeps("sweeps", "why", place.id[:6])
    assert "squeue: RUNNING" in told
    assert "arm 'tube 0.75'" in told
    assert "differs from baseline" in told
    assert f"pretrain {place.id} step" in sweeps("sweeps", "logs", place.id[:6])
    os.kill(place.held_claim().owner()["pid"], 9)
    sweeps.until_over(accounted)
    assert "sacct: FAILED" in sweeps("sweeps", "why", place.id)


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ('partition = "mian"', r"no partition 'mian'. Did you mean 'main'"),
        ("gpus_per_node = 4", "gpus_per_node = 4; a node of partition main has 2"),
    ],
)
def test_what_the_cluster_does_not_have_is_refused(plain, tmp_path, data_root, more, words):
    sweeps = Sweeps(tmp_path, data_root)
    text = sweeps.profile.read_text().replace('device = "cpu"\n', "")
    sweeps.profile.write_text(text.replace('partition = "main"', more) if "partition" in more else f"{more}\n{text}")
    assert words in sweeps.submit(check=False)
    assert not plain.call("squeue", "-h").strip()


def test_a_dead_controller_is_said_and_nothing_is_half_submitted(plain, sweeps):
    plain.stop_controller()
    try:
        assert "slurmctld does not answer" in sweeps.submit(check=False)
        assert not list(sweeps.store.root.glob("*/job.json"))
    finally:
        plain.start_controller()
        plain.wait_ready()
    assert "submitted 12" in sweeps.submit()


def test_a_damaged_result_is_made_again(plain, sweeps):
    sweeps.submit(*TWO)
    sweeps.until_over(plain)
    victim = sweeps.store.run(next(row["id"] for row in sweeps.rows() if row["stage"] == "evaluate" and row["state"] == "done"))
    whole = victim.read_result().metrics
    victim.result.write_text("{")
    assert sweeps.states()[victim.id] == "lost"
    sweeps.submit(*TWO, "--retry", "lost")
    sweeps.until_over(plain)
    assert victim.read_result().metrics == whole
    assert victim.path.joinpath("result.json.damaged").exists()


def test_the_doctor_finds_what_is_there(bed, tmp_path, accounted_bed):
    done = subprocess.run(
        [sys.executable, "-m", "slurm", "doctor", "--runs", str(tmp_path)], cwd=ROOT, capture_output=True, text=True, check=True
    )
    for words in ("the signal arrived in the task", "sees the run root", "partition main (default): 2 nodes", "JobRequeue 1"):
        assert words in done.stdout
    assert ("no accounting" in done.stdout) == (bed is not accounted_bed)
