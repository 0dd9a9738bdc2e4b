"""docs/data.md: its commands run, in its order, on miniatures that lie where it says; its sweeps exist.

Its one script, a `bash` block, runs in tests/test_data_sets.py.
"""

import re
import shlex

import miniatures
from helpers import ROOT
from typer.testing import CliRunner

from sweeps import registry
from vmae.__main__ import app

TEXT = (ROOT / "docs" / "data.md").read_text(encoding="utf-8")
SMALLER = {"1000,3500,10000,42000,84000": "2,4,8", "5": "0.1"}


def commands():
    blocks = re.findall(r"```sh\n(.*?)```", TEXT, flags=re.DOTALL)
    return [shlex.split(line) for block in blocks for line in block.splitlines()]


def test_every_command_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("VMAE_DATA", raising=False)
    downloads = tmp_path / "downloads"
    for make in (miniatures.ssv2, miniatures.k400, miniatures.ucf101, miniatures.hmdb51):
        make(downloads)
    for name in ("train", "val"):
        miniatures.put(downloads / "videos" / "a folder" / f"{name}.mp4")
        miniatures.write(downloads / "lists" / f"{name}.csv", f"a folder/{name}.mp4 0\n")
        miniatures.put(downloads / "set" / name / "a class" / "1.mp4")
    found = commands()
    assert len(found) > 12
    for program, *words in found:
        if program == "vmae":
            done = CliRunner().invoke(app, [SMALLER.get(word, word) for word in words])
            assert done.exit_code == 0, f"{words}: {done.output} {done.exception}"
        else:
            assert (program, *words[:2]) == ("python", "-m", "sweeps")
            with monkeypatch.context() as elsewhere:
                elsewhere.setenv("VMAE_DATA", str(tmp_path / "nothing"))  # the real lists have more classes than miniatures
                preset = registry.load(words[3], "paper").preset
            assert preset == "paper"
    assert {file.name for file in (tmp_path / "data").glob("*.scan.csv")} == {
        f"{n}.scan.csv" for n in ("ssv2", "k400", "ucf101", "hmdb51")
    }
