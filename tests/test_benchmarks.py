"""The scripts that speeds are measured with: what fails costs its own row alone, and what a GPU runs is tried without one."""

import argparse
import json
import subprocess
import tarfile

import pytest
import torch
from helpers import ROOT, clean_environment

from benchmarks import contestants, pretrain_step
from vmae import peak
from vmae.grid import CubeGrid
from vmae.sections import DecoderConfig, EncoderConfig

PYTHON = """#!/bin/sh
echo "$@"
case "$*" in *"--size vit_s "*) exit 3 ;; esac
"""
PARTS = ["beside_vit_b", "memory", "profile", "beside_cubes512", "beside_vit_s", "data", "study", "archive", "tests"]
PARTS += ["vit_b_compile_true", "vit_b_compile_false"]


@pytest.fixture
def on_gpu(tmp_path):
    """What on_gpu.sh says with a python that writes down what it was asked, and the logs that it left in one file."""
    python, out = tmp_path / "python", tmp_path / "out"
    python.write_text(PYTHON)
    python.chmod(0o755)
    out.mkdir()

    def run(*parts, **more):
        environment = clean_environment(PYTHON=str(python), OUT=str(out), TMPDIR=str(tmp_path), **more)
        done = subprocess.run(
            ["bash", "benchmarks/on_gpu.sh", *parts], cwd=ROOT, env=environment, capture_output=True, text=True, check=True
        )
        if not (out / "on_gpu.tar").exists():
            return done.stdout, {}
        with tarfile.open(out / "on_gpu.tar") as archive:
            logs = {m.name.removeprefix("./"): archive.extractfile(m).read().decode() for m in archive if m.isfile()}
        assert [file.name for file in out.iterdir()] == ["on_gpu.tar"]
        return done.stdout, logs

    return run


def test_a_part_that_fails_does_not_end_the_next_ones_and_all_come_back_in_one_file(on_gpu):
    said, logs = on_gpu()
    statuses = [line.split(" after")[0] for line in said.splitlines() if ": status" in line]
    assert statuses == [f"{part}: status {3 if part == 'beside_vit_s' else 0}" for part in PARTS]
    assert set(logs) == {f"{part}.log" for part in PARTS}
    assert "tests/vmae/train/test_on_gpu.py" in logs["tests.log"]


def test_parts_are_chosen_and_none_begins_when_the_time_is_up(on_gpu):
    assert set(on_gpu("memory", "tests")[1]) == {"memory.log", "tests.log"}
    assert on_gpu("tests", TOTAL_S="0")[0].strip() == "tests: not begun, the 0 s are over"


@pytest.fixture
def words(monkeypatch):
    small = contestants.Size(
        EncoderConfig(width=16, depth=1, num_heads=2), DecoderConfig(width=8, depth=1, num_heads=2), CubeGrid(size_px=32), 2
    )
    monkeypatch.setitem(contestants.SIZES, "small", small)
    return argparse.Namespace(batch=None, compiled=True, ahead=False, also=[], rounds=2, warmup=1, no_memory=True)


def failing(name, *given):
    if name == failing.name:
        raise RuntimeError("no room\nat all")
    return contestants.make_step(name.removesuffix(" compiled"), *given)


@pytest.mark.parametrize("name", ["transformers compiled", "transformers"])
def test_a_contestant_that_fails_has_no_row_and_the_others_have(words, monkeypatch, capsys, name):
    failing.name = name
    monkeypatch.setattr(pretrain_step, "make_step", failing)
    rows = pretrain_step.compare(words, "small", "fp32", torch.device("cpu"))
    everybody = ["transformers", "vmae", "transformers compiled", "vmae compiled"]
    assert [row["contestant"] for row in rows] == [other for other in everybody if other != name]
    assert capsys.readouterr().out == f"{name}, small, fp32: RuntimeError: no room\n"
    assert all((row["ratio"] > 0) == (name != "transformers") for row in rows)
    assert len({round(row["loss"], 5) for row in rows}) == 1


class Event:
    """Steps of everybody take 10 ms, however many there are between two events."""

    clock_ms = 0.0

    def __init__(self, enable_timing):
        assert enable_timing

    def record(self):
        self.at = Event.clock_ms

    def elapsed_time(self, end):
        return end.at - self.at


def test_a_gpus_rows_follow_from_its_events_and_its_allocator(words, monkeypatch, tmp_path):
    memory = {"now": 5e9, "peak": 0.0}

    def make(name, *_):
        memory["now"] += 1e9

        def step():
            Event.clock_ms += 10
            memory["peak"] = max(memory["peak"], memory["now"] + 2e9)
            return torch.tensor(0.5)

        return step

    monkeypatch.setattr(pretrain_step, "make_step", make)
    monkeypatch.setattr(pretrain_step, "data_of", lambda *_: None)
    monkeypatch.setattr(pretrain_step, "matrix_peak", lambda *_: 1000.0)
    for name, value in {
        "Event": Event,
        "synchronize": lambda *_: None,
        "memory_allocated": lambda: memory["now"],
        "max_memory_allocated": lambda: memory["peak"],
        "reset_peak_memory_stats": lambda: memory.update(peak=0.0),
    }.items():
        monkeypatch.setattr(torch.cuda, name, value)
    rows = pretrain_step.compare(words, "small", "bf16", torch.device("cuda"))
    assert len(rows) == 4
    for row in rows:
        assert (row["ratio"], row["to_compiled"], row["clips_per_s"]) == pytest.approx((1.0, 1.0, 200.0))
        assert row["of_peak"] == pytest.approx(200 * pretrain_step.minimum_gflops(contestants.SIZES["small"].run()) / 1000)
        assert (row["peak_gb"], row["step_gb"]) == pytest.approx((3.0, 2.0))
    pretrain_step.write(rows, {}, tmp_path)
    assert len(json.loads((tmp_path / "pretrain_step.json").read_text())["rows"]) == 4


def test_a_way_that_nobody_knows_is_refused():
    """It would be measured as ours without it."""
    assert pretrain_step.ways("residual compiled graph") == "residual compiled graph"
    with pytest.raises(argparse.ArgumentTypeError, match=r"no way 'grahp'\. Did you mean 'graph'"):
        pretrain_step.ways("compiled grahp")


def test_the_fused_kernel_is_named(words):
    assert set(pretrain_step.kernels(contestants.SIZES["small"].run(), 2, "fp32", torch.device("cpu"))) == {"encoder", "decoder"}


def test_a_peak_counts_every_product_between_two_looks_at_the_clock(monkeypatch):
    """The clock moves by what the products take, 1 s each; a GPU gets several before it is waited for."""
    done = []
    monkeypatch.setitem(peak.PEAK_SIZES, "cpu", 10)
    monkeypatch.setitem(peak.PEAK_PRODUCTS, "cpu", 10)
    monkeypatch.setattr(torch.Tensor, "__matmul__", lambda a, b: done.append(1))
    monkeypatch.setattr(peak.time, "perf_counter", lambda: float(len(done)))
    assert peak.matrix_peak("fp32", torch.device("cpu")) == pytest.approx(2 * 10**3 / 1e9)
