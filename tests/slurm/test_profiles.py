"""Profiles: what their files may hold, what a stage gets, and what the cluster is known to refuse."""

import re
from pathlib import Path

import pytest

from slurm import check, control, script
from slurm.profile import FOLDER, Resources, SlurmProfile, StageResources, load_profile
from sweeps.smoke import SWEEP
from vmae.errors import ConfigError
from vmae.study import make_plan

PLAN = make_plan(SWEEP)
PROFILE = SlurmProfile(kind="slurm", gpus_per_node=1, time="10")


def replace_fields(profile, **more):
    return SlurmProfile(**(profile.model_dump() | more))


def partition(**more):
    fields = {"name": "gpu", "is_default": True, "max_time_min": 60, "cpus": 8, "mem_mb": 16384, "gpus": 2, "num_nodes": 2}
    fields |= {"hosts": frozenset({"far1", "far2"})} | more
    known = control.Partition.__dataclass_fields__
    return control.Partition(**(fields | {name: None for name in known if name not in fields}))


@pytest.mark.parametrize(
    ("changes", "pack", "words"),
    [
        ({"partition": "gpus"}, 1, r"profile test: no partition 'gpus'. Did you mean 'gpu'"),
        ({"gpus_per_node": 4}, 1, r"gpus_per_node = 4; a node of partition gpu has 2"),
        ({}, 4, r"gpus_per_node = 1 x --pack 4; a node of partition gpu has 2"),
        ({"gpus_per_node": 2}, 2, r"--pack 2 needs runs of one task; this profile gives each run 2"),
        ({"cpus_per_task": 9}, 1, r"9 cores per node .* has 8"),
        ({"mem_gb": 20.0}, 1, r"mem_gb = 20.0; .* has 16.0"),
        ({"nodes": 3}, 1, r"nodes = 3; partition gpu has 2"),
        ({"time": "2:00:00"}, 1, r"time = '2:00:00'; partition gpu allows .*1:00:00 at most"),
        ({"gpus_per_node": 0, "tasks_per_node": 3}, 1, r"batch_size = 16 is not divisible by the 3 tasks"),
    ],
)
def test_what_the_cluster_cannot_do_is_refused_before_any_job(changes, pack, words, monkeypatch, tmp_path):
    monkeypatch.setattr(control, "partitions", lambda: {"gpu": partition()})
    profile = replace_fields(PROFILE, **({"shared_root": True} | changes))
    with pytest.raises(ConfigError, match=words):
        check.check_profile(profile, "test", PLAN.runs.values(), pack, tmp_path)


def test_a_stage_may_go_to_another_partition_and_a_run_to_either_of_two(monkeypatch, tmp_path):
    there = {"gpu": partition(), "cpu": partition(name="cpu", gpus=0, is_default=False)}
    monkeypatch.setattr(control, "partitions", lambda: there)
    evaluating = {"stages": {"evaluate": {"partition": "cpu", "gpus_per_node": 0, "account": "free"}}}
    profile = replace_fields(PROFILE, partition="cpu,gpu", shared_root=True, **evaluating)
    check.check_profile(profile, "test", PLAN.runs.values(), 1, tmp_path)
    asked = {
        stage: script.parameters(profile, profile.resources(stage), tmp_path, "x", (), 1, 1) for stage in ("pretrain", "evaluate")
    }
    assert asked["pretrain"]["partition"] == "cpu,gpu"
    assert "account" not in asked["pretrain"]
    assert (asked["evaluate"]["partition"], asked["evaluate"]["account"]) == ("cpu", "free")
    with pytest.raises(ConfigError, match=r"gpus_per_node = 1; a node of partition cpu has 0"):
        check.check_profile(replace_fields(profile, partition="cpu"), "test", PLAN.runs.values(), 1, tmp_path)
    with pytest.raises(ConfigError, match=r"no partition 'gpus'. Did you mean 'gpu'"):
        check.check_profile(replace_fields(profile, partition="cpu,gpus"), "test", PLAN.runs.values(), 1, tmp_path)


def test_a_root_that_the_nodes_do_not_see_is_refused(monkeypatch, tmp_path):
    monkeypatch.setattr(control, "partitions", lambda: {"gpu": partition()})
    monkeypatch.setattr(check, "file_system", lambda path: "ext4")
    with pytest.raises(ConfigError, match=r"file system of this machine alone \(ext4\).*shared_root = true"):
        check.check_profile(PROFILE, "test", PLAN.runs.values(), 1, tmp_path)
    monkeypatch.setattr(check, "file_system", lambda path: "nfs4")
    check.check_profile(PROFILE, "test", PLAN.runs.values(), 1, tmp_path)


def test_the_file_system_of_a_path():
    assert check.file_system(Path("/proc/self")) == "proc"
    assert check.file_system(Path("/")) != ""


def test_stages_may_have_resources_of_their_own():
    profile = load_profile("multinode")
    assert profile.resources("pretrain").num_ranks == 64
    assert profile.resources("finetune").num_ranks == 8
    assert profile.resources("evaluate").num_ranks == 1
    assert profile.resources("evaluate").cpus_per_task == profile.cpus_per_task


def test_every_field_that_the_template_shows_may_be_taken(tmp_path):
    """Those that it leaves out too, as they would be typed: toml has arrays where Python has tuples."""
    text = (FOLDER / "slurm.toml").read_text()
    whole = re.sub(r"^# (?=\w+ = )", "", text, flags=re.MULTILINE)
    (tmp_path / "own.toml").write_text(whole)
    profile = load_profile(str(tmp_path / "own.toml"))
    assert profile.setup[0] == "module load cuda/12.4"
    left_out = set(SlurmProfile.model_fields) - {"kind", "stages", "runtime"} - set(re.findall(r"^(\w+) = ", whole, re.MULTILINE))
    assert not left_out, "the template explains every field"
    assert set(StageResources.model_fields) == set(Resources.model_fields)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('kind = "slurm"\ntime = "soon"', r"time.*'soon'"),
        ('kind = "slurm"\ngpu_per_node = 2', r"gpu_per_node: unknown key. Did you mean 'gpus_per_node'"),
        ('kind = "slurm"\n[stages.train]\nnodes = 1', r"stages\.train"),
        ('kind = "slurm"\n[stages.finetune]\nnode = 1', r"unknown key. Did you mean 'nodes'"),
        ('kind = "slurm"\n[stages.finetune]\ntime = "x"', r"stages\.finetune\.time.*'x'"),
    ],
)
def test_a_bad_slurm_profile_names_file_and_field(text, words, tmp_path):
    (tmp_path / "bad.toml").write_text(text)
    with pytest.raises(ConfigError, match=words) as caught:
        load_profile(str(tmp_path / "bad.toml"))
    assert "bad.toml" in str(caught.value)
