"""The report says what the runs say: means, intervals, missing cells, words; the same bytes every time."""

import hashlib
import re
from contextlib import nullcontext
from dataclasses import replace

import pandas as pd
import pytest
import synthetic as made
from PIL import Image

from analysis.collect import hours, load_study, mask_kind, where_from
from analysis.formats import results_table
from analysis.report import write_report
from analysis.style import KINDS
from analysis.table import cell_table
from vmae.errors import ResultsError, RunDirError
from vmae.results import Result, read_result, write_result
from vmae.study import Ablation, make_plan

LEVELS = {"tube 0.5": 50.0, "tube 0.875": 60.0, "random 0.5": 50.0, "random 0.875": 55.0, "frame 0.875": 20.0, "scratch": 40.0}


def level(arm, seed):
    return LEVELS[arm] + (-1.25, 0.0, 1.25)[seed] + (0.4 if arm.startswith("random") else 0.0) * seed


@pytest.fixture
def planned():
    return make_plan(made.sweep())


@pytest.fixture
def study(store, planned):
    made.finish(store, planned, level)
    return load_study(store, "synthetic")


@pytest.fixture
def undrawn(monkeypatch):
    """Reports without figures, which take nearly all of their time, for tests of words."""
    monkeypatch.setattr("analysis.report.drawing", lambda *_, **__: nullcontext(lambda cells: list))


def cell(frame, arm):
    return frame[frame["arm"] == arm].iloc[0]


def test_a_cell_is_mean_interval_and_n(study):
    frame = cell_table(study)
    tube = cell(frame, "tube 0.875")
    assert tube["top1"] == pytest.approx(60.0, abs=0.05)
    assert tube["top1_half_width"] == pytest.approx(4.303 * 1.25 / 3**0.5, rel=0.02)
    assert tube["num_seeds"] == 3
    assert cell(frame, "frame 0.875")["vs_scratch_verdict"] == "worse"
    assert cell(frame, "tube 0.5")["vs_scratch_verdict"] == "better"
    assert cell(frame, "tube 0.5")["vs_baseline"] == pytest.approx(-10, abs=0.05)
    assert len(tube["runs"].split()) == 3
    assert list(frame["arm"]) == list(LEVELS), "declared order"


def test_missing_is_missing(store, planned, tmp_path):
    made.finish(
        store, planned, lambda arm, seed: None if arm == "random 0.5" or (arm, seed) == ("tube 0.5", 1) else level(arm, seed)
    )
    study = load_study(store, "synthetic")
    shown = results_table(cell_table(study), "SSV2")
    assert cell(shown, "random 0.5")["top-1 %"] == "missing (0 of 3 done)"
    assert "n = 2, missing (2 of 3 done)" in cell(shown, "tube 0.5")["top-1 %"]
    text = write_report(study, tmp_path).file.read_text()
    assert "Missing: tube 0.5 (missing (2 of 3 done)), random 0.5 (missing (0 of 3 done))" in text


@pytest.mark.usefixtures("undrawn")
def test_one_seed_has_no_interval_and_proves_no_ordering(store, tmp_path):
    plan = make_plan(made.sweep(seeds=(0,)))
    made.finish(store, plan, level)
    study = load_study(store, "synthetic")
    frame = cell_table(study)
    assert frame["top1_half_width"].isna().all()
    assert set(frame["vs_scratch_over"].dropna()) == {"videos"}
    text = write_report(study, tmp_path).file.read_text()
    assert "prove no ordering" in text
    assert "58.8 (n = 1)" in text


@pytest.mark.usefixtures("undrawn")
def test_words_come_from_the_numbers(store, planned, tmp_path):
    made.finish(store, planned, level, beats=lambda arm: arm != "frame 0.875")
    text = write_report(load_study(store, "synthetic"), tmp_path).file.read_text()
    assert "beats its trivial floors on held-out clips in 4 of 5 arms" in text
    assert "Not converged beyond copying: frame 0.875" in text
    assert "worse: frame 0.875 (-20.0)" in text
    assert "Every arm is above chance" in text
    assert "Not as declared" not in text


@pytest.mark.usefixtures("undrawn")
def test_a_table_without_scratch_says_nothing_of_it(store, tmp_path):
    masks = Ablation("masks", made.DOC, "Table 1b", made.ARMS, "tube 0.875")
    two = replace(masks.only("tube 0.5", "tube 0.875"), name="two")
    made.finish(store, make_plan(made.sweep(ablations=(masks, two))), level)
    text = write_report(load_study(store, "synthetic"), tmp_path).file.read_text()
    assert text.count("trivial floors on held-out clips") == 2
    assert text.count("Against training from scratch") == 1
    assert re.search(r"finds, so corrected, in four of five cases: [\d.]+ points", text), "one difference is no range"


def test_an_evaluation_without_a_number_leaves_the_report_whole(store, planned, tmp_path):
    made.finish(store, planned, level)
    place = store.run(planned.cells[0].replicates[1]["evaluate"])
    result = read_result(place.result)
    result.metrics["top1"] = None
    write_result(place.result, result)
    text = write_report(load_study(store, "synthetic"), tmp_path).file.read_text()
    assert "(n = 2, 1 NaN)" in text
    assert "Every arm is above chance" in text


@pytest.mark.usefixtures("undrawn")
def test_seeds_that_agree_to_the_digit_prove_no_power(store, planned, tmp_path):
    made.finish(store, planned, lambda arm, seed: 25.0)
    text = write_report(load_study(store, "synthetic"), tmp_path).file.read_text()
    (most,) = re.findall(r"in four of five cases: ([\d.]+) points", text)
    assert float(most) > 0
    assert not re.search(r"± \d+\.\d (better|worse)", text)


