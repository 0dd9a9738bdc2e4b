"""The doctor asks sbatch as `submit` does, and what it was told stands in the profile that it suggests."""

import os
import tomllib

import pytest
from typer.testing import CliRunner

from slurm import control
from slurm.__main__ import app
from slurm.profile import SlurmProfile

ANSWERS = {
    "sinfo": "echo 'main*|infinite|8|16000|(null)|n1'",
    "scontrol": 'case "$2" in config) echo "JobRequeue = 1";; esac',
    "squeue": "true",
    "scancel": "true",
    # Takes a job only with an account, from its options or, as sbatch itself, from the shell.
    "sbatch": (
        'echo "$@" > {folder}/words; [ -z "$SBATCH_ACCOUNT" ] || exec echo 7; '
        'case "$*" in *--account=*) echo 7;; *) echo "sbatch: error: no account" >&2; exit 1;; esac'
    ),
}


@pytest.fixture
def doctor(tmp_path, monkeypatch):
    """Return the command on a pretended cluster that charges accounts, and the options that its sbatch got."""
    for name, script in ANSWERS.items():
        (tmp_path / name).write_text("#!/bin/sh\n" + script.replace("{folder}", str(tmp_path)))
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    control.config.cache_clear()
    yield lambda *words: (
        CliRunner().invoke(app, ["doctor", "--runs", str(tmp_path / "runs"), "--limit", "0", *words]).output,
        (tmp_path / "words").read_text().split(),
    )
    control.config.cache_clear()


def suggested(output):
    return SlurmProfile(**tomllib.loads(output.partition("every field):\n")[2]))


def test_what_it_is_told_reaches_sbatch_and_the_profile(doctor):
    asked = {"account": "vision", "qos": "long", "constraint": "a100|h100", "partition": "main"}
    output, words = doctor(*(word for field, value in asked.items() for word in (f"--{field}", value)))
    assert "not accepted" not in output
    profile = suggested(output)
    for field, value in asked.items():
        assert f"--{field}={value}" in words
        assert getattr(profile, field) == value


def test_the_shells_account_does_not_count_as_submit_would_not_see_it(doctor, monkeypatch):
    monkeypatch.setenv("SBATCH_ACCOUNT", "vision")
    output, words = doctor()
    assert "the smoke job was not accepted: sbatch refuses: no account" in output
    assert not any(word.startswith("--account") for word in words)
    assert os.environ["SBATCH_ACCOUNT"] == "vision"


def test_a_partition_that_was_not_asked_for_is_the_clusters_default(doctor):
    assert suggested(doctor("--account", "vision")[0]).partition == "main"
