"""docs/extending.md: its code and commands, in order, on two small sweeps; the places that it names are there."""

import re
import shlex
from dataclasses import replace
from pathlib import Path

import pytest
from helpers import ROOT
from typer.testing import CliRunner

from analysis.__main__ import app as analysis
from sweeps.smoke import SWEEP
from vmae.__main__ import app as instrument
from vmae.job import work
from vmae.runs import Store
from vmae.study import make_plan

TEXT = (ROOT / "docs" / "extending.md").read_text(encoding="utf-8")
AS_RELEASED = {"encoder.positions": "sincos_1d", "pretrain.decoder.positions": "sincos_1d"}  # what can be exported


def test_code_and_commands_run(tmp_path, runtime, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("VMAE_RUNS", raising=False)
    store = Store(tmp_path / "runs")
    asked = SWEEP.ablations[0].only("tube 0.75", "tube 0.9")
    made = make_plan(replace(SWEEP, ablations=(asked,), seeds=(0,)), AS_RELEASED)
    for name in ("smoke", "smoke-again"):
        store.write_plan(name, made.to_json() | {"sweep": name})
    for id_, run in made.runs.items():
        store.run(id_).create(run)
        work(store.run(id_), runtime)
    seen: dict = {}
    for language, block in re.findall(r"```(python|sh)\n(.*?)```", TEXT, flags=re.DOTALL):
        if language == "python":
            exec(compile(block, "docs/extending.md", "exec"), seen)
            continue
        for line in block.splitlines():
            program, *words = shlex.split(line.replace("PRETRAINED", str(seen.get("pretrained"))))
            is_ours = program == "vmae"
            assert is_ours or words[:2] == ["-m", "analysis"]
            done = CliRunner().invoke(instrument if is_ours else analysis, words if is_ours else words[2:])
            assert done.exit_code == 0, f"{line}\n{done.output}\n{done.exception}"
    assert seen["done"]["sweep"].tolist() == ["smoke"] * 2 + ["smoke-again"] * 2
    assert sorted(seen["lines"].index) == [0.75, 0.9]
    assert Path("ratios.png").stat().st_size
    assert seen["frames"].shape == seen["clips"].shape
    assert seen["theirs"].config.hidden_size == seen["features"].shape[-1]


@pytest.mark.parametrize("file", sorted(set(re.findall(r"\b(?:vmae|analysis|tests)/[\w/]+\.\w+", TEXT))))
def test_every_file_that_it_names_is_there(file):
    assert (ROOT / file).is_file()


@pytest.mark.parametrize("link", re.findall(r"\]\(([^)#]+)\)", TEXT))
def test_every_link_leads_somewhere(link):
    assert (ROOT / "docs" / link).exists()
