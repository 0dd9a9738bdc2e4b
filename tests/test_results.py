"""What is committed under results/: small, and made again from its archives, byte for byte where no picture is in it."""

import os
from pathlib import Path

import pytest
from helpers import ROOT

from analysis.__main__ import render
from analysis.archive import names_in, opened

RESULTS = ROOT / "results"
ARCHIVES = sorted(RESULTS.glob("*/runs.zip"))
TEXT = (".md", ".csv", ".tex")  # pictures, and report.html that holds them, follow matplotlib's version


def test_results_stay_small():
    assert ARCHIVES
    assert sum(path.stat().st_size for path in RESULTS.rglob("*") if path.is_file()) < 20e6


@pytest.mark.slow
@pytest.mark.parametrize("archive", ARCHIVES, ids=lambda path: path.parent.name)
def test_reports_are_made_again_from_their_archive(archive, tmp_path):
    render(archive, tmp_path)
    with opened(archive) as store:
        names = names_in(store)
    compared = 0
    for name in names:
        made = {Path(folder, file).relative_to(tmp_path) for folder, _, files in os.walk(tmp_path / name) for file in files}
        for path in sorted(path for path in made if path.suffix in TEXT):
            assert (RESULTS / path).read_bytes() == (tmp_path / path).read_bytes(), path
            compared += 1
        assert (RESULTS / name / "figures").is_dir()
    assert compared >= 3 * len(names)
