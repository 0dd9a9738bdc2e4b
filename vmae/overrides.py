"""Whether settings would do anything: an arm's own win over a sweep's, one that reaches no arm does nothing, nor does a seed."""

from collections.abc import Iterable, Mapping
from typing import Any

from vmae.arms import Arm, value_at
from vmae.errors import ConfigError
from vmae.recipe import Recipe

SEEDED = ("pretrain", "finetune", "linear_probe", "contrast")  # sections with a replicate's seed
Question = tuple[str, Arm, str]  # ablation, arm, data set as tables call it


def refuse_seeds(settings: Mapping[str, Any], who: str) -> None:
    """Raise ConfigError for a replicate's seed among dotted settings. Seeds of data and subsets are no replicate's.

    Args:
        who: says which seeds there are, for the message.
    """
    for path in settings:
        section, _, field = path.rpartition(".")
        if field == "seed" and section.rpartition(".")[2] in SEEDED:
            raise ConfigError(f"{path} would do nothing: {who} which seeds each run has")


def check_overrides(
    settings: Mapping[str, Any], bases: Mapping[str, Recipe], asked: Iterable[Question], paper_names: Mapping[str, str], seed: int
) -> tuple[str, ...]:
    """Return one sentence for each override that some arms set themselves; ConfigError for one that changes no arm's runs.

    Args:
        bases: the recipes by data set, before the overrides.
        paper_names: {data set: as the paper calls what it stands for}.
    """
    asked = list(asked)
    sentences = []
    for path in settings:
        reached, overruled = _reach(path, settings, bases, asked, paper_names, seed)
        if not reached:
            reason = f"ablation {', '.join(overruled)}: each arm sets it" if overruled else "no arm has runs that it changes"
            raise ConfigError(f"--set {path}={settings[path]!r} would do nothing: {reason}")
        if overruled:
            arms = "; ".join(f"{ablation}: {', '.join(names)}" for ablation, names in overruled.items())
            sentences.append(f"--set {path} does nothing to arms that set it themselves ({arms})")
    return tuple(sentences)


def _reach(
    path: str,
    settings: Mapping[str, Any],
    bases: Mapping[str, Recipe],
    asked: list[Question],
    paper_names: Mapping[str, str],
    seed: int,
) -> tuple[bool, dict[str, list[str]]]:
    """Return whether an override reaches any arm, and by ablation the arms that overrule it."""
    others = {other: value for other, value in settings.items() if other != path}
    given = {dataset: base.replace(settings) for dataset, base in bases.items()}
    try:
        without = {dataset: base.replace(others) for dataset, base in bases.items()}
    except ConfigError:  # the others need it
        return True, {}
    reached, overruled = False, dict[str, list[str]]()
    for ablation, arm, dataset in asked:
        now = _resolved(arm, dataset, given, paper_names).with_seed(seed)
        own, wanted = _value(now, path), value_at(given[dataset], path)
        try:
            is_moved = now.runs() != _resolved(arm, dataset, without, paper_names).with_seed(seed).runs()
        except ConfigError:
            is_moved = True
        # The recipe's own value, said again, moves nothing and is still what was asked for.
        if is_moved or (given == without and own == wanted):
            reached = True
        elif own not in (None, wanted):
            names = overruled.setdefault(ablation, [])
            names += [arm.name] if arm.name not in names else []
    return reached, overruled


def _resolved(arm: Arm, dataset: str, recipes: Mapping[str, Recipe], paper_names: Mapping[str, str]) -> Recipe:
    by_paper_name = {paper_names.get(name, name): recipe for name, recipe in recipes.items()}
    return recipes[dataset].replace(arm.resolved(recipes[dataset], by_paper_name))


def _value(recipe: Recipe, path: str) -> Any:
    """Return the value at a path, None also where the section is null, as from scratch."""
    try:
        return value_at(recipe, path)
    except ConfigError:
        return None
