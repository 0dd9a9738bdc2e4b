"""A storm of faults over a real sweep: whatever strikes, the end is that of an undisturbed sweep, byte for byte.

    python tests/faults/harness.py --faults 1000 --seed 0      also: make faults

Sixty runs (the smoke sweep, five seeds), each start of each in a process of its own, most of them hit: killed or refused at any
opening for writing, fsync, rename, link or removal below the run root, with a torn write before the kill, a full or read-only
disk for one call or for good, a signal or kill -9 at any moment, a clock that jumps by days, a second worker on the same run, a
view that lags behind what other processes did, as on NFS (strike.py); and between starts damaged checkpoints, results and logs.
Nobody mends anything: runs that are not done are simply started again.
"""

import argparse
import contextlib
import json
import os
import random
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
sys.path[:0] = [str(ROOT), str(Path(__file__).parent)]

from strike import ERRORS, KINDS, NUM_POINTS, Fault, Struck  # noqa: E402

from sweeps import registry  # noqa: E402
from sweeps.commands.tidy import waste  # noqa: E402
from vmae.data.make import make_embedded  # noqa: E402
from vmae.errors import ResultsError, VmaeError  # noqa: E402
from vmae.files import file_sha256  # noqa: E402
from vmae.job import work  # noqa: E402
from vmae.results import read_metrics  # noqa: E402
from vmae.runs import STATES, RunDir, Store  # noqa: E402
from vmae.runtime import RuntimeConfig  # noqa: E402
from vmae.study import Plan, make_plan  # noqa: E402
from vmae.train import evaluate, finetune, pretrain  # noqa: E402, F401  # once, not in each of a thousand processes

DAMAGES = ("checkpoint", "result", "metrics")
SLOWEST_S = 300.0  # a start that takes longer hangs, however loaded the machine


