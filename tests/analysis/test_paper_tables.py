"""From the paper's own values the tables come out as the paper's: order, numbers, golden text; and marked synthetic."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import synthetic as made

from ablations import efficiency, image_vs_video_ratio
from analysis.collect import load_study
from analysis.compare import holm
from analysis.formats import latex, markdown, results_table
from analysis.paper import lookup, paper_values
from analysis.report import SYNTHETIC
from analysis.table import cell_table
from sweeps import registry
from sweeps.scales import PRESETS
from vmae.arms import grid_arms
from vmae.errors import ResultsError
from vmae.results import read_result, write_result
from vmae.study import Ablation, make_plan

TABLE_1B = """\
| arm | top-1 % | paper, SSV2 | vs baseline | clips seen | hours |
| --- | --- | --- | --- | --- | --- |
| tube 0.75 | 68.0 ± 0.5 (n = 3) | 68.0 | -1.6 ± 1.0 worse | 100 | 2320 core |
| tube 0.9 | 69.6 ± 0.5 (n = 3) | 69.6 |  | 100 | 1497 core |
| random 0.9 | 68.3 ± 0.5 (n = 3) | 68.3 | -1.3 ± 0.9 worse | 100 | 1487 core |
| frame 0.875 | 61.5 ± 0.5 (n = 3) | 61.5 | -8.1 ± 0.9 worse | 100 | 1620 core |"""

TABLE_1F_LATEX = r"""\begin{tabular}{lrrrrr}
\toprule
arm & top-1 \% & paper, K400 & vs baseline & clips seen & hours \\
\midrule
L1 & 79.7 $\pm$ 0.5 (n = 3) & 79.7 & -0.3 $\pm$ 0.9 not distinguishable at n = 3 & 100 & 2489 core \\
MSE & 80.0 $\pm$ 0.5 (n = 3) & 80.0 &  & 100 & 2489 core \\
smooth L1 & 79.6 $\pm$ 0.5 (n = 3) & 79.6 & -0.4 $\pm$ 0.9 not distinguishable at n = 3 & 100 & 2489 core \\
\bottomrule
\end{tabular}"""


@pytest.fixture(scope="module")
def cells(paper_study):
    return cell_table(paper_study)


def part(cells, ablation, dataset):
    return cells[(cells["ablation"] == ablation) & (cells["dataset"] == dataset)]


def test_table_1_is_reproduced_in_value_and_order(cells):
    assert len(cells) == 42
    assert cells["paper"].notna().all()
    np.testing.assert_allclose(cells["top1"], cells["paper"], atol=1e-9)
    for _, table in cells.groupby(["ablation", "dataset"]):
        assert list(table.sort_values("top1")["arm"]) == list(table.sort_values("paper")["arm"])


def test_the_text_of_a_table_is_pinned(cells):
    assert markdown(results_table(part(cells, "mask_sampling", "SSV2"), "SSV2")) == TABLE_1B
    assert latex(results_table(part(cells, "loss", "K400"), "K400")) == TABLE_1F_LATEX


def test_verdicts_are_of_the_corrected_p_values(cells):
    for _, table in cells.dropna(subset=["vs_baseline_p"]).groupby(["ablation", "dataset"]):
        assert list(table["vs_baseline_p_holm"]) == holm(table["vs_baseline_p"]), "of one question on one data set"
        decided = table["vs_baseline_p_holm"] < 0.05
        assert (table["vs_baseline_verdict"].isin(["better", "worse"]) == decided).all()


def test_a_synthetic_report_says_so_everywhere(paper_report):
    folder = paper_report.file.parent
    assert SYNTHETIC in paper_report.file.read_text()
    assert SYNTHETIC in paper_report.html.read_text()
    assert "(SYNTHETIC)" in (folder / "findings.md").read_text()
    assert all(file.read_text().startswith(f"% {SYNTHETIC}") for file in (folder / "tables").glob("*.tex"))
    assert all(drawn.caption.startswith("SYNTHETIC. ") for drawn in paper_report.drawn)


def test_synthetic_and_measured_runs_are_never_mixed(store):
    plan = make_plan(made.sweep())
    made.finish(store, plan, lambda arm, seed: 50.0)
    place = store.run(next(iter(plan.runs)))
    result = read_result(place.result)
    result.provenance["synthetic"] = True
    write_result(place.result, result)
    with pytest.raises(ResultsError, match=r"is synthetic and .* is measured; they are never mixed"):
        load_study(store, "synthetic")


def test_what_the_paper_does_not_say_stays_unknown():
    unknown = [value for value in paper_values().values() if value.value is None]
    assert unknown, "plotted curves are not known as numbers"
    assert all(value.text in ("", "-") or not value.text.replace(".", "").isdigit() for value in unknown)
    curve = [v for (table, *_), v in paper_values().items() if table == "vmae.fig_mask_ratio"]
    assert {v.case for v in curve if v.value is not None} == {"tube/75", "tube/90"}


@pytest.mark.parametrize("preset", PRESETS)
def test_every_row_that_a_declaration_names_is_in_the_papers_numbers(preset):
    """A mistyped case would silently leave the paper's column empty; a case may be asked on data sets the paper left out."""
    sweep = registry.load("everything", preset)
    cases = {(table, case) for table, case, *_ in paper_values()}
    for ablation in sweep.ablations:
        for arm in sweep.arms_of(ablation):
            if arm.paper:
                assert (arm.paper.table, arm.paper.case) in cases, f"{ablation.name}: {arm.name}"
    with pytest.raises(ResultsError, match=r"no table 'vmae\.t1z'"):
        lookup({"table": "vmae.t1z", "case": "x", "dataset": "{}", "metric": "top1"}, "SSV2")


