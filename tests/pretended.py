"""A search over real runs whose work is pretended: forked workers claim a run, wait and leave a result that follows from it."""

import math
import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from ablations import mask_sampling
from sweeps.searching.coordinator import Coordinator
from sweeps.searching.declared import Asked, Search
from sweeps.searching.space import Choice, Range
from vmae.identity import cell_id, run_id
from vmae.results import Result, write_result
from vmae.runs import State, Store
from vmae.study import Plan

SPACE = {
    "finetune.optim.base_lr": Range(5e-4, 6.4e-2, log=True),
    "finetune.optim.layer_decay": Choice((0.65, 0.75, 1.0)),
    "finetune.drop_path_rate": Range(0.0, 0.4),
}


def search(trials: int = 60, sampler: str = "tpe", arms: tuple[str, ...] = ("tube 0.9",), **more: object) -> Search:
    """A search over tiny recipes; `more` replaces fields."""
    asked_of = {"ablation": mask_sampling.ABLATION.only(*arms), "datasets": ("SSV2",)}
    values = asked_of | {"space": SPACE, "seed": 7, "default": "tiny"} | more
    return Search("pretended", "A search for tests.", sampler=sampler, trials=trials, **values)


def asked(**more: object) -> Asked:
    return search(**more).at("tiny")


def objective(run) -> float:
    """Smooth, with one best point inside the space."""
    optim = run.parent.finetune.optim
    return (
        90
        - abs(math.log10(run.parent.parent.pretrain.optim.base_lr / 0.02))
        - 10 * math.log10(optim.base_lr / 0.008) ** 2
        - 30 * abs(optim.layer_decay - 0.75)
        - 20 * run.parent.finetune.drop_path_rate
    )


def finish(store: Store, run, status: str = "done") -> None:
    place = store.run(run_id(run))
    metrics = {"top1": objective(run)} if run.stage == "evaluate" else {}
    write_result(place.result, Result(place.id, cell_id(run), run.stage, status, metrics, {}, {"synthetic": True}))


class Pretended:
    """Works through a plan with at most `num_workers` processes at a time, each working for up to `work_s`; 0: in this process.

    Every result is also a line in `made.log`, so that work done twice can be told.
    """

    def __init__(self, store: Store, num_workers: int = 0, work_s: float = 0.0, outcome: Mapping[int, str] | None = None) -> None:
        self.store, self.num_workers, self.work_s, self.outcome = store, num_workers, work_s, outcome or {}
        self.num_made = 0

    def bring(self, made: Plan) -> Mapping[str, State]:
        for id_, run in made.runs.items():
            self.store.run(id_).create(run)
        while True:
            states = self.store.states({id_: made.parents.get(id_) for id_ in made.runs})
            ready = [i for i, s in states.items() if s in ("missing", "interrupted", "lost") and self._may_start(made, i, states)]
            busy = sum(state == "running" for state in states.values())
            if not ready and not busy:
                return states
            if self.num_workers == 0:
                for id_ in ready:
                    self._work(made, id_)
                continue
            for id_ in ready[: max(0, self.num_workers - busy)]:
                self._fork(made, id_)
            self._reap()
            time.sleep(0.01)

    def _may_start(self, made: Plan, id_: str, states: Mapping[str, State]) -> bool:
        parent = made.parents.get(id_)
        return parent is None or states[parent] == "done"

    def _work(self, made: Plan, id_: str) -> None:
        run = made.runs[id_]
        status = self.outcome.get(self.num_made, "done") if run.stage == "finetune" else "done"
        self.num_made += run.stage == "finetune"
        if status == "failed":
            self.store.run(id_).stop("failed", "pretended to fail")
        else:
            finish(self.store, run, status)

    def _fork(self, made: Plan, id_: str) -> None:
        claim = self.store.run(id_).claim
        pid = os.fork()
        if pid == 0:
            try:
                os.setsid()
                with self.store.run(id_).claimed():
                    if not self.store.run(id_).result.exists():  # by whoever held it until now, as a job asks too
                        self._pretend(made, id_)
            finally:
                os._exit(0)
        deadline = time.monotonic() + 5
        while not claim.exists() and not self.store.run(id_).result.exists() and time.monotonic() < deadline:
            self._reap()
            time.sleep(0.002)

    def _pretend(self, made: Plan, id_: str) -> None:
        time.sleep(self.work_s * (int(id_[:4], 16) % 10 + 1) / 10)
        finish(self.store, made.runs[id_])
        with (self.store.root / "made.log").open("a") as log:
            log.write(f"{id_}\n")

    def _reap(self) -> None:
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            pass


def carry_out(store: Store, wanted: Asked, execution: Pretended | None = None, **more: object) -> Coordinator:
    with Coordinator(store, wanted, lambda text: None, **more).held() as coordinator:
        coordinator.carry_out(execution or Pretended(store))
    return coordinator


def main() -> None:
    """python tests/pretended.py ROOT TRIALS SAMPLER WORKERS WORK_S [STORAGE]: a coordinator to be killed."""
    root, trials, sampler, workers, work_s, *storage = sys.argv[1:]
    store = Store(Path(root))
    execution = Pretended(store, int(workers), float(work_s))
    carry_out(store, asked(trials=int(trials), sampler=sampler), execution, storage=storage[0] if storage else None)


if __name__ == "__main__":
    main()
