"""What SLURM is asked for, without a SLURM: batches, dependencies, scripts, snapshots, profiles, checks."""

import itertools
import json
import os
import subprocess

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slurm import control, script
from slurm.cluster import Batch, SlurmLauncher, _levels
from slurm.profile import SlurmProfile
from slurm.snapshot import take_snapshot
from sweeps.smoke import SWEEP
from vmae.results import Result, write_result
from vmae.runs import Store
from vmae.study import make_plan

PLAN = make_plan(SWEEP)
PARENTS = {id_: PLAN.parents.get(id_) for id_ in PLAN.runs}
PROFILE = SlurmProfile(kind="slurm", gpus_per_node=1, time="10")


@pytest.fixture(autouse=True)
def cluster_of_eleven(monkeypatch):
    monkeypatch.setattr(control, "max_array_size", lambda: 11)


def launcher(root, **more):
    store = Store(root)
    for id_, run in PLAN.runs.items():
        store.run(id_).create(run)
    return SlurmLauncher(store, PROFILE, "test", PLAN.runs, PARENTS, root / "code" / "abc", **more)


def rehearse(made, pending, waiting=(), room=None):
    """What would be submitted: the batches, each with the ids it gets."""
    batches, numbers = [], itertools.count(100)

    def launch(batch):
        number = next(numbers)
        batches.append(batch)
        return [f"{number}_{k}" if len(batch.jobs) > 1 else str(number) for k in range(len(batch.jobs))]

    return made.submit(pending, dict(waiting), room, launch), batches


@settings(deadline=None, max_examples=60)
@given(st.sets(st.sampled_from(list(PLAN.runs))), st.integers(1, 4), st.none() | st.integers(0, 15))
def test_every_run_is_in_one_batch_behind_its_parent(tmp_path_factory, chosen, pack, room):
    made = launcher(tmp_path_factory.mktemp("runs"), pack=pack)
    pending = [id_ for id_ in PLAN.runs if id_ in chosen]
    submitted, batches = rehearse(made, pending, room=room)
    assert submitted == [id_ for batch in batches for id_ in batch.runs]
    assert len(submitted) == len(set(submitted))
    assert sum(len(batch.jobs) for batch in batches) <= (room if room is not None else len(pending))
    seen = set()
    for batch in batches:
        assert len(batch.jobs) <= 11
        assert all(1 <= len(job) <= pack for job in batch.jobs)
        assert len({PLAN.runs[id_].stage for id_ in batch.runs}) == 1
        for id_ in batch.runs:
            parent = PARENTS[id_]
            assert (parent in seen) == bool(batch.dependencies), "a run waits for its parent exactly if that is in the queue"
        seen |= set(batch.runs)
    if room is None:
        reachable = set()
        for id_ in pending:
            if PARENTS[id_] is None or PARENTS[id_] in reachable:
                reachable.add(id_)
        assert set(submitted) == reachable, "a run whose parent is neither done nor submitted is left out"


def test_pretrainings_are_an_array_and_children_wait_for_their_element(tmp_path):
    _, batches = rehearse(launcher(tmp_path), list(PLAN.runs))
    first = batches[0]
    assert first.stage == "pretrain"
    assert len(first.jobs) == sum(run.stage == "pretrain" for run in PLAN.runs.values())
    element = {id_: f"100_{k}" for k, id_ in enumerate(first.runs)}
    for batch in batches:
        if batch.stage == "finetune" and PARENTS[batch.runs[0]]:
            assert batch.dependencies == (f"afterok:{element[PARENTS[batch.runs[0]]]}",)


def test_a_parent_that_is_done_is_no_dependency(tmp_path):
    made = launcher(tmp_path)
    parent = next(id_ for id_, run in PLAN.runs.items() if run.stage == "pretrain")
    child = next(id_ for id_, p in PARENTS.items() if p == parent)
    write_result(made.store.run(parent).result, Result(parent, "cell", "pretrain", "done", {}, {}, {}))
    _, batches = rehearse(made, [child], waiting={parent: "7"})
    assert [batch.dependencies for batch in batches] == [()]


def test_children_of_a_pack_wait_for_its_end_whatever_it_was(tmp_path):
    """A pack fails with any of its runs; the children check themselves whether their own parent is done."""
    _, batches = rehearse(launcher(tmp_path, pack=4), list(PLAN.runs))
    kinds = {dependency.partition(":")[0] for batch in batches for dependency in batch.dependencies}
    assert kinds == {"afterany"}


def test_levels_put_children_after_parents():
    levels = _levels(list(PLAN.runs), PARENTS)
    depth = {id_: k for k, level in enumerate(levels) for id_ in level}
    assert len(depth) == len(PLAN.runs)
    assert all(depth[id_] == depth[parent] + 1 for id_, parent in PARENTS.items() if parent)


