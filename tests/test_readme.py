"""README and docs/analysis.md: every command runs, in order; every link leads somewhere; the table is the committed report's."""

import itertools
import math
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from helpers import ROOT, clean_environment

README = (ROOT / "README.md").read_text(encoding="utf-8")
ON_ANALYSIS = (ROOT / "docs" / "analysis.md").read_text(encoding="utf-8")
# The same commands at a size that takes seconds.
SMALLER = {"quick": "tiny", "demo": "smoke", "masking": "smoke", "tube 0.75": "tube 0.9", "scratch": "frame 0.875", "0,1": "1"}


def commands():
    blocks = re.findall(r"```sh\n(.*?)```", README + ON_ANALYSIS, flags=re.DOTALL)
    lines = [line.split("#")[0].strip() for block in blocks for line in block.splitlines()]
    return list(dict.fromkeys(line for line in lines if line))


def translated(command, bin_dir):
    """The command with this interpreter and a small sweep; `make test` and `make lint` only as what they would do."""
    program, *words = shlex.split(command)
    if program == "make" and words == ["demo"]:
        return ["make", "--assume-old=install", "demo", f"BIN={bin_dir}", "SIZE=tiny", "SWEEP=smoke"]
    if program == "make":
        return ["make", "--dry-run", *words]
    assert program in ("python", "vmae", "torchrun"), f"a command nobody runs: {command}"
    return [str(bin_dir / program), *(SMALLER.get(word, word) for word in words)]


