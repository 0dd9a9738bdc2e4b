"""What is committed under results/: small, and made again from its archives: pages byte for byte, tables number by number."""

import os
import re
from pathlib import Path

import pandas as pd
import pytest
from helpers import ROOT

from analysis.__main__ import render
from analysis.archive import names_in, opened
from sweeps import registry

RESULTS = ROOT / "results"
ARCHIVES = sorted(RESULTS.glob("*/runs.zip"))
TEXT = (".md", ".csv", ".tex")  # pictures, and report.html that holds them, follow matplotlib's version


def test_results_stay_small():
    assert ARCHIVES
    files = (path for path in RESULTS.rglob("*") if path.is_file() and path.suffix not in (".pdf", ".svg"))  # which git ignores
    assert sum(path.stat().st_size for path in files) < 20e6


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
            if path.suffix == ".csv":  # of all digits; another processor's sums may differ in the last one
                pd.testing.assert_frame_equal(pd.read_csv(RESULTS / path), pd.read_csv(tmp_path / path), rtol=1e-9)
            else:
                assert (RESULTS / path).read_bytes() == (tmp_path / path).read_bytes(), path
            compared += 1
        assert (RESULTS / name / "figures").is_dir()
    assert compared >= 3 * len(names)


def test_what_the_page_on_findings_says_is_what_the_report_says():
    """docs/findings.md tells each comparison in the report's words and names sweeps that exist."""
    page = (ROOT / "docs" / "findings.md").read_text(encoding="utf-8")
    for row in (RESULTS / "evidence" / "findings.md").read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in row.strip("|").split(" | ")]
        if len(cells) > 6 and cells[6].startswith(("+", "-0", "-1", "-2", "-3", "-4", "-5", "-6", "-7", "-8", "-9")):
            claim = next(line for line in page.splitlines() if line.startswith(f"| **{cells[0]}** "))
            assert f"**{cells[5]}** ({cells[6]})" in claim, cells[0]
    named = set(re.findall(r"python -m sweeps submit (\w+) --preset paper", page))
    assert named
    for name in named:
        assert registry.load(name, "paper").ablations
