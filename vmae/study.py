"""Ablation -> Arm -> Run: declarations, and the plan in which every run stands once.

An ablation asks one question and lists the answers tried; a sweep asks its ablations on data sets and seeds. Planning turns that
into cells (an arm on a data set) and a deduplicated DAG of runs: pretrain -> finetune -> evaluate. A run shared by many cells is
one run; from scratch there is no pretrain.
"""

import itertools
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

from pydantic import BaseModel

from vmae.arms import Arm
from vmae.config import EvaluateRun, Run
from vmae.errors import ConfigError, near
from vmae.identity import cell_id, run_id
from vmae.overrides import check_overrides, refuse_seeds
from vmae.recipe import Recipe

METRICS = ("top1", "top5")  # of evaluations, the higher the better
SPREADS = ("own", "pooled")


@dataclass(frozen=True)
class Ablation:
    """One question. `doc` (the module's docstring) holds question, `Expected:` and `Cost:` paragraphs.

    Args:
        paper: where the paper asks it, for example "Table 1b".
        baseline: name of the arm that the others are compared with; of several, the first that the preset has.
        datasets: the data sets it is asked on, by the paper's names; empty: all of the sweep.
        metric: what its arms are compared by, one of METRICS.
    """

    name: str
    doc: str
    paper: str
    arms: Sequence[Arm]
    baseline: str | tuple[str, ...]
    datasets: tuple[str, ...] = ()
    metric: str = "top1"

    def __post_init__(self) -> None:
        """Refuse double and copied arms, an absent baseline, an unknown metric and a docstring without its three parts."""
        _check_doc(f"ablation {self.name}", self.doc)
        names = [arm.name for arm in self.arms]
        for one, other in _side_by_side(self.arms):
            if one.name == other.name:
                raise ConfigError(f"ablation {self.name}: two arms have one name: {sorted(names)}")
            if one.settings == other.settings:
                raise ConfigError(f"ablation {self.name}: arms {one.name!r} and {other.name!r} have the same settings")
        for baseline in self.baselines:
            if baseline not in names:
                raise ConfigError(f"ablation {self.name}: no arm {baseline!r} as baseline{near(baseline, names)}")
        if self.metric not in METRICS:
            raise ConfigError(f"ablation {self.name}: metric {self.metric!r}{near(self.metric, METRICS)}")
        for part in ("Expected", "Cost"):
            if not self.part(part):
                raise ConfigError(f"ablation {self.name}: its docstring has no '{part}:' paragraph")

    @property
    def baselines(self) -> tuple[str, ...]:
        """The arms that may be the baseline, the best choice first."""
        return (self.baseline,) if isinstance(self.baseline, str) else self.baseline

    def only(self, *arms: str) -> "Ablation":
        """Return the same question with some of its arms; ConfigError for one that is not there."""
        for name in arms:
            if name not in (names := [arm.name for arm in self.arms]):
                raise ConfigError(f"ablation {self.name}: no arm {name!r}{near(name, names)}")
        baselines = tuple(name for name in self.baselines if name in arms)
        return replace(self, arms=tuple(arm for arm in self.arms if arm.name in arms), baseline=baselines)

    def not_asked_on(self, recipes: Iterable[str], datasets: Sequence[str] = ()) -> str:
        """Return the words for having no arm on any of `recipes`, by the paper's names; `datasets` instead of the ablation's."""
        asked = ", ".join(datasets or self.datasets) or "all data sets, with no arm at this preset"
        return (
            f"ablation {self.name} is asked on {asked}; recipes here: {', '.join(recipes) or 'none'}. "
            f"A data set takes another's place by stands_for, for example {{'mine': 'SSV2'}}"
        )

    @property
    def question(self) -> str:
        """First line of the docstring."""
        return self.doc.strip().splitlines()[0]

    def part(self, label: str) -> str:
        """Return the text of the `label:` paragraph on one line, or an empty string."""
        for paragraph in textwrap.dedent(self.doc).split("\n\n"):
            if paragraph.strip().startswith(f"{label}:"):
                return " ".join(paragraph.strip().removeprefix(f"{label}:").split())
        return ""


