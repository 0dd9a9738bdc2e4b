"""Searches: what is refused, equal proposals whatever is killed, budgets, failures, and the journal after a crash."""

import json
import socket
import subprocess
import sys
import time
from dataclasses import replace
from types import SimpleNamespace

import pytest
from helpers import ROOT
from pretended import Pretended, asked, carry_out, search

from ablations import mask_sampling, methods
from sweeps.presets import tiny
from sweeps.searching.coordinator import Coordinator
from sweeps.searching.declared import chain_of, load
from sweeps.searching.journal import open_database, recover_tail
from sweeps.searching.space import Choice, Range
from vmae.arms import Arm
from vmae.claim import process_identity
from vmae.errors import ConfigError, Interrupted, RunDirError
from vmae.identity import run_id

LR = "finetune.optim.base_lr"
PRETRAIN_SPACE = {"pretrain.optim.base_lr": Range(1e-3, 0.256, log=True, points=4)}


def trials(store):
    (cell,) = store.read_search("pretended")["cells"]
    return cell["trials"]


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"space": {"finetune.optim.base_lrr": Range(1e-3, 1e-1)}}, "Did you mean 'base_lr'"),
        ({"space": {LR: Range(1e-1, 1e-3)}}, "inverted"),
        ({"space": {LR: Range(1e-2, 1e-2)}}, "empty"),
        ({"space": {}}, "empty space"),
        ({"space": {LR: Range(0.0, 1e-1, log=True)}}, "logarithm"),
        ({"space": {LR: Range(0.5, 1.0)}}, "widen it"),
        ({"space": {"finetune.drop_path_rate": Range(0.0, 1.5)}}, "drop_path_rate"),
        ({"space": {"pretrain.subset.num_videos": Range(10, 20)}}, "share its model, its data and its seed"),
        ({"space": {"encoder.depth": Range(1, 3)}}, "allowed: other fields of pretrain and finetune"),
        ({"space": {"finetune.seed": Range(0, 9)}}, "its seed"),
        (
            {"arms": ("tube 0.75", "tube 0.9"), "space": {"pretrain.mask.ratio": Range(0.5, 0.95)}},
            "tube 0.9' differ in nothing but pretrain.mask.ratio, which is tuned",
        ),
        ({"ablation": methods.ABLATION.only("scratch", "VideoMAE"), "space": PRETRAIN_SPACE}, "pretrain"),
        ({"space": {LR: Choice((0.02,))}}, "two or more"),
        ({"space": {"pretrain.decoder.width": Range(4, 16)}}, "no run could use pretrain.decoder.width = 5: .*multiple of 2"),
        ({"space": {LR: Range(1e-3, 0.1), "finetune.optim.min_base_lr": Range(0.0, 0.01)}}, "min_base_lr = 0.01 must not exceed"),
        ({"split": "test"}, "never selects"),
        ({"split": "train"}, "trained on"),
        ({"split": "holdot"}, "Did you mean 'holdout'"),
        ({"sampler": "tpee"}, "Did you mean 'tpe'"),
        ({"sampler": "grid", "space": {LR: Range(1e-3, 1e-1)}}, "number of points"),
        ({"winner_seeds": (0, 1)}, "run_seed"),
        ({"winner_seeds": (1, 1)}, "each once"),
        ({"winner_seeds": (-1,)}, "seed -1; allowed: integers from 0"),
        ({"seed": 0.5}, "seed 0.5"),
        ({"trials": "3"}, "trials = 3, round_size"),
        ({"trials": 2.5}, "trials = 2.5"),
        ({"metric": "top2"}, "metric 'top2'.* Allowed: top1, top5"),
        ({"space": {LR: [1e-3, 1e-1]}}, "is no Range"),
        ({"space": {LR: Range("1e-3", "1e-1")}}, "two numbers are needed"),
        ({"space": {LR: Range(1e-3, 1e-1, points=2.5)}}, "points = 2.5"),
        ({"space": {LR: Choice([0.02, 0.1])}}, "a tuple of plain values"),
        (
            {"recipes": {"mine": tiny("motion")}, "default": "tiny"},
            "asked on SSV2; recipes here: mine. A data set takes .* by stands_for",
        ),
    ],
)
def test_what_no_search_could_use_is_refused_with_a_reason(changed, words):
    with pytest.raises(ConfigError, match=words):
        asked(**changed)


