"""Seconds to index ten thousand finished runs, cold and warm, and to report a full sweep.

    python benchmarks/analysis_scale.py

Each figure is a whole process, start of Python included, on synthetic runs (benchmarks/synthetic_runs.py): the smoke sweep at
many seeds for the index; Table 1 and everything, both with the paper's own values, for the report. Meant to stay below: cold
10 s, warm 1 s, report 30 s.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.synthetic_runs import finish, of_the_paper  # noqa: E402
from sweeps import registry  # noqa: E402
from vmae.runs import Store  # noqa: E402
from vmae.study import make_plan  # noqa: E402


def main() -> None:
    """Run and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--num-runs", type=int, default=10_000)
    parser.add_argument("--repeats", type=int, default=3)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="analysis-") as name:
        many, folder = Path(name) / "many", Path(name)
        plan = make_plan(replace(registry.load("smoke"), seeds=tuple(range(-(-given.num_runs // 12)))))
        finish(Store(many), plan, lambda cell, seed: 50.0, num_videos=100)
        cold, warm = [], []
        for _ in range(given.repeats):
            (many / "index.parquet").unlink(missing_ok=True)
            cold.append(timed("collect", "--runs", str(many)))
            warm.append(timed("collect", "--runs", str(many)))
        print(f"collect of {len(plan.runs):,} runs, cold   {spread(cold)}")
        print(f"collect of {len(plan.runs):,} runs, warm   {spread(warm)}")
        for sweep in ("paper_table1-paper", "everything-paper"):
            plan = make_plan(registry.load(sweep))
            runs = folder / sweep
            finish(Store(runs), plan, of_the_paper(plan))
            took = [timed("report", sweep, "--runs", str(runs), "--out", str(folder / f"out{i}")) for i in range(given.repeats)]
            drawn = len(list((folder / "out0" / sweep / "figures").glob("*.png")))
            print(f"report of {sweep}: {len(plan.cells)} cells, {len(plan.runs)} runs, {drawn} figures   {spread(took)}")


def timed(*words: str) -> float:
    """Return the seconds of one command."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    started = time.perf_counter()
    subprocess.run([sys.executable, "-m", "analysis", *words], cwd=ROOT, env=environment, check=True, capture_output=True)
    return time.perf_counter() - started


def spread(seconds: list[float]) -> str:
    """Return median and range."""
    return f"{statistics.median(seconds):.2f} s (of {len(seconds)}: {min(seconds):.2f} to {max(seconds):.2f})"


if __name__ == "__main__":
    main()
