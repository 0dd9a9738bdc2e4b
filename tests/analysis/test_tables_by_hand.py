"""Whole tables and pages, recomputed by hand with scipy from made-up replicates: seeds missing, without a number, or unequal."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from replicates import QUESTIONS, SEEDS, replicate, study_of
from scipy import stats

from analysis.compare import detectable_over_seeds
from analysis.findings import findings, summary
from analysis.pairs import compare_arms
from analysis.table import cell_table
from analysis.words import in_words, legend, seeds_note


@st.composite
def outcomes(draw, least=2):
    """{question: {arm: {seed: (state, top1)}}}; every arm has `least` of SEEDS in common with every other."""
    sure = SEEDS[:least]
    number = st.one_of(st.floats(20, 90), st.just(50.0))
    found = {}
    for question, arms in QUESTIONS.items():
        for arm in arms:
            for seed in SEEDS:
                state = "done" if seed in sure else draw(st.sampled_from(["done", "done", "failed", "diverged", "missing"]))
                missing = seed not in sure and draw(st.integers(0, 5)) == 0
                found[question, arm, seed] = (state, float("nan") if missing else draw(number))
    return found


def rows_of(found):
    return [replicate(question, arm, seed, *value) for (question, arm, seed), value in found.items()]


def numbers_of(found, question, arm):
    values = {seed: found[question, arm, seed] for seed in SEEDS}
    return {seed: top1 for seed, (state, top1) in values.items() if state == "done" and np.isfinite(top1)}


def stepped_down(p_values):
    order, worst, corrected = np.argsort(p_values, kind="stable"), 0.0, [0.0] * len(p_values)
    for rank, place in enumerate(order):
        worst = max(worst, (len(p_values) - rank) * p_values[place])
        corrected[place] = min(1.0, worst)
    return corrected


def paired(mine, other):
    """Return n, mean, half width and p of the paired t test over common seeds."""
    common = sorted(set(mine) & set(other))
    gaps = np.array([mine[seed] - other[seed] for seed in common])
    error = max(stats.sem(gaps), 100 / 480 / (6 * len(gaps)) ** 0.5)  # of 480 videos
    half = stats.t.ppf(0.975, len(gaps) - 1) * error
    p_value = 2 * stats.t.sf(abs(gaps.mean()) / error, len(gaps) - 1)
    return len(gaps), gaps.mean(), half, p_value


def said(points, p_value, n, words=("better", "worse")):
    return (words[0] if points > 0 else words[1]) if p_value < 0.05 else f"not distinguishable at n = {n}"


@given(outcomes())
@settings(max_examples=25)
def test_a_table_is_what_its_replicates_say(found):
    cells = cell_table(study_of(rows_of(found)))
    assert list(zip(cells["ablation"], cells["arm"], strict=True)) == [(q, arm) for q, arms in QUESTIONS.items() for arm in arms]
    by_name = cells.set_index(["ablation", "arm"])
    for question, arms in QUESTIONS.items():
        for label, other in (("baseline", arms[0]), ("scratch", "scratch")):
            tested = {}
            for arm in arms:
                cell = by_name.loc[(question, arm)]
                if arm == other or other not in arms:
                    assert pd.isna(cell[f"vs_{label}"])
                else:
                    tested[arm] = paired(numbers_of(found, question, arm), numbers_of(found, question, other))
            holms = stepped_down([test[-1] for test in tested.values()])
            for (arm, (n, points, half, p_value)), corrected in zip(tested.items(), holms, strict=True):
                cell = by_name.loc[(question, arm)]
                numbers = [cell[f"vs_{label}{part}"] for part in ("", "_half_width", "_p", "_p_holm", "_n", "_detectable")]
                found_by_most = detectable_over_seeds(half / stats.t.ppf(0.975, n - 1) * n**0.5, n, None, len(tested))
                assert numbers == pytest.approx([points, half, p_value, corrected, n, found_by_most], abs=1e-6)
                assert cell[f"vs_{label}_over"] == "seeds"
                if abs(corrected - 0.05) > 1e-9 and abs(points) > 1e-9:
                    assert cell[f"vs_{label}_verdict"] == said(points, corrected, n)
        for arm in arms:
            cell, known = by_name.loc[(question, arm)], list(numbers_of(found, question, arm).values())
            states = [found[question, arm, seed][0] for seed in SEEDS]
            num_done, unfinished = states.count("done"), [state for state in states if state != "done"]
            assert (cell["num_seeds"], cell["num_planned"], cell["num_nan"]) == (len(known), 4, num_done - len(known))
            assert cell["state"] == (f"{unfinished[0]} ({num_done} of 4 done)" if unfinished else "done")
            assert cell["value"] == cell["top1"] == pytest.approx(np.mean(known))
            half = stats.t.ppf(0.975, len(known) - 1) * stats.sem(known)
            assert cell["value_half_width"] == cell["top1_half_width"] == pytest.approx(half, abs=1e-9)
            assert cell["hours"] == 0.5 * (2 if arm == "scratch" else 3)
            assert cell["flags"] == ""
            assert cell["runs"] == " ".join(f"{arm}/{seed}/evaluate" for seed in SEEDS), "finished or not"


@given(outcomes())
@settings(max_examples=15)
def test_a_page_is_what_its_replicates_say(found):
    """Four claims rest on three comparisons of masks, one on two of losses: five comparisons are corrected for."""
    asked = {
        ("mask_sampling", "tube 0.9", "random 0.9"): ["B12", "B16", "B22"],
        ("mask_sampling", "tube 0.9", "frame 0.875"): ["B12", "B16"],
        ("mask_sampling", "tube 0.9", "tube 0.75"): ["B12", "B15"],
        ("loss", "MSE", "L1"): ["B25"],
    }
    study = study_of(rows_of(found))
    page = findings(study)
    made = [f for f in page if f.check and f.status != "not run"]
    tests = {key: paired(numbers_of(found, key[0], key[1]), numbers_of(found, key[0], key[2])) for key in asked}
    counts = {}
    for (key, claims), corrected in zip(asked.items(), stepped_down([test[-1] for test in tests.values()]), strict=True):
        n, points, half, _ = tests[key]
        judged = [f for f in made if (f.check.ablation, f.check.arm, f.check.versus) == key]
        assert [f.claim.id for f in judged] == claims
        if abs(corrected - 0.05) < 1e-9 or abs(points) < 1e-9:
            return
        verdict = said(points, corrected, n, ("supported", "contradicted"))
        assert {f.status for f in judged} == {verdict}
        assert all(f.numbers.startswith(f"{points:+.1f} ± {half:.1f} points, n = {n} seeds; ") for f in judged)
        done = [f"{arm}/{seed}/evaluate" for arm in key[1:] for seed in SEEDS if found[key[0], arm, seed][0] == "done"]
        assert {f.runs for f in judged} == {tuple(done)}
        counts[verdict] = counts.get(verdict, 0) + 1
    assert len(made) == sum(map(len, asked.values()))
    for verdict, count in counts.items():
        assert f"{count} {verdict}" in summary(study, page)


def test_best_ratios_that_tie_count_as_the_first_declared():
    """Two ratios with as many hits of 480 are common: which of them is best is declared order's, for both kinds alike."""
    levels = {"tube 0.5": (60.0, 70.0), "tube 0.75": (60.0, 60.0), "random 0.5": (50.0, 50.0), "random 0.75": (70.0, 50.0)}
    rows = [replicate("mask_ratio_by_sampling", arm, seed, "done", levels[arm][seed]) for arm in levels for seed in (0, 1)]
    (finding,) = (f for f in findings(study_of(rows)) if f.claim.id == "B24")
    # tube 0.5 and 0.5, random 0.75 and 0.5: -25 and 0 points of ratio.
    assert finding.numbers.startswith("-12.5 points of ratio, n = 2 seeds; p = 1, ")


