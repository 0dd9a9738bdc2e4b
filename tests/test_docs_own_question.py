"""docs/own-question.md: its files and commands, in order, in a copy of the checkout, on a csv of tiny videos."""

import re
import shlex
import shutil
import subprocess
import sys

import miniatures
import pytest
from helpers import ROOT, clean_environment

TEXT = (ROOT / "docs" / "own-question.md").read_text(encoding="utf-8")
# The same at a size that takes seconds.
SMALLER = {
    ("sweeps", "submit"): ["--seeds", "0", "--jobs", "2"],
    ("sweeps", "search", "mine_rate"): ["--trials", "1", "--jobs", "2"],
}


def steps():
    """Its files, as (path, text), and its commands, as words, in the order of the page."""
    found = re.finditer(r"<!-- (\S+) -->\n```\w+\n(.*?)```|```sh\n(.*?)```", TEXT, flags=re.DOTALL)
    for path, text, lines in (match.groups() for match in found):
        if path:
            yield path, text
        else:
            yield from (shlex.split(line) for line in lines.splitlines())


def test_declarations_are_as_short_as_promised():
    files = [step for step in steps() if isinstance(step, tuple)]
    assert {path for path, _ in files} >= {"ablations/hidden_share.py", "sweeps/mine.py"}
    assert all(len(text.splitlines()) <= 17 for _, text in files)


@pytest.mark.slow
def test_every_file_and_command_works(tmp_path):
    for room in ("vmae", "ablations", "sweeps", "slurm", "analysis"):
        shutil.copytree(ROOT / room, tmp_path / room, ignore=shutil.ignore_patterns("__pycache__"))
    lines = ["path,label,split"]
    for split, count in (("train", 24), ("test", 8)):
        for i in range(count):
            miniatures.put(tmp_path / "downloads" / f"{split}{i}.mp4", i % 2)
            lines.append(f"{split}{i}.mp4,{i % 2},{split}")
    miniatures.write(tmp_path / "downloads" / "mine.csv", "\n".join(lines) + "\n")
    said = {}
    for step in steps():
        if isinstance(step, tuple):
            (tmp_path / step[0]).write_text(step[1], encoding="utf-8")
            continue
        words = step[2:] if step[0] == "python" else step
        more = next((more for start, more in SMALLER.items() if tuple(words[: len(start)]) == start), [])
        command = [sys.executable, "-m", *words, *more]
        done = subprocess.run(command, cwd=tmp_path, env=clean_environment(), capture_output=True, text=True, timeout=400)
        assert done.returncode == 0, f"{words}\n{done.stdout}\n{done.stderr}"
        said[" ".join(words)] = done.stdout
    assert any("4 holdout, 20 train, 8 test" in text for text in said.values())
    assert "4 cells x 2 seeds" in said["sweeps plan mine"]
    assert list((tmp_path / "data" / "cache").glob("*.npy")), "decoded once"
    assert "| hide 0.875 |" in said["analysis report mine"]
    assert said["sweeps search best mine_rate"].count("shared recipe") == 4
    assert "8 cells x 3 seeds" in said["sweeps plan tuned_mine_rate"]
