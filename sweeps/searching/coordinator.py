"""The coordinator: asks each cell's study for a round, has the runs made, tells what they came to; after any kill it goes on."""

import contextlib
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from sweeps.searching.declared import Asked
from sweeps.searching.journal import open_database, open_journal, quiet_optuna, recover_tail
from sweeps.searching.study import CellStudy
from vmae.claim import Claim
from vmae.config import STAGES, EvaluateRun
from vmae.errors import Interrupted, ResultsError, RunDirError
from vmae.identity import cell_id, run_id
from vmae.runs import State, Store, now
from vmae.sealed import write_sealed
from vmae.starts import MAX_FRUITLESS
from vmae.study import Cell, Plan, Sweep, plain

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

ENDED_BADLY: tuple[State, ...] = ("diverged", "failed", "blocked", "lost")
MENDED = "after mending: the same command with --retry"
MAX_TRIES = 5  # of a round whose runs were killed without a word


class Execution(Protocol):
    """A place where the runs of a plan are brought to their end."""

    def bring(self, made: Plan) -> Mapping[str, State]:
        """Run what is missing and return every run's state; open ones were stopped or killed."""


class Coordinator:
    """All studies of a search, in one storage, below the store's `sweeps/<name>`."""

    def __init__(self, store: Store, asked: Asked, say: Callable[[str], None], storage: str | None = None) -> None:
        self.store, self.asked, self.say, self.url = store, asked, say, storage
        self.folder = folder_of(store, asked.name)
        self.overhead_s = 0.0

    @contextlib.contextmanager
    def held(self, fresh: bool = False) -> Iterator["Coordinator"]:
        """Hold the search for this process and open its studies; RunDirError if another live coordinator has it."""
        with claim_of(self.store, self.asked.name).held(f"search {self.asked.name}", beats=True), quiet_optuna():
            journal = self.folder / "journal.log"
            if fresh and journal.exists():
                aside = journal.with_name(f"journal.log.before-{time.strftime('%Y%m%dT%H%M%S')}")
                journal.rename(aside)
                self.say(f"began anew; the old journal is {aside}")
            if self.url is None and (recovered := recover_tail(journal)):
                self.say(f"warning: {recovered}")
            storage = open_database(self.url) if self.url else open_journal(journal)
            with _answering():
                self.studies = [CellStudy(self.asked, cell, storage) for cell in self.asked.cells]
                if (most := max(len(study.trials) for study in self.studies)) > self.asked.num_trials:
                    self.say(f"{self.asked.name}: {most} trials per cell were asked for before; a budget grows and never shrinks")
                    self.asked = self.asked.with_trials(most)
                    self.studies = [CellStudy(self.asked, cell, storage) for cell in self.asked.cells]
                yield self

    def carry_out(self, execution: Execution) -> None:
        """Bring every study to its budget.

        Raises:
            Interrupted: the runs were asked to stop; the same command goes on.
            RunDirError: every trial of a first round failed, or what all trials of a cell start from, which tells of the place,
                not of the space; none of those was told.
        """
        started, before = time.monotonic(), self._num_finished()
        while True:
            begun = time.perf_counter()
            for study in self.studies:
                study.fill_round()
            if not any(study.open_numbers for study in self.studies):
                self.write_summary()
                return
            made = self._plan()
            self.overhead_s += time.perf_counter() - begun
            states = self._bring(execution, made)
            begun = time.perf_counter()
            self._tell(states)
            self.write_summary()
            self.overhead_s += time.perf_counter() - begun
            self.say(self._progress(started, before))

    def write_summary(self) -> None:
        """Write search.json: all that analysis and the winner's declaration need, so that nobody else opens the journal."""
        content = {
            "search": self.asked.name,
            "purpose": self.asked.search.purpose,
            "preset": self.asked.preset,
            "sampler": self.asked.search.sampler,
            "seed": self.asked.search.seed,
            "num_trials": self.asked.num_trials,
            "metric": self.asked.search.metric,
            "split": self.asked.search.split,
            "run_seed": self.asked.search.run_seed,
            "winner_seeds": list(self.asked.search.winner_seeds),
            "space": {path: _described(part) for path, part in self.asked.search.space.items()},
            "pruning": "off: a cosine schedule is tied to its last epoch, and nothing is measured on the hold-out before it",
            "storage": "database" if self.url else "journal.log",
            "at": now(),
            "cells": [_summary(study) for study in self.studies],
        }
        write_sealed(self.store.search_file(self.asked.name), content)

    def _num_finished(self) -> int:
        return sum(study.num_finished for study in self.studies)

    def _plan(self) -> Plan:
        """Return the plan of the open round; its name holds the first trial's number, so plans of a search do not pile up."""
        cells: list[Cell] = []
        runs: dict[str, Any] = {}
        parents: dict[str, str] = {}
        num_declared, first = 0, min(n for study in self.studies for n in study.open_numbers)
        seed = self.asked.search.run_seed
        for study in self.studies:
            for number, chain in sorted(study.chains.items()):
                ids = [run_id(run) for run in chain]
                parents |= dict(zip(ids[1:], ids, strict=False))
                runs |= dict(zip(ids, chain, strict=True))
                num_declared += len(chain)
                replicate: dict[str, str] = {run.stage: id_ for id_, run in zip(ids, chain, strict=True)}
                settings = {**study.cell.settings, **study.trials[number].params}
                arm, last = f"{study.cell.arm} trial {number}", chain[-1]
                assert isinstance(last, EvaluateRun)
                cells.append(Cell(self.asked.name, arm, study.cell.dataset, cell_id(last), plain(settings), {seed: replicate}))
        size = self.asked.round_size
        sweep = Sweep(f"{self.asked.name}.round-{first // size:03}", self.asked.search.purpose, (), {}, (seed,))
        return Plan(sweep, tuple(cells), runs, num_declared, parents)

    def _bring(self, execution: Execution, made: Plan) -> Mapping[str, State]:
        for _ in range(MAX_TRIES):
            states = execution.bring(made)
            ends = [states[chain_ids["evaluate"]] for chain_ids in self._open_runs()]
            if all(state == "done" or state in ENDED_BADLY for state in ends) and not self._is_lost_once(made, states):
                return states
            if any(self._is_stopped(id_, states[id_]) for id_ in made.runs):
                break
        num_open = sum(state != "done" and state not in ENDED_BADLY for state in states.values())
        raise Interrupted(f"{num_open} runs of search {self.asked.name} are not over; nothing of this round was told")

    def _is_lost_once(self, made: Plan, states: Mapping[str, State]) -> bool:
        """Return whether a run vanished that deserves another try."""
        return any(states[i] == "lost" and self.store.run(i).fruitless_starts() < MAX_FRUITLESS for i in made.runs)

    def _is_stopped(self, id_: str, state: State) -> bool:
        """Return whether a run was asked to stop, or leaves a checkpoint each time and got nowhere from it: no more by itself."""
        place = self.store.run(id_)
        is_stuck = state == "interrupted" and place.fruitless_starts() >= MAX_FRUITLESS
        return is_stuck or place.read_stopped().get("state") == "interrupted"

    def _open_runs(self) -> list[Mapping[str, str]]:
        return [study.trials[number].user_attrs["runs"] for study in self.studies for number in study.open_numbers]

    def _tell(self, states: Mapping[str, State]) -> None:
        """Tell the open trials, but for cells that a run outside what is tuned keeps from having any; RunDirError names those."""
        ends = {
            (study, number): self._end(study.trials[number].user_attrs["runs"], states)
            for study in self.studies
            for number in study.open_numbers
        }
        if not self._num_finished() and all(value is None and "diverged" not in reason for value, reason in ends.values()):
            raise RunDirError(
                f"search {self.asked.name}: all {len(ends)} trials of the first round failed, the shared recipe too; the first: "
                f"{next(iter(ends.values()))[1]}; no trial was told; {MENDED}"
            )
        untold: dict[str, str] = {}
        for (study, number), (value, reason) in ends.items():
            if self._has_failed_outside(study.trials[number].user_attrs["runs"], states):
                untold[study.cell.name] = reason
            else:
                study.tell(number, value, reason)
        if untold:
            self.write_summary()
            failed = "; ".join(f"{cell}: {reason}" for cell, reason in untold.items())
            raise RunDirError(
                f"search {self.asked.name}: what all trials of a cell start from failed, and none of them was told: {failed}; "
                f"{MENDED}"
            )

    def _has_failed_outside(self, runs: Mapping[str, str], states: Mapping[str, State]) -> bool:
        """Return whether a trial failed by a run that is the same in all trials of its cell: its values are not to blame.

        One that diverged did so by its recipe, and would again.
        """
        stage, id_ = self._bad(runs, states) or ("", "")
        is_tuned = any(path.startswith("pretrain.") for path in self.asked.search.space)
        return stage == "pretrain" and not is_tuned and states[id_] != "diverged"

    def _bad(self, runs: Mapping[str, str], states: Mapping[str, State]) -> tuple[str, str] | None:
        """Return stage and id of the first of a trial's runs that ended badly; those after it are blocked by it."""
        return next(((stage, runs[stage]) for stage in STAGES if stage in runs and states[runs[stage]] in ENDED_BADLY), None)

    def _end(self, runs: Mapping[str, str], states: Mapping[str, State]) -> tuple[float | None, str]:
        """Return a trial's value, or None and why it has none."""
        if bad := self._bad(runs, states):
            stage, id_ = bad
            reason = str(self.store.run(id_).read_stopped().get("reason", "")).partition("\n")[0]
            return None, f"{stage} {id_} {states[id_]}{f': {reason}' if reason else ''}"
        metric = self.asked.search.metric
        result = self.store.run(runs["evaluate"]).read_result()
        value = result.metrics.get(metric) if result else None
        if result is not None and metric not in result.metrics:
            raise ResultsError(f"search {self.asked.name}: evaluations have no metric {metric!r}")
        if not isinstance(value, int | float) or not math.isfinite(value):
            return None, f"{metric} is {value}"
        return float(value), ""

    def _progress(self, started: float, before: int) -> str:
        total, done = self.asked.num_trials * len(self.studies), self._num_finished()
        failed = sum(trial.state.name == "FAIL" for study in self.studies for trial in study.trials)
        rate = (done - before) / max(time.monotonic() - started, 1e-9)
        eta = f", ETA {(total - done) / rate / 60:.0f} min" if done < total else ""
        return f"{self.asked.name}: {done} of {total} trials told, {failed} of them failed{eta}"