def test_unknown_searches_are_refused_with_the_near_word():
    with pytest.raises(ConfigError, match="Did you mean 'lr_per_mask'"):
        load("lr_per_maks")


@pytest.mark.parametrize("preset", ["quick", "tiny", "proxy"])
def test_the_declared_search_gives_each_cell_the_same_budget_and_shares_its_pretraining(preset):
    wanted = load("lr_per_mask", preset)
    assert len(wanted.cells) == 4
    for cell in wanted.cells:
        chains = [chain_of(cell, {LR: value}) for value in (1e-3, 2e-3)]
        assert run_id(chains[0][0]) == run_id(chains[1][0])
        assert run_id(chains[0][1]) != run_id(chains[1][1])
        assert chains[0][-1].evaluate.split == "holdout"


@pytest.mark.parametrize("sampler", ["tpe", "qmc"])
def test_exactly_the_trials_asked_for_the_recipe_first(store, sampler):
    wanted = asked(trials=22, sampler=sampler)
    carry_out(store, wanted)
    found = trials(store)
    assert [trial["number"] for trial in found] == list(range(22))
    assert {trial["state"] for trial in found} == {"COMPLETE"}
    assert found[0]["params"][LR] == wanted.cells[0].recipe.finetune.optim.base_lr
    rounded = [trial["params"][LR] for trial in found[1:]]
    assert all(float(f"{value:.2g}") == value for value in rounded)
    assert len(set(rounded)) > 5


def test_more_trials_than_a_grid_has_points_are_refused():
    with pytest.raises(ConfigError, match=r"^search lr_per_mask: trials = 100, but the grid has 8 points"):
        load("lr_per_mask", trials=100)


def test_a_grid_is_held_to_its_points_alone():
    space = {"pretrain.decoder.width": Range(8, 24, points=3)}
    assert asked(space=space, sampler="grid", trials=None).cells


def test_a_finished_search_asks_for_nothing_and_a_larger_budget_goes_on(store):
    carry_out(store, asked(trials=8))
    before = trials(store)
    again = Pretended(store)
    carry_out(store, asked(trials=8), again)
    assert again.num_made == 0
    carry_out(store, asked(trials=12))
    assert trials(store)[:8] == before
    assert len(trials(store)) == 12


@pytest.mark.parametrize("sampler", ["tpe", "qmc"])
def test_a_budget_never_shrinks_and_stays_the_same_for_each_cell(store, sampler):
    """Cut while the second cell has fewer trials than the first, then asked for with a smaller budget."""
    wanted = {"arms": ("tube 0.9", "random 0.9"), "sampler": sampler}

    class Stopped(Pretended):
        def bring(self, made):
            raise Interrupted("in the middle of a round")

    if sampler == "tpe":
        carry_out(store, asked(trials=4, **wanted))
        with Coordinator(store, asked(trials=8, **wanted), print).held() as coordinator:
            coordinator.studies[0].fill_round()
    else:
        with pytest.raises(Interrupted):
            carry_out(store, asked(trials=8, **wanted), Stopped(store))
    said = []
    with Coordinator(store, asked(trials=3, **wanted), said.append).held() as coordinator:
        coordinator.carry_out(Pretended(store))
    assert "8 trials per cell were asked for before" in said[0]
    summary = store.read_search("pretended")
    assert summary["num_trials"] == 8
    assert [len(cell["trials"]) for cell in summary["cells"]] == [8, 8]


