"""Run directories: ids are checked, states are true, a claim is held by one live process, writing is whole or not at all."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from vmae.claim import process_identity
from vmae.errors import ResultsError, RunDirError
from vmae.files import write_atomic
from vmae.identity import cell_id, run_id
from vmae.job import work
from vmae.results import MetricRow, MetricsLog, Result, read_metrics, read_result, write_result
from vmae.runs import Store
from vmae.sealed import read_sealed, write_sealed
from vmae.sections import ListedSet


@pytest.fixture
def run(recipe):
    return recipe.runs()[0]


@pytest.fixture
def place(store, run):
    place = store.run(run_id(run))
    place.create(run)
    return place


def result_for(place, run, status="done"):
    return Result(place.id, cell_id(run), run.stage, status, {"top1": 50.0}, {}, {})


def test_creating_twice_is_the_same_as_once(place, run):
    before = place.config.read_bytes()
    place.create(run)
    assert place.config.read_bytes() == before
    assert place.load() == run


def test_a_list_that_has_moved_is_found_by_what_is_not_done_yet(store, recipe):
    """Where videos lie is no identity: a run that was planned before would look for them where they no longer are."""
    videos = {"name": "mine", "list_sha256": "0" * 64, "counts": {"pretrain": 64, "holdout": 8}}
    lists = [ListedSet(manifest=f"/{folder}/mine.csv", **videos) for folder in ("old", "new")]
    old, new = (recipe.replace({"pretrain.data": listed}).runs()[0] for listed in lists)
    place = store.run(run_id(old))
    place.create(old)
    place.create(new)
    assert place.load().pretrain.data.manifest == "/old/mine.csv", "a job may be reading it"
    place.create(new, may_move=True)
    assert place.load() == new
    other = recipe.runs()[0]
    place.create(other, may_move=True)
    assert place.load() == new, "another run does not take its place"


def test_a_config_that_differs_from_its_id_is_refused_and_nothing_is_lost(place, run):
    edited = place.config.read_text().replace('"ratio": 0.75', '"ratio": 0.5')
    place.config.write_text(edited)
    for action in (place.load, lambda: place.create(run), lambda: work(place)):
        with pytest.raises(RunDirError, match=rf"config\.json hashes to .*, not to its directory's name {place.id}"):
            action()
    assert place.config.read_text() == edited


@pytest.mark.parametrize("text", ["", "{", '{"stage": "pretrain"}', '{"stage": "sleep"}', "[]"])
def test_a_damaged_config_names_the_file(place, text):
    place.config.write_text(text)
    with pytest.raises(RunDirError, match=r"config\.json"):
        place.load()


def test_states_come_from_files(place, run):
    assert place.state() == "missing"
    place.stop("failed", "no disk")
    assert place.state() == "failed"
    with place.claimed():
        assert place.state() == "running"
    assert place.state() == "missing", "a new attempt forgets why the last one ended"
    place.checkpoint.touch()
    assert place.state() == "interrupted"
    write_result(place.result, result_for(place, run))
    assert place.state() == "done"


@pytest.mark.parametrize("left", ["job.json", "starts.jsonl", "stopped.json", "last.pt"])
def test_a_result_that_a_network_file_system_does_not_show_yet_is_there(place, run, monkeypatch, left):
    """For up to a minute a login node sees a folder as it was: no result, and the checkpoint that is deleted by now."""
    is_shown = False

    def chmod(path, mode):
        nonlocal is_shown
        is_shown = True

    place.write_submission({"executor": "slurm", "job_id": "1"})
    (place.path / left).write_text('{"state": "interrupted", "step": 0}\n')
    write_result(place.result, result_for(place, run))
    exists = Path.exists
    monkeypatch.setattr(Path, "exists", lambda path: exists(path) and (is_shown or path.name != "result.json"))
    monkeypatch.setattr(Path, "chmod", chmod)
    assert place.state(is_known=True) == "done"


def test_children_of_failed_runs_are_blocked(recipe, store):
    chain = recipe.runs()
    ids = [run_id(r) for r in chain]
    for r, id_ in zip(chain, ids, strict=True):
        store.run(id_).create(r)
    parents = {ids[0]: None, ids[1]: ids[0], ids[2]: ids[1]}
    assert list(store.states(parents).values()) == ["missing"] * 3
    assert list(store.states(parents, dict.fromkeys(ids, "queued")).values()) == ["queued"] * 3
    store.run(ids[0]).stop("failed", "x")
    assert list(store.states(parents).values()) == ["failed", "blocked", "blocked"]
    assert list(store.states(parents, dict.fromkeys(ids, "queued")).values()) == ["queued"] * 3, "it is tried again"


def test_a_claim_is_exclusive_while_its_process_lives(place):
    with place.claimed():
        with pytest.raises(RunDirError, match=f"being worked on by process {os.getpid()}"), place.claimed():
            pass
        assert place.held_claim().is_live()
    assert not place.claim.exists()
    assert [p.name for p in place.path.iterdir()] == ["config.json"]


def test_a_dead_process_holds_no_claim(place):
    dead = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, text=True, check=True)
    place.claim.write_text(json.dumps({**process_identity(os.getpid()), "pid": int(dead.stdout)}))
    assert not place.held_claim().is_live()
    with place.claimed():
        assert place.held_claim().is_live()


def test_a_reused_pid_is_another_process(place):
    place.claim.write_text(json.dumps({**process_identity(os.getpid()), "started": "1"}))
    assert not place.held_claim().is_live()


def test_a_claim_of_another_host_lives_by_its_heartbeat(place):
    place.claim.write_text(json.dumps({"host": "elsewhere", "pid": 1, "started": "1"}))
    assert place.held_claim().is_live()
    os.utime(place.claim, (0, 0))
    assert not place.held_claim().is_live()


def test_damaged_results_name_the_file_and_are_no_result(place):
    for text in ("", "{", '{"run_id": 3}'):
        place.result.write_text(text)
        with pytest.raises(ResultsError, match=r"result\.json(:| is damaged:) "):
            read_result(place.result)


def test_a_failed_write_leaves_what_was_there(tmp_path):
    target = tmp_path / "file"
    write_atomic(target, b"old")

    def full_disk(path):
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    with pytest.raises(RunDirError, match=r"cannot write .*file: No space left on device"):
        write_atomic(target, full_disk)
    assert target.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_a_root_that_cannot_be_written_is_said(tmp_path, run):
    (tmp_path / "file").write_text("")
    with pytest.raises(RunDirError, match="cannot write"):
        Store(tmp_path / "file").run("x").create(run)


def test_a_full_disk_in_a_real_run_is_a_clear_error(recipe, store, runtime, place):
    """/dev/full refuses every byte: the metrics cannot be written, the run fails with the reason, nothing is marked done."""
    place.metrics.symlink_to("/dev/full")
    with pytest.raises(RunDirError, match=r"cannot write .*metrics\.jsonl: No space left"):
        work(place, runtime)
    assert place.state() == "failed"
    assert "No space left" in place.read_stopped()["reason"]


def rows(n):
    return [MetricRow(step, step / 2, "train", "loss", 1.0 / step) for step in range(1, n + 1)]


def test_metrics_round_trip_and_truncate(tmp_path):
    log = MetricsLog(tmp_path / "m.jsonl")
    log.append(rows(5))
    assert read_metrics(log.path) == rows(5)
    log.truncate_after(3)
    assert read_metrics(log.path) == rows(3)


def test_a_half_written_last_line_is_dropped_and_a_damaged_one_is_not(tmp_path):
    log = MetricsLog(tmp_path / "m.jsonl")
    log.append(rows(3))
    whole = log.path.read_text()
    log.path.write_text(whole[:-10])
    assert read_metrics(log.path) == rows(2)
    log.path.write_text(whole.replace('"step": 2', "#"))
    with pytest.raises(ResultsError, match=r"m\.jsonl:2: not a metrics row"):
        read_metrics(log.path)


def test_values_that_are_not_finite_become_null(tmp_path):
    log = MetricsLog(tmp_path / "m.jsonl")
    values = (float("nan"), 0.5, float("inf"), None, -float("inf"), 0.0)
    log.append(MetricRow(1, 0.5, "train", "loss", value) for value in values)
    assert [row.value for row in read_metrics(log.path)] == [None, 0.5, None, None, None, 0.0]


@pytest.mark.parametrize(
    "damage",
    [{"status": "failed"}, {"metrics": [1]}, {"compute": None}, {"provenance": "x"}, {"more": 1}],
    ids=lambda damage: next(iter(damage)),
)
def test_a_result_of_another_shape_is_no_result(place, damage):
    write_result(place.result, Result("x", "y", "evaluate", "diverged", {}, {}, {}))
    assert read_result(place.result).status == "diverged"
    content = read_sealed(place.result, "", is_required=False)
    write_sealed(place.result, content | damage)
    with pytest.raises(ResultsError, match=r"result\.json: not a result: .*; remove it to run again"):
        read_result(place.result)


@pytest.mark.parametrize(("name", "value"), [("step", 1.5), ("step", "1"), ("epoch", "1"), ("value", [1])])
def test_a_row_whose_numbers_are_none_is_damage(tmp_path, name, value):
    log = MetricsLog(tmp_path / "m.jsonl")
    log.append(rows(2))
    line = json.loads(log.path.read_text().splitlines()[0]) | {name: value}
    log.path.write_text(json.dumps(line) + "\n" + log.path.read_text())
    with pytest.raises(ResultsError, match=r"m\.jsonl:1: not a metrics row"):
        read_metrics(log.path)


def test_a_child_waits_for_its_parents_result(recipe, store, runtime):
    child = recipe.runs()[1]
    place = store.run(run_id(child))
    place.create(child)
    with pytest.raises(RunDirError, match=r"parent run .*\(pretrain\) is not done"):
        work(place, runtime)
    assert place.state() == "missing", "nothing failed here: it can come once its parent has"
