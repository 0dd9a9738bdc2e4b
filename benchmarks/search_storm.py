"""A storm of kill -9 over a search: afterwards exactly the trials asked for, none lost or doubled, and the best as undisturbed.

    python benchmarks/search_storm.py --trials 60 --kills 20      the storm
    python benchmarks/search_storm.py --overhead 1000             what the coordinator itself takes per trial

Workers are processes that claim real run directories and leave a result that follows from the run's config.
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
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from pretended import Pretended, asked, carry_out  # noqa: E402

from vmae.runs import Store  # noqa: E402

NAME = "pretended"


def told(store: Store) -> list[tuple]:
    """Return what a search came to: number, state, values and objective of each trial."""
    (cell,) = store.read_search(NAME)["cells"]
    return [(trial["number"], trial["state"], tuple(trial["params"].items()), trial["value"]) for trial in cell["trials"]]


def kill_a_worker(store: Store, chance: random.Random) -> bool:
    """Kill the process of a claim, if there is one."""
    claims = list(store.root.glob("*/claim.json"))
    try:
        os.kill(json.loads(chance.choice(claims).read_text())["pid"], signal.SIGKILL)
    except (IndexError, FileNotFoundError, ProcessLookupError, json.JSONDecodeError):
        return False
    return True


@dataclass(frozen=True)
class Storm:
    """What is searched, what is killed, and how long a run takes at most."""

    trials: int
    kills: int
    sampler: str = "tpe"
    work_s: float = 1.0
    storage: str | None = None
    seed: int = 0

    def start(self, root: Path) -> subprocess.Popen:
        """Start a coordinator with four workers."""
        words = [sys.executable, str(ROOT / "tests" / "pretended.py"), str(root), str(self.trials), self.sampler, "4"]
        words += [str(self.work_s), *([self.storage] if self.storage else [])]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}"}
        return subprocess.Popen(words, cwd=ROOT, env=environment, start_new_session=True)


def storm(folder: Path, asked_for: Storm) -> Counter:
    """Kill coordinator and workers in turn until enough are dead, let it end, compare; SystemExit on any difference."""
    chance = random.Random(asked_for.seed)
    store, undisturbed = Store(folder / "runs"), Store(folder / "undisturbed")
    carry_out(undisturbed, asked(trials=asked_for.trials, sampler=asked_for.sampler))
    counts: Counter[str] = Counter()
    process = asked_for.start(store.root)
    while sum(counts.values()) < asked_for.kills and process.poll() is None:
        time.sleep(chance.uniform(0.1, 1.0))
        if chance.random() < 0.5 and any(store.root.glob("sweeps/*/coordinator.json")):
            process.kill()
            counts["coordinator"] += process.wait() != 0
            process = asked_for.start(store.root)
        else:
            counts["worker"] += kill_a_worker(store, chance)
    if process.wait() != 0:
        raise SystemExit("the coordinator failed")
    found, expected = told(store), told(undisturbed)
    made = Counter((store.root / "made.log").read_text().split())
    if [number for number, *_ in found] != list(range(asked_for.trials)):
        raise SystemExit(f"trials lost or doubled: {[number for number, *_ in found]}")
    if found != expected:
        raise SystemExit(
            f"other trials than undisturbed: {[pair for pair in zip(found, expected, strict=True) if pair[0] != pair[1]]}"
        )
    if doubled := {id_: count for id_, count in made.items() if count > 1}:
        raise SystemExit(f"runs made twice: {doubled}")
    return counts


def main() -> None:
    """Parse arguments; run the storm or the measurement."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=60)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--sampler", default="tpe")
    parser.add_argument("--storage", help="a database instead of the journal: postgresql+psycopg://...")
    parser.add_argument("--overhead", type=int, help="trials of a search whose runs take no time")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="search-") as folder:
        if given.overhead:
            wanted = asked(trials=given.overhead, sampler=given.sampler)
            started = time.perf_counter()
            coordinator = carry_out(Store(Path(folder)), wanted, Pretended(Store(Path(folder))))
            spent_ms = 1000 * coordinator.overhead_s / given.overhead
            print(
                f"{given.overhead} trials, sampler {given.sampler}: coordinator {spent_ms:.1f} ms per trial (ask, ids, plan, "
                f"tell, summary); with the pretended runs {time.perf_counter() - started:.0f} s"
            )
            return
        counts = storm(Path(folder), Storm(given.trials, given.kills, given.sampler, storage=given.storage))
        print(f"{dict(counts)} killed; {given.trials} trials, each once, no run made twice, all values as undisturbed")


if __name__ == "__main__":
    main()
