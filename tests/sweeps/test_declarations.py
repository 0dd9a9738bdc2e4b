"""Every declaration loads, checks, and says its question; names are the files'."""

import importlib
import re
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

import ablations
import sweeps
from sweeps import registry
from sweeps.__main__ import app
from sweeps.commands.options import check_paper_rows, parse_seeds
from vmae.arms import Arm, PaperRow
from vmae.errors import ConfigError
from vmae.study import make_plan

ABLATIONS = [p.stem for p in Path(ablations.__file__).parent.glob("*.py") if p.stem != "__init__"]


@pytest.mark.parametrize("name", ABLATIONS)
def test_an_ablation_asks_one_question(name):
    module = importlib.import_module(f"ablations.{name}")
    ablation = module.ABLATION
    assert ablation.name == name
    assert ablation.question.endswith("?")
    assert ablation.doc == module.__doc__
    assert ablation.paper


@pytest.mark.parametrize("name", registry.names())
def test_a_sweep_plans(name):
    sweep = registry.load(name)
    plan = make_plan(sweep)
    assert sweep.name == name
    assert sweep.purpose
    assert plan.runs


@pytest.fixture
def declare(monkeypatch, tmp_path):
    """A sweep of this name and text, as if its file lay beside the others."""

    def write(name, text):
        folder = tmp_path / "sweeps"
        folder.mkdir(exist_ok=True)
        (folder / f"{name}.py").write_text(text)
        monkeypatch.setattr(sweeps, "__path__", [*sweeps.__path__, str(folder)])
        known = registry.names()
        monkeypatch.setattr(registry, "names", lambda: sorted([*known, name]))

    yield write
    for name in [name for name in sys.modules if name.startswith("sweeps.toys")]:
        del sys.modules[name]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('"""Toys."""\n\nfrom ablations import mask_ration\n', "sweeps/toys.py:3: ImportError: cannot import name 'mask_ration'"),
        ('"""Toys."""\n\nSWEEP = (\n', "sweeps/toys.py:3: SyntaxError: '(' was never closed"),
        ('"""Toys."""\n', "sweeps/toys.py:1: AttributeError: module 'sweeps.toys' has no attribute 'SWEEP'"),
        (
            "from ablations.mask_sampling import ABLATION\n\nSWEEP = ABLATION.only('tub 0.75')\n",
            "sweeps/toys.py:3: ablation mask_sampling: no arm 'tub 0.75'. Did you mean 'tube 0.75'?",
        ),
        (
            "from sweeps.presets import tiny\nfrom vmae.study import Sweep\n"
            "SWEEP = Sweep('toys', __doc__, (), {'d': tiny('motion')}, (0,))\n",
            "sweeps/toys.py:3: sweep toys: its file has no docstring",
        ),
        (
            '"""Toys."""\nfrom sweeps.smoke import SWEEP\n',
            "sweeps/toys.py: SWEEP is named 'smoke'; allowed: 'toys', as its file",
        ),
        ("SWEEP = 'toys'\n", "sweeps/toys.py: SWEEP is of type str; allowed: Sweep or Declaration"),
    ],
)
def test_a_broken_declaration_says_its_line_and_hides_no_other(declare, text, words):
    declare("toys", text)
    with pytest.raises(ConfigError) as caught:
        registry.load("toys")
    assert words in str(caught.value)
    done = CliRunner().invoke(app, ["list"])
    assert done.exit_code == 0, done.exception
    sweeps, searches = ([line.split(maxsplit=1) for line in part.splitlines()] for part in done.output.split("\n\n"))
    assert [name for name, _ in searches[1:]] == registry.searches()
    rows = dict(sweeps)
    assert set(rows) == set(registry.names())
    assert words in rows["toys"]
    assert rows["smoke"] == registry.load("smoke").purpose


def test_a_copied_ablation_with_its_old_name_is_named_by_its_file(monkeypatch, tmp_path):
    text = Path(ablations.__file__).with_name("loss.py").read_text(encoding="utf-8")
    (tmp_path / "loss_of_mine.py").write_text(text, encoding="utf-8")
    monkeypatch.setattr(ablations, "__file__", str(tmp_path / "__init__.py"))
    monkeypatch.setattr(ablations, "__path__", [*ablations.__path__, str(tmp_path)])
    monkeypatch.delitem(sys.modules, "sweeps.everything", raising=False)
    with pytest.raises(ConfigError, match=r"ablations/loss_of_mine\.py: ABLATION is named 'loss'; allowed: 'loss_of_mine'"):
        registry.load("everything")
    del sys.modules["ablations.loss_of_mine"]


@pytest.mark.parametrize(("text", "seeds"), [("0", (0,)), ("0,4-6", (0, 4, 5, 6)), ("3-3", (3,))])
def test_seeds_are_lists_and_ranges(text, seeds):
    assert parse_seeds(text) == seeds


@pytest.mark.parametrize("text", ["0-", "-3", "", "0,,1", "3-1", "0,3-1", "a"])
def test_seeds_that_are_half_said_are_refused(text):
    with pytest.raises(ConfigError, match="for example 0,1,2 or 0-9"):
        parse_seeds(text)


def test_unknown_names_get_the_near_one():
    with pytest.raises(ConfigError, match=r"no sweep 'dmeo'. Did you mean 'demo'"):
        registry.load("dmeo")


@pytest.mark.parametrize(
    ("row", "words"),
    [
        (PaperRow("vmae.t1z", "tube/90"), "arm 'hide half': analysis/paper.csv has no table 'vmae.t1z'. Did you mean 'vmae.t1"),
        (PaperRow("vmae.t1b", "tube/09"), "has no case of vmae.t1b 'tube/09'. Did you mean 'tube/90'"),
    ],
)
def test_a_paper_row_that_nobody_wrote_down_is_refused_before_any_run(row, words):
    asked = registry.load("smoke").ablations[0]
    ablation = replace(asked, arms=(*asked.arms, Arm("hide half", {"pretrain.mask.ratio": 0.5}, row)))
    with pytest.raises(ConfigError, match=re.escape(words)):
        check_paper_rows(replace(registry.load("smoke"), ablations=(ablation,)))
