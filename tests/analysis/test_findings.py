"""Claims are judged by runs and by nothing else; a claim names comparisons that exist."""

from dataclasses import replace

import pandas as pd
import pytest
import synthetic as made

from analysis.claims import CLAIMS
from analysis.collect import load_study
from analysis.compare import holm
from analysis.findings import findings, page
from analysis.overview import overview
from analysis.paper import lookup
from sweeps import registry
from sweeps.presets import quick
from vmae.arms import Arm, grid_arms
from vmae.runs import Store
from vmae.study import Ablation, Sweep, make_plan


def by_claim(study):
    asked = ((f, (f.check.arm, f.check.versus) if f.check else ("", "")) for f in findings(study))
    return {(f.claim.id, f.dataset, *arms): f for f, arms in asked}


def test_every_claim_of_the_reference_is_there_once():
    reviewed = [claim.id for claim in CLAIMS if claim.id.startswith("B")]
    assert reviewed == [f"B{number:02d}" for number in range(1, 28)]
    assert [claim.id for claim in CLAIMS[len(reviewed) :]] == ["P01", "P02", "P03", "P04"]
    assert all(bool(claim.checks) != bool(claim.why_not) for claim in CLAIMS)


@pytest.mark.parametrize("preset", ["paper", "proxy", "quick"])
def test_checks_name_arms_that_exist(preset):
    sweep = registry.load("everything", preset)
    arms = {a.name: {arm.name for arm in sweep.arms_of(a)} for a in sweep.ablations}
    everywhere = {a.name: {arm.name for arm in a.arms} for a in sweep.ablations}
    for claim in CLAIMS:
        for check in claim.checks:
            known = arms[check.ablation] | everywhere[check.ablation]
            names = known if check.kind == "better" else {name.split()[0] for name in known}
            assert {check.arm, check.versus} <= names, f"{claim.id}: {check}"


def test_a_comparison_asks_for_what_the_paper_claims():
    """Where the paper has both numbers `arm` is ahead of `versus`: a comparison the wrong way round would turn a verdict."""
    rows = {(a.name, arm.name): arm.paper for a in registry.load("everything", "paper").ablations for arm in a.arms}
    ahead = {}
    for check in (check for claim in CLAIMS for check in claim.checks if check.kind == "better"):
        papers = [rows[check.ablation, arm] for arm in (check.arm, check.versus)]
        for dataset in check.datasets or ("SSV2", "K400", "UCF101", "HMDB51"):
            found = [row and lookup(vars(row), dataset) for row in papers]
            if all(one and one.value is not None for one in found):
                ahead[check.ablation, check.text, dataset] = found[0].value > found[1].value
    assert len(ahead) > 30
    behind = [key for key, is_ahead in ahead.items() if not is_ahead]
    assert behind == [("mask_sampling_maest", "mae_st, tube above mae_st, random", "K400")], "as B22's evidence says"
    ratios = {claim.id: check.text for claim in CLAIMS for check in claim.checks if check.kind == "lower ratio"}
    assert ratios == {"B19": "image best ratio below video", "B24": "random best ratio below tube"}


def test_a_tasks_own_videos_are_those_of_its_data_set(paper_study):
    """On K400 its own pre-training is K400's: SSV2's below it supports the claim, and was called a contradiction of it."""
    made = {(dataset, *arms) for claim, dataset, *arms in by_claim(paper_study) if claim == "P04"}
    assert made == {("SSV2", "SSV2", other) for other in ("images", "K400")} | {
        ("K400", "K400", other) for other in ("images", "SSV2")
    }


def test_the_papers_own_values_support_what_is_far_apart(paper_study):
    found = by_claim(paper_study)
    assert found["B02", "SSV2", "VideoMAE", "ImageNet-21k, supervised"].status == "supported"
    assert found["B12", "SSV2", "tube 0.9", "frame 0.875"].status == "supported"
    assert found["B25", "K400", "MSE", "L1"].status.startswith("not distinguishable")
    assert found["B08", "", "", ""].status == "not run"
    assert found["B10", "", "", ""].status.startswith("not judged by runs")
    assert len(found["B02", "SSV2", "VideoMAE", "ImageNet-21k, supervised"].runs) == 6


def test_it_says_how_many_seeds_the_papers_difference_would_need(paper_study):
    """The synthetic seeds spread alike, so a difference that three seeds find needs three at most, a smaller one more."""
    found = by_claim(paper_study)
    far, near = found["B12", "SSV2", "tube 0.9", "frame 0.875"], found["B25", "K400", "MSE", "L1"]
    assert far.to_settle.endswith("(for +8.1)")
    assert int(far.to_settle.split()[0]) <= 3
    assert near.to_settle.endswith("(for +0.3)")
    assert int(near.to_settle.split()[0]) > 3


