"""Figures show what the runs show: numbers where they belong, what is missing by name, the same files however many draw."""

import hashlib
import warnings
from dataclasses import replace

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import synthetic as made
from PIL import Image

from analysis import charts, drawing, figures, plots, style
from analysis.collect import load_study
from analysis.drawing import draw_all
from analysis.figures import OF_STUDIES, OF_TABLES, settings_of
from analysis.formats import best_floor
from analysis.style import KINDS
from analysis.table import cell_table
from benchmarks.synthetic_runs import finish, of_the_paper
from sweeps import registry
from sweeps.presets import quick
from vmae.arms import Arm, PaperRow
from vmae.errors import ResultsError
from vmae.runs import Store
from vmae.study import Ablation, make_plan


@pytest.fixture
def ax():
    style.apply()
    figure, ax = plt.subplots()
    yield ax
    plt.close(figure)


@pytest.fixture(scope="module")
def cells(paper_study):
    return cell_table(paper_study)


def part(cells, ablation, dataset="SSV2"):
    return cells[(cells["ablation"] == ablation) & (cells["dataset"] == dataset)]


def test_many_processes_draw_the_same_files(store, tmp_path, monkeypatch):
    made.finish(store, make_plan(made.sweep()), lambda arm, seed: 50.0)
    study = load_study(store, "synthetic")
    alone = draw_all(study, cell_table(study), tmp_path / "a")
    monkeypatch.setattr(drawing, "NUM_MANY", 1)
    together = draw_all(study, cell_table(study), tmp_path / "b", num_workers=2)
    assert len(alone) >= 8
    assert [drawn.title for drawn in alone] == [drawn.title for drawn in together]
    for a, b in zip(alone, together, strict=True):
        assert [f.suffix for f in a.files] == [".png", ".pdf", ".svg"]
        assert [hashlib.sha256(f.read_bytes()).digest() for f in a.files] == [
            hashlib.sha256(f.read_bytes()).digest() for f in b.files
        ], a.title


def test_a_kind_of_mask_that_has_no_look_of_its_own_is_in_every_figure(ax, store):
    """Whoever adds a kind finds it drawn, neither left out without a word nor the end of a report."""
    made.finish(store, make_plan(made.sweep()), lambda arm, seed: 50.0)
    study = load_study(store, "synthetic")
    study = replace(study, replicates=study.replicates.replace({"mask.kind": {"tube": "checker", "random": "moving"}}))
    cells = cell_table(study)
    for draw in (plots.accuracy_vs_ratio, plots.loss_vs_floors):
        ax.clear()
        assert {"checker", "moving", "frame"} <= set(draw(ax, cells).get_legend_handles_labels()[1])
    ax.clear()
    assert "checker (darker: more hidden)" in plots.pretraining_curves(ax, study).get_legend_handles_labels()[1]
    assert [label.get_text() for label in charts.heat_map(ax, cells).get_yticklabels()] == ["frame", "checker", "moving"]


def test_every_kind_of_figure_is_drawn_from_everything(tmp_path):
    """At the paper's scale, with the paper's values; the curves that the paper does not give stay missing."""
    everything = registry.load("everything", "paper")
    chosen = ("mask_ratio_by_sampling", "data_size", "decoder_depth")
    ablations = [ablation for ablation in everything.ablations if ablation.name in chosen]
    recipes = {name: everything.recipes[name] for name in ("SSV2", "HMDB51")}
    plan = make_plan(replace(everything, ablations=ablations, recipes=recipes, stands_for={}))
    store = Store(tmp_path / "runs")
    known = of_the_paper(plan)
    finish(store, plan, lambda cell, seed: 50.0 if (value := known(cell, seed)) is None else value)
    study = load_study(store, "everything-paper")
    drawn = draw_all(study, cell_table(study), tmp_path / "figures")
    assert {one.kind for one in drawn} == {*OF_TABLES, *OF_STUDIES}


