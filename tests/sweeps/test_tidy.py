"""Keeping a store in order: what a plan names stays, what an unfinished child needs stays, adoptions count and can be undone."""

import os
import time
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pretended_slurm import PretendedSlurm, finish
from typer.testing import CliRunner

from slurm.cluster import SlurmLauncher
from slurm.look import submit_lock
from sweeps.__main__ import app
from sweeps.commands.pending import pending_of
from sweeps.commands.tidy import drop, find_run, unreferenced, waste
from sweeps.smoke import SWEEP as SMOKE
from vmae.claim import Claim
from vmae.errors import Busy, RunDirError
from vmae.files import write_atomic
from vmae.identity import cell_id
from vmae.results import Result, write_result
from vmae.runs import Store
from vmae.study import make_plan

PLANS = {str(k): make_plan(replace(SMOKE, name=f"s{k}", seeds=(k, k + 1))) for k in range(3)}


def written(store, plan):
    store.write_plan(plan.sweep.name, plan.to_json())
    for id_, run in plan.runs.items():
        store.run(id_).create(run)


@pytest.fixture
def small(store):
    plan = make_plan(SMOKE)
    written(store, plan)
    return plan


@settings(deadline=None, max_examples=15)
@given(st.sets(st.sampled_from(list(PLANS)), min_size=1), st.sampled_from(list(PLANS)))
def test_prune_deletes_exactly_what_no_other_plan_names(tmp_path_factory, names, victim):
    store = Store(tmp_path_factory.mktemp("store"))
    for name in names | {victim}:
        written(store, PLANS[name])
    others = {id_ for name in names - {victim} for id_ in PLANS[name].runs}
    assert unreferenced(store) == []
    doomed = unreferenced(store, without=f"s{victim}")
    assert set(doomed) == set(PLANS[victim].runs) - others
    drop(store, doomed, f"s{victim}")
    assert set(store.run_ids()) == others
    assert not store.plan_file(f"s{victim}").exists()
    assert not (store.root / ".trash").exists()


def test_prune_asks_and_leaves_what_is_at_work(small, store):
    ids = list(small.runs)
    store.plan_file("smoke").unlink()
    store.plan_file("smoke").parent.rmdir()
    runner = CliRunner()
    with store.own(ids[0]).claimed():
        said = runner.invoke(app, ["prune", "--runs", str(store.root)], input="n\n")
        assert "stays: running" in said.output
        assert len(store.run_ids()) == len(ids)
        assert runner.invoke(app, ["prune", "--runs", str(store.root), "--yes"]).exit_code == 0
    assert store.run_ids() == ids[:1]


def children(plan, id_):
    return [child for child, parent in plan.parents.items() if parent == id_]


@settings(deadline=None, max_examples=20)
@given(st.data())
def test_gc_keeps_what_an_unfinished_child_needs(tmp_path_factory, data):
    store, plan = Store(tmp_path_factory.mktemp("store")), PLANS["0"]
    written(store, plan)
    done = set()
    for id_ in plan.runs:
        parent = plan.parents.get(id_)
        if (parent is None or parent in done) and data.draw(st.booleans()):
            finish(store, id_)
            done.add(id_)
        store.own(id_).weights.write_bytes(b"w")
        store.own(id_).checkpoint.write_bytes(b"c")
    gone = {entry.path for entries in waste(store, weights=True).values() for entry in entries}
    for id_ in plan.runs:
        has_needed = id_ not in done or not children(plan, id_) or not done.issuperset(children(plan, id_))
        assert (store.own(id_).weights in gone) == (not has_needed)
        assert (store.own(id_).checkpoint in gone) == (id_ in done)
    kept = {entry.path for entries in waste(store, weights=False).values() for entry in entries}
    assert not any(path.name == "model.safetensors" for path in kept)


