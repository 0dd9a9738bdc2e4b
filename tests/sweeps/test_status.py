"""What `status` says where the environment points elsewhere: which folder it looked in, and which lists it did not find."""

import pytest
from typer.testing import CliRunner

from sweeps.__main__ import app

RUNNER = CliRunner()


@pytest.mark.parametrize("makes_folder", [True, False])
def test_missing_runs_are_missing_somewhere(tmp_path, makes_folder):
    root = tmp_path / "elsewhere"
    if makes_folder:
        root.mkdir()
    said = RUNNER.invoke(app, ["status", "smoke"], env={"VMAE_RUNS": str(root)}).output
    assert said == f"smoke: 12 missing in {root}{'' if makes_folder else ' (no such folder)'}\n"


def test_lists_that_are_not_there_are_named_as_plan_names_them(tmp_path):
    """Their stand-ins give runs other ids, so that everything is missing."""
    environment = {"VMAE_RUNS": str(tmp_path), "VMAE_DATA": str(tmp_path / "data")}
    words = ["paper_table1", "--preset", "paper"]
    planned, seen = (RUNNER.invoke(app, [verb, *words], env=environment) for verb in ("plan", "status"))
    line = planned.output.splitlines()[-1]
    assert f"{tmp_path / 'data' / 'ssv2-pretrain.csv'}" in line
    assert line in seen.output.splitlines()
    assert "not there" not in RUNNER.invoke(app, ["status", "smoke"], env=environment).output