@pytest.mark.usefixtures("undrawn")
def test_a_report_says_by_what_overrides_its_runs_differ_from_the_declaration(store, tmp_path):
    made.finish(store, make_plan(made.sweep(), {"finetune.optim.epochs": 3}), level)
    text = write_report(load_study(store, "synthetic"), tmp_path).file.read_text()
    assert "**Not as declared:** finetune.optim.epochs = 3 (`--set`)." in text


@pytest.mark.usefixtures("undrawn")
def test_an_arm_at_chance_is_named(store, planned, tmp_path):
    made.finish(store, planned, lambda arm, seed: 13.0 if arm == "scratch" else level(arm, seed))
    assert (
        "Not above chance (exact binomial test, 1 %): scratch"
        in write_report(load_study(store, "synthetic"), tmp_path).file.read_text()
    )


def digests(folder):
    return {p.relative_to(folder): hashlib.sha256(p.read_bytes()).hexdigest() for p in folder.rglob("*") if p.is_file()}


def test_the_same_runs_give_the_same_bytes(study, tmp_path):
    write_report(study, tmp_path / "a")
    write_report(load_study(study.store, "synthetic"), tmp_path / "b")
    assert digests(tmp_path / "a") == digests(tmp_path / "b")
    files = [p.relative_to(tmp_path / "a") for p in (tmp_path / "a").rglob("*") if p.is_file()]
    assert {p.name for p in files if len(p.parts) == 1} == {"report.md", "report.html", "findings.md"}
    assert {p.name for p in files if p.parts[0] == "tables"} == {"masks-d.csv", "masks-d.md", "masks-d.tex"}
    figures = {p.stem for p in files if p.parts[0] == "figures"}
    assert len([p for p in files if p.parts[0] == "figures"]) == 3 * len(figures), "png, pdf and svg of each"


def test_figures_are_drawn(study, tmp_path):
    write_report(study, tmp_path)
    for name in ("masks-d-ratio", "loss-vs-floors", "pretraining-curves", "reconstruction"):
        image = Image.open(tmp_path / "figures" / f"{name}.png").convert("L")
        assert image.width > 600
        assert len(image.getcolors(256) or []) > 5, f"{name} is not blank"
        assert (tmp_path / "figures" / f"{name}.pdf").read_bytes().startswith(b"%PDF")
    table = pd.read_csv(tmp_path / "tables" / "masks-d.csv")
    assert list(table["arm"]) == list(LEVELS)


def test_nothing_finished_says_what_is_missing(store, planned, tmp_path):
    store.write_plan("synthetic", planned.to_json())
    with pytest.raises(ResultsError, match=r"no cell is finished \(51 missing\).*sweeps submit synthetic"):
        write_report(load_study(store, "synthetic"), tmp_path)


def test_an_unknown_sweep_names_what_is_there(store, planned):
    store.write_plan("synthetic", planned.to_json())
    with pytest.raises(RunDirError, match=r"no plan of sweep 'other'.*there: synthetic"):
        load_study(store, "other")


def test_a_result_from_elsewhere_is_refused(study):
    first, second = list(study.results)[:2]
    study.run_dir(first).result.write_text(study.run_dir(second).result.read_text())
    with pytest.raises(ResultsError, match="it was copied here"):
        load_study(study.store, "synthetic")


def test_clips_of_one_frame_are_a_line_of_their_own():
    """Else an image-MAE arm would stand on the line of its mask kind, among videos."""
    for num_frames, kind in ((16, "tube"), (1, "image")):
        config = {"grid": {"num_frames": num_frames}, "pretrain": {"mask": {"kind": "tube"}}}
        assert mask_kind(config) == kind
        assert kind in KINDS


def result_of(compute, **facts):
    return Result("id", "cell", "finetune", "done", {}, compute, facts)


def test_where_results_come_from():
    """Each code and machine once, mixed code called so, what training took summed, the seeds."""
    torch = {"packages": {"torch": "2.9"}, "device": "cpu"}
    first = result_of({"train_s": 1800.0}, commit="a1", dirty=False, cpu="A", cpu_capability="AVX2", platform="Linux", **torch)
    assert where_from([first, first], (3, 4)) == [
        "Code: a1",
        "Machine: A, AVX2, Linux, torch 2.9, on cpu",
        "Training time of all runs together: 1.00 h; seeds: 3, 4",
    ]
    others = [
        result_of({"train_s": 3600.0}, commit="a1", dirty=True, cpu="A", gpu="G", **torch | {"device": "cuda"}),
        result_of({"evaluate_s": 3600.0}, commit=None, dirty=None, cpu="A", **torch),
    ]
    mixed = "**Runs of different code are mixed here.** Code: a1; a1 with local changes"
    assert where_from([first, others[0]], (3,))[0] == mixed
    assert where_from([first, *others], (3,)) == [
        f"{mixed}; no checkout",
        "Machine: A, AVX2, Linux, torch 2.9, on cpu; A, torch 2.9, on cpu; G, torch 2.9, on cuda",
        "Training time of all runs together: 1.50 h; seeds: 3",
    ]


@pytest.mark.parametrize(
    ("compute", "facts", "expected"),
    [
        ({"train_s": 1800.0}, {}, 0.5),
        ({"train_s": 1800.0}, {"num_ranks": 8}, 4.0),
        ({"evaluate_s": 900.0}, {"num_ranks": 2}, 0.5),
        ({"train_s": 1800.0}, {"num_sharing_gpu": 4}, 0.125),
        ({}, {"num_ranks": 2}, None),
    ],
)
def test_hours_are_those_of_all_processes_and_a_part_of_a_shared_gpu(compute, facts, expected):
    assert hours(result_of(compute, **facts)) == expected