@pytest.mark.parametrize("stop_after", [1, 7, 18, 29, 30])
def test_a_search_cut_at_any_write_ends_as_an_undisturbed_one(store, tmp_path, monkeypatch, stop_after):
    from optuna.storages.journal import JournalFileBackend

    from vmae.runs import Store

    other = Store(tmp_path / "other")
    carry_out(other, asked(trials=14))
    written, append = 0, JournalFileBackend.append_logs

    def cut(self, logs):
        nonlocal written
        written += 1
        if written == stop_after:
            raise KeyboardInterrupt
        append(self, logs)

    monkeypatch.setattr(JournalFileBackend, "append_logs", cut)
    with pytest.raises(KeyboardInterrupt):
        carry_out(store, asked(trials=14))
    monkeypatch.setattr(JournalFileBackend, "append_logs", append)
    carry_out(store, asked(trials=14))
    assert trials(store) == trials(other)


def test_equal_trials_cost_nothing(store):
    space = {"finetune.optim.layer_decay": Choice((0.5, 1.0))}
    execution = Pretended(store)
    carry_out(store, asked(trials=9, space=space), execution)
    assert len(trials(store)) == 9
    assert execution.num_made == 2


def test_cells_whose_own_values_are_on_the_grid_and_off_it_get_as_many_trials(store):
    one, other = mask_sampling.ABLATION.only("tube 0.9", "random 0.9").arms
    ablation = replace(mask_sampling.ABLATION, arms=(one, replace(other, settings={**other.settings, LR: 1e-2})))
    grid = search(None, "grid", space={LR: Range(1e-3, 1e-1, log=True, points=3)})
    execution = Pretended(store)
    carry_out(store, replace(grid, ablation=ablation).at("tiny"), execution)
    off, on = ([trial["params"][LR] for trial in cell["trials"]] for cell in store.read_search("pretended")["cells"])
    assert len(off) == len(on) == 4
    assert {1e-3, 1e-2, 1e-1} == set(on) < set(off)
    assert execution.num_made == 7, "a trial that comes again is the same run"


def test_failed_and_diverged_trials_are_told_so_and_count(store):
    carry_out(store, asked(trials=8), Pretended(store, outcome={2: "failed", 5: "diverged"}))
    states = {trial["number"]: trial["state"] for trial in trials(store)}
    assert [number for number, state in states.items() if state == "FAIL"] == [2, 5]
    assert "pretended to fail" in trials(store)[2]["reason"]
    assert "diverged" in trials(store)[5]["reason"]


def test_a_place_where_everything_fails_costs_no_budget(store):
    with pytest.raises(RunDirError, match="no trial was told"):
        carry_out(store, asked(trials=8), Pretended(store, outcome=dict.fromkeys(range(99), "failed")))
    for run in store.root.glob("*/stopped.json"):
        run.unlink()
    carry_out(store, asked(trials=8))
    assert {trial["state"] for trial in trials(store)} == {"COMPLETE"}


def test_a_preempted_run_leaves_its_trial_running(store):
    class Preempted(Pretended):
        def bring(self, made):
            first = next(i for i, run in made.runs.items() if run.stage == "finetune")
            states = super().bring(made)
            store.run(first).result.unlink()
            store.run(first).stop("interrupted", "SIGTERM")
            evaluation = next(i for i, parent in made.parents.items() if parent == first)
            store.run(evaluation).result.unlink()
            return states | {first: "interrupted", evaluation: "missing"}

    with pytest.raises(Interrupted, match="nothing of this round was told"):
        carry_out(store, asked(trials=4), Preempted(store))
    carry_out(store, asked(trials=4))
    assert [trial["state"] for trial in trials(store)] == ["COMPLETE"] * 4


def test_a_changed_space_is_refused_with_the_way_out_and_fresh_begins_anew(store):
    carry_out(store, asked(trials=4))
    changed = asked(trials=4, space={LR: Range(1e-3, 1e-1, log=True)})
    with pytest.raises(ConfigError, match=r"space was .* is .*--fresh"):
        carry_out(store, changed)
    said = []
    with Coordinator(store, changed, said.append).held(fresh=True) as coordinator:
        coordinator.carry_out(Pretended(store))
    assert "the old journal is" in said[0]
    assert len(trials(store)) == 4