@pytest.fixture
def srun_on_path(tmp_path, monkeypatch):
    """submitit refuses to write a script where no srun is found."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "srun").write_text("#!/bin/sh\n")
    (tmp_path / "bin" / "srun").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")


def test_the_script_says_what_was_asked(tmp_path, srun_on_path):
    made = launcher(tmp_path / "runs", max_running=3)
    made.profile = SlurmProfile(
        kind="slurm",
        partition="gpu",
        nodes=2,
        gpus_per_node=4,
        cpus_per_task=6,
        mem_gb=1.5,
        time="5",
        setup=("module load cuda",),
        python="apptainer exec --nv img.sif python",
        sbatch={"mail-type": "FAIL"},
        srun={"container-mounts": "/a b:/c"},
    )
    ids = list(PLAN.runs)[:5]
    text = made.show(Batch(tuple((id_,) for id_ in ids), "pretrain", ("afterok:12_3",)))
    for line in (
        "--partition=gpu",
        "--nodes=2",
        "--ntasks-per-node=4",
        "--gpus-per-node=4",
        "--cpus-per-task=6",
        "--mem=1536M",
        "--time=5",
        "--signal=USR2@100",
        "--dependency=afterok:12_3,singleton",
        "--kill-on-invalid-dep=yes",
        "--requeue",
        f"--chdir={made.code}",
        "--array=0-4%3",
        "--mail-type=FAIL",
    ):
        assert f"#SBATCH {line}\n" in text, line
    command = next(line for line in text.splitlines() if line.startswith("srun"))
    assert "--kill-on-bad-exit=1" in command
    assert "--cpus-per-task=6" in command
    assert "'--container-mounts=/a b:/c'" in command
    assert "apptainer exec --nv img.sif python -u -m submitit.core._submit" in command
    assert text.index("module load cuda") < text.index("srun")
    alone = made.show(Batch(((ids[0],),), "pretrain", ()))
    assert f"#SBATCH --job-name={ids[0]}\n" in alone
    assert "--array" not in alone


@pytest.mark.parametrize(("max_running", "at_a_time"), [(None, 300), (7, 7), (1000, 300)])
def test_all_elements_of_an_array_may_run_unless_fewer_are_asked_for(tmp_path, srun_on_path, max_running, at_a_time):
    made = launcher(tmp_path / "runs", max_running=max_running)
    text = made.show(Batch(tuple((f"{k:016x}",) for k in range(300)), "finetune", ()))
    assert f"#SBATCH --array=0-299%{at_a_time}\n" in text


def test_a_pack_asks_for_its_runs_together(tmp_path, srun_on_path):
    made = launcher(tmp_path / "runs", pack=3)
    made.profile = replace_fields(PROFILE, mem_gb=2.0, cpus_per_task=2)
    text = made.show(Batch((tuple(list(PLAN.runs)[:3]),), "pretrain", ()))
    for line in ("--ntasks-per-node=3", "--gpus-per-node=3", "--mem=6144M", "--cpus-per-task=2"):
        assert f"#SBATCH {line}\n" in text
    assert "--kill-on-bad-exit=0" in text, "one run's failure leaves the others alone"


def replace_fields(profile, **more):
    return SlurmProfile(**(profile.model_dump() | more))


def test_a_signal_before_python_listens_is_ignored():
    """Without it USR2 would kill the interpreter while it starts."""
    child = f"{script.PATIENT} python3 -c 'import os, signal; os.kill(os.getpid(), signal.SIGUSR2); print(\"alive\")'"
    assert subprocess.run(["bash", "-c", child], capture_output=True, text=True, check=True).stdout == "alive\n"
    bare = "python3 -c 'import os, signal; os.kill(os.getpid(), signal.SIGUSR2)'"
    assert subprocess.run(["bash", "-c", bare], check=False).returncode != 0


def test_foreign_variables_are_hidden_and_come_back(monkeypatch):
    for name in ("SLURM_JOB_ID", "RANK", "MASTER_PORT", "SBATCH_PARTITION", "TORCHELASTIC_RUN_ID", "SLURM_CONF", "MY_OWN"):
        monkeypatch.setenv(name, "1")
    before = dict(os.environ)
    with script.clean_environment():
        left = {name for name in before if name in os.environ}
        assert {"SLURM_CONF", "MY_OWN", "PATH"} <= left
        assert not left & {"SLURM_JOB_ID", "RANK", "MASTER_PORT", "SBATCH_PARTITION", "TORCHELASTIC_RUN_ID"}
    assert dict(os.environ) == before


def test_sbatch_words_are_kept():
    text = "Job failed\nsbatch: error: QOSMaxSubmitJobPerUserLimit\nsbatch: error: Batch job submission failed: Job violates"
    assert script.sbatch_words(text) == "QOSMaxSubmitJobPerUserLimit; Batch job submission failed: Job violates"


@pytest.fixture
def checkout(tmp_path):
    folder = tmp_path / "checkout"
    (folder / "vmae").mkdir(parents=True)
    (folder / "vmae" / "a.py").write_text("A = 1\n")
    for words in (["init", "-q"], ["add", "-A"], ["-c", "user.name=x", "-c", "user.email=x@x", "commit", "-qm", "x"]):
        subprocess.run(["git", *words], cwd=folder, check=True)
    return folder


def test_a_snapshot_per_state_of_the_code(checkout, tmp_path):
    clean = take_snapshot(tmp_path / "runs", checkout)
    assert take_snapshot(tmp_path / "runs", checkout) == clean
    assert json.loads((clean / "SNAPSHOT.json").read_text())["dirty"] is False
    (checkout / "vmae" / "a.py").write_text("A = 2\n")
    edited = take_snapshot(tmp_path / "runs", checkout)
    (checkout / "vmae" / "new.py").write_text("B = 1\n")
    untracked = take_snapshot(tmp_path / "runs", checkout)
    assert len({clean, edited, untracked}) == 3
    assert (clean / "vmae" / "a.py").read_text() == "A = 1\n", "what was submitted stays as it was"
    assert (untracked / "vmae" / "new.py").exists()
    assert "+A = 2" in (edited / "dirty.diff").read_text()
    assert json.loads((edited / "SNAPSHOT.json").read_text())["dirty"] is True
