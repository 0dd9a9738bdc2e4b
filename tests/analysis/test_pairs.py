"""Two arms beside each other: numbers with how sure they are, and in what the arms differ; wrong names are answered."""

from dataclasses import replace

import pytest
import synthetic as made

from analysis.collect import load_study, predictions
from analysis.pairs import compare_arms
from analysis.table import paired_predictions
from vmae.config import PretrainConfig
from vmae.errors import ResultsError, RunDirError
from vmae.results import read_result, write_result
from vmae.study import Ablation, make_plan

LEVELS = {"tube 0.5": 50.0, "tube 0.875": 60.0, "random 0.5": 50.0, "random 0.875": 55.0, "frame 0.875": 20.0, "scratch": 40.0}


@pytest.fixture
def study(store):
    made.finish(store, make_plan(made.sweep()), lambda arm, seed: LEVELS[arm] + (-1.25, 0.0, 1.25)[seed] * (arm == "tube 0.875"))
    return load_study(store, "synthetic")


def test_numbers_tests_and_settings(study):
    lines = list(compare_arms(study, "tube 0.875", "random 0.875"))
    text = "\n".join(lines)
    assert lines[0] == "masks, d"
    assert "tube 0.875: top-1 60.0 ± 3.1 (3) %" in text
    assert "over 3 seeds: +5.00 ± 3.11 points, paired t test, p = 0.0202: better" in text
    assert sum("McNemar" in line and "paired bootstrap" in line for line in lines) == 3, "one per seed"
    assert [line.strip() for line in lines if "setting" in line] == [
        "setting parent.parent.pretrain.mask.kind: tube against random"
    ]


def test_a_section_that_one_arm_lacks_is_one_line(study):
    lines = list(compare_arms(study, "tube 0.875", "scratch"))
    assert [line.strip() for line in lines if "setting" in line] == ["setting parent.parent: set against None"]


def test_runs_of_mathematics_that_changed_since_are_compared(study, monkeypatch):
    """An archive keeps them under the ids that they had."""
    before = list(compare_arms(study, "tube 0.875", "random 0.875"))
    monkeypatch.setattr(PretrainConfig, "algo", PretrainConfig.algo + 1)
    with pytest.raises(RunDirError, match="or the mathematics changed since"):
        study.run_dir(study.replicates["run.evaluate"].iloc[0]).load()
    assert list(compare_arms(study, "tube 0.875", "random 0.875")) == before


def test_an_arm_without_runs_says_so(store):
    made.finish(store, make_plan(made.sweep()), lambda arm, seed: None if arm == "scratch" else LEVELS[arm])
    lines = list(compare_arms(load_study(store, "synthetic"), "tube 0.5", "scratch"))
    assert "  scratch: no finished run" in lines


def test_two_seeds_are_enough_for_an_interval_and_one_is_not(store):
    made.finish(store, make_plan(made.sweep()), lambda arm, seed: None if (arm, seed) == ("scratch", 2) else LEVELS[arm] + seed)
    study = load_study(store, "synthetic")
    (said,) = (line for line in compare_arms(study, "tube 0.5", "scratch") if " seeds: " in line)
    assert said.startswith("  over 2 seeds: +10.00 ± ")
    assert "this comparison alone" in said
    assert "± 0.00" not in said, "two gaps of as many videos agree by chance"
    one_seed = replace(study, replicates=study.replicates[study.replicates["seed"] == 0])
    assert not any(" seeds: " in line for line in compare_arms(one_seed, "tube 0.5", "scratch"))


def test_arms_are_compared_in_each_table_that_has_both_or_in_the_one_asked_for(store):
    shapes = Ablation("shapes", made.DOC, "Table 1b", made.ARMS[:2], "tube 0.5")  # tubes alone
    masks = Ablation("masks", made.DOC, "Table 1b", made.ARMS, "tube 0.875")
    made.finish(store, make_plan(made.sweep(ablations=(masks, shapes))), lambda arm, seed: LEVELS[arm])
    study = load_study(store, "synthetic")

    def tables(*words):
        return [line for line in compare_arms(study, *words) if not line.startswith(" ")]

    assert tables("tube 0.5", "tube 0.875") == ["masks, d", "shapes, d"]
    assert tables("tube 0.5", "tube 0.875", "shapes") == ["shapes, d"]
    assert tables("tube 0.5", "scratch") == ["masks, d"]
    with pytest.raises(ResultsError, match=r"no table of synthetic has both 'tube 0\.5' and 'scratch'"):
        tables("tube 0.5", "scratch", "shapes")


def test_an_arm_is_not_compared_with_itself(study):
    with pytest.raises(ResultsError, match="'scratch' beside itself"):
        list(compare_arms(study, "scratch", "scratch"))


def test_names_are_checked(study):
    for words, message in (
        (("tube 0.85", "scratch"), r"no arm 'tube 0\.85'\. Did you mean 'tube 0\.875'"),
        (("tube 0.5", "scrach"), r"no arm 'scrach'\. Did you mean 'scratch'"),
        (("tube 0.5", "scratch", "mask"), r"no ablation 'mask'\. Did you mean 'masks'"),
        (("tube 0.5", "scratch", None, "x"), r"no dataset 'x'\. Allowed: d"),
    ):
        with pytest.raises(ResultsError, match=message):
            list(compare_arms(study, *words))


def evaluations(study, *arms):
    return [str(study.finished("masks", "d", arm)["run.evaluate"].iloc[0]) for arm in arms]


def rescored(place, lines):
    """Other predictions, in a result that counts them."""
    place.predictions.write_text("\n".join(lines) + "\n")
    result = read_result(place.result)
    write_result(place.result, replace(result, metrics=result.metrics | {"num_scored": len(lines) - 1}))


def test_predictions_are_paired_by_video(study):
    """Of the videos that both scored, in whatever order each has them: one arm lost two, the other three, and wrote backwards."""
    ids = evaluations(study, "tube 0.875", "scratch")
    right = []
    for id_, lost, step in zip(ids, ({3, 4}, {4, 5, 6}), (1, -1), strict=True):
        head, *lines = study.run_dir(id_).predictions.read_text().splitlines()
        kept = [line for i, line in enumerate(lines) if i not in lost][::step]
        rescored(study.run_dir(id_), [head, *kept])
        right.append({line.split(",")[0]: line.split(",")[1] == line.split(",")[2] for line in kept})
    common = [video for video in right[0] if video in right[1]]
    assert len(common) == 480 - 4
    pairs = zip(*paired_predictions(study, *ids), strict=True)
    assert sorted(pairs) == sorted((right[0][video], right[1][video]) for video in common)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda lines: lines[:-1], "has not one row per scored video"),
        (lambda lines: [*lines[:-1], lines[1]], "has not one row per scored video"),
        (lambda lines: [*lines[:-1], "v9999.mp4,1,,0.5"], "no predictions: "),
        (lambda lines: [line.split(",", 1)[1] for line in lines], "no predictions: 'video'"),
    ],
)
def test_predictions_that_are_not_those_of_the_result_are_refused(study, change, words):
    (id_,) = evaluations(study, "scratch")
    place = study.run_dir(id_)
    place.predictions.write_text("\n".join(change(place.predictions.read_text().splitlines())) + "\n")
    with pytest.raises(ResultsError, match=f"predictions.csv:? {words}"):
        predictions(place)