def test_gc_lists_and_deletes_only_when_told(small, store):
    first, second = list(small.runs)[:2]
    finish(store, first)
    for id_, code in ((first, "old"), (second, "new")):
        (store.root / "code" / code).mkdir(parents=True)
        (store.root / "code" / code / "a.py").write_text("x")
        store.own(id_).write_submission({"executor": "slurm", "job_id": "7" if id_ == first else "8_1", "code": code})
    store.jobs.mkdir()
    for name in ("7_submitted.pkl", "7_submission.sh", "8_1_submitted.pkl", "8_submission.sh", "7_0_log.out"):
        (store.jobs / name).write_text("x")
    stale = store.own(second).path / ".last.pt.1.tmp"
    stale.write_text("x")
    os.utime(stale, (0, 0))
    fresh = store.own(second).path / ".last.pt.2.tmp"
    fresh.write_text("x")
    os.utime(fresh, (time.time(), time.time()))
    runner = CliRunner()
    assert "--yes deletes them" in runner.invoke(app, ["gc", "--runs", str(store.root)]).output
    assert stale.exists()
    assert runner.invoke(app, ["gc", "--runs", str(store.root), "--yes"]).exit_code == 0
    assert not stale.exists()
    assert fresh.exists()
    assert sorted(path.name for path in store.jobs.iterdir()) == ["7_0_log.out", "8_1_submitted.pkl", "8_submission.sh"]
    assert [path.name for path in (store.root / "code").iterdir()] == ["new"]


def test_gc_takes_no_code_that_a_submit_has_sent_or_is_about_to_send(small, store):
    """Its jobs start in that folder; no run says so before sbatch has answered."""
    for code in ("sent", "sending"):
        (store.root / "code" / code).mkdir(parents=True)
    write_atomic(store.jobs / "batches" / "vmae-0.json", b'{"jobs": [], "facts": {"code": "sent"}}')
    words = ["gc", "--runs", str(store.root), "--yes"]
    with Claim(submit_lock(store)).held("the run root"):
        assert isinstance(CliRunner().invoke(app, words).exception, Busy)
    assert (store.root / "code" / "sending").exists()
    assert CliRunner().invoke(app, words).exit_code == 0
    assert [path.name for path in (store.root / "code").iterdir()] == ["sent"]


def same_stage(plan):
    pretrainings = [id_ for id_, run in plan.runs.items() if run.stage == "pretrain"]
    return pretrainings[0], pretrainings[1]


def test_an_adopted_result_counts_and_can_be_given_back(small, store):
    old, new = same_stage(small)
    finish(store, old)
    parents = {id_: small.parents.get(id_) for id_ in small.runs}
    before = {path: path.read_bytes() for path in store.own(old).path.iterdir()}
    runner = CliRunner()
    said = runner.invoke(app, ["adopt", old, new, "--runs", str(store.root), "--yes"])
    assert said.exit_code == 0, said.output
    assert "pretrain.mask.ratio" in said.output
    states = store.states(parents)
    assert states[new] == "done"
    assert new not in pending_of(store, small, states, set(small.runs), ())
    assert store.run(new).read_result().run_id == old
    assert {path: path.read_bytes() for path in store.own(old).path.iterdir()} == before
    assert runner.invoke(app, ["adopt", "--undo", new, "--runs", str(store.root)]).exit_code == 0
    assert store.states(parents)[new] == "missing"


def test_adoptions_that_would_hide_or_invent_a_result_are_refused(small, store):
    old, new = same_stage(small)
    child = next(id_ for id_, run in small.runs.items() if run.stage == "finetune")
    for source, taker, words in ((old, old, "one run"), (old, new, "is not done")):
        with pytest.raises(RunDirError, match=words):
            store.adopt(source, taker)
    finish(store, old)
    with pytest.raises(RunDirError, match="a pretrain, the other a finetune"):
        store.adopt(old, child)
    with store.own(new).claimed(), pytest.raises(RunDirError, match="at work"):
        store.adopt(old, new)
    store.adopt(old, new)
    third = [id_ for id_, run in small.runs.items() if run.stage == "pretrain"][2]
    with pytest.raises(RunDirError, match="is not done"):
        store.adopt(new, third)
    with pytest.raises(RunDirError, match=f"no run '{third}x'"):
        find_run(store, f"{third}x")