def test_every_command_runs(tmp_path):
    bin_dir = Path(sys.executable).parent
    places = {f"VMAE_{name.upper()}": str(tmp_path / name) for name in ("data", "runs", "reports")}
    assert commands()[0] == "make demo"
    for command in commands():
        done = subprocess.run(
            translated(command, bin_dir), cwd=ROOT, env=clean_environment(**places), capture_output=True, text=True, timeout=900
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
        if command == "make demo":
            assert f"report:     {tmp_path / 'reports' / 'smoke' / 'report.md'}" in done.stdout
            assert f"ratio plot: {tmp_path / 'reports' / 'smoke'}" in done.stdout
            assert "| tube 0.9 |" in done.stdout


@pytest.mark.parametrize("link", re.findall(r"\]\(([^)#]+)\)", README))
def test_every_link_leads_somewhere(link):
    assert link.startswith("https://") or (ROOT / link).exists()


def cells(line):
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_the_table_is_the_committed_reports():
    """Each row is one table's difference: of an arm to the one that this table compares with, or to scratch."""
    lines = README.splitlines()
    first = lines.index("| arm | top-1 % | against | points |") + 2
    shown = [tuple(cells(line)) for line in itertools.takewhile(lambda line: line.startswith("| "), lines[first:])]
    reported = set()
    tables = (sorted((ROOT / "results" / study / "tables").glob("*.csv")) for study in ("evidence_again", "evidence_long"))
    for file in itertools.chain.from_iterable(tables):
        table = pd.read_csv(file)
        baseline = table.loc[table["vs_baseline"].isna(), "arm"].item()
        for cell in table.to_dict("records"):
            value = f"{cell['top1']:.1f} ± {cell['top1_half_width']:.1f} (n = {cell['num_seeds']})"
            for label, other in (("baseline", baseline), ("scratch", "scratch")):
                if not math.isnan(points := cell.get(f"vs_{label}", math.nan)):
                    said = f"{points:+.1f} ± {cell[f'vs_{label}_half_width']:.1f} {cell[f'vs_{label}_verdict']}"
                    reported.add((cell["arm"], value, other, said))
    assert len(shown) == 12
    assert set(shown) <= reported


def test_the_table_of_masks_is_the_committed_reports():
    """Kinds of mask at 7 of 8, a column per study; blank where a study did not ask."""
    studies = ("evidence_masking", "motion"), ("evidence_appearance", "appearance"), ("evidence_kinds", "appearance")
    tables = [
        pd.read_csv(ROOT / "results" / study / "tables" / f"mask_ratio_by_sampling-digits-{label}.csv").set_index("arm")
        for study, label in studies
    ]
    arms = {
        "tubes": "tube 0.875",
        "random cubes": "random 0.875",
        "whole frames": "frame 0.875",
        "blocks": "block 0.875",
        "nothing, no pre-training": "scratch",
    }
    lines = README.splitlines()
    heads = cells(next(line for line in lines if line.startswith("| hidden |")))
    assert [f"(n = {set(table['num_seeds']).pop()})" in head for table, head in zip(tables, heads[1:], strict=True)] == [True] * 3
    for words, arm in arms.items():
        said = [f"{t.loc[arm, 'top1']:.1f} ± {t.loc[arm, 'top1_half_width']:.1f}" if arm in t.index else "" for t in tables]
        assert [words, *said] in [cells(line) for line in lines if line.startswith("| ")]
    behind = [table.loc["frame 0.875"] for table in tables[1:]]
    assert all(frames["vs_baseline_verdict"] == "worse" for frames in behind)
    points = [f"by {-frames['vs_baseline']:.1f} ± {frames['vs_baseline_half_width']:.1f}" for frames in behind]
    assert f"{points[0]} points, and {points[1]} on fresh seeds" in " ".join(README.split())
    assert tables[2].loc["random 0.875", "vs_baseline_verdict"].startswith("not distinguishable")


def test_the_table_of_ratios_is_the_committed_reports():
    """Tubes and random cubes by the share that is hidden, on five seeds and, its end once more, on eight."""
    five, eight = (
        pd.read_csv(ROOT / "results" / study / "tables" / "mask_ratio_by_sampling-digits-appearance.csv").set_index("arm")
        for study in ("evidence_ratios", "evidence_most")
    )
    asked = [(five, "0.5"), (five, "0.75"), (five, "0.875"), (five, "0.9375"), (eight, "0.875"), (eight, "0.9375")]
    lines = [cells(line) for line in README.splitlines() if line.startswith("| ")]
    for words, kind in {"in tubes": "tube", "at random": "random"}.items():
        found = [table.loc[f"{kind} {ratio}"] for table, ratio in asked]
        assert [words, *(f"{arm['top1']:.1f} ± {arm['top1_half_width']:.1f}" for arm in found)] in lines
    assert (set(five["num_seeds"]), set(eight["num_seeds"])) == ({5}, {8})
    behind = eight.loc["random 0.9375"]
    assert behind["vs_baseline_verdict"] == "worse"
    assert f"by {-behind['vs_baseline']:.1f} ± {behind['vs_baseline_half_width']:.1f} points on eight seeds" in " ".join(
        README.split()
    )


def test_what_is_said_of_the_digit_is_the_committed_reports():
    said = " ".join(README.split())
    folder, name = ROOT / "results" / "evidence_digit" / "tables", "digits-appearance"
    for question, arm, versus, verdict, words in (
        ("loss", "L1", "MSE", "worse", "L1 is {} points worse than the squared error"),
        ("target_normalisation", "per channel", "raw", "worse", "normalised targets {} worse than raw ones"),
        ("pretrain_dataset", "K400", "SSV2", "worse", "still digits {} worse to pre-train on"),
        ("data_size", "quarter, same steps", "all videos", "not", "A quarter of the videos for as many steps, -{},"),
        ("decoder_depth", "depth 4", "depth 1", "not", "a decoder of four blocks, -{}, are not told apart"),
    ):
        table = pd.read_csv(folder / f"{question}-{name}.csv").set_index("arm")
        compared, sign = (arm, -1) if pd.isna(table.loc[versus, "vs_baseline"]) else (versus, 1)
        row = table.loc[compared]
        expected = {"worse": "worse" if sign < 0 else "better", "not": "not distinguishable"}[verdict]
        assert row["vs_baseline_verdict"].startswith(expected)
        assert words.format(f"{sign * row['vs_baseline']:.1f} ± {row['vs_baseline_half_width']:.1f}") in said


def test_what_is_said_of_the_fresh_seeds_is_the_committed_report():
    said = " ".join(README.split())
    folder = ROOT / "results" / "evidence_digit_again" / "tables"
    for question, arm, sign, words in (
        ("pretrain_strategy", "scratch", -1, "pre-training is worth {} points"),
        ("target_normalisation", "raw", 1, "normalised targets are {} behind raw ones"),
        ("pretrain_dataset", "K400", -1, "still digits {} behind"),
        ("loss_region", "all", 1, "a loss over all cubes {} ahead"),
    ):
        row = pd.read_csv(folder / f"{question}-digits-appearance.csv").set_index("arm").loc[arm]
        assert words.format(f"{sign * row['vs_baseline']:.1f} ± {row['vs_baseline_half_width']:.1f}") in said


def test_what_is_said_of_contrastive_pretraining_is_the_committed_reports():
    tables = ROOT / "results" / "evidence_methods" / "tables"
    motion, appearance = (
        pd.read_csv(tables / f"methods-digits-{label}.csv").set_index("arm") for label in ("motion", "appearance")
    )
    said = " ".join(README.split())
    for arm in ("VideoMAE", "MoCo v3"):
        assert f"{arm}, {motion.loc[arm, 'top1']:.1f} ± {motion.loc[arm, 'top1_half_width']:.1f}," in said
    assert motion.loc["MoCo v3", "vs_baseline_verdict"].startswith("not distinguishable")
    shared = appearance.loc["VideoMAE, shared rate"]
    assert shared["vs_scratch_verdict"] == "better"
    assert f"is {shared['vs_scratch']:.1f} ± {shared['vs_scratch_half_width']:.1f} points above none" in said
    assert appearance.loc["MoCo v3", "vs_scratch_verdict"].startswith("not distinguishable")
