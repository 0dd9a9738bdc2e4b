"""A short storm with a fixed seed; and that its comparison would see what a storm could do."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from helpers import ROOT, clean_environment

from sweeps import registry
from vmae.runs import Store
from vmae.study import make_plan

HARNESS = Path(__file__).parent / "harness.py"


@pytest.mark.slow
def test_a_storm_loses_doubles_and_invents_nothing(tmp_path, monkeypatch):
    words = [sys.executable, str(HARNESS), "--faults", "40", "--seed", "1", "--sweep-seeds", "1", "--keep", str(tmp_path)]
    done = subprocess.run(words, cwd=ROOT, env=clean_environment(), capture_output=True, text=True, timeout=1200)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "12 runs done" in done.stdout

    monkeypatch.syspath_prepend(str(HARNESS.parent))
    from harness import differences

    made = make_plan(replace(registry.load("smoke"), seeds=(0,)))
    struck, undisturbed = (
        SimpleNamespace(store=Store(tmp_path / name / "runs"), made=made) for name in ("struck", "undisturbed")
    )
    assert differences(struck, undisturbed) == []
    first = struck.store.run(next(iter(made.runs)))
    content = first.weights.read_bytes()
    first.weights.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    rows = first.metrics.read_text().splitlines(keepends=True)
    first.metrics.write_text("".join([*rows, *rows[-6:]]))
    first.previous_checkpoint.write_bytes(b"")
    first.path.joinpath("stray").write_bytes(b"")
    assert [line.partition(": ")[2] for line in differences(struck, undisturbed)] == [
        "other metrics",
        "other weights",
        "left behind: stray",
    ]
