"""A search: one study per cell of an ablation, each with the same space, sampler and budget; checked before anything runs."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from sweeps.registry import declared, searches, split_name
from sweeps.scales import DEFAULT, Scale, scale
from sweeps.searching.space import Space, check_space, enumerated
from vmae.arms import value_at
from vmae.config import EvaluateRun, Run
from vmae.errors import ConfigError, near
from vmae.identity import cell_id
from vmae.recipe import Recipe
from vmae.study import METRICS, Ablation, check_places

SAMPLERS = ("tpe", "qmc", "grid", "cmaes")
REPORTED = ("test", "val", "validation")  # lists that papers report on


@dataclass(frozen=True)
class SearchedCell:
    """An arm on a data set with its own study; `recipe` is the shared one, evaluated on the hold-out."""

    dataset: str
    arm: str
    settings: Mapping[str, Any]
    recipe: Recipe

    @property
    def name(self) -> str:
        """How studies and tables call it."""
        return f"{self.dataset}/{self.arm}"


@dataclass(frozen=True)
class Search:
    """Equal tuning of every cell of an ablation.

    Args:
        doc: the docstring: what is tuned, what is expected, what it costs.
        datasets: by the paper's names; empty: all of the ablation's and the preset's.
        space: {dotted field of pretrain or finetune: Range or Choice}; one of pretrain is a pre-training per trial.
        sampler: one of SAMPLERS. Without a history (qmc, grid) all trials are one round.
        trials: per cell, the shared recipe among them as trial 0; None: the whole grid.
        round_size: trials of a cell that are asked for together; the next round knows all of them.
        metric: one of METRICS of vmae.study.
        split: what it is measured on: held out from training, and never the reported list.
        seed: of the sampler; `run_seed` is that of every trial's run.
        winner_seeds: fresh ones for the winner and the shared recipe.
        recipes: {data set as tables call it: base recipe} instead of the presets', for lists of one's own.
        stands_for: as of `Sweep`, of `recipes`.
    """

    name: str
    doc: str
    ablation: Ablation
    space: Space
    sampler: str
    trials: int | None
    datasets: tuple[str, ...] = ()
    round_size: int = 4
    metric: str = "top1"
    split: str = "holdout"
    seed: int = 0
    run_seed: int = 0
    winner_seeds: tuple[int, ...] = (10, 11, 12)
    default: str = DEFAULT
    recipes: Mapping[str, Recipe] = field(default_factory=dict)
    stands_for: Mapping[str, str] = field(default_factory=dict)

    @property
    def purpose(self) -> str:
        """First line of the docstring."""
        return self.doc.strip().splitlines()[0]

    def at(self, preset: str | None, trials: int | None = None) -> "Asked":
        """Return the checked search at a preset, with another budget if given; ConfigError for what no run could use."""
        preset = preset or self.default
        try:
            search = replace(self, trials=trials or self.trials)
            return Asked(search, preset, tuple(search._cells(preset)))
        except ConfigError as error:
            raise ConfigError(f"search {self.name}: {error}") from None

    def scale(self, preset: str) -> Scale:
        """Return the recipes that it searches with; ConfigError for a preset that does not go with its own."""
        if not self.recipes:
            return scale(preset)
        if preset != self.default:
            raise ConfigError(f"it has recipes of its own, so no preset {preset!r}; leave --preset out")
        check_places("its recipes", self.recipes, self.stands_for)
        return Scale(self.recipes, self.stands_for)

    def _cells(self, preset: str) -> list[SearchedCell]:
        at = self.scale(preset)
        self._check()
        recipes = {at.stands_for.get(dataset, dataset): recipe for dataset, recipe in at.recipes.items()}
        cells = []
        for dataset, recipe in at.recipes.items():
            paper_name = at.stands_for.get(dataset, dataset)
            if paper_name not in (self.datasets or self.ablation.datasets or recipes):
                continue
            for arm in self.ablation.arms:
                if arm.presets and preset not in arm.presets:
                    continue
                settings = arm.resolved(recipe, recipes)
                shared = recipe.replace(settings).with_seed(self.run_seed)
                check_space(self.space, shared, self.sampler == "grid")
                if self.split == shared.evaluate.split:
                    raise ConfigError(f"objective on {self.split!r}: {dataset} reports that list; it never selects")
                held_out = shared.replace({"evaluate.split": self.split})
                held_out.runs()  # which refuses a split that the data set does not have
                cells.append(SearchedCell(dataset, arm.name, settings, held_out))
        if not cells:
            raise ConfigError(f"nothing to tune at preset {preset!r}: {self.ablation.not_asked_on(recipes, self.datasets)}")
        self._check_apart(cells)
        return cells

    def _check_apart(self, cells: list[SearchedCell]) -> None:
        """Refuse arms that differ only in what is tuned: their trials would be each other's."""
        first: dict[str, SearchedCell] = {}
        for cell in cells:
            at_low = cell.recipe.replace({path: part.at(0.0) for path, part in self.space.items()})
            other = first.setdefault(cell_id(at_low.runs()[-1]), cell)
            if other is not cell:
                raise ConfigError(
                    f"arms {other.name!r} and {cell.name!r} differ in nothing but {', '.join(self.space)}, which is tuned; "
                    f"allowed: a space over other fields, or one of them"
                )

    def _check(self) -> None:
        if self.sampler not in SAMPLERS:
            raise ConfigError(f"no sampler {self.sampler!r}{near(self.sampler, SAMPLERS)}")
        if self.split in REPORTED or self.split in ("train", "pretrain"):
            kind = "a reported list, which never selects" if self.split in REPORTED else "what is trained on"
            raise ConfigError(
                f"objective on {self.split!r}: that is {kind}; allowed: a split held out from training, as 'holdout'"
            )
        if self.trials is None and self.sampler != "grid":
            raise ConfigError(f"trials is None: only sampler 'grid' knows its own number, not {self.sampler!r}")
        counts = (self.round_size if self.trials is None else self.trials, self.round_size)
        if any(type(count) is not int or count < 1 for count in counts):
            raise ConfigError(f"trials = {self.trials}, round_size = {self.round_size}; allowed: 1 or more")
        if self.metric not in METRICS:
            raise ConfigError(f"metric {self.metric!r}{near(self.metric, METRICS)}")
        for seed in (self.seed, self.run_seed, *self.winner_seeds):
            if type(seed) is not int or not 0 <= seed < 2**32:
                raise ConfigError(f"seed {seed!r}; allowed: integers from 0 to {2**32 - 1}")
        if len(set(self.winner_seeds)) < len(self.winner_seeds):
            raise ConfigError(f"winner_seeds = {self.winner_seeds}; allowed: each once")
        if set(self.winner_seeds) & {self.run_seed} or not self.winner_seeds:
            raise ConfigError(
                f"winner_seeds = {self.winner_seeds}; allowed: one or more, none of them run_seed = {self.run_seed}"
            )


