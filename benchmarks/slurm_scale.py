"""A thousand runs on a real SLURM: seconds to plan, to submit, to submit again, and to look.

    python benchmarks/slurm_scale.py --seeds 0-83

Starts a private SLURM (tests/slurm/testbed.py; root, slurm-wlm and munge are needed) whose nodes are drained, so that nothing
runs and all that is timed is the handing over. Each figure is a whole process, start of Python included. Meant to stay below:
plan 2 s, submit 60 s, again 5 s, status 2 s, the last two with one call of squeue for all runs.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "slurm")]

from testbed import Testbed  # noqa: E402

PROFILE = 'kind = "slurm"\ntime = "10"\n'
COUNTER = '#!/bin/sh\necho x >> {log}\nexec {real} "$@"\n'


def main() -> None:
    """Run and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", default="0-83", help="of the smoke sweep; twelve runs each")
    parser.add_argument("--max-array-size", type=int, default=1001, help="of the cluster")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="scale-") as name:
        folder = Path(name)
        with Testbed(folder / "slurm", max_array_size=given.max_array_size) as bed:
            bed.call("scontrol", "update", "nodename=ALL", "state=drain", "reason=benchmark")
            measure(bed, folder, given.seeds)


def measure(bed: Testbed, folder: Path, seeds: str) -> None:
    """Time each command on an otherwise empty cluster."""
    (folder / "bin").mkdir()
    log = folder / "calls"
    real = subprocess.run(
        ["which", "squeue"], capture_output=True, text=True, check=True, env={**os.environ, **bed.env}
    ).stdout.strip()
    (folder / "bin" / "squeue").write_text(COUNTER.format(log=log, real=real))
    (folder / "bin" / "squeue").chmod(0o755)
    (folder / "profile.toml").write_text(PROFILE)
    environment = {**os.environ, **bed.env, "VMAE_RUNS": str(folder / "runs"), "VMAE_DATA": str(folder / "data")}
    environment["PATH"] = f"{folder / 'bin'}:{environment['PATH']}"
    subprocess.run([sys.executable, "-m", "vmae", "data", "make", "--size", "tiny"], cwd=ROOT, env=environment, check=True)

    def run(*words: str, repeats: int = 1) -> tuple[str, str]:
        seconds = []
        for _ in range(repeats):
            log.write_text("")
            started = time.perf_counter()
            done = subprocess.run(
                [sys.executable, "-m", "sweeps", *words], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
            )
            seconds.append(time.perf_counter() - started)
            if done.returncode:
                raise SystemExit(done.stdout + done.stderr)
        spread = f"{statistics.median(seconds):.2f} s (of {repeats}: {min(seconds):.2f} to {max(seconds):.2f})"
        return f"{spread}, {len(log.read_text().splitlines())} squeue calls", done.stdout

    sweep, place = ("smoke", "--seeds", seeds), ("--profile", str(folder / "profile.toml"))
    took, said = run("plan", *sweep, repeats=5)
    print(f"plan      {took}; {said.strip().splitlines()[-3]}")
    took, said = run("submit", *sweep, *place)
    jobs = bed.call("squeue", "-h", "-r", "-o", "%i").split()
    print(f"submit    {took}; {said.strip().splitlines()[-1]}; {len(jobs)} jobs in the queue")
    took, said = run("submit", *sweep, *place, repeats=3)
    print(f"again     {took}; {said.strip().splitlines()[-1]}")
    took, said = run("status", *sweep, repeats=5)
    print(f"status    {took}; {said.strip().splitlines()[0]}")


if __name__ == "__main__":
    main()
