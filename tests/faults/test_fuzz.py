"""A few damaged files of each kind with a fixed seed; and that the fuzz would see a reader that lets one through."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from fuzz import Target, fuzz, targets


@pytest.mark.slow
def test_damaged_files_are_read_or_refused_by_name(tmp_path):
    counts, failures = fuzz(targets(tmp_path / "work"), 850, seed=2, keep=tmp_path / "kept")
    assert not failures, failures[0]
    assert sum(counts.values()) == 850


def test_a_careless_reader_is_caught(tmp_path):
    file = tmp_path / "careless.json"
    file.write_text('{"a": 1}')
    counts, failures = fuzz({"careless": Target(file, lambda: int(file.read_text()[5:7]))}, 50, seed=0, keep=tmp_path / "kept")
    assert counts["careless FAILED"] == len(failures) > 10
    assert len(list((tmp_path / "kept").iterdir())) == len(failures)
    assert file.read_text() == '{"a": 1}'
