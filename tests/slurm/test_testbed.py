"""The test bed is a SLURM: arrays, dependencies, requeues, GPUs, accounting or none."""

import subprocess
import time

import pytest

pytestmark = pytest.mark.slurm


def until(condition, limit_s=60):
    deadline = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.2)


def test_an_array_of_two_tasks_and_its_child(bed, tmp_path):
    script = f"srun sh -c 'echo $SLURM_ARRAY_TASK_ID $SLURM_PROCID >> {tmp_path}/said'"
    array = bed.call("sbatch", "--parsable", "--array=0-1", "-n2", "-o/dev/null", "--wrap", script).strip()
    bed.call("sbatch", f"--dependency=afterok:{array}_1", "-o/dev/null", "--wrap", f"touch {tmp_path}/child")
    until((tmp_path / "child").exists)
    until(lambda: sorted((tmp_path / "said").read_text().split("\n"))[1:] == ["0 0", "0 1", "1 0", "1 1"])


def test_a_requeued_job_runs_again(bed, tmp_path):
    job = bed.call("sbatch", "--parsable", "--requeue", "-o/dev/null", "--wrap", f"echo x >> {tmp_path}/ran; sleep 30").strip()
    until((tmp_path / "ran").exists)
    bed.call("scontrol", "requeue", job)
    until(lambda: (tmp_path / "ran").read_text() == "x\nx\n")


def test_gpus_are_visible_to_tasks(bed, tmp_path):
    script = f"srun sh -c 'echo $CUDA_VISIBLE_DEVICES > {tmp_path}/gpus'"
    bed.call("sbatch", "--gpus-per-node=2", "-o/dev/null", "--wrap", script)
    until(lambda: (tmp_path / "gpus").exists() and (tmp_path / "gpus").read_text() == "0,1\n")


def test_accounting_or_none(plain_bed, accounted_bed):
    assert "bed" in accounted_bed.call("sacctmgr", "-nP", "list", "cluster")
    with pytest.raises(subprocess.CalledProcessError):
        plain_bed.call("sacct")


def test_a_stopped_node_comes_back(plain):
    plain.stop_node("n2")
    plain.start_node("n2")
    plain.wait_ready()
    plain.call("srun", "-w", "n2", "true")