@dataclass(frozen=True)
class Sweep:
    """A plan of work: ablations x data sets (each a base recipe) x seeds.

    Args:
        recipes: {data set as tables call it: base recipe}.
        stands_for: {data set: the paper's data set whose place it takes}; one that is not named stands for itself.
        preset: the scale of the recipes, for arms that do not make sense at each.
        spread: by which spread over seeds differences are judged: of the two arms of each ("own"), or of all arms of the sweep
            on a data set together ("pooled"); declared here, so that it is settled before there are results.
    """

    name: str
    doc: str
    ablations: Sequence[Ablation]
    recipes: Mapping[str, Recipe]
    seeds: Sequence[int]
    stands_for: Mapping[str, str] = field(default_factory=dict)
    preset: str = ""
    spread: Literal["own", "pooled"] = "own"

    def __post_init__(self) -> None:
        """Refuse a sweep that does not say what it is for, asks nothing, asks twice, or counts seeds in other than integers."""
        _check_doc(f"sweep {self.name}", self.doc)
        if not isinstance(self.ablations, Sequence) or not all(isinstance(one, Ablation) for one in self.ablations):
            raise ConfigError(f"sweep {self.name}: ablations is no tuple of Ablation, as in (mask_ratio.ABLATION,)")
        if not isinstance(self.recipes, Mapping) or not all(isinstance(one, Recipe) for one in self.recipes.values()):
            raise ConfigError(f"sweep {self.name}: recipes is no {{data set as tables call it: Recipe}}")
        if not isinstance(self.seeds, Sequence) or not all(type(seed) is int for seed in self.seeds):
            raise ConfigError(f"sweep {self.name}: seeds = {self.seeds!r}; allowed: a tuple of integers, for example (0, 1, 2)")
        check_places(f"sweep {self.name}", self.recipes, self.stands_for)
        names = [ablation.name for ablation in self.ablations]
        if twice := [name for name in names if names.count(name) > 1]:
            raise ConfigError(f"sweep {self.name}: two ablations have one name: {twice[0]!r}; each has that of its file")
        if self.spread not in SPREADS:
            raise ConfigError(f"sweep {self.name}: spread = {self.spread!r}{near(str(self.spread), SPREADS)}")

    @property
    def purpose(self) -> str:
        """First line of the docstring."""
        return self.doc.strip().splitlines()[0]

    def asked_on(self, dataset: str) -> Iterator[tuple[Ablation, Arm]]:
        """Yield what is asked on a data set at this preset: each ablation's arms in declared order."""
        paper_name = self.stands_for.get(dataset, dataset)
        for ablation in self.ablations:
            if not ablation.datasets or paper_name in ablation.datasets:
                yield from ((ablation, arm) for arm in self.arms_of(ablation))

    def arms_of(self, ablation: Ablation) -> list[Arm]:
        """Return the arms of an ablation that make sense at this preset."""
        return [arm for arm in ablation.arms if not arm.presets or self.preset in arm.presets]

    def baseline_of(self, ablation: Ablation) -> str:
        """Return the arm that an ablation's others are compared with at this preset; ConfigError if it has none of them."""
        names = [arm.name for arm in self.arms_of(ablation)]
        found = next((name for name in ablation.baselines if name in names), None)
        if found is None:
            wanted = " or ".join(ablation.baselines)
            presets = dict.fromkeys(p for arm in ablation.arms if arm.name in ablation.baselines for p in arm.presets)
            allowed = f"; allowed for `preset=` of the sweep: {', '.join(presets)}" if presets else ""
            raise ConfigError(f"ablation {ablation.name}: preset {self.preset!r} has no arm {wanted} for a baseline{allowed}")
        return found


@dataclass(frozen=True)
class Cell:
    """An arm on a data set; `replicates` maps each seed to its run ids by stage."""

    ablation: str
    arm: str
    dataset: str
    cell_id: str
    settings: Mapping[str, Any]
    replicates: Mapping[int, Mapping[str, str]]


@dataclass(frozen=True)
class Plan:
    """What a sweep comes to: its cells, and every distinct run once, parents before children.

    Args:
        settings: the overrides that it was made with.
        overruled: sentences about those that some arms set themselves.
    """

    sweep: Sweep
    cells: tuple[Cell, ...]
    runs: Mapping[str, Run]
    num_declared: int
    parents: Mapping[str, str] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    overruled: tuple[str, ...] = ()

    @property
    def num_shared(self) -> int:
        """Runs saved because cells share them."""
        return self.num_declared - len(self.runs)

    def to_json(self) -> dict[str, Any]:
        """Return the plan as plain values: all that analysis needs to know of what was meant to run."""
        return {
            "sweep": self.sweep.name,
            "purpose": self.sweep.purpose,
            "preset": self.sweep.preset,
            "stands_for": {dataset: self.sweep.stands_for.get(dataset, dataset) for dataset in self.sweep.recipes},
            "seeds": list(self.sweep.seeds),
            **({"set": plain(self.settings)} if self.settings else {}),
            **({"spread": self.sweep.spread} if self.sweep.spread != "own" else {}),
            "ablations": [
                {
                    "name": a.name,
                    "question": a.question,
                    "expected": a.part("Expected"),
                    "paper": a.paper,
                    "baseline": self.sweep.baseline_of(a),
                    "metric": a.metric,
                    "arms": [arm.name for arm in self.sweep.arms_of(a)],
                    "paper_rows": {arm.name: asdict(arm.paper) for arm in self.sweep.arms_of(a) if arm.paper},
                }
                for a in self.sweep.ablations
            ],
            "cells": [
                {
                    "ablation": c.ablation,
                    "arm": c.arm,
                    "dataset": c.dataset,
                    "cell_id": c.cell_id,
                    "settings": dict(c.settings),
                    "replicates": [{"seed": seed, "runs": dict(runs)} for seed, runs in c.replicates.items()],
                }
                for c in self.cells
            ],
            "runs": {
                id_: {"stage": run.stage, "parent": self.parents.get(id_), "config": run.model_dump(mode="json")}
                for id_, run in self.runs.items()
            },
        }


