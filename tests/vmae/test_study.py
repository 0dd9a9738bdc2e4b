"""Planning: every run once, parents first, names unique, and the cost follows the work."""

import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ablations import mask_ratio_by_sampling
from sweeps.presets import quick
from vmae.arms import SCRATCH, Arm, Times, grid_arms
from vmae.config import PretrainRun
from vmae.cost import NOTHING, CostModel, fit, flops_per_clip, num_clips, shape_of
from vmae.errors import ConfigError
from vmae.grid import CubeGrid
from vmae.identity import run_id
from vmae.remarks import remarks
from vmae.results import Result
from vmae.study import Ablation, Sweep, make_plan

DOC = "Question?\n\nExpected: something.\n\nCost: little."
RATIOS = Ablation("ratios", DOC, "Table 0", (*grid_arms({"pretrain.mask.ratio": (0.5, 0.75)}, "{ratio:g}"), SCRATCH), "0.75")
KINDS = Ablation("kinds", DOC, "Table 0", grid_arms({"pretrain.mask.kind": ("tube", "random")}, "{kind}"), "tube")


@pytest.mark.parametrize(
    ("path", "name", "words"),
    [
        ("pretrain.mask.ration", "hide {ratio:g}", "no path ends in 'ratio'. Did you mean 'ration'? Allowed: ration"),
        ("pretrain.mask.ratio", "hide {rato:g}", "no path ends in 'rato'. Did you mean 'ratio'? Allowed: ratio"),
        ("pretrain.mask.ratio", "hide {:g}", "as in '{ratio}'"),
        ("pretrain.mask.kind", "{kind:g}", "Unknown format code 'g'"),
    ],
)
def test_a_name_of_arms_that_does_not_fit_their_fields_says_why(path, name, words):
    with pytest.raises(ConfigError) as caught:
        grid_arms({path: ("tube",) if "kind" in path else (0.5, 0.75)}, name)
    assert str(caught.value).startswith(f"arms named {name!r}: ")
    assert words in str(caught.value)


def sweep(ablations=(RATIOS,), labels=("motion",), seeds=(0,)):
    return Sweep("s", "Purpose.", ablations, {f"d-{label}": quick(label) for label in labels}, seeds)


def test_counts_by_hand():
    """Two ratios and scratch: 2 pre-trainings, 3 fine-tunings, 3 evaluations; a second label set shares the pre-trainings."""
    one = make_plan(sweep())
    assert (one.num_declared, len(one.runs), one.num_shared) == (8, 8, 0)
    two = make_plan(sweep(labels=("motion", "appearance")))
    assert (two.num_declared, len(two.runs), two.num_shared) == (16, 14, 2)
    # `kinds` adds random; its tube arm is the 0.75 of `ratios`: three runs shared.
    both = make_plan(sweep(ablations=(RATIOS, KINDS)))
    assert (both.num_declared, len(both.runs), both.num_shared) == (14, 11, 3)


@given(st.lists(st.integers(0, 1000), min_size=1, max_size=3, unique=True))
def test_parents_come_first_and_seeds_are_paired(seeds):
    plan = make_plan(sweep(seeds=tuple(seeds)))
    order = list(plan.runs)
    for child, parent in plan.parents.items():
        assert order.index(parent) < order.index(child)
    for cell in plan.cells:
        for seed, runs in cell.replicates.items():
            finetune = plan.runs[runs["finetune"]]
            assert finetune.finetune.seed == seed
            assert finetune.parent is None or finetune.parent.pretrain.seed == seed
    assert all(run_id(run) == id_ for id_, run in plan.runs.items())


def test_scratch_has_no_pretraining():
    plan = make_plan(sweep())
    scratch = next(cell for cell in plan.cells if cell.arm == "scratch")
    assert set(scratch.replicates[0]) == {"finetune", "evaluate"}


