"""Cells of a table, recomputed by hand from made-up replicates: sums, flags, what is compared at all, words for it."""

from dataclasses import astuple

import numpy as np
import pandas as pd
import pytest
from replicates import QUESTIONS, replicate, study_of
from scipy import stats

from analysis.collect import hours
from analysis.compare import pooled_spread
from analysis.findings import findings, summary
from analysis.formats import latex, results_table
from analysis.table import cell_table
from analysis.words import in_words
from vmae.config import STAGES
from vmae.results import Result


@pytest.mark.parametrize("num_videos", [100, 480])
def test_above_chance_is_scipys_binomial_test_on_the_worst_seed(num_videos):
    for hits in range(10, 100, 3):
        rows = [replicate("loss", "MSE", seed, "done", 100 * top1 / num_videos) for seed, top1 in ((0, num_videos), (1, hits))]
        study = study_of([row | {"evaluate.num_scored": num_videos} for row in rows])
        (text,) = in_words(study, study.plan["ablations"][0], cell_table(study))
        is_above = stats.binomtest(hits, num_videos, 0.125, "greater").pvalue < 0.01
        assert ("Every arm is above chance" in text) == is_above
        assert ("Not above chance (exact binomial test, 1 %): MSE" in text) != is_above


def test_what_an_interrupted_evaluation_took_is_not_known_of_that_seed_alone():
    """Its time is unknown; the cell's hours are those of the seeds that are known, not without evaluation at all."""
    rows = [
        replicate("loss", "MSE", seed, "done", 60.0 + seed) | {"evaluate.hours": hours} for seed, hours in ((0, None), (1, 0.25))
    ]
    cell = cell_table(study_of(rows)).iloc[0]
    assert cell["hours"] == pytest.approx(0.5 + 0.5 + 0.25)
    rows = [row | {"evaluate.hours": None} for row in rows]
    assert cell_table(study_of(rows)).iloc[0]["hours"] == pytest.approx(1.0), "known of no seed"


@pytest.mark.parametrize(
    ("provenance", "expected"),
    [
        ({"torch_threads": 1}, 1.0),
        ({"torch_threads": 8}, 8.0),
        ({"torch_threads": 8, "num_ranks": 2}, 16.0),
        ({"torch_threads": 8, "gpu": "one"}, 1.0),
        ({"torch_threads": 8, "gpu": "one", "num_ranks": 4, "num_sharing_gpu": 2}, 2.0),
    ],
)
def test_hours_are_of_cores_where_there_is_no_gpu(provenance, expected):
    assert hours(Result("r", "c", "pretrain", "done", {}, {"train_s": 3600.0}, provenance)) == expected


def test_hours_apart_is_the_slowest_seed_by_the_fastest():
    hours = {"pretrain.hours": (1.0, 2.0, 3.0), "finetune.hours": (0.5, 1.0, 0.0), "evaluate.hours": (0.0, 0.0, 1.0)}
    rows = [
        replicate("loss", "MSE", seed, "done", 60.0) | {stage: taken[seed] for stage, taken in hours.items()}
        for seed in (0, 1, 2)
    ]
    cell = cell_table(study_of(rows)).iloc[0]
    assert cell["hours_apart"] == pytest.approx(4.0 / 1.5)
    assert cell["hours"] == pytest.approx(2.0 + 0.5 + 1 / 3)


def test_a_cell_sums_up_its_seeds():
    """Means of what varies; the fewest videos scored of the most expected; a floor is beaten where every seed beats it."""
    seeds = (
        {"pretrain.loss_heldout": 0.25, "evaluate.num_scored": 480, "evaluate.num_expected": 480, "evaluate.top1_se": 2.0},
        {"pretrain.loss_heldout": 0.75, "evaluate.num_scored": 470, "evaluate.num_expected": 481, "evaluate.top1_se": 3.0},
    )
    rows = [
        replicate("loss", "MSE", seed, "done", 60.0) | of | {"pretrain.beats_floors": seed == 0, "finetune.on_gpu": True}
        for seed, of in enumerate(seeds)
    ]
    cell = cell_table(study_of(rows)).iloc[0]
    assert (cell["num_scored"], cell["num_expected"]) == (470, 481)
    assert (cell["pretrain_loss_heldout"], cell["top1_video_se"]) == (0.5, 2.5)
    assert not cell["pretrain_beats_floors"]
    assert cell["hours_of"] == "GPU"


@pytest.mark.parametrize(
    ("column", "flag"),
    [
        ("evaluate.list_sha256", "other test list"),
        *((f"{stage}.commit", "mixed code") for stage in STAGES),
        *((f"{stage}.hardware", "mixed hardware") for stage in STAGES),
    ],
)
def test_an_arm_that_its_baseline_differs_from_says_in_what(column, flag):
    rows = [replicate("loss", arm, seed, "done", 60.0) for arm in ("MSE", "L1") for seed in (0, 1)]
    cells = cell_table(study_of([row | {column: "other"} if row["arm"] == "L1" else row for row in rows]))
    assert list(cells["flags"]) == ["", flag]


