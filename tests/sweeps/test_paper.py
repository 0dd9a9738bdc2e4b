"""The paper's recipes: each one is a valid run, and says where its values come from."""

import re

import pytest
from helpers import ROOT

from sweeps.paper import probe, recipe
from sweeps.paper_values import FINETUNING, PRETRAINING
from vmae.errors import ConfigError
from vmae.identity import run_id
from vmae.sections import ListedSet
from vmae.sizes import ENCODERS

CLASSES = {"ssv2": 174, "k400": 400, "ucf101": 101, "hmdb51": 51}
# Steps per epoch follow from the list; the sizes are of the order of the data sets' own.
COUNTS = {"pretrain": 9537, "holdout": 200, "train": 9537, "test": 3783}


def lists(dataset):
    unlabelled = ListedSet(name=dataset, list_sha256="0" * 64, manifest="list.csv", counts=COUNTS)
    return unlabelled, unlabelled.model_copy(update={"num_classes": CLASSES[dataset]})


@pytest.mark.parametrize("size", ENCODERS)
@pytest.mark.parametrize("dataset", PRETRAINING)
def test_every_recipe_is_runs(dataset, size):
    made = recipe(dataset, size, *lists(dataset))
    assert [run.stage for run in made.runs()] == ["pretrain", "finetune", "evaluate"]
    scratch = recipe(dataset, size, *lists(dataset), scratch=True)
    assert [run.stage for run in scratch.runs()] == ["finetune", "evaluate"]
    assert scratch.finetune.optim.epochs >= made.finetune.optim.epochs or size == "vit_s"


@pytest.mark.parametrize("kind", ["linear", "attentive", "knn"])
@pytest.mark.parametrize("dataset", PRETRAINING)
def test_every_probe_is_runs_on_the_pretraining_of_fine_tuning(dataset, kind):
    made, tuned = probe(dataset, "vit_b", *lists(dataset), kind), recipe(dataset, "vit_b", *lists(dataset))
    assert run_id(made.runs()[0]) == run_id(tuned.runs()[0])
    assert made.finetune.optim.lr == pytest.approx(0.4)
    assert (made.evaluate.knn is None) == (kind != "knn")


def test_table_1_is_the_ablation_setting():
    """Spot checks against the paper's text: learning rates after the linear rule, and the number of views."""
    made = recipe("ssv2", "vit_b", *lists("ssv2"))
    assert made.pretrain.optim.lr == pytest.approx(6e-4)
    assert made.finetune.optim.lr == pytest.approx(1e-3)
    assert made.pretrain.mask.num_hidden(made.grid) == 1408
    assert made.evaluate.num_clips * made.evaluate.num_crops == 6
    assert not made.finetune.clip.hflip
    assert recipe("k400", "vit_b", *lists("k400")).finetune.optim.lr == pytest.approx(2e-3)
    assert recipe("hmdb51", "vit_b", *lists("hmdb51")).pretrain.mask.ratio == 0.75
    assert recipe("ucf101", "vit_b", *lists("ucf101")).pretrain.optim.lr == pytest.approx(2.25e-4)


def test_every_value_names_its_source():
    text = "".join((ROOT / "sweeps" / f"{name}.py").read_text(encoding="utf-8") for name in ("paper_values", "paper"))
    values = [line for line in text.splitlines() if re.match(r"^ +\w+=[-\w.\"(]*[\d\"]", line) or re.match(r"^    \(\"", line)]
    assert len(values) > 70
    assert [line for line in values if not re.search(r"# (P|S|I|M|no stride|no layers|the encoder)\b", line)] == []


def test_unknown_names_are_answered_with_the_near_one():
    with pytest.raises(ConfigError, match=r"no recipe for data set 'k40'\. Did you mean 'k400'"):
        recipe("k40", "vit_b", *lists("k400"))
    with pytest.raises(ConfigError, match=r"no model 'vit-b'\. Did you mean 'vit_b'"):
        recipe("k400", "vit-b", *lists("k400"))
    with pytest.raises(ConfigError, match=r"no probe 'linaer'\. Did you mean 'linear'"):
        probe("k400", "vit_b", *lists("k400"), "linaer")
    assert set(FINETUNING) == set(PRETRAINING)
