"""One cell's study: proposals that depend on nothing but seed, trial number and finished rounds, so that a crash changes nothing.

The storage is a record: each trial enters it whole, parameters and run ids in one write. What samples is a copy in memory, filled
from it.
"""

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from sweeps.searching.declared import Asked, SearchedCell, chain_of, grid_of, own_values
from sweeps.searching.space import low_discrepancy
from vmae.config import Run
from vmae.errors import ConfigError
from vmae.identity import run_id

if TYPE_CHECKING:
    import optuna
    from optuna.storages import BaseStorage
    from optuna.trial import FrozenTrial

NUM_STARTUP = 10  # random trials before TPE; Optuna's default
SEED_STEP = 1_000_003  # a prime, so that (seed, trial) pairs do not meet


class CellStudy:
    """The trials of one cell."""

    def __init__(self, asked: Asked, cell: SearchedCell, storage: "BaseStorage") -> None:
        """Open or begin it; ConfigError where it stands on something else than is asked for now."""
        import optuna

        self.asked, self.cell = asked, cell
        self.space = asked.search.space
        self.distributions = {path: part.distribution() for path, part in self.space.items()}
        self.record = optuna.create_study(
            storage=storage, study_name=f"{asked.name}/{cell.name}", direction="maximize", load_if_exists=True
        )
        self._check_fingerprint()
        self.memory = optuna.create_study(direction="maximize")
        self._trials: list[FrozenTrial] = []
        self.chains: dict[int, tuple[Run, ...]] = {}
        for trial in self.record.get_trials():
            self.memory.add_trial(trial)
            self._trials.append(trial)
            if not trial.state.is_finished():
                self.chains[trial.number] = self._same_chain(trial)
        self._points: list[dict[str, Any]] = []
        if asked.search.sampler == "grid":
            points = grid_of(self.space, cell)
            # A cell whose own values are on the grid has a point less; the last again is the same run, and costs nothing.
            self._points = points + points[-1:] * (asked.num_trials - len(points))
        elif asked.search.sampler == "qmc":
            self._points = [own_values(self.space, cell), *low_discrepancy(self.space, asked.num_trials, asked.search.seed)]

    @property
    def trials(self) -> "list[FrozenTrial]":
        """All so far, by number."""
        return self._trials

    @property
    def num_finished(self) -> int:
        """Trials that were told, completed or failed: what counts against the budget."""
        return sum(trial.state.is_finished() for trial in self._trials)

    @property
    def open_numbers(self) -> list[int]:
        """Trials that were asked for and not told."""
        return [trial.number for trial in self._trials if not trial.state.is_finished()]

    @property
    def best(self) -> "FrozenTrial | None":
        """The completed trial with the highest value, of equal ones the first."""
        done = [trial for trial in self._trials if trial.value is not None]
        return max(done, key=lambda trial: (trial.value, -trial.number), default=None)

    def fill_round(self) -> None:
        """Ask for what is missing of the round that is open, or of the next; nothing once the budget is asked for."""
        size, count, budget = self.asked.round_size, len(self._trials), self.asked.num_trials
        opened = self.open_numbers
        if opened and self.num_finished > opened[0] // size * size:
            return  # it was told in part, so it was complete
        first = opened[0] if opened else count
        for number in range(count, min((first // size + 1) * size, budget)):
            self._ask(number)

    def tell(self, number: int, value: float | None, reason: str = "") -> None:
        """Record a trial's end: its value, or None and the reason for a failed one."""
        from optuna.trial import TrialState

        if reason:
            self.record._storage.set_trial_user_attr(self._trials[number]._trial_id, "reason", reason)
        state = TrialState.COMPLETE if value is not None else TrialState.FAIL
        values = None if value is None else [value]
        self.record._storage.set_trial_state_values(self._trials[number]._trial_id, state, values)
        self.memory.tell(number, values=value, state=state)
        self._trials[number] = self.record._storage.get_trial(self._trials[number]._trial_id)
        self.chains.pop(number, None)

    def _ask(self, number: int) -> None:
        from optuna.trial import TrialState, create_trial

        values = self._propose(number)
        chain = chain_of(self.cell, values)
        memory = self.memory._storage
        frozen = self.memory.get_trials(deepcopy=False)[number]
        template = create_trial(
            state=TrialState.RUNNING,
            params=values,
            distributions=self.distributions,
            user_attrs={"runs": {run.stage: run_id(run) for run in chain}},
            system_attrs=memory.get_trial(frozen._trial_id).system_attrs,
        )
        id_ = self.record._storage.create_new_trial(self.record._study_id, template)
        made = self.record._storage.get_trial(id_)
        if made.number != number:
            raise ConfigError(f"study {self.record.study_name}: another coordinator asks for trials of it; stop one of the two")
        self._trials.append(made)
        self.chains[number] = chain

    def _propose(self, number: int) -> dict[str, Any]:
        """Return the rounded values of the next trial, and leave it in memory, running."""
        if self._points or number == 0:
            self.memory.enqueue_trial(self._points[number] if self._points else own_values(self.space, self.cell))
        self.memory.sampler = self._sampler(number)
        trial = self.memory.ask(fixed_distributions=self.distributions)
        values = {path: part.rounded(trial.params[path]) for path, part in self.space.items()} if number else trial.params
        for path, value in values.items():
            distribution = self.distributions[path]
            internal = distribution.to_internal_repr(value)
            self.memory._storage.set_trial_param(trial._trial_id, path, internal, distribution)
        return dict(values)

    def _sampler(self, number: int) -> "optuna.samplers.BaseSampler":
        """Return a new sampler, seeded for this trial: one that lived on would lose its random state with the process."""
        import optuna

        seed = (self.asked.search.seed * SEED_STEP + number) % 2**32
        if self._points or number == 0:
            return optuna.samplers.RandomSampler(seed=seed)
        if self.asked.search.sampler == "cmaes":
            try:
                import cmaes  # type: ignore[import-not-found]  # noqa: F401
            except ImportError:
                raise ConfigError("sampler 'cmaes' needs the package cmaes: pip install cmaes; or use 'tpe'") from None
            return optuna.samplers.CmaEsSampler(seed=seed)
        return optuna.samplers.TPESampler(n_startup_trials=NUM_STARTUP, multivariate=True, constant_liar=True, seed=seed)

    def _same_chain(self, trial: "FrozenTrial") -> tuple[Run, ...]:
        """Return the runs of an open trial; ConfigError if they are no longer those that were recorded."""
        chain = chain_of(self.cell, trial.params)
        if {run.stage: run_id(run) for run in chain} != trial.user_attrs["runs"]:
            raise ConfigError(
                f"search {self.asked.name}, {self.cell.name}, trial {trial.number}: other runs than recorded; {WAY_OUT}"
            )
        return chain

    def _check_fingerprint(self) -> None:
        new = self.asked.fingerprint(self.cell)
        old: Mapping[str, str] = json.loads(self.record.user_attrs.get("stands_on", "null")) or new
        changed = [f"{key} was {old.get(key)}, is {value}" for key, value in new.items() if old.get(key) != value]
        if changed:
            raise ConfigError(
                f"search {self.asked.name}, {self.cell.name}: changed since it began: {'; '.join(changed)}; {WAY_OUT}"
            )
        self.record.set_user_attr("stands_on", json.dumps(new))


WAY_OUT = (
    "put it back, give the search another name, or begin anew with --fresh "
    "(the old journal is kept aside; finished runs that are asked for again cost nothing)"
)