def test_an_unknown_kind_is_answered_with_the_near_one(paper_study, cells, tmp_path):
    with pytest.raises(ResultsError, match=r"no figure 'forrest'\. Did you mean 'forest'"):
        draw_all(paper_study, cells, tmp_path, "forrest")


def test_the_forest_stands_at_the_differences(ax, cells):
    shown = part(cells, "mask_sampling").dropna(subset=["vs_baseline"])
    charts.forest(ax, part(cells, "mask_sampling"), "tube 0.9")
    places = dict(zip([label.get_text() for label in ax.get_yticklabels()], ax.get_yticks(), strict=True))
    drawn = {c.lines[0].get_ydata()[0]: c.lines[0] for c in ax.containers}
    for cell in shown.to_dict("records"):
        line = drawn[places[cell["arm"]]]
        assert line.get_xdata()[0] == pytest.approx(cell["vs_baseline"])
        is_filled = line.get_markerfacecolor() != "none"
        assert is_filled == (cell["vs_baseline_verdict"] in ("better", "worse")), "filled where the test tells them apart"


def test_the_heat_map_hatches_what_is_missing_and_leaves_blank_what_is_not_asked(ax, store):
    made.finish(store, make_plan(made.sweep()), lambda arm, seed: None if arm == "random 0.5" else 50.0)
    cells = cell_table(load_study(store, "synthetic"))
    charts.heat_map(ax, cells)
    values = np.ma.filled(ax.images[0].get_array(), np.nan)
    kinds, ratios = ["tube", "random", "frame"], [0.5, 0.875]
    asked = {(c["mask.kind"], c["mask.ratio"]): c for c in cells.dropna(subset=["mask.kind"]).to_dict("records")}
    for row, kind in enumerate(kinds):
        for column, ratio in enumerate(ratios):
            cell = asked.get((kind, ratio))
            assert np.isfinite(values[row, column]) == (cell is not None and cell["num_seeds"] > 0)
    assert len(ax.collections) == 1, "one hatched cell: random 0.5"


def test_what_is_missing_is_named_in_the_figure(ax, store):
    made.finish(store, make_plan(made.sweep()), lambda arm, seed: None if arm == "random 0.5" else 50.0)
    plots.accuracy_vs_ratio(ax, cell_table(load_study(store, "synthetic")))
    assert "missing: random 0.5" in [text.get_text() for text in ax.texts]


def test_a_cut_axis_says_so_and_an_uncut_one_shows_chance(ax, cells):
    plots.accuracy_axis(ax, part(cells, "mask_sampling"))
    assert any("axis cut; chance is 0.575 %" in text.get_text() for text in ax.texts)
    low = part(cells, "pretrain_strategy").assign(top1=[1.0, 2.0, 3.0], top1_half_width=0.1)
    figure, other = plt.subplots()
    plots.accuracy_axis(other, low)
    assert [line.get_ydata()[0] for line in other.lines] == [100 / 174]
    plt.close(figure)


def test_the_front_holds_what_nothing_beats_at_its_cost(ax, cells):
    shown = part(cells, "mask_sampling").assign(hours=[1.0, 2.0, 3.0, 4.0], top1=[50.0, 49.0, 60.0, 55.0])
    charts.cost_and_accuracy(ax, shown)
    front = next(line for line in ax.lines if line.get_label() == "none is cheaper and better")
    assert list(zip(front.get_xdata(), front.get_ydata(), strict=True)) == [(1.0, 50.0), (3.0, 60.0)]


@pytest.mark.parametrize("ratio", [1.05, 1.2])
def test_arms_of_one_cost_have_no_figure_of_costs(paper_study, cells, ratio):
    shown = part(cells, "mask_sampling")
    drawn = OF_TABLES["cost"](paper_study, paper_study.ablation("mask_sampling"), shown.assign(hours=[1.0, ratio, 1.0, 1.0]))
    assert (drawn is not None) == (ratio == 1.2)