def rewrite(place, change):
    result = read_result(place.result)
    change(result)
    write_result(place.result, result)


def flags_after(store, stage, change, facts=made.MEASURED, seeds=(1,), top1_of=lambda arm, seed: 50.0):
    """Flags by arm after one stage of `tube 0.5` was changed in some of its two seeds."""
    plan = make_plan(made.sweep(seeds=(0, 1)))
    made.finish(store, plan, top1_of, facts=facts)
    cell = next(cell for cell in plan.cells if cell.arm == "tube 0.5")
    for seed in seeds:
        rewrite(store.run(cell.replicates[seed][stage]), change)
    cells = cell_table(load_study(store, "synthetic"))
    return dict(zip(cells["arm"], cells["flags"], strict=True))


@pytest.mark.parametrize("seeds", [(0,), (1,)])
@pytest.mark.parametrize(
    ("stage", "change", "flag"),
    [
        ("pretrain", lambda r: r.compute.update(num_clips=150), "mixed pre-training budgets"),
        ("finetune", lambda r: r.compute.update(num_clips=50), "mixed fine-tuning budgets"),
        ("finetune", lambda r: r.provenance.update(commit="bad"), "mixed code"),
        ("pretrain", lambda r: r.provenance.update(gpu="a gpu"), "mixed hardware"),
        ("pretrain", lambda r: r.provenance.update(platform="newer"), "mixed hardware"),
        ("evaluate", lambda r: r.provenance.update(dirty=True), "uncommitted code"),
        ("pretrain", lambda r: r.compute.update(num_left_out=1, left_out=[7]), "steps left out"),
    ],
)
def test_a_table_that_mixes_says_so(store, stage, change, flag, seeds):
    flags = flags_after(store, stage, change, seeds=seeds)
    assert flags.pop("tube 0.5") == flag
    assert set(flags.values()) == {""}


@pytest.mark.parametrize(
    ("stage", "change", "flag"),
    [
        ("pretrain", lambda r: r.compute.update(num_clips=150), "pre-training budget x 1.5"),
        ("finetune", lambda r: r.compute.update(num_clips=50), "fine-tuning budget x 0.5"),
    ],
)
def test_an_arm_of_another_budget_says_how_much(store, stage, change, flag):
    flags = flags_after(store, stage, change, seeds=(0, 1))
    assert flags.pop("tube 0.5") == flag
    assert set(flags.values()) == {""}


def test_a_cell_that_mixes_says_so_without_its_baseline(store):
    flags = flags_after(
        store,
        "evaluate",
        lambda r: r.provenance.update(commit="bad"),
        top1_of=lambda arm, seed: None if arm == "tube 0.875" else 50.0,
    )
    assert flags["tube 0.5"] == "mixed code"


@pytest.mark.parametrize(
    ("hidden", "flag"), [(0.898, "hidden 0.898 against 0.875"), (0.852, "hidden 0.852 against 0.875"), (0.878, "")]
)
def test_arms_of_one_ratio_that_hide_different_shares_say_so(store, hidden, flag):
    arms = grid_arms({"pretrain.mask.kind": ("tube", "random"), "pretrain.mask.ratio": (0.9, 0.75)}, "{kind} {ratio:g}")
    plan = make_plan(made.sweep(ablations=(Ablation("masks", made.DOC, "Table 1b", arms, "tube 0.9"),)))
    made.finish(store, plan, lambda arm, seed: 50.0)
    shares = {"tube 0.9": 0.875, "random 0.9": hidden, "tube 0.75": 0.75, "random 0.75": 0.75}
    for cell in plan.cells:
        for ids in cell.replicates.values():
            rewrite(store.run(ids["pretrain"]), lambda r, share=shares[cell.arm]: r.metrics.update(mask_ratio_achieved=share))
    flags = cell_table(load_study(store, "synthetic")).set_index("arm")["flags"]
    assert flags.to_dict() == {"tube 0.9": "", "random 0.9": flag, "tube 0.75": "", "random 0.75": ""}