@contextlib.contextmanager
def _answering() -> Iterator[None]:
    """Turn what Optuna says of a storage that no longer answers into an error of ours."""
    from optuna.exceptions import StorageInternalError

    try:
        yield
    except StorageInternalError as error:
        first = str(error.__cause__ or error).strip().partition("\n")[0]
        raise RunDirError(f"the storage does not answer: {first}; nothing told is lost, the same command goes on") from None


def folder_of(store: Store, name: str) -> Path:
    """Return where a search keeps its journal, its claim and its summary."""
    return store.plan_file(name).parent


def claim_of(store: Store, name: str) -> Claim:
    """Return the claim that a search's coordinator holds while it works."""
    return Claim(folder_of(store, name) / "coordinator.json")


def _summary(study: CellStudy) -> dict[str, Any]:
    best = study.best
    trials: Sequence[FrozenTrial] = study.trials
    return {
        "dataset": study.cell.dataset,
        "arm": study.cell.arm,
        "settings": plain(study.cell.settings),
        "best": best.number if best else None,
        "trials": [
            {
                "number": trial.number,
                "state": trial.state.name,
                "params": trial.params,
                "value": trial.value,
                "reason": trial.user_attrs.get("reason", ""),
                "runs": trial.user_attrs["runs"],
            }
            for trial in trials
        ],
    }


def _described(part: Any) -> dict[str, Any]:
    return {"text": str(part), "log": bool(getattr(part, "log", False))}