def test_without_a_seed_in_common_nothing_is_compared():
    """The first seed of one arm and the second of another are no pair, whatever a claim asks."""
    first, *others = QUESTIONS["mask_sampling"][:4]
    rows = [
        replicate("mask_sampling", arm, seed, "done" if (seed == 0) == (arm == first) else "missing", 60.0)
        for arm in (first, *others)
        for seed in (0, 1)
    ]
    study = study_of(rows)
    page = findings(study)
    assert "vs_baseline" not in cell_table(study)
    assert {f.status for f in page if f.check} == {"not run"}
    assert "finished runs: 3 not run." in summary(study, page)


def test_losses_of_one_seed_are_not_compared():
    """Over videos there are hits of evaluations, and no losses of pre-trainings."""
    study = study_of([replicate("loss", arm, 0, "done", 60.0) for arm in ("MSE", "L1")])
    assert "vs_baseline" not in cell_table(study, "pretrain.loss_heldout")


def test_pooled_a_data_set_and_metric_has_the_spread_of_the_arms_with_every_seed():
    """On one of two data sets an arm lacks a seed; two questions share an arm; losses spread otherwise than accuracies."""
    rng, values = np.random.default_rng(0), {}
    for data in "de":
        for arm in QUESTIONS["mask_sampling"]:
            values[data, arm] = {"evaluate.top1": rng.normal(60, 1, 3), "pretrain.loss_heldout": rng.normal(0.5, 0.01, 3)}
    rows = []
    for (data, arm), columns in values.items():
        for seed in range(3):
            state = "failed" if (data, arm, seed) == ("d", "tube 0.75", 1) else "done"
            row = replicate("mask_sampling", arm, seed, state, columns["evaluate.top1"][seed], data)
            if "pretrain.loss_heldout" in row:
                row["pretrain.loss_heldout"] = columns["pretrain.loss_heldout"][seed]
            rows += [row, row | {"ablation": "methods"}]
    study = study_of(rows, "pooled")
    for data in "de":
        for column in ("evaluate.top1", "pretrain.loss_heldout"):
            left_out = ("scratch",) * (column != "evaluate.top1") + ("tube 0.75",) * (data == "d")
            arms = [arm for arm in QUESTIONS["mask_sampling"] if arm not in left_out]
            spread = study.spread(data, column)
            expected = pooled_spread(np.array([values[data, arm][column] for arm in arms]))
            assert astuple(spread) == pytest.approx(astuple(expected))
            assert spread.is_shared
            cells = cell_table(study, column.removeprefix("evaluate."))
            half = stats.t.ppf(0.975, spread.df) * spread.sd * (2 / 3) ** 0.5
            compared = cells[(cells["dataset"] == data) & (cells["vs_baseline_n"] == 3)]
            assert len(compared) == 2 * (len(arms) - 1)
            assert list(compared["vs_baseline_half_width"]) == pytest.approx([half] * len(compared))


def test_a_finding_says_where_masks_of_one_ratio_hide_different_shares():
    arms = {"tube 0.9": 0.875, "random 0.9": 0.898, "tube 0.75": 0.75}
    rows = [
        replicate("mask_sampling", arm, seed, "done", 60.0 + seed) | {"pretrain.mask_ratio_achieved": hidden}
        for arm, hidden in arms.items()
        for seed in (0, 1)
    ]
    numbers = {f.check.versus: f.numbers for f in findings(study_of(rows)) if f.check}
    assert numbers["random 0.9"].endswith("; hidden 0.875 against 0.898")
    assert "hidden" not in numbers["tube 0.75"]


def test_latex_takes_no_arm_for_an_option():
    r"""After `\\` LaTeX reads [2pt] as a space between rows and * as a ban on page breaks."""
    text = latex(pd.DataFrame({"arm": ["[8, 16]", "*all", "a & b_c"], "x": ["1", "2", "3"]}))
    lines = text.splitlines()
    assert lines[4:7] == [r"{[}8, 16] & 1 \\", r"{*}all & 2 \\", r"a \& b\_c & 3 \\"]


@pytest.mark.parametrize(
    ("hours", "shown"), [(0.004, "0.00 core"), (1.005, "1.00 core"), (99.99, "99.99 core"), (100.0, "100 core"), (None, "")]
)
def test_hours_as_people_read_them(hours, shown):
    row = {
        "arm": "x",
        "metric": "top1",
        "num_seeds": 0,
        "state": "",
        "num_nan": 0,
        "flags": "",
        "hours": hours,
        "hours_of": "core",
    }
    assert results_table(pd.DataFrame([row]), "SSV2")["hours"].tolist() == [shown]