def masks(top1_of, store, ratios=(0.5, 0.75, 0.875), seeds=(0, 1, 2)):
    """A study of `mask_ratio_by_sampling` with tube and random masks and chosen accuracies."""
    doc = "How much?\n\nExpected: much.\n\nCost: little."
    arms = grid_arms({"pretrain.mask.kind": ("tube", "random"), "pretrain.mask.ratio": ratios}, "{kind} {ratio:g}")
    frame = Arm("frame 0.875", {"pretrain.mask.kind": "frame", "pretrain.mask.ratio": 0.875})
    ablation = Ablation("mask_ratio_by_sampling", doc, "Table 1b", (*arms, frame), "tube 0.5")
    made.finish(store, make_plan(made.sweep(seeds, (ablation,))), top1_of)
    return load_study(store, "synthetic")


BEST = {"tube": (0.875, 0.875, 0.875), "random": (0.5, 0.5, 0.75)}


def level(arm, seed):
    kind, ratio = arm.split()
    return 60.0 - 20 * abs(float(ratio) - BEST.get(kind, (0.875,) * 3)[seed])


def test_the_best_ratio_of_a_kind_is_compared_seed_by_seed(store):
    """Percent of ratio: 37.5, 37.5 and 12.5 lower; mean 29.2; of eight ways to sign them two are as far apart."""
    finding = by_claim(masks(level, store))["B24", "d", "random", "tube"]
    assert finding.numbers == "+29.2 points of ratio, n = 3 seeds; p = 0.25, of so many seeds 0.25 at least"
    assert finding.status.startswith("not distinguishable")


def test_a_missing_ratio_leaves_the_comparison_not_run(store):
    finding = by_claim(masks(lambda arm, seed: None if arm == "random 0.75" else level(arm, seed), store))
    assert finding["B24", "d", "random", "tube"].status == "not run"


@pytest.mark.parametrize("left_out", [{"random 0.75"}, {"tube 0.5", "tube 0.75", "random 0.5", "random 0.75"}])
def test_best_ratios_are_compared_among_the_same_ratios_and_at_least_two(store, left_out):
    whole = masks(level, store)
    part = whole.replicates[~whole.replicates["arm"].isin(left_out)]
    found = by_claim(replace(whole, replicates=part))
    assert ("B24", "d", "random", "tube") in by_claim(whole)
    assert ("B24", "d", "random", "tube") not in found
    assert found["B22", "d", "tube 0.875", "random 0.875"].numbers


def test_the_best_ratios_of_one_seed_are_not_compared(store):
    finding = by_claim(masks(level, store, seeds=(0,)))["B24", "d", "random", "tube"]
    assert (finding.status, finding.numbers) == ("one seed", "")
    assert finding.runs


def test_the_opposite_of_a_claim_is_contradicted(store):
    """Random 0.9 stands above random 0.5 nowhere here; B23 asks whether it does."""
    levels = {"random 0.9": 30.0, "random 0.5": 60.0}

    def top1(arm, seed):
        return levels.get(arm, 50.0) + (0.2, 0.0, -0.4)[seed] * (arm == "random 0.9")

    found = by_claim(masks(top1, store, ratios=(0.5, 0.75, 0.9)))
    assert found["B23", "d", "random 0.9", "random 0.5"].status == "contradicted"


def test_the_page_says_what_was_not_run(paper_study):
    text = page(paper_study, findings(paper_study))
    assert text.count("| not run |") == sum(1 for f in findings(paper_study) if f.status == "not run")
    assert text.count("\n| B") + text.count("\n| P") == len(findings(paper_study))


def test_a_comparison_that_several_claims_rest_on_is_corrected_for_once(paper_study, monkeypatch):
    counts = []
    monkeypatch.setattr("analysis.findings.holm", lambda values: counts.append(len(values)) or holm(values))
    alone = tuple(claim for claim in CLAIMS if claim.id == "B25")
    for claims in (alone, (*alone, *(replace(alone[0], id=f"X{k}") for k in range(50)))):
        monkeypatch.setattr("analysis.findings.CLAIMS", claims)
        findings(paper_study)
    assert counts[0] == counts[1] == 4, "two comparisons on two data sets"


