"""A storm of kills over a sweep on a real SLURM: afterwards one submit, and nothing is lost, doubled or wrong.

    python benchmarks/kill_storm.py --actions 60 --seeds 0-4

Starts a private SLURM of two nodes (tests/slurm/testbed.py; root, slurm-wlm and munge are needed), submits the smoke sweep and
hits it: signals, preemption, requeues, kill -9 of tasks, restarts of slurmd, submits shot in the middle. Then it waits, submits
once more, and compares every run with the same sweep undisturbed: weights byte for byte, rows of the log, predictions.
"""

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "slurm")]

from testbed import Testbed  # noqa: E402

from vmae.results import read_metrics  # noqa: E402
from vmae.runs import RunDir, Store  # noqa: E402

PROFILE = """kind = "slurm"
partition = "main"
cpus_per_task = 1
time = "5"
signal_before_s = 20
[runtime]
num_threads = 1
device = "cpu"
checkpoint_every_s = 0.5
"""
TRAINING = ["--set", "pretrain.optim.epochs=60", "--set", "finetune.optim.epochs=40"]


class Storm:
    """One sweep on one test bed, and the ways to hit it."""

    def __init__(self, bed: Testbed, folder: Path, seeds: str, chance: random.Random) -> None:
        self.bed, self.store, self.chance = bed, Store(folder / "runs"), chance
        self.environment = {**os.environ, **bed.env, "VMAE_DATA": str(folder.parent / "data"), "VMAE_RUNS": str(self.store.root)}
        self.environment["OMP_NUM_THREADS"] = "1"
        (folder / "storm.toml").write_text(PROFILE)
        self.sweep = ["smoke", "--seeds", seeds, *TRAINING]
        self.profile = ["--profile", str(folder / "storm.toml")]
        self.counts: Counter[str] = Counter()

    def command(self, *words: str) -> list[str]:
        return [sys.executable, "-m", "sweeps", *words]

    def submit(self, *more: str) -> str:
        words = self.command("submit", *self.sweep, *self.profile, *more)
        done = subprocess.run(words, cwd=ROOT, env=self.environment, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(done.stdout + done.stderr)
        return done.stdout.strip()

    def rows(self) -> list[dict]:
        words = self.command("status", *self.sweep, "--json")
        done = subprocess.run(words, cwd=ROOT, env=self.environment, capture_output=True, text=True, check=True)
        return json.loads(done.stdout)

    def running(self) -> list[str]:
        return self.bed.call("squeue", "-h", "-r", "-t", "RUNNING", "-p", "main", "-o", "%i").split()

    def in_queue(self) -> int:
        return len(self.bed.call("squeue", "-h", "-r", "-p", "main", "-t", "PD,R,CG,CF,S,RQ", "-o", "%i").split())

    def hit(self) -> None:
        """Do one thing, at random, to whatever runs."""
        jobs = self.running()
        name = self.chance.choice(("signal", "requeue", "kill9", "preempt", "slurmd", "submit"))
        if name in ("signal", "requeue", "kill9") and not jobs:
            return
        try:
            getattr(self, f"_{name}")(self.chance.choice(jobs) if jobs else "")
        except subprocess.CalledProcessError:
            return  # the job ended between the look and the blow
        self.counts[name] += 1

    def _signal(self, job: str) -> None:
        self.bed.call("scancel", f"--signal={self.chance.choice(('USR2', 'USR1', 'TERM'))}", job)

    def _requeue(self, job: str) -> None:
        self.bed.call("scontrol", "requeue", job)

    def _kill9(self, _: str) -> None:
        claims = list(self.store.root.glob("*/claim.json"))
        if claims:
            try:
                os.kill(json.loads(self.chance.choice(claims).read_text())["pid"], signal.SIGKILL)
            except (FileNotFoundError, ProcessLookupError, json.JSONDecodeError):
                return

    def _preempt(self, _: str) -> None:
        self.bed.call("sbatch", "-p", "urgent", "-N1", "--exclusive", "-o", "/dev/null", "--wrap", "sleep 3")

    def _slurmd(self, _: str) -> None:
        node = self.chance.choice(("n1", "n2"))
        self.bed.stop_node(node)
        time.sleep(self.chance.uniform(0, 2))
        self.bed.start_node(node)

    def _submit(self, _: str) -> None:
        words = self.command("submit", *self.sweep, *self.profile, "--retry", "failed,lost")
        process = subprocess.Popen(
            words, cwd=ROOT, env=self.environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
        )
        try:
            process.wait(self.chance.uniform(0.3, 3.0))
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()

    def settle(self, limit_s: float = 900) -> None:
        """Wait until nothing of the sweep is in the queue."""
        deadline = time.monotonic() + limit_s
        while self.in_queue():
            if time.monotonic() > deadline:
                raise RuntimeError(f"still in the queue after {limit_s:.0f} s:\n{self.bed.call('squeue')}")
            time.sleep(1.0)


def reference(folder: Path, seeds: str) -> Store:
    """Run the same sweep undisturbed, on this machine without SLURM."""
    store = Store(folder / "reference")
    environment = {**os.environ, "VMAE_DATA": str(folder / "data"), "VMAE_RUNS": str(store.root), "OMP_NUM_THREADS": "1"}
    for words in (
        [sys.executable, "-m", "vmae", "data", "make", "--size", "tiny"],
        [sys.executable, "-m", "sweeps", "submit", "smoke", "--seeds", seeds, *TRAINING],
    ):
        subprocess.run(words, cwd=ROOT, env=environment, check=True, stdout=subprocess.DEVNULL)
    return store


def differences(run: RunDir, undisturbed: RunDir) -> list[str]:
    """Return in what two finished runs differ, of all that must be equal."""
    found = []
    result, expected = run.read_result(), undisturbed.read_result()
    if result is None or expected is None:
        return ["no result"]
    if result.metrics != expected.metrics:
        found.append("metrics")
    if result.compute.get("num_steps") != expected.compute.get("num_steps"):
        found.append("number of steps")
    for path, other in ((run.weights, undisturbed.weights), (run.predictions, undisturbed.predictions)):
        if other.exists() and path.read_bytes() != other.read_bytes():
            found.append(path.name)
    timeless = ("loss", "lr", "grad_norm")
    rows, others = (
        [(row.step, row.metric, row.value) for row in read_metrics(place.metrics) if row.metric in timeless]
        for place in (run, undisturbed)
    )
    if rows != others:
        found.append("rows of metrics.jsonl")
    return found


def storm(folder: Path, seeds: str, actions: int, user_signal: bool, seed: int) -> None:
    """Run reference, storm and comparison; raises if anything is lost, doubled or different."""
    undisturbed = reference(folder, seeds)
    chance = random.Random(seed)
    work = folder / f"storm-{'with' if user_signal else 'without'}-user-signal"
    work.mkdir()
    with Testbed(work / "slurm", send_user_signal=user_signal, cpus=4, max_array_size=11) as bed:
        hit = Storm(bed, work, seeds, chance)
        started = time.monotonic()
        hit._submit("")
        hit.submit()
        while sum(hit.counts.values()) < actions:
            time.sleep(chance.uniform(0.2, 1.5))
            hit.hit()
            if not hit.in_queue() and sum(hit.counts.values()) < actions:
                if all(row["state"] == "done" for row in hit.rows()):
                    break
                hit.submit("--retry", "failed,lost")
        hit.settle()
        before = Counter(row["state"] for row in hit.rows())
        said = hit.submit("--retry", "failed,lost")
        hit.settle()
        after = Counter(row["state"] for row in hit.rows())
        restarts = sum(len(starts) - 1 for id_ in hit.store.run_ids() if (starts := hit.store.run(id_).read_starts()))
        elapsed = time.monotonic() - started
    print(f"user signal {'on' if user_signal else 'off'}: {dict(hit.counts)}, {restarts} restarts, {elapsed:.0f} s")
    print(f"  after the storm: {dict(before)}; {said.splitlines()[0] if said else ''}")
    print(f"  after one submit: {dict(after)}")
    if set(after) != {"done"}:
        raise SystemExit(f"not every run is done: {[row for row in hit.rows() if row['state'] != 'done']}")
    ids = hit.store.run_ids()
    wrong = {id_: found for id_ in ids if (found := differences(hit.store.run(id_), undisturbed.run(id_)))}
    if wrong:
        raise SystemExit(f"runs that differ from the undisturbed ones: {wrong}")
    print(f"  all {len(ids)} runs equal the undisturbed ones: weights, predictions, metrics, rows")


def main() -> None:
    """Parse arguments and run the storm with and without preemption's user signal."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", default="0-4", help="of the smoke sweep; twelve runs each")
    parser.add_argument("--actions", type=int, default=60, help="blows per storm")
    parser.add_argument("--seed", type=int, default=0, help="of the storm")
    given = parser.parse_args()
    for user_signal in (True, False):
        with tempfile.TemporaryDirectory(prefix="storm-") as folder:
            storm(Path(folder), given.seeds, given.actions, user_signal, given.seed)


if __name__ == "__main__":
    main()