def make_plan(sweep: Sweep, settings: Mapping[str, Any] | None = None) -> Plan:
    """Check every arm and return the plan; ConfigError names sweep, ablation, arm and data set of a bad value.

    Args:
        settings: dotted overrides for all base recipes; an arm's own settings win over them. ConfigError for one that no arm
            is changed by.
    """
    if not sweep.seeds or len(set(sweep.seeds)) != len(sweep.seeds):
        raise ConfigError(f"sweep {sweep.name}: seeds = {list(sweep.seeds)}; allowed: one or more, each once")
    refuse_seeds(settings or {}, "--seeds, or the sweep's seeds, say")
    recipes = {dataset: base.replace(settings or {}) for dataset, base in sweep.recipes.items()}
    by_paper_name = {sweep.stands_for.get(dataset, dataset): recipe for dataset, recipe in recipes.items()}
    cells: list[Cell] = []
    runs: dict[str, Run] = {}
    parents: dict[str, str] = {}
    num_declared = 0
    for dataset, recipe in recipes.items():
        for ablation, arm in sweep.asked_on(dataset):
            where = f"sweep {sweep.name}, ablation {ablation.name}, arm {arm.name!r}, data set {dataset}"
            replicates: dict[int, dict[str, str]] = {}
            try:
                refuse_seeds(arm.settings, "the sweep's seeds say")
                chosen = arm.resolved(recipe, by_paper_name)
                asked = recipe.replace(chosen)
                for seed in sweep.seeds:
                    chain = asked.with_seed(seed).runs()
                    ids = [run_id(run) for run in chain]
                    parents |= dict(itertools.pairwise(reversed(ids)))
                    runs |= zip(ids, chain, strict=True)
                    num_declared += len(chain)
                    replicates[seed] = {run.stage: id_ for id_, run in zip(ids, chain, strict=True)}
            except ConfigError as error:
                raise ConfigError(f"{where}: {error}") from None
            last = chain[-1]
            assert isinstance(last, EvaluateRun)
            cells.append(Cell(ablation.name, arm.name, dataset, cell_id(last), plain(chosen), replicates))
    if not cells:
        reasons = [ablation.not_asked_on(by_paper_name) for ablation in sweep.ablations] or ["it has no ablations"]
        raise ConfigError(f"sweep {sweep.name} asks nothing: {'; '.join(reasons)}")
    overruled: tuple[str, ...] = ()
    if settings:
        questions = [(ablation.name, arm, dataset) for dataset in recipes for ablation, arm in sweep.asked_on(dataset)]
        overruled = check_overrides(settings, sweep.recipes, questions, sweep.stands_for, sweep.seeds[0])
    return Plan(sweep, tuple(cells), runs, num_declared, parents, settings or {}, overruled)


def check_places(what: str, recipes: Iterable[str], stands_for: Mapping[str, str]) -> None:
    """Refuse places for data sets that are not there, and two data sets in one place: each would answer for the other."""
    known = list(recipes)
    if unknown := next((name for name in stands_for if name not in known), None):
        raise ConfigError(f"{what}: stands_for has {unknown!r}, which is no data set of its recipes{near(unknown, known)}")
    first: dict[str, str] = {}
    for dataset in known:
        place = stands_for.get(dataset, dataset)
        if (other := first.setdefault(place, dataset)) != dataset:
            raise ConfigError(f"{what}: {other!r} and {dataset!r} both stand for {place!r}; allowed: one data set in a place")


def _check_doc(what: str, doc: str | None) -> None:
    if not (doc or "").strip():
        raise ConfigError(f"{what}: its file has no docstring, whose first line says what it asks")


def _side_by_side(arms: Sequence[Arm]) -> Iterator[tuple[Arm, Arm]]:
    """Yield each two arms that some preset has both of."""
    for a, b in itertools.combinations(arms, 2):
        if not (a.presets and b.presets) or set(a.presets) & set(b.presets):
            yield a, b


def plain(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return an arm's settings as plain values."""
    return {path: value.model_dump(mode="json") if isinstance(value, BaseModel) else value for path, value in settings.items()}