def test_two_questions_that_compare_the_same_runs_are_corrected_for_once(store, monkeypatch):
    """`pretrain_dataset` and `quality_vs_quantity` both set the task's own videos against others."""
    mine, others = {}, {"pretrain.subset": {"num_videos": 100}}
    asked = {"pretrain_dataset": ("SSV2", "K400"), "quality_vs_quantity": ("in-domain, all", "out of domain, all")}
    ablations = tuple(
        Ablation(name, made.DOC, "Table 1e", (Arm(arms[0], mine), Arm(arms[1], others)), arms[0]) for name, arms in asked.items()
    )
    made.finish(
        store,
        make_plan(replace(made.sweep(ablations=ablations), stands_for={"d": "SSV2"})),
        lambda arm, seed: 60.0 + 0.1 * seed * (arm in ("SSV2", "in-domain, all")),
    )
    counts = []
    monkeypatch.setattr("analysis.findings.holm", lambda values: counts.append(len(values)) or holm(values))
    found = findings(load_study(store, "synthetic"))
    assert counts == [1]
    assert len({f.numbers for f in found if f.numbers}) == 1
    assert page(load_study(store, "synthetic"), found).count("1 not distinguishable at n = 3.") == 1


def test_of_several_studies_the_first_that_made_a_comparison_speaks(tmp_path):
    """Both ask how masks are drawn, the second also at another ratio; the loss is asked in the second alone."""
    arms = grid_arms({"pretrain.mask.kind": ("tube", "random"), "pretrain.mask.ratio": (0.9,)}, "{kind} {ratio:g}")
    masks = Ablation("mask_sampling", made.DOC, "Table 1b", arms, "tube 0.9")
    lower = Arm("tube 0.75", {"pretrain.mask.ratio": 0.75})
    losses = tuple(
        Arm(name, {"pretrain.loss": loss, "pretrain.mask.ratio": 0.9}) for name, loss in (("MSE", "mse"), ("L1", "l1"))
    )
    asked = {
        "first": (masks,),
        "second": (replace(masks, arms=(*arms, lower)), Ablation("loss", made.DOC, "Table 1f", losses, "MSE")),
    }
    studies = []
    for name, ablations in asked.items():
        made.finish(
            Store(tmp_path / name),
            make_plan(made.sweep(ablations=ablations)),
            lambda arm, seed: 60.0 + (5.0 + 0.1 * seed) * (arm in ("tube 0.9", "MSE")),
        )
        studies.append(load_study(Store(tmp_path / name), "synthetic"))
    rows = overview(studies, ["[first](a)", "[second](b)"]).set_index(pd.Index([claim.id for claim in CLAIMS]))
    assert rows.loc["B22", "seen here"].startswith("[first](a): tube 0.9 above random 0.9: **supported** (+5.1")
    both = rows.loc["B12", "seen here"]
    assert both.startswith("[first](a): tube 0.9 above random 0.9: **supported**")
    assert "<br>[second](b): tube 0.9 above tube 0.75: **supported**" in both
    assert both.count("random 0.9") == 1
    assert rows.loc["B25", "seen here"].startswith("[second](b): MSE above L1: **supported** (+5.1")
    assert rows.loc["B06", "seen here"] == "not run"
    assert rows.loc["B03", "seen here"].startswith("not judged by runs: ")
    assert "python -m sweeps submit paper_table1 --preset paper" in rows.loc["B25", "to settle it"]


def test_on_each_data_set_the_first_study_that_has_it_speaks(tmp_path):
    arms = grid_arms({"pretrain.mask.kind": ("tube", "random"), "pretrain.mask.ratio": (0.9,)}, "{kind} {ratio:g}")
    ablation = Ablation("mask_sampling", made.DOC, "Table 1b", arms, "tube 0.9")
    recipes = {"motion": quick("motion"), "looks": quick("appearance")}
    studies = []
    for name, datasets, ahead in (("first", ["motion"], 5.0), ("second", ["motion", "looks"], -7.0)):
        sweep = Sweep("synthetic", made.DOC, (ablation,), {dataset: recipes[dataset] for dataset in datasets}, (0, 1, 2))
        made.finish(
            Store(tmp_path / name),
            make_plan(sweep),
            lambda arm, seed, ahead=ahead: 60.0 + (ahead + 0.1 * seed) * (arm == "tube 0.9"),
        )
        studies.append(load_study(Store(tmp_path / name), "synthetic"))
    rows = overview(studies, ["[first](a)", "[second](b)"]).set_index(pd.Index([claim.id for claim in CLAIMS]))
    first, second = rows.loc["B22", "seen here"].split("<br>")
    assert first.startswith("[first](a): tube 0.9 above random 0.9, motion: **supported** (+5.1")
    assert second.startswith("[second](b): tube 0.9 above random 0.9, looks: **contradicted** (-6.9")


def test_a_comparison_made_on_several_data_sets_says_on_which(paper_study):
    rows = overview([paper_study], ["[paper](p)"]).set_index(pd.Index([claim.id for claim in CLAIMS]))
    seen = rows.loc["B25", "seen here"]
    assert "MSE above L1, SSV2: **" in seen
    assert "MSE above L1, K400: **" in seen
    assert "MSE against L1, K400: " in rows.loc["B25", "to settle it"]
