"""What is committed under results/: small, and made again from its archives: pages byte for byte, tables number by number."""

import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from helpers import ROOT

from analysis.__main__ import render
from analysis.archive import names_in, opened
from analysis.claims import CLAIMS
from analysis.overview import ALL, AT_THE_PAPERS_SCALE
from sweeps import registry

RESULTS = ROOT / "results"
ARCHIVES = sorted(RESULTS.glob("*/runs.zip"))
TEXT = (".md", ".csv", ".tex")  # pictures, and report.html that holds them, follow matplotlib's version


def test_results_stay_small():
    assert ARCHIVES
    made_again = (".pdf", ".svg", ".html")  # git ignores them
    files = (path for path in RESULTS.rglob("*") if path.is_file() and path.suffix not in made_again)
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


@pytest.mark.slow
def test_the_page_on_findings_holds_what_the_archived_runs_say_together():
    page = (ROOT / "docs" / "findings.md").read_text(encoding="utf-8")
    command = next(line for line in page.splitlines() if line.startswith("python -m analysis claims "))
    done = subprocess.run([sys.executable, *command.split()[1:]], cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() in page


def test_each_claim_is_sent_to_a_sweep_that_asks_it_at_the_papers_scale():
    asked = {name: registry.load(name, "paper") for name in {ALL, *AT_THE_PAPERS_SCALE.values()}}
    for claim in CLAIMS:
        for check in claim.checks:
            sweep = asked[AT_THE_PAPERS_SCALE.get(check.ablation, ALL)]
            assert check.ablation in [ablation.name for ablation in sweep.ablations], claim.id