def test_a_best_ratio_is_not_known_where_one_ratio_has_no_number():
    arms = ("tube 0.5", "tube 0.75", "random 0.5", "random 0.75")
    top1 = {("random 0.75", 1): float("nan")}
    rows = [
        replicate("mask_ratio_by_sampling", arm, seed, "done", top1.get((arm, seed), 60.0)) for arm in arms for seed in (0, 1)
    ]
    (finding,) = (f for f in findings(study_of(rows)) if f.claim.id == "B24")
    assert finding.status == "not run"


def lines_of(rows):
    return list(compare_arms(study_of(rows), "MSE", "L1"))


@pytest.mark.parametrize("second", [None, float("nan")])
def test_arms_with_one_number_in_common_are_not_compared_over_seeds(monkeypatch, second):
    """The difference is then one over videos, and was printed as one over as many seeds as there are videos."""
    for module in ("pairs", "table"):
        monkeypatch.setattr(f"analysis.{module}.paired_predictions", lambda *_: ([True, False, True], [True, True, True]))
    monkeypatch.setattr("analysis.pairs._settings", lambda *_: iter(()))
    values = {"MSE": (60.0, second), "L1": (50.0, 55.0)}
    text = "\n".join(lines_of([replicate("loss", arm, seed, "done", values[arm][seed]) for arm in values for seed in (0, 1)]))
    assert "seeds:" not in text
    assert text.count("over 3 videos") == 2, "each seed's videos, which have been predicted"


