"""An archive holds what reports need and nothing else: from it, the report has the bytes that the run directories give."""

import zipfile

import numpy as np
import pytest
import synthetic as made

from analysis.__main__ import archive, render
from analysis.archive import opened, write_archive
from analysis.collect import load_study, read_reconstruction
from analysis.report import write_report
from vmae.errors import ResultsError
from vmae.results import MetricRow, MetricsLog, read_metrics
from vmae.study import make_plan


@pytest.fixture
def finished(store):
    made.finish(store, make_plan(made.sweep()), lambda arm, seed: 50.0 + seed)
    return store


def files_of(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_report_from_the_archive_is_that_of_the_runs(finished, tmp_path):
    file = tmp_path / "runs.zip"
    archive(["synthetic"], file, finished.root)
    render(file, tmp_path / "rendered")
    write_report(load_study(finished, "synthetic"), tmp_path / "reported")
    assert files_of(tmp_path / "rendered" / "synthetic") == files_of(tmp_path / "reported")


def test_the_same_runs_give_the_same_archive_without_weights(finished, tmp_path):
    for id_ in load_study(finished, "synthetic").plan["runs"]:
        finished.run(id_).weights.write_bytes(b"large")
    assert write_archive(finished, ["synthetic"], tmp_path / "a.zip") == len(load_study(finished, "synthetic").plan["runs"])
    write_archive(finished, ["synthetic"], tmp_path / "b.zip")
    assert (tmp_path / "a.zip").read_bytes() == (tmp_path / "b.zip").read_bytes()
    kept = {name.rpartition("/")[2] for name in zipfile.ZipFile(tmp_path / "a.zip").namelist()}
    assert kept <= {
        "archive.json",
        "plan.json",
        "config.json",
        "result.json",
        "metrics.jsonl",
        "predictions.csv",
        "reconstruction.npz",
    }


def test_of_held_out_clips_the_one_that_figures_show_is_kept(finished, tmp_path):
    write_archive(finished, ["synthetic"], tmp_path / "a.zip")
    with opened(tmp_path / "a.zip") as unpacked:
        files = list(unpacked.root.glob("*/reconstruction.npz"))
        assert files
        for file in files:
            kept, whole = read_reconstruction(file), read_reconstruction(finished.run(file.parent.name).reconstruction)
            assert kept.keys() == whole.keys()
            assert all(np.array_equal(kept[name], whole[name][:1]) for name in ("original", "reconstruction", "hidden"))
            assert len(whole["original"]) > 1


def test_of_logs_losses_and_norms_of_gradients_are_kept(finished, tmp_path):
    logs = [log for id_ in load_study(finished, "synthetic").plan["runs"] if (log := finished.run(id_).metrics).exists()]
    learned = {log.parent.name: read_metrics(log) for log in logs}
    for log in logs:
        MetricsLog(log).append([MetricRow(9, 9.0, "train", "grad_norm", 0.5), MetricRow(9, 9.0, "train", "clips_per_s", 217.3)])
    write_archive(finished, ["synthetic"], tmp_path / "a.zip")
    with opened(tmp_path / "a.zip") as unpacked:
        kept = {log.parent.name: read_metrics(log) for log in unpacked.root.glob("*/metrics.jsonl")}
    assert kept == {id_: [*rows, MetricRow(9, 9.0, "train", "grad_norm", 0.5)] for id_, rows in learned.items()}
    logs[0].write_text("{half\n")
    with pytest.raises(ResultsError, match=r"metrics.jsonl:1: not a metrics row"):
        write_archive(finished, ["synthetic"], tmp_path / "b.zip")


def test_damaged_clips_are_named(finished, tmp_path):
    study = load_study(finished, "synthetic")
    file = next(file for id_ in study.plan["runs"] if (file := finished.run(id_).reconstruction).exists())
    file.write_bytes(b"PK half")
    for attempt in (
        lambda: write_archive(finished, ["synthetic"], tmp_path / "a.zip"),
        lambda: write_report(study, tmp_path / "reported"),
    ):
        with pytest.raises(ResultsError, match=rf"{file.parent.name}/reconstruction.npz is damaged"):
            attempt()
    assert not (tmp_path / "a.zip").exists()


def test_an_adopted_result_goes_along(finished, tmp_path):
    runs = load_study(finished, "synthetic").plan["runs"]
    old, new = [id_ for id_, run in runs.items() if run["stage"] == "evaluate"][:2]
    finished.own(new).result.unlink()
    finished.adopt(old, new)
    write_archive(finished, ["synthetic"], tmp_path / "runs.zip")
    with opened(tmp_path / "runs.zip") as unpacked:
        assert unpacked.adopted(new) == old
        assert unpacked.run(new).read_result() == finished.run(old).read_result()


def test_what_is_not_there_is_named(finished, tmp_path):
    with pytest.raises(ResultsError, match=r"no sweep or search 'syntetic'. Did you mean 'synthetic'"):
        write_archive(finished, ["syntetic"], tmp_path / "runs.zip")
    assert not (tmp_path / "runs.zip").exists()
    (tmp_path / "bad.zip").write_bytes(b"PK not a zip")
    with pytest.raises(ResultsError, match=r"bad.zip is no archive"), opened(tmp_path / "bad.zip"):
        pass
    with zipfile.ZipFile(tmp_path / "other.zip", "w") as other:
        other.writestr("notes.txt", "hello")
    with pytest.raises(ResultsError, match=r"holds no archive.json"):
        render(tmp_path / "other.zip", tmp_path / "out")


def test_what_failed_is_not_told_as_missing(finished, tmp_path):
    states = load_study(finished, "synthetic").plan["runs"]
    failed = next(id_ for id_, run in states.items() if run["stage"] == "pretrain")
    finished.run(failed).result.unlink()
    finished.run(failed).stop("failed", "ConfigError: a reason")
    study = load_study(finished, "synthetic")
    assert study.states[failed] == "failed"
    write_archive(finished, ["synthetic"], tmp_path / "a.zip")
    with opened(tmp_path / "a.zip") as unpacked:
        assert load_study(unpacked, "synthetic").states == study.states


def test_what_an_unfinished_run_has_logged_stays_behind(finished, tmp_path):
    id_ = next(iter(load_study(finished, "synthetic").plan["runs"]))
    finished.run(id_).result.unlink()
    finished.run(id_).metrics.write_text("{}\n")
    write_archive(finished, ["synthetic"], tmp_path / "a.zip")
    names = {name for name in zipfile.ZipFile(tmp_path / "a.zip").namelist() if id_ in name}
    assert f"{id_}/config.json" in names
    assert f"{id_}/metrics.jsonl" not in names