@pytest.mark.parametrize("tail", [b'{"op_code": 4, "wor', b"\x00\x00\x00\x00", b'{"op_code": 4, "wor\n'])
def test_a_torn_tail_is_cut_to_the_last_whole_record_and_said(store, tail):
    carry_out(store, asked(trials=4))
    journal = store.plan_file("pretended").parent / "journal.log"
    whole = journal.read_bytes()
    journal.write_bytes(whole + tail)
    said = []
    with Coordinator(store, asked(trials=4), said.append).held():
        assert f"recovered {len(whole.splitlines())} whole ones" in said[0]
    assert journal.read_bytes().startswith(whole)
    assert next(journal.parent.glob("journal.log.cut-*")).read_bytes() == tail


def test_damage_in_the_middle_is_refused(tmp_path):
    journal = tmp_path / "journal.log"
    journal.write_text('{"a": 1}\n{"b": \n{"c": 1}\n')
    with pytest.raises(RunDirError, match=r"journal\.log:2"):
        recover_tail(journal)


def test_a_search_that_another_process_holds_is_refused(store):
    import os

    folder = store.plan_file("pretended").parent
    folder.mkdir(parents=True)
    (folder / "coordinator.json").write_text(json.dumps(process_identity(os.getpid())))
    with pytest.raises(RunDirError, match="being worked on by process"):
        carry_out(store, asked(trials=4))


def test_a_search_that_takes_long_is_not_taken_over_from_another_machine(store, monkeypatch):
    """A round may last for days, in which the coordinator only waits."""
    monkeypatch.setattr("vmae.claim.HEARTBEAT_S", 0.5)

    class Long(Pretended):
        def bring(self, made):
            own = socket.gethostname
            monkeypatch.setattr(socket, "gethostname", lambda: "another machine")
            time.sleep(1.2)
            with pytest.raises(RunDirError, match="being worked on by process"):
                carry_out(store, asked(trials=4))
            monkeypatch.setattr(socket, "gethostname", own)
            return super().bring(made)

    carry_out(store, asked(trials=4), Long(store))
    assert {trial["state"] for trial in trials(store)} == {"COMPLETE"}


def test_a_dead_writers_lock_is_no_wait(store):
    carry_out(store, asked(trials=4))
    journal = store.plan_file("pretended").parent / "journal.log"
    journal.with_name("journal.log.lock").symlink_to(journal)
    carry_out(store, asked(trials=8))
    assert len(trials(store)) == 8


def test_sqlite_and_unreachable_databases_are_refused():
    with pytest.raises(ConfigError, match="postgresql"):
        open_database("sqlite:///here.db")
    with pytest.raises(ConfigError, match="--storage"):
        open_database("nothing://here")


def test_the_winner_is_a_sweep_with_fresh_seeds_on_the_reported_list(store):
    from sweeps.searching.winner import declaration
    from vmae.study import make_plan

    wanted = asked(trials=8, arms=("tube 0.9", "random 0.9"))
    carry_out(store, wanted)
    summary = store.read_search(wanted.name)
    scope: dict = {"__doc__": "Winners."}
    text = declaration(summary, store)
    exec(compile(text, "tuned_pretended.py", "exec"), scope)
    made = make_plan(scope["SWEEP"])
    assert "trials per cell" in text
    assert [(cell.ablation, cell.arm) for cell in made.cells[:2]] == [
        ("tuning of tube 0.9", "shared"),
        ("tuning of tube 0.9", "tuned"),
    ]
    assert {run.evaluate.split for run in made.runs.values() if run.stage == "evaluate"} == {"test"}
    assert all(set(cell.replicates) == {10, 11, 12} for cell in made.cells)
    tuned = made.runs[made.cells[1].replicates[10]["finetune"]]
    best = summary["cells"][0]["trials"][summary["cells"][0]["best"]]
    assert tuned.finetune.optim.base_lr == best["params"][LR]


