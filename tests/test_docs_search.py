"""docs/search.md: every command runs, in order, on a search of seconds; the exported winners can be planned."""

import re
import subprocess
import sys

import pytest
from helpers import ROOT, clean_environment

TEXT = (ROOT / "docs" / "search.md").read_text(encoding="utf-8")


def commands():
    (block,) = re.findall(r"```sh\n(.*?)```", TEXT, flags=re.DOTALL)
    return [line.split("#")[0].split() for line in block.splitlines() if line.strip()]


@pytest.mark.slow
def test_every_command_runs(data_root, tmp_path):
    places = {"VMAE_DATA": str(data_root), "VMAE_RUNS": str(tmp_path / "runs"), "VMAE_REPORTS": str(tmp_path / "reports")}
    winners, said = tmp_path / "tuned.py", {}
    for program, *words in commands():
        assert program == "python"
        smaller = ["lr_per_mask-tiny" if word == "lr_per_mask" else word for word in words]
        if words[-2:] == ["search", "lr_per_mask"] and words[1] == "sweeps":
            smaller += ["--trials", "2", "--jobs", "2"]
        if "export" in words:
            smaller += ["--to", str(winners)]
        done = subprocess.run(
            [sys.executable, *smaller], cwd=ROOT, env=clean_environment(**places), capture_output=True, text=True, timeout=400
        )
        assert done.returncode == 0, f"{words}\n{done.stdout}\n{done.stderr}"
        said[" ".join(words[1:])] = done.stdout
    assert "8 of 8 trials told" in said["sweeps search lr_per_mask"]
    assert said["sweeps search status lr_per_mask"].count("2 completed, 0 failed") == 4
    assert said["sweeps search best lr_per_mask"].count("shared recipe") == 4
    page = (tmp_path / "reports" / "lr_per_mask-tiny" / "search.md").read_text()
    assert page.count("2 of 2 trials, 0 failed") == 4
    scope: dict = {"__doc__": "Winners."}
    exec(compile(winners.read_text(), str(winners), "exec"), scope)
    assert len(scope["SWEEP"].ablations) == 4