@dataclass(frozen=True)
class Asked:
    """A search at a preset."""

    search: Search
    preset: str
    cells: tuple[SearchedCell, ...]
    num_trials: int = field(init=False)

    def __post_init__(self) -> None:
        """Fix the budget: the declared one, or the whole grid and the shared recipe."""
        asked = self.search.trials
        if self.search.sampler == "grid":
            points = max(len(grid_of(self.search.space, cell)) for cell in self.cells)
            if asked is not None and asked > points:
                raise ConfigError(f"trials = {asked}, but the grid has {points} points with the recipe's own")
            asked = asked or points
        assert asked is not None
        object.__setattr__(self, "num_trials", asked)

    @property
    def name(self) -> str:
        """The search's name, with the preset where it is not the default."""
        return self.search.name if self.preset == self.search.default else f"{self.search.name}-{self.preset}"

    def with_trials(self, num_trials: int) -> "Asked":
        """Return the same search with another budget."""
        return Asked(replace(self.search, trials=num_trials), self.preset, self.cells)

    @property
    def round_size(self) -> int:
        """Trials of a cell that are asked for together."""
        return self.num_trials if self.search.sampler in ("grid", "qmc") else self.search.round_size

    def fingerprint(self, cell: SearchedCell) -> dict[str, str]:
        """Return what a study stands on; a study of another one must not go on. The number of trials may grow."""
        search = self.search
        last = cell.recipe.runs()[-1]
        return {
            "space": json.dumps({path: str(part) for path, part in search.space.items()}),
            "sampler": f"{search.sampler}, seed {search.seed}, rounds of {self.search.round_size}",
            "objective": f"{search.metric} on {search.split}, run seed {search.run_seed}",
            "recipe": cell_id(last),
        }


def own_values(space: Space, cell: SearchedCell) -> dict[str, Any]:
    """Return the shared recipe's own values of the space: trial 0."""
    return {path: value_at(cell.recipe, path) for path in space}


def grid_of(space: Space, cell: SearchedCell) -> list[dict[str, Any]]:
    """Return the points of the grid, the shared recipe's own first and only once."""
    own = own_values(space, cell)
    return [own, *(point for point in enumerated(space) if point != own)]


def chain_of(cell: SearchedCell, values: Mapping[str, Any]) -> tuple[Run, ...]:
    """Return the runs of a trial, parents first."""
    chain = cell.recipe.replace(values).runs()
    assert isinstance(chain[-1], EvaluateRun)
    return chain


def load(name: str, preset: str | None = None, trials: int | None = None) -> Asked:
    """Import a search and check it; ConfigError for an unknown name, with the near word. `NAME-PRESET` is understood too."""
    known = searches()
    module, ending = split_name(name, known)
    if ending and preset in (None, ending):
        name, preset = module, ending
    if name not in known:
        raise ConfigError(f"no search {name!r}{near(name, known)}")
    search: Search = declared(f"sweeps.searches.{name}", "SEARCH", (Search,))
    return search.at(preset, trials)