def test_a_run_is_found_by_its_beginning(small, store):
    ids = store.run_ids()
    assert find_run(store, ids[0]) == ids[0]
    assert find_run(store, ids[0][:10]) == ids[0]
    with pytest.raises(RunDirError, match="no run"):
        find_run(store, "")
    common = next(c for c in "0123456789abcdef" if sum(id_.startswith(c) for id_ in ids) > 1)
    with pytest.raises(RunDirError, match="run ids"):
        find_run(store, common)


def test_diff_names_fields_and_values(small, store):
    old, new = same_stage(small)
    said = CliRunner().invoke(app, ["diff", old[:8], new[:8], "--runs", str(store.root)]).output
    assert "pretrain.mask.ratio: 0.75 -> 0.9" in said
    assert "the same configuration" in CliRunner().invoke(app, ["diff", old, old, "--runs", str(store.root)]).output


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["submit", "smoke", "--retry", "fail"], "--retry 'fail'. Did you mean 'failed'"),
        (["submit", "smoke", "--only", "stage=train"], "nothing has stage 'train'"),
        (["submit", "smoke", "--only", "stages=pretrain"], "no key 'stages'. Did you mean 'stage'"),
        (["submit", "smoke", "--only", "arm"], "expected key=value, for example stage=pretrain; keys: stage, arm, dataset, seed"),
        (["submit", "smoke", "--pack", "2"], "profile local is this machine; add --profile slurm"),
        (["submit", "smoke", "--seeds", "a-b"], "--seeds 'a-b'"),
        (["plan", "demo", "--profile", "slrum"], "no profile 'slrum'. Did you mean 'slurm'"),
        (["plan", "demo", "--profile", "/none/mine.toml"], "there is no file /none/mine.toml"),
        (["cancel", "smoek"], "no sweep, search or run 'smoek'. Did you mean 'smoke'"),
        (["watch", "smoke", "--profile", "local"], "watch is for SLURM"),
    ],
)
def test_mistyped_options_name_the_near_word(words, message, store):
    result = CliRunner().invoke(app, [*words, "--runs", str(store.root)])
    assert result.exit_code != 0
    assert message in str(result.exception)