@pytest.mark.parametrize("change", [{"flags": "mixed hardware"}, {"hours_apart": 1.3}])
def test_times_that_are_the_machines_have_no_figure(paper_study, cells, change):
    shown = part(cells, "mask_sampling").assign(hours=[1.0, 1.2, 1.0, 1.0])
    assert OF_TABLES["cost"](paper_study, paper_study.ablation("mask_sampling"), shown.assign(**change)) is None


def test_one_line_over_the_ratio_has_one_arm_at_each_ratio(paper_study, cells):
    """A second question in the same table, here the decoder's depth, would make the line a zigzag."""
    shown = part(cells, "mask_sampling")
    asked = paper_study.ablation("mask_sampling")
    assert OF_TABLES["ratio"](paper_study, asked, shown) is not None
    assert OF_TABLES["ratio"](paper_study, asked, pd.concat([shown, shown.assign(arm="deeper")])) is None


def test_losses_stand_by_their_best_floor_and_each_pretraining_once(paper_study, cells, ax):
    first = cells[cells["dataset"] == cells["dataset"].iloc[0]]
    kept = figures._pretrainings(paper_study, first[first["mask.kind"].notna()])
    assert kept["pretrain"].is_unique
    assert kept["arm"].is_unique
    shown = kept.dropna(subset=["pretrain_loss_heldout"])
    plots.loss_vs_floors(ax, kept)
    marks = [x for line in ax.lines if str(line.get_label()).startswith("floor") for x in line.get_xdata()]
    assert min(marks) >= 1.0 - 1e-9
    points = sorted(x for line in ax.lines if line.get_label() in KINDS for x in line.get_xdata())
    assert points == pytest.approx(sorted(shown["pretrain_loss_heldout"] / [best_floor(c) for c in shown.to_dict("records")]))


def test_losses_of_several_data_sets_name_theirs(store, monkeypatch):
    masks = replace(made.sweep().ablations[0], datasets=())
    still = quick("motion").replace({"pretrain.data.domain": "still"})
    both = replace(made.sweep(ablations=(masks,)), recipes={"d": quick("motion"), "e": still})
    made.finish(store, make_plan(both), lambda arm, seed: 50.0)
    study = load_study(store, "synthetic")
    drawn = {}
    monkeypatch.setattr(plots, "loss_vs_floors", lambda _, shown: drawn.update(zip(shown["arm"], shown["pretrain"], strict=True)))
    OF_STUDIES["loss-vs-floors"](study, cell_table(study))
    assert {name.partition(": ")[0] for name in drawn} == {"d", "e"}
    assert set(drawn.values()) == set(study.replicates[study.replicates["seed"] == 0]["run.pretrain"].dropna())


def test_curves_are_of_finished_pretrainings(ax, store):
    made.finish(store, make_plan(made.sweep()), lambda arm, seed: 50.0)
    ids = load_study(store, "synthetic").replicates["run.pretrain"].dropna().unique()
    plots.pretraining_curves(ax, load_study(store, "synthetic"))
    num_lines = len(ax.lines)
    store.run(ids[0]).result.unlink()
    store.run(ids[0]).stop("failed", "a reason")
    ax.clear()
    plots.pretraining_curves(ax, load_study(store, "synthetic"))
    assert len(ax.lines) == num_lines - 1


@pytest.mark.parametrize(("stands_for", "words"), [({}, "on SSV2."), ({"d": "SSV2"}, "on SSV2, of another scale.")])
def test_the_papers_own_data_set_is_not_called_another_scale(store, stands_for, words):
    name = "d" if stands_for else "SSV2"
    arms = tuple(Arm(f"tube {r:g}", {"pretrain.mask.ratio": r}, PaperRow("vmae.t1b", f"tube/{100 * r:g}")) for r in (0.75, 0.9))
    masks = Ablation("masks", made.DOC, "Table 1b", arms, "tube 0.9")
    asked = replace(made.sweep(ablations=(masks,)), recipes={name: quick("motion")}, stands_for=stands_for)
    made.finish(store, make_plan(asked), lambda arm, seed: 50.0)
    study = load_study(store, "synthetic")
    _, caption = OF_TABLES["ratio"](study, study.ablation("masks"), cell_table(study))
    assert caption.endswith(words)


