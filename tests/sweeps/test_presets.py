"""Every declaration at every scale: what is planned is pinned, what is relative resolves, what cannot run says why."""

import re
from collections import Counter

import pytest
from typer.testing import CliRunner

from sweeps import registry
from sweeps.__main__ import app
from sweeps.scales import PRESETS, STAND_INS, scale
from vmae.arms import SCRATCH, Arm, As, From, SameSteps, Share, Times
from vmae.config import ContrastConfig
from vmae.cost import V100, CostModel, num_steps
from vmae.errors import ConfigError
from vmae.study import Ablation, Sweep, make_plan

# (cells, pre-trainings and fine-tunings per seed). A change here is a change of what the sweeps ask.
COUNTS = {
    ("paper_table1", "paper"): (42, 24, 32),
    ("paper_table1", "proxy"): (40, 28, 32),
    ("paper_table1", "quick"): (40, 28, 32),
    ("figures", "paper"): (53, 38, 40),
    ("figures", "proxy"): (51, 36, 38),
    ("figures", "quick"): (41, 28, 30),
    ("small_data", "paper"): (19, 17, 19),
    ("small_data", "proxy"): (17, 13, 14),
    ("small_data", "quick"): (17, 14, 15),
    ("masking", "paper"): (32, 30, 32),
    ("masking", "proxy"): (32, 30, 32),
    ("masking", "quick"): (32, 30, 32),
}
DOC = "Which?\n\nExpected: one.\n\nCost: some."


def counts(plan):
    stages = Counter(run.stage for run in plan.runs.values())
    assert stages["finetune"] == stages["evaluate"]
    seeds = len(plan.sweep.seeds)
    return len(plan.cells), stages["pretrain"] / seeds, stages["finetune"] / seeds


@pytest.mark.parametrize(("name", "preset"), COUNTS)
def test_what_is_planned_is_pinned(name, preset):
    assert counts(make_plan(registry.load(name, preset))) == COUNTS[name, preset]


def test_table_1_needs_24_pretrainings_for_its_36_cells():
    """Twelve on each data set: the default, three depths, three masks, three targets, two losses."""
    plan = make_plan(registry.load("paper_table1", "paper"))
    own = [cell.replicates[0]["pretrain"] for cell in plan.cells if "pretrain" in cell.replicates[0]]
    assert (len(own), len(set(own))) == (36, 24)


@pytest.mark.parametrize("preset", PRESETS)
def test_everything_holds_every_other_sweep(preset):
    everything = set(make_plan(registry.load("everything", preset)).runs)
    for name in ("paper_table1", "paper_tables234", "figures", "small_data", "masking"):
        assert set(make_plan(registry.load(name, preset)).runs) <= everything


@pytest.mark.parametrize("preset", PRESETS)
def test_a_preset_has_a_recipe_for_each_data_set_of_the_paper(preset):
    at = scale(preset)
    assert set(at.stands_for.values()) == set(STAND_INS.values())
    recipes = {at.stands_for[name]: recipe for name, recipe in at.recipes.items()}
    ids = {recipe.model_dump_json() for recipe in recipes.values()}
    assert len(ids) == 4, "four different ones"
    assert recipes["HMDB51"].pretrain.num_videos < recipes["SSV2"].pretrain.num_videos
    for recipe in recipes.values():
        assert isinstance(recipe.instead.contrast, ContrastConfig)
        assert recipe.instead.contrast.data == recipe.pretrain.data, "methods are compared on the same videos"
        assert recipe.instead.contrast.subset == recipe.pretrain.subset
        assert recipe.instead.linear_probe.data == recipe.finetune.data


def test_relative_values(recipe):
    other = recipe.replace({"pretrain.mask.ratio": 0.5})
    recipes = {"A": recipe, "B": other}
    settings = {
        "pretrain.optim.epochs": Times(1.6),
        "pretrain.clip.frame_stride": Times(0.2),
        "pretrain.optim.base_lr": Times(0.5),
        "pretrain.subset.num_videos": Share(0.5),
        "pretrain.mask.ratio": From("B"),
        "finetune.optim.epochs": As("pretrain.optim.epochs"),
    }
    found = Arm("a", settings).resolved(recipe, recipes)
    assert found == {
        "pretrain.optim.epochs": 3,
        "pretrain.clip.frame_stride": 1,
        "pretrain.optim.base_lr": recipe.pretrain.optim.base_lr / 2,
        "pretrain.subset.num_videos": 32,
        "pretrain.mask.ratio": 0.5,
        "finetune.optim.epochs": 2,
    }


@pytest.mark.parametrize("preset", ["paper", "proxy", "quick"])
def test_same_steps_are_the_same_steps(preset):
    plan = make_plan(registry.load("small_data", preset))
    steps = {}
    for cell in plan.cells:
        if cell.ablation == "data_size" and "pretrain" in cell.replicates[0]:
            steps[cell.arm] = num_steps(plan.runs[cell.replicates[0]["pretrain"]])
    full = steps["all videos"]
    for arm, count in steps.items():
        # Whole epochs of a subset: at most half an epoch away.
        assert arm.endswith("same epochs") or count == pytest.approx(full, rel=0.01), arm
        assert not arm.endswith("same epochs") or count < 0.55 * full