def test_a_bad_arm_names_sweep_ablation_arm_and_data_set():
    bad = Ablation("bad", DOC, "", (Arm("all", {"pretrain.mask.ratio": 1.5}),), "all")
    with pytest.raises(ConfigError, match=r"sweep s, ablation bad, arm 'all', data set d-motion: pretrain\.mask\.ratio = 1\.5"):
        make_plan(sweep(ablations=(bad,)))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"baseline": "0.57"}, "no arm '0.57' as baseline"),
        ({"arms": (Arm("a", {}), Arm("a", {}))}, "two arms have one name"),
        ({"metric": "top_1"}, "ablation a: metric 'top_1'. Did you mean 'top1'"),
        ({"metric": "loss"}, "metric 'loss'.* Allowed: top1, top5"),
        ({"doc": "Question?"}, "no 'Expected:' paragraph"),
        ({"doc": "Question?\n\nExpected: x"}, "no 'Cost:' paragraph"),
    ],
)
def test_a_careless_declaration_is_refused(arguments, words):
    values = {"name": "a", "doc": DOC, "paper": "", "arms": RATIOS.arms, "baseline": "0.75"} | arguments
    with pytest.raises(ConfigError, match=words):
        Ablation(**values)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"ablations": RATIOS}, "ablations is no tuple of Ablation"),
        ({"ablations": (RATIOS, RATIOS)}, "two ablations have one name: 'ratios'"),
        ({"ablations": ()}, "asks nothing"),
        (
            {"ablations": (replace(RATIOS, datasets=("SSV3",)),)},
            r"asks nothing: ablation ratios is asked on SSV3; recipes here: d. .*stands_for",
        ),
        ({"recipes": {}}, "asks nothing"),
        ({"recipes": quick("motion")}, "recipes is no"),
        ({"seeds": 0}, "seeds = 0; allowed: a tuple of integers"),
        ({"seeds": "01"}, "seeds = '01'"),
        ({"seeds": (0.5,)}, "seeds"),
        ({"spread": "poold"}, "Did you mean 'pooled'"),
        ({"stands_for": {"D": "SSV2"}}, r"stands_for has 'D', which is no data set of its recipes\. (Did you mean|Allowed:) '?d"),
        (
            {"recipes": {"a": quick("motion"), "b": quick("motion")}, "stands_for": {"a": "SSV2", "b": "SSV2"}},
            r"'a' and 'b' both stand for 'SSV2'; allowed: one data set in a place",
        ),
        (
            {"recipes": {"SSV2": quick("motion"), "b": quick("motion")}, "stands_for": {"b": "SSV2"}},
            r"'SSV2' and 'b' both stand for 'SSV2'",
        ),
    ],
)
def test_a_careless_sweep_is_refused(arguments, words):
    values = {"name": "s", "doc": "S.", "ablations": (RATIOS,), "recipes": {"d": quick("motion")}, "seeds": (0,)} | arguments
    with pytest.raises(ConfigError, match=words):
        make_plan(Sweep(**values))


def test_doubled_seeds_are_refused():
    with pytest.raises(ConfigError, match="seeds"):
        make_plan(sweep(seeds=(0, 0)))


@pytest.mark.parametrize("path", ["pretrain.seed", "finetune.seed", "instead.linear_probe.seed"])
def test_an_arm_that_sets_a_replicates_seed_is_refused(path):
    ablation = Ablation("seeds", DOC, "Table 0", (Arm("mine", {path: 7}), Arm("all", {})), "all")
    with pytest.raises(
        ConfigError, match=rf"arm 'mine'.*{path} would do nothing: the sweep's seeds say which seeds each run has"
    ):
        make_plan(sweep(ablations=(ablation,)))


EPOCHS = Ablation("epochs", DOC, "Table 0", (Arm("half", {"pretrain.optim.epochs": Times(0.5)}), Arm("all", {}), SCRATCH), "all")


def test_an_arm_wins_over_an_override_and_the_plan_says_so():
    plan = make_plan(sweep(ablations=(RATIOS, KINDS)), {"pretrain.mask.ratio": 0.875, "finetune.optim.epochs": 3})
    ratios = {run.pretrain.mask.ratio for run in plan.runs.values() if isinstance(run, PretrainRun)}
    assert ratios == {0.5, 0.75, 0.875}
    assert {run.finetune.optim.epochs for run in plan.runs.values() if run.stage == "finetune"} == {3}
    assert plan.overruled == ("--set pretrain.mask.ratio does nothing to arms that set it themselves (ratios: 0.5, 0.75)",)
    assert plan.overruled[0] in remarks(plan)


@pytest.mark.parametrize(
    ("ablations", "settings", "words"),
    [
        (
            (RATIOS,),
            {"pretrain.mask.ratio": 0.875},
            "--set pretrain.mask.ratio=0.875 would do nothing: ablation ratios: each arm",
        ),
        ((KINDS,), {"pretrain.mask.kind": "frame"}, "ablation kinds: each arm sets it"),
        ((RATIOS,), {"finetune.seed": 3}, "--seeds, or the sweep's seeds, say which seeds each run has"),
        ((RATIOS,), {"instead.contrast.optim.epochs": 3}, "no arm has runs that it changes"),
    ],
)
def test_an_override_that_reaches_no_arm_is_refused(ablations, settings, words):
    with pytest.raises(ConfigError, match=re.escape(words)):
        make_plan(sweep(ablations=ablations), settings)