def test_names_of_points_cover_neither_points_nor_each_other(ax):
    points = [(1.0, 1.0, "tube 0.9"), (1.02, 1.01, "random 0.9"), (1.01, 0.98, "frame 0.875"), (5.0, 5.0, "scratch")]
    ax.plot([x for x, _, _ in points], [y for _, y, _ in points], "o", markersize=5)
    ax.set(xlim=(0, 6), ylim=(0, 6))
    charts.name_points(ax, points)
    boxes = [text.get_window_extent() for text in ax.texts]
    assert not any(a.overlaps(b) for k, a in enumerate(boxes) for b in boxes[:k])
    places = ax.transData.transform([point[:2] for point in points])
    assert not any(box.contains(*place) for box in boxes for place in places)


def test_the_papers_memory_stands_beside_the_depth(paper_study, cells):
    figure, axes = plt.subplots(1, 2)
    settings = settings_of(paper_study, "decoder_depth", "SSV2")
    charts.decoder_depth(tuple(axes), part(cells, "decoder_depth"), settings, {1: 7.9, 8: 23.7})
    paper = next(line for a in figure.axes for line in a.lines if line.get_label() == "paper")
    assert list(paper.get_ydata()) == [7.9, 23.7]
    plt.close(figure)


def test_the_font_of_letters_sets_words_as_the_whole_font_does(ax):
    """A glyph that is missing would be a warning."""
    for words in ("AVAToday 0.875 ± 1.5 × 10 – ½", "difference to tube 0.9 (points)", "Ωμέγα, Привет, Łódź", "− ≤ → ≈"):
        letters, whole = ax.text(0, 0, words), ax.text(0, 0, words, family="STIXGeneral")
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            widths = [text.get_window_extent().width for text in (letters, whole)]
        assert letters.get_fontname() == "STIXLetters"
        assert widths[0] == pytest.approx(widths[1], rel=0.015), words


@pytest.mark.parametrize("holds_pictures", [False, True])
def test_a_saved_png_has_no_alpha_and_shows_what_was_drawn(ax, tmp_path, holds_pictures):
    """Of a drawing in few colours, which hardly any pixel shows; pictures to the bit."""
    for k, colour in enumerate(style.COLOURS):
        ax.plot([0, 1, 2], [k, 1 - k, k], color=colour)
        ax.fill_between([0, 1], [0, k], [k, 1], alpha=0.2, color=colour)
    if holds_pictures:
        ax.imshow(np.random.default_rng(0).random((40, 40, 3)), extent=(0, 1, 0, 1))
    png = style.save(ax.figure, tmp_path / "line")[0]
    box = ax.figure.get_tightbbox().padded(style.PAD_IN)
    ax.figure.savefig(tmp_path / "again.png", bbox_inches=box)
    saved, drawn = Image.open(png), np.asarray(Image.open(tmp_path / "again.png"))
    assert saved.mode == ("RGB" if holds_pictures else "P")
    assert saved.info["dpi"] == pytest.approx((200, 200), abs=0.1)
    assert (drawn[..., 3] == 255).all()
    off = np.abs(np.asarray(saved.convert("RGB")).astype(int) - drawn[..., :3])
    assert off.max() == 0 if holds_pictures else (off.mean() < 0.5 and np.quantile(off, 0.99) <= 10)


def test_the_palette_is_seaborns():
    import seaborn as sns

    assert list(style.COLOURS) == sns.color_palette("colorblind").as_hex()
