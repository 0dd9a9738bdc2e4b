"""The bench measures what training does: parts add up, warm-up does not count, a named mistake is answered."""

import csv
import mmap

import pytest
import torch
from typer.testing import CliRunner

from vmae.bench import Bench, Stepper, synthetic
from vmae.bench_cli import app
from vmae.errors import VmaeError
from vmae.model.autoencoder import VideoMAE
from vmae.runtime import RuntimeConfig
from vmae.train.distributed import World

SMALL = [
    "model",
    "--model",
    "vit_s",
    "--size-px",
    "16",
    "--patch-px",
    "8",
    "--batch",
    "1",
    "--steps",
    "1",
    "--set",
    "num_threads=1",
]


@pytest.fixture
def measured(recipe):
    bench = Bench(recipe.runs()[0], RuntimeConfig(), World(0, 1, torch.device("cpu")), num_steps=2, num_warmup=3)
    return bench.measure("model", reads=False)


def test_clocks_nest_and_parts_add_up(measured):
    assert 0 < sum(measured.parts_s.values()) <= measured.train_s - measured.data_wait_s
    assert measured.train_s < measured.program_s


def test_the_row_follows_from_the_clocks(measured):
    row = measured.row()
    assert row["clips_per_s"] * measured.train_s == pytest.approx(2 * measured.batch)
    assert row["share_of_peak"] == pytest.approx(row["clips_per_s"] * row["gflops_per_clip"] / row["peak_gflops_per_s"])


def test_page_faults_are_those_of_measured_steps(recipe, monkeypatch):
    def touch_new_pages(*_):
        with mmap.mmap(-1, 400 * mmap.PAGESIZE) as pages:
            pages[:: mmap.PAGESIZE] = bytes(400)

    monkeypatch.setattr(Stepper, "step", touch_new_pages)
    bench = Bench(recipe.runs()[0], RuntimeConfig(), World(0, 1, torch.device("cpu")), num_steps=2, num_warmup=3)
    assert 400 <= bench.measure("model", reads=False).row()["page_faults_per_step"] < 800


def test_the_command_writes_its_row_and_where_it_comes_from(tmp_path):
    done = CliRunner().invoke(app, [*SMALL, "--out", str(tmp_path / "row.csv")], catch_exceptions=False)
    assert done.exit_code == 0
    assert "share_of_peak" in done.output
    (row,) = csv.DictReader((tmp_path / "row.csv").open())
    assert row["what"] == "model"
    assert "provenance" in (tmp_path / "row.json").read_text()


def test_micro_batches_are_taken_as_set_and_change_no_gradient(recipe, monkeypatch):
    run, seen, gradients = recipe.runs()[0], [], []
    forward = VideoMAE.forward
    monkeypatch.setattr(VideoMAE, "forward", lambda self, clips, *rest: seen.append(len(clips)) or forward(self, clips, *rest))
    (batch,) = synthetic(run, 1, torch.device("cpu"))
    for micro in (None, 6):
        stepper = Stepper(run, RuntimeConfig(micro_batch_size=micro), World(0, 1, torch.device("cpu")))
        monkeypatch.setattr(
            stepper, "_update", lambda model=stepper.model: gradients.append([p.grad for p in model.parameters()])
        )
        stepper.step(batch)
    assert seen == [16, 6, 6, 4]
    for whole, parts in zip(*gradients, strict=True):
        torch.testing.assert_close(whole, parts, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize(
    ("command", "setting"),
    [
        ("model", "shard=true"),
        ("model", "bucket_mb=10"),
        ("model", "cuda_graphs=true"),
        ("loader", "micro_batch_size=4"),
        ("loader", "compile=true"),
        ("loader", "share_mask_tokens=true"),
    ],
)
def test_a_setting_that_is_not_measured_is_refused(command, setting):
    words = [command, "--set", setting] + ([] if command == "model" else ["--run", "nowhere"])
    with pytest.raises(VmaeError, match=rf"--set {setting.partition('=')[0]} would do nothing.*allowed: device"):
        CliRunner().invoke(app, words, catch_exceptions=False)


@pytest.mark.parametrize(
    ("words", "answer"),
    [(["--model", "vit_x"], "vit_s"), (["--set", "comple=true"], "compile"), (["--run", "nowhere"], "nowhere")],
)
def test_mistakes_are_answered(words, answer):
    with pytest.raises(VmaeError, match=answer):
        CliRunner().invoke(app, ["model", *words], catch_exceptions=False)