def everything_in(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("words", [("--dry-run",), ("--test-only",), ("--max-gpu-hours", "0")])
def test_a_rehearsed_or_refused_submit_changes_nothing(words, tmp_path, monkeypatch):
    slurm = PretendedSlurm(tmp_path, monkeypatch, more="gpus_per_node = 1")
    monkeypatch.setattr(SlurmLauncher, "show", lambda launcher, batch: f"#SBATCH --chdir={launcher.code}")
    monkeypatch.setattr(SlurmLauncher, "expected_start", lambda launcher, batch: "soon")
    assert slurm("submit", "smoke").exit_code == 0
    slurm.jobs.clear()
    before = everything_in(slurm.store.root)
    said = slurm("submit", "smoke", "--seeds", "7,8", *words)
    assert said.exit_code == (1 if words[0] == "--max-gpu-hours" else 0)
    assert everything_in(slurm.store.root) == before


def test_runs_that_another_choice_of_seeds_took_out_of_the_plan_outlive_prune(tmp_path, monkeypatch):
    slurm = PretendedSlurm(tmp_path, monkeypatch)
    assert slurm("watch", "smoke").exit_code == 0
    assert "12 finished runs of it are in no report now" in slurm("submit", "smoke", "--seeds", "5").output
    said = slurm("prune", "--yes")
    assert "12 runs of no plan stay" in said.output
    assert "0 of 12 runs to submit; 12 done" in slurm("submit", "smoke").output
    slurm("submit", "smoke", "--seeds", "5")
    assert "deleted 12 runs" in slurm("prune", "--finished", "--yes").output


@pytest.mark.parametrize("name", [(), ("smoke",)])
def test_prune_deletes_nothing_that_was_taken_up_while_it_asked(tmp_path, monkeypatch, name):
    slurm = PretendedSlurm(tmp_path, monkeypatch)
    slurm("submit", "smoke", "--seeds", "0")
    slurm.jobs.clear()
    if not name:
        slurm("submit", "smoke", "--seeds", "1")
        slurm.jobs.clear()
    monkeypatch.setattr("typer.confirm", lambda *_, **__: slurm("submit", "smoke", "--seeds", "0"))
    said = slurm("prune", *name)
    if name:
        assert "smoke was submitted while this waited" in str(said.exception)
    else:
        assert "deleted 0 runs; 12 stay, taken up meanwhile" in said.output
    assert slurm.store.read_plan("smoke")["seeds"] == [0]
    assert set(slurm.store.read_plan("smoke")["runs"]) <= set(slurm.store.run_ids())


def test_prune_is_refused_while_a_submit_is_at_work(small, store):
    store.plan_file("smoke").unlink()
    with Claim(submit_lock(store)).held("the run root"):
        assert isinstance(CliRunner().invoke(app, ["prune", "--runs", str(store.root), "--yes"]).exception, Busy)
    assert store.run_ids() == sorted(small.runs)


def test_prune_leaves_the_runs_that_trials_of_a_search_stand_on(tmp_path, monkeypatch):
    """A larger budget of a grid is one larger round, whose plan names only what was open then."""
    slurm = PretendedSlurm(tmp_path, monkeypatch)
    for trials in ("4", "8"):
        assert slurm("search", "run", "lr_from_scratch", "--trials", trials).exit_code == 0
    told = {
        id_
        for cell in slurm.store.read_search("lr_from_scratch")["cells"]
        for trial in cell["trials"]
        for id_ in trial["runs"].values()
    }
    assert not told <= set().union(*(slurm.store.read_plan(sweep)["runs"] for sweep in slurm.store.sweeps()))
    assert "every run is named" in slurm("prune", "--finished", "--yes").output
    assert slurm("prune", slurm.store.sweeps()[0], "--yes").exit_code == 0
    assert told <= set(slurm.store.run_ids())


def test_gc_keeps_the_state_before_a_divergence(small, store):
    done, diverged = same_stage(small)
    finish(store, done)
    run = store.own(diverged).load()
    write_result(store.own(diverged).result, Result(diverged, cell_id(run), run.stage, "diverged", {}, {}, {}))
    for id_ in (done, diverged):
        store.own(id_).checkpoint.write_bytes(b"c")
    gone = {entry.path for entries in waste(store, weights=True).values() for entry in entries}
    assert store.own(done).checkpoint in gone
    assert store.own(diverged).checkpoint not in gone


def test_a_pretraining_whose_weights_gc_took_is_made_again_when_asked_and_only_then(tmp_path, monkeypatch):
    slurm = PretendedSlurm(tmp_path, monkeypatch)
    assert slurm("watch", "smoke").exit_code == 0
    assert slurm("gc", "--weights", "--yes").exit_code == 0
    assert "0 of 12 runs to submit; 12 done" in slurm("submit", "smoke").output, "nothing needs the weights"
    new = ("--set", "finetune.optim.epochs=5")
    before = everything_in(slurm.store.root)
    refused = slurm("submit", "smoke", *new)
    assert "4 done runs" in str(refused.exception)
    assert "--retry weights" in str(refused.exception)
    assert everything_in(slurm.store.root) == before
    assert "12 of 12 runs to submit" in slurm("submit", "smoke", *new, "--retry", "weights").output
    slurm.pass_time()
    assert slurm("watch", "smoke", *new).exit_code == 0