class Sweep:
    """The runs of a plan in a store, and the processes at work on them."""

    def __init__(self, folder: Path, made: Plan, runtime: RuntimeConfig) -> None:
        self.store, self.made, self.runtime = Store(folder / "runs"), made, runtime
        self.errors = folder / "errors"
        self.errors.mkdir(parents=True)
        self.log_file = folder / "struck.log"
        self.log = os.open(self.log_file, os.O_CREAT | os.O_WRONLY | os.O_APPEND)
        self.at_work: dict[int, tuple[str, float]] = {}
        for id_, run in made.runs.items():
            self.store.run(id_).create(run)

    @property
    def num_struck(self) -> int:
        """Faults that took effect."""
        return len(self.log_file.read_text().splitlines())

    def ready(self) -> list[str]:
        """Runs that could be worked on: not done, parents done, nobody at work; raises where a state is no state."""
        states = self.store.states({id_: self.made.parents.get(id_) for id_ in self.made.runs})
        assert set(states.values()) <= set(STATES)
        busy = {id_ for id_, _ in self.at_work.values()}
        done = {id_ for id_, state in states.items() if state == "done"}
        return [i for i in states if i not in done | busy and self.made.parents.get(i) in done | {None}]

    def start(self, id_: str, fault: Fault | None) -> None:
        """Fork a worker for a run."""
        pid = os.fork()
        if pid == 0:
            code = 9
            try:
                os.setsid()
                code = self._work(self.store.run(id_), fault)
            finally:
                os._exit(code)
        self.at_work[pid] = (id_, time.monotonic() + SLOWEST_S)
        if fault and fault.kind in ("signal", "shot"):
            time.sleep(fault.delay_s)
            os.write(self.log, f"{fault.kind}\n".encode())
            os.kill(pid, signal.SIGTERM if fault.kind == "signal" else signal.SIGKILL)

    def _work(self, place: RunDir, fault: Fault | None) -> int:
        output = os.open(self.errors / f"{place.id}.{os.getpid()}", os.O_CREAT | os.O_WRONLY)
        os.dup2(output, 1)
        os.dup2(output, 2)
        if fault:
            Struck(fault, self.store.root, self.log).arm()
        try:
            work(place, self.runtime)
        except VmaeError as error:
            print(error, flush=True)
            return 1
        except BaseException:
            traceback.print_exc()
            return 2
        return 0

    def reap(self) -> None:
        """Take note of ended workers; SystemExit for one that hangs or ends without a clear word."""
        for pid, (id_, until) in list(self.at_work.items()):
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended:
                del self.at_work[pid]
                if os.WIFEXITED(status) and os.WEXITSTATUS(status) not in (0, 1):
                    raise SystemExit(f"an unclear end: {(self.errors / f'{id_}.{pid}').read_text()}")
            elif time.monotonic() > until:
                raise SystemExit(f"{id_} hangs in process {pid}")

    def damage(self, chance: random.Random) -> None:
        """Spoil a file of a run that nobody works on, as a crash or a bad disk would."""
        kind = chance.choice(DAMAGES)
        busy = {id_ for id_, _ in self.at_work.values()}
        places = [self.store.run(id_) for id_ in self.made.runs if id_ not in busy]
        suited: dict[str, Callable[[RunDir], bool]] = {
            "checkpoint": lambda p: p.checkpoint.exists() and p.previous_checkpoint.exists(),
            "result": lambda p: p.result.exists() and not self._has_children_at_work(p.id),
            "metrics": lambda p: p.metrics.exists() and not p.result.exists(),
        }
        if not (hit := [place for place in places if suited[kind](place)]):
            return
        place = chance.choice(hit)
        file = {"checkpoint": place.checkpoint, "result": place.result, "metrics": place.metrics}[kind]
        content = file.read_bytes()
        if kind == "metrics":
            file.write_bytes(content + b'{"step": 1, "epo')
        else:
            file.write_bytes(content[: len(content) * chance.randrange(1, 9) // 10])
        os.write(self.log, f"damaged {kind}\n".encode())

    def _has_children_at_work(self, id_: str) -> bool:
        return any(self.made.parents.get(child) == id_ for child, _ in self.at_work.values())


def storm(sweep: Sweep, num_faults: int, seed: int, workers: int = 2) -> Counter:
    """Start what is not done, again and again, hit `num_faults` times, then left alone until all is done; count what struck."""
    chance = random.Random(seed)
    while True:
        sweep.reap()
        calm = sweep.num_struck >= num_faults
        ready = sweep.ready()
        if calm and not ready and not sweep.at_work:
            return Counter(sweep.log_file.read_text().splitlines())
        is_over = not ready and not sweep.at_work  # too early: only damage gives the storm something to strike again
        if not is_over and (not ready or len(sweep.at_work) >= workers):
            time.sleep(0.005)
            continue
        # Here and not in each round of waiting: what is drawn should not depend on how long anything took.
        if not calm and (is_over or chance.random() < 0.2):
            sweep.damage(chance)
            continue
        id_, fault = chance.choice(ready), None if calm else _fault(chance)
        sweep.start(id_, fault)
        if fault and fault.kind == "second":
            os.write(sweep.log, b"second\n")
            sweep.start(id_, None)


def _fault(chance: random.Random) -> Fault:
    # Points are rarely late, so that most starts that are hit at all are hit before they are done.
    return Fault(chance.choice(KINDS), int(NUM_POINTS ** chance.random()), chance.choice(ERRORS), chance.random() ** 2)


def differences(sweep: Sweep, undisturbed: Sweep) -> list[str]:
    """Return in what the end of a storm differs from an undisturbed sweep; [] is what is wanted.

    Not a difference: what `sweeps gc` takes away, such as the checkpoint of a done run whose deletion was refused or shot.
    """
    found, room = [], {entry.path for entries in waste(sweep.store, weights=False).values() for entry in entries}
    for id_ in sweep.made.runs:
        mine, other = sweep.store.run(id_), undisturbed.store.run(id_)
        for what, of in (("metrics", _rows), ("numbers", _numbers), ("weights", _hash), ("predictions", _predictions)):
            try:
                if of(mine) != of(other):
                    found.append(f"{id_}: other {what}")
            except (OSError, ResultsError, json.JSONDecodeError) as error:
                found.append(f"{id_}: {what}: {error}")
        left = {p.name for p in set(mine.path.iterdir()) - room} - {p.name for p in other.path.iterdir()}
        if not mine.held_claim().is_live():  # of one who was shot between the result and the end of its claim: it binds nobody
            left -= {mine.claim.name}
        found += [f"{id_}: left behind: {name}" for name in sorted(left) if not name.startswith(("result.json.", "."))]
    return found


def _rows(place: RunDir) -> list:
    return [(row.step, row.metric, row.value) for row in read_metrics(place.metrics) if row.metric in ("loss", "lr", "grad_norm")]


def _numbers(place: RunDir) -> dict:
    numbers: dict = json.loads(place.result.read_text())["metrics"]
    return numbers


def _hash(place: RunDir) -> str:
    return file_sha256(place.weights) if place.weights.exists() else ""


def _predictions(place: RunDir) -> str:
    return place.predictions.read_text() if place.predictions.exists() else ""


def strike(folder: Path, data_root: Path, num_faults: int, seed: int, num_seeds: int) -> Counter:
    """Run a sweep undisturbed and one in a storm; SystemExit with the differences, else what struck."""
    made = make_plan(replace(registry.load("smoke"), seeds=tuple(range(num_seeds))))
    runtime = RuntimeConfig(device="cpu", num_threads=1, data_root=str(data_root), log_every_steps=1, checkpoint_every_s=0.0)
    undisturbed = Sweep(folder / "undisturbed", made, runtime)
    storm(undisturbed, 0, seed)
    sweep = Sweep(folder / "struck", made, runtime)
    struck = storm(sweep, num_faults, seed)
    if found := differences(sweep, undisturbed):
        raise SystemExit("\n".join(found))
    return struck


def main() -> None:
    """Parse arguments, strike, and print what struck."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--faults", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--sweep-seeds", type=int, default=5, help="twelve runs each")
    parser.add_argument("--keep", type=Path, help="an empty folder to work in and to leave as it is at the end")
    given = parser.parse_args()
    started = time.perf_counter()
    with contextlib.nullcontext(given.keep) if given.keep else tempfile.TemporaryDirectory(prefix="faults-") as name:
        make_embedded(Path(name) / "data", "tiny", seed=0, num_workers=1, progress=False)
        struck = strike(Path(name), Path(name) / "data", given.faults, given.seed, given.sweep_seeds)
    print(f"{sum(struck.values())} faults in {time.perf_counter() - started:.0f} s: {dict(struck)}")
    print(
        f"{12 * given.sweep_seeds} runs done, none lost, doubled or invented; weights, numbers, rows, predictions as undisturbed"
    )


if __name__ == "__main__":
    main()