def test_what_cannot_be_resolved_says_so(recipe):
    def plan(settings):
        ablation = Ablation("a", DOC, "", (Arm("x", settings),), "x")
        make_plan(Sweep("s", "S.", (ablation,), {"d": recipe}, (0,), {"d": "SSV2"}))

    for settings, message in (
        ({"pretrain.loss": Times(2)}, "pretrain.loss = 'mse' is no number"),
        ({"pretrain.optim.epoch": Times(2)}, "has no 'epoch'. Did you mean 'epochs'"),
        ({"pretrain": From("SSV3")}, "no recipe stands for 'SSV3'. Did you mean 'SSV2'"),
        ({"weights": As("instead.image_weights")}, "the recipe has nothing at instead.image_weights"),
    ):
        with pytest.raises(ConfigError) as error:
            plan(settings)
        assert message in str(error.value)
        assert "arm 'x', data set d" in str(error.value)
    scratch = recipe.replace({"pretrain": None})
    for value in (Share(0.5), SameSteps(10)):
        with pytest.raises(ConfigError, match="has no pre-training"):
            Arm("x", {"finetune.optim.epochs": value}).resolved(scratch, {})


def test_arms_of_one_name_need_presets_apart():
    Ablation("a", DOC, "", (Arm("x", {}, presets=("paper",)), Arm("x", {}, presets=("quick",))), "x")
    with pytest.raises(ConfigError, match="two arms have one name"):
        Ablation("a", DOC, "", (Arm("x", {}, presets=("paper",)), Arm("x", {})), "x")
    with pytest.raises(ConfigError, match=r"no arm 'tub 0\.5'. Did you mean 'tube 0\.5'"):
        registry.load("demo").ablations[0].only("tub 0.5")
    alone = Ablation("a", DOC, "", (Arm("x", {}, presets=("paper",)), SCRATCH), "x")
    with pytest.raises(ConfigError, match="preset 'quick' has no arm x"):
        Sweep("s", "S.", (alone,), {}, (0,), preset="quick").baseline_of(alone)


def test_a_sweep_without_a_preset_is_told_which_its_baseline_has():
    """As one on lists of its own, with the paper's recipe, that leaves `preset=` out."""
    arms = (Arm("x", {}, presets=("paper", "proxy")), Arm("y", {"pretrain": None}, presets=("quick",)), SCRATCH)
    asked = Ablation("a", DOC, "", arms, ("x",))
    with pytest.raises(ConfigError, match=r"preset '' has no arm x .*; allowed for `preset=` of the sweep: paper, proxy$"):
        Sweep("s", "S.", (asked,), {}, (0,)).baseline_of(asked)


def test_presets_by_name_and_by_option():
    assert registry.load("loss-proxy".replace("loss", "masking")).name == "masking-proxy"
    assert registry.load("masking", "quick").name == "masking"
    for words, message in (
        (("masking", "papr"), "no preset 'papr'. Did you mean 'paper'"),
        (("demo", "paper"), "sweep 'demo' has only preset 'quick'"),
        (("masking-proxy", "paper"), "is at preset 'proxy', not 'paper'"),
        (("maskin", None), "no sweep 'maskin'. Did you mean 'masking'"),
    ):
        with pytest.raises(ConfigError, match=message.replace("'", ".").replace(".", r".")):
            registry.load(*words)


@pytest.mark.parametrize("preset", ["paper", "proxy", "quick", "tiny"])
def test_scratch_is_one_run_per_data_set_whichever_ablation_asks(preset, monkeypatch, tmp_path):
    monkeypatch.setenv("VMAE_DATA", str(tmp_path))
    found: dict[str, set[str]] = {}
    for name in ("everything", "figures", "masking", "paper_tables234"):
        for cell in make_plan(registry.load(name, preset)).cells:
            if cell.arm == "scratch":
                found.setdefault(cell.dataset, set()).add(cell.cell_id)
    assert found
    assert {dataset: len(ids) for dataset, ids in found.items()} == dict.fromkeys(found, 1)


def test_the_reference_gpu_is_table_3s():
    """64 V100: 800 epochs masked in 19.5 hours, 300 contrastive in 61.7, both on SSv2."""
    base = scale("paper").recipes["SSV2"]
    for recipe, hours in ((base, 19.5), (base.replace({"pretrain": base.instead.contrast}), 61.7)):
        seconds = CostModel(V100).seconds(recipe.runs()[0])
        assert seconds / 3600 / 64 == pytest.approx(hours, rel=2e-3)


def test_plan_counts_gpu_hours_and_names_what_is_not_there(tmp_path, monkeypatch):
    monkeypatch.setenv("VMAE_RUNS", str(tmp_path))
    monkeypatch.setenv("VMAE_DATA", str(tmp_path / "data"))
    found = CliRunner().invoke(app, ["plan", "paper_table1", "--preset", "paper"])
    assert found.exit_code == 0, found.output
    assert "V100 of the paper's Table 3" in found.output
    assert re.search(r"still to run: about 1\d\d,\d{3} GPU-hours", found.output)
    assert "k400-pretrain.csv" in found.output
    assert "hmdb51" not in found.output, "no run of Table 1 reads it"
    refused = CliRunner().invoke(app, ["submit", "paper_table1", "--preset", "paper"])
    assert "no manifest at" in str(refused.exception)