def test_a_sentence_says_over_what_each_of_its_differences_is(monkeypatch):
    """One arm has two seeds in common with scratch, another one: its test is McNemar's, over videos."""
    monkeypatch.setattr("analysis.table.paired_predictions", lambda *_: ([True] * 90 + [False] * 10, [True] * 50 + [False] * 50))
    done = {"tube 0.9": (0, 1, 2), "tube 0.75": (0,), "scratch": (0, 1, 2)}
    levels = {"tube 0.9": 80.0, "tube 0.75": 80.0, "scratch": 60.0}
    rows = [
        replicate("mask_sampling", arm, seed, "done" if seed in done[arm] else "failed", levels[arm] + seed * (arm == "scratch"))
        for arm in done
        for seed in (0, 1, 2)
    ]
    study = study_of(rows)
    (text,) = in_words(study, study.plan["ablations"][0], cell_table(study))
    assert "better: tube 0.9 (+19.0), tube 0.75 (+40.0)" in text
    assert "(5 %, over seeds; tube 0.75: over test videos of one seed)" in text


def test_a_verdict_over_videos_names_them_wherever_it_stands(monkeypatch):
    """Two seeds each, of which one is common: a row of seeds, judged over the videos of that one."""
    seeds = {"MSE": (0, 1), "L1": (1, 2)}
    rows = [replicate("loss", arm, seed, "done", 50.0 + 10 * (arm == "L1")) for arm in seeds for seed in seeds[arm]]
    right = ([True] * 60 + [False] * 20, [False] * 20 + [True] * 20 + [False] * 40)
    monkeypatch.setattr("analysis.table.paired_predictions", lambda *_: right)
    study = study_of(rows)
    cell = cell_table(study).set_index("arm").loc["L1"]
    assert (cell["vs_baseline_over"], cell["vs_baseline_verdict"]) == ("videos", "better at n = 80 videos")
    (finding,) = (f for f in findings(study) if f.claim.id == "B25" and f.runs)
    assert finding.status == "supported by one seed"


@pytest.mark.parametrize(
    ("counts", "words"),
    [
        ([1, 1], "one seed: no interval over seeds"),
        ([3, 3], "95 % t intervals over 3 seeds"),
        ([1, 2, 8], "95 % t intervals over 2 or 8 seeds, none of one seed"),
    ],
)
def test_one_seed_is_said_to_have_no_interval(counts, words):
    assert seeds_note(pd.DataFrame({"num_seeds": counts})) == words


def test_words_count_what_the_table_holds():
    rows = [replicate("loss", arm, seed, "done", top1 + seed) for arm, top1 in (("MSE", 60.0), ("L1", 12.0)) for seed in (0, 1)]
    study = study_of(rows)
    cells = cell_table(study)
    (text,) = in_words(study, study.plan["ablations"][0], cells)
    assert "between 12.5 and 60.5 % top-1; chance is 12.5 %. Not above chance (exact binomial test, 1 %): L1." in text
    assert "beats its trivial floors on held-out clips in 2 of 2 arms" in text
    assert "One seed" not in text
    said_of = legend(study, cells, "MSE", "d")
    assert said_of.startswith("95 % t intervals over 2 seeds; 480 of 480 test videos scored")
    assert "standard error of about 2.0 points. Baseline: MSE. Smallest difference to it that such an experiment" in said_of
    by_loss = legend(study, cell_table(study, "pretrain.loss_heldout"), "MSE", "d")
    assert "Baseline: MSE. All seeds gave the same differences" in by_loss
    assert seeds_note(cells[:0]) == "no finished cell"