def test_a_search_with_recipes_of_its_own_needs_no_preset_and_neither_do_its_winners(store, monkeypatch):
    from sweeps.presets import tiny
    from sweeps.searching.winner import declaration
    from vmae.study import Ablation, make_plan

    recipe = tiny("motion").replace({"grid.patch_px": 16, "pretrain.mask.ratio": 0.75})
    ablation = Ablation(
        "mine", "Which?\n\nExpected: any.\n\nCost: none.", "none", (Arm("random", {"pretrain.mask.kind": "random"}),), "random"
    )
    own = replace(search(trials=3), ablation=ablation, recipes={"mine": recipe}, datasets=())
    wanted = own.at(None)
    assert [cell.name for cell in wanted.cells] == ["mine/random"]
    assert wanted.cells[0].recipe.grid == recipe.grid, "not the preset's"
    with pytest.raises(ConfigError, match="recipes of its own, so no preset 'proxy'"):
        own.at("proxy")
    carry_out(store, wanted)
    text = declaration(store.read_search(wanted.name), store, "pretended")
    monkeypatch.setitem(sys.modules, "sweeps.searches.pretended", SimpleNamespace(SEARCH=own))
    scope: dict = {"__doc__": "Winners."}
    exec(compile(text, "tuned_pretended.py", "exec"), scope)
    made = make_plan(scope["SWEEP"])
    assert {cell.dataset for cell in made.cells} == {"mine"}
    assert {run.grid for run in made.runs.values()} == {recipe.grid}


def test_pretraining_is_tuned_too_and_a_whole_section_of_an_arm_is_exported(store, tmp_path):
    from sweeps.searching.winner import declaration
    from vmae.study import make_plan

    wanted = asked(ablation=methods.ABLATION.only("MoCo v3", "VideoMAE"), space=PRETRAIN_SPACE, sampler="grid", trials=None)
    carry_out(store, wanted)
    summary = store.read_search("pretended")
    for cell, searched in zip(summary["cells"], wanted.cells, strict=True):
        chains = [chain_of(searched, trial["params"]) for trial in cell["trials"]]
        assert len({run_id(chain[0]) for chain in chains}) == len({str(trial["params"]) for trial in cell["trials"]}) > 1
    file = tmp_path / "tuned_pretended.py"
    file.write_text(declaration(summary, store))
    subprocess.run([sys.executable, "-m", "ruff", "format", "--check", "--config", ROOT / "pyproject.toml", file], check=True)
    scope: dict = {"__doc__": "Winners."}
    exec(compile(file.read_text(), file.name, "exec"), scope)
    made = make_plan(scope["SWEEP"])
    assert [made.runs[cell.replicates[10]["pretrain"]].pretrain.method for cell in made.cells] == ["moco_v3"] * 2 + ["masked"] * 2
    for cell, searched in zip(made.cells[1::2], summary["cells"], strict=True):
        tuned = made.runs[cell.replicates[10]["pretrain"]].pretrain
        assert searched["best"] > 0
        assert tuned.optim.base_lr == searched["trials"][searched["best"]]["params"]["pretrain.optim.base_lr"]


def test_an_open_search_is_not_exported(store):
    from sweeps.searching.winner import declaration

    class OneRound(Pretended):
        def bring(self, made):
            if store.search_file("pretended").exists():
                raise Interrupted("after a round")
            return super().bring(made)

    with pytest.raises(Interrupted):
        carry_out(store, asked(trials=8), OneRound(store))
    with pytest.raises(RunDirError, match="4 of 8 told"):
        declaration(store.read_search("pretended"), store)


def test_a_storm_of_kills_loses_and_doubles_nothing(tmp_path):
    sys.path.insert(0, str(ROOT / "benchmarks"))
    from search_storm import Storm, storm

    assert sum(storm(tmp_path, Storm(trials=16, kills=4, work_s=0.3)).values()) > 0


def test_search_has_its_declared_fields():
    assert search().purpose == "A search for tests."
