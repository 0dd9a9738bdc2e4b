"""Every declaration loads, checks, and says its question; names are the files'."""

import importlib
from pathlib import Path

import pytest

import ablations
from sweeps import registry
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


def test_unknown_names_get_the_near_one():
    with pytest.raises(ConfigError, match=r"no sweep 'dmeo'. Did you mean 'demo'"):
        registry.load("dmeo")
