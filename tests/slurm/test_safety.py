"""Nothing executes from a name: whatever stands in a profile or a path, the sbatch script runs srun and nothing else."""

import json
import os
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_submission import PLAN, Batch, launcher, replace_fields, srun_on_path  # noqa: F401

from slurm.profile import SlurmProfile
from vmae.errors import ConfigError
from vmae.provenance import provenance
from vmae.recipe import validate

ODD = (
    "a'; touch x #",
    'b"; touch x; "',
    "$(touch x)",
    "`touch x`",
    "c && touch x",
    "d | touch x",
    "e > x",
    "f; touch x",
    "g\\'; touch x",
)
FIELDS = ("partition", "account", "qos", "constraint", "exclude")


def executed(text, folder):
    """Run an sbatch script as slurmd would, with an srun that only notes its words; what else appeared in the folder."""
    folder.mkdir()
    (folder / "script.sh").write_text(text)
    before = set(folder.iterdir())
    subprocess.run(["bash", "script.sh"], cwd=folder, check=False, capture_output=True, env={"PATH": os.environ["PATH"]})
    return {path.name for path in set(folder.iterdir()) - before}


@pytest.mark.parametrize("odd", ODD)
def test_odd_words_of_a_profile_are_words(odd, tmp_path, srun_on_path):  # noqa: F811
    made = launcher(tmp_path / "runs")
    fields = dict.fromkeys(FIELDS, odd)
    made.profile = replace_fields(SlurmProfile(kind="slurm"), **fields, sbatch={"comment": odd, "mail-user": odd})
    text = made.show(Batch(((next(iter(PLAN.runs)),),), "pretrain", ()))
    assert all(f"#SBATCH --{name}=" in text for name in FIELDS)
    assert executed(text, tmp_path / "node") == set()


@pytest.mark.parametrize("odd", ODD)
def test_an_odd_run_root_is_a_path(odd, tmp_path, srun_on_path):  # noqa: F811
    made = launcher(tmp_path / odd.replace("/", "") / "runs")
    text = made.show(Batch(((next(iter(PLAN.runs)),),), "pretrain", ()))
    assert executed(text, tmp_path / "node") == set()


@given(st.sampled_from((*FIELDS, "sbatch")), st.sampled_from("\n\r\0\x0b\x1b"), st.text(max_size=5))
def test_a_line_break_in_a_profile_is_refused(field, mark, text):
    """It would end the comment that an #SBATCH line is."""
    odd = f"a{text}{mark}touch x"
    with pytest.raises(ConfigError, match=field):
        validate(SlurmProfile, {"kind": "slurm", field: {"comment": odd} if field == "sbatch" else odd}, "here.toml")


def test_secrets_of_the_environment_are_not_recorded(monkeypatch):
    monkeypatch.setenv("WANDB_API_KEY", "s3cret-value")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "s3cret-value")
    assert "s3cret-value" not in json.dumps(provenance())


def test_run_directories_are_not_writable_for_the_world(tmp_path):
    before = os.umask(0o022)
    try:
        launcher(tmp_path / "runs")
        places = [tmp_path / "runs", *(tmp_path / "runs").rglob("*")]
    finally:
        os.umask(before)
    assert len(places) > len(PLAN.runs)
    assert not [path for path in places if path.stat().st_mode & 0o002]