@pytest.mark.parametrize(
    ("ablations", "settings"),
    [
        ((EPOCHS,), {"pretrain.optim.epochs": 40}),  # an arm that halves it is still reached
        ((RATIOS, EPOCHS), {"finetune.optim.epochs": 16}),  # the recipe's own value, said again
        ((RATIOS,), {"finetune.optim.epochs": 3, "finetune.optim.warmup_epochs": 1}),  # which fit only together
    ],
)
def test_an_override_that_reaches_every_arm_is_not_remarked_on(ablations, settings):
    assert quick("motion").finetune.optim.epochs == 16
    assert make_plan(sweep(ablations=ablations), settings).overruled == ()


def test_a_plan_holds_its_overrides_and_only_then():
    assert "set" not in make_plan(sweep()).to_json()
    settings = {"finetune.optim.epochs": 3, "finetune.clip.crop_scales": (1.0, 0.5)}
    assert make_plan(sweep(), settings).to_json()["set"] == settings


def test_a_copied_arm_is_refused():
    arms = (Arm("a", {"pretrain.mask.ratio": 0.5}), Arm("b", {"pretrain.mask.ratio": 0.5}))
    with pytest.raises(ConfigError, match="ablation a: arms 'a' and 'b' have the same settings"):
        Ablation("a", DOC, "", arms, "a")


def test_arms_that_a_scale_makes_the_same_are_named():
    plan = make_plan(sweep(ablations=(EPOCHS,)), {"pretrain.optim.epochs": 1, "pretrain.optim.warmup_epochs": 0})
    assert remarks(plan) == ["epochs on d-motion: arms half and all come to the same runs"]
    assert remarks(make_plan(sweep(ablations=(EPOCHS,)))) == []


def test_a_ratio_that_the_grid_rounds_is_said():
    def plan(*ratios):
        return make_plan(
            sweep(ablations=(Ablation("r", DOC, "", grid_arms({"pretrain.mask.ratio": ratios}, "{ratio}"), "0.75"),))
        )

    positions = quick("motion").grid.num_positions
    assert positions == 16
    assert remarks(plan(0.75, 0.9375)) == []
    assert remarks(plan(0.99, 0.75, 0.95)) == [
        "mask ratios that the grid rounds: 0.95 hides 0.938, 0.99 hides 0.938 of the cubes"
    ]


def test_the_plan_as_json_holds_every_run():
    plan = make_plan(sweep())
    written = plan.to_json()
    assert set(written["runs"]) == set(plan.runs)
    assert [cell["arm"] for cell in written["cells"]] == ["0.5", "0.75", "scratch"]


def test_the_declared_ablation_covers_the_issue_of_masks():
    kinds = [
        (arm.settings.get("pretrain.mask.kind"), arm.settings.get("pretrain.mask.ratio"))
        for arm in mask_ratio_by_sampling.ABLATION.arms
    ]
    assert sum(kind == "tube" for kind, _ in kinds) >= 4
    assert sum(kind == "random" for kind, _ in kinds) >= 4
    assert ("frame", 0.875) in kinds


def test_flops_of_the_papers_setting():
    """performance.md counts 199.7 GFLOP per clip for ViT-B 16x224 tube 0.9 with a 4-block decoder of width 384."""
    recipe = quick("motion").replace(
        {
            "grid.size_px": 224,
            "grid.patch_px": 16,
            "encoder.width": 768,
            "encoder.depth": 12,
            "encoder.num_heads": 12,
            "encoder.mlp_ratio": 4.0,
            "pretrain.decoder.mlp_ratio": 4.0,
            "pretrain.decoder.width": 384,
            "pretrain.decoder.depth": 4,
            "pretrain.decoder.num_heads": 6,
            "pretrain.mask.ratio": 0.9,
        }
    )
    assert recipe.grid == CubeGrid()
    assert flops_per_clip(recipe.runs()[0]) == pytest.approx(199.7e9, rel=0.03)


def test_cost_learns_from_finished_runs():
    run = quick("motion").runs()[0]
    seconds = num_clips(run) * flops_per_clip(run) / 7e9
    result = Result("x", "y", "pretrain", "done", {}, {"train_s": seconds}, {})
    model = fit([(run, result)])
    assert model.measured == {shape_of(run): pytest.approx(7.0)}
    assert model.seconds(run) == pytest.approx(seconds)
    assert isinstance(fit([]), CostModel)


def test_the_speed_of_one_model_is_not_anothers():
    run, larger = quick("motion").runs()[0], quick("motion").replace({"encoder.depth": 12}).runs()[0]
    model = fit([(run, Result("x", "y", "pretrain", "done", {}, {"train_s": 1.0}, {}))], NOTHING)
    assert model.source(run) == "finished runs here"
    assert model.seconds(larger) is None