def test_a_number_that_is_none_is_counted_and_not_averaged(store):
    plan = make_plan(made.sweep())
    made.finish(store, plan, lambda arm, seed: 50.0)
    cell = next(cell for cell in plan.cells if cell.arm == "tube 0.5")
    rewrite(store.run(cell.replicates[1]["evaluate"]), lambda r: r.metrics.update(top1=None))
    shown = results_table(part(cell_table(load_study(store, "synthetic")), "masks", "d"), "SSV2")
    assert shown.loc[shown["arm"] == "tube 0.5", "top-1 %"].item() == "50.0 ± 0.0 (n = 2, 1 NaN)"


@pytest.mark.parametrize(("loss", "verdict"), [(0.01, "lower"), (0.05, "higher")])
def test_a_lower_loss_is_called_lower_and_not_worse(store, loss, verdict):
    plan = make_plan(made.sweep())
    made.finish(store, plan, lambda arm, seed: 50.0)
    cell = next(cell for cell in plan.cells if cell.arm == "tube 0.5")
    for seed, ids in cell.replicates.items():
        rewrite(store.run(ids["pretrain"]), lambda r, seed=seed: r.metrics.update(loss_heldout=loss + 1e-5 * seed))
    losses = cell_table(load_study(store, "synthetic"), "pretrain.loss_heldout").set_index("arm")
    assert losses.loc["tube 0.5", "vs_baseline_verdict"] == verdict


def test_a_number_of_the_paper_on_other_data_names_them(cells):
    """He et al. measured ratios on images: their number is not beside ours as one of a video data set."""
    row = {"arm": "x", "metric": "top1", "num_seeds": 0, "state": "", "num_nan": 0, "flags": "", "paper": 84.9}
    both = pd.DataFrame([row | {"paper_dataset": None}, row | {"paper_dataset": "IN1K"}])
    assert list(results_table(both, "SSV2")["paper, SSV2"]) == ["84.9", "84.9 (IN1K)"]
    assert cells.loc[cells["ablation"] == "mask_sampling", "paper_dataset"].isna().all()


def test_a_papers_second_digit_is_kept():
    """VideoMAE V2's 70.22 and 70.15 are two numbers; rounded to one digit they were one."""
    row = {"arm": "x", "metric": "top1", "num_seeds": 0, "state": "", "num_nan": 0, "flags": ""}
    shown = results_table(pd.DataFrame([row | {"paper": value} for value in (70.22, 70.15, 69.6, 80.0, None)]), "SSV2")
    assert list(shown["paper, SSV2"]) == ["70.22", "70.15", "69.6", "80.0", ""]


def test_a_top1_that_a_paper_calls_otherwise_stands_beside_ours(store):
    """Table 3 has ft_acc and lin_acc, He et al. fine-tuned and linear accuracy: all of them are top-1."""
    asked = (efficiency.ABLATION, image_vs_video_ratio.ABLATION)
    plan = make_plan(replace(made.sweep((0,), asked), stands_for={"d": "SSV2"}, preset="quick"))
    made.finish(store, plan, lambda arm, seed: 50.0)
    cells = cell_table(load_study(store, "synthetic")).set_index("arm")
    assert list(cells.loc[[arm.name for arm in efficiency.ABLATION.arms], "paper"]) == [54.2, 69.6, 33.7, 38.9]
    assert cells.loc["image 0.9", ["paper", "paper_dataset"]].tolist() == [83.0, "IN-1K"]


def test_another_metric_by_name(store, paper_study):
    plan = make_plan(made.sweep())
    made.finish(store, plan, lambda arm, seed: 50.0)
    study = load_study(store, "synthetic")
    losses = cell_table(study, "pretrain.loss_heldout").set_index("arm")
    assert losses.loc["tube 0.5", "value"] == pytest.approx(0.03)
    assert list(losses.loc["scratch", ["num_seeds", "num_nan", "state"]]) == [0, 0, "has no pretrain"]
    of_paper = cell_table(paper_study, "pretrain.loss_heldout")
    assert of_paper["paper"].isna().all(), "the paper's accuracies are no losses"
    with pytest.raises(ResultsError, match=r"no finished run of synthetic has metric 'top11'\. Did you mean 'top1'"):
        cell_table(study, "top11")


def test_a_question_asked_by_top5_is_answered_by_top5(store):
    """Top-1 tells the arms apart here; top-5, 90 % everywhere, by which the ablation says that it compares, does not."""
    ablation = Ablation("masks", made.DOC, "Table 1b", made.ARMS, "tube 0.875", metric="top5")
    made.finish(store, make_plan(made.sweep(ablations=(ablation,))), lambda arm, seed: 50.0 + 20 * arm.startswith("tube") + seed)
    table = cell_table(load_study(store, "synthetic")).set_index("arm")
    assert set(table["metric"]) == {"top5"}
    assert table.loc["random 0.5", "vs_baseline"] == 0
    assert cell_table(load_study(store, "synthetic"), "top1").set_index("arm").loc["random 0.5", "vs_baseline"] < -19
