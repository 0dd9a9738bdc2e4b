"""Arms: one answer tried of an ablation, as dotted fields it sets, some of them relative to the recipe that it changes.

The same declaration serves the paper and two cores, because an arm may say "half the epochs" or "a quarter of the videos".
"""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from vmae.config import ContrastConfig, PretrainConfig
from vmae.errors import ConfigError, near
from vmae.recipe import Recipe


@dataclass(frozen=True)
class PaperRow:
    """Where a paper gives an arm its number: a row of analysis/paper.csv; `dataset` is a format over its name there."""

    table: str
    case: str
    metric: str = "top1"
    dataset: str = "{}"


@dataclass(frozen=True)
class Times:
    """The recipe's own value times `factor`; a whole number stays one, at least 1."""

    factor: float

    def of(self, path: str, recipe: Recipe, recipes: Mapping[str, Recipe]) -> Any:
        """Return the value at `path`, scaled."""
        value = value_at(recipe, path)
        if not isinstance(value, int | float) or isinstance(value, bool):
            raise ConfigError(f"{path} = {value!r} is no number, so it has no {self.factor:g}-fold")
        return max(1, round(value * self.factor)) if isinstance(value, int) else value * self.factor


@dataclass(frozen=True)
class Share:
    """This share of the recipe's pre-training videos, as a count."""

    fraction: float

    def of(self, path: str, recipe: Recipe, recipes: Mapping[str, Recipe]) -> int:
        """Return the number of videos, rounded down."""
        return int(_pretrain(path, recipe).num_videos * self.fraction)


@dataclass(frozen=True)
class SameSteps:
    """The recipe's own epochs, stretched so that another number of videos takes as many optimiser steps.

    Args:
        videos: a count, or a share of the recipe's.
        batch_size: of the arm, where it is not the recipe's.
    """

    videos: int | Share
    batch_size: int | None = None

    def of(self, path: str, recipe: Recipe, recipes: Mapping[str, Recipe]) -> Any:
        """Return the value at `path`, which counts epochs, times the ratio of steps per epoch; whole epochs stay whole."""
        section = _pretrain(path, recipe)
        count = self.videos.of(path, recipe, recipes) if isinstance(self.videos, Share) else self.videos
        own = section.num_videos // section.optim.batch_size
        other = max(1, count // (self.batch_size or section.optim.batch_size))
        return Times(own / other).of(path, recipe, recipes)


@dataclass(frozen=True)
class As:
    """Another value of the same recipe, for example what it has in reserve, `instead`.

    Args:
        optional: null there leaves the field as it is; else it is an error.
    """

    source: str
    optional: bool = False

    def of(self, path: str, recipe: Recipe, recipes: Mapping[str, Recipe]) -> Any:
        """Return the value at `source`."""
        value = value_at(recipe, self.source)
        if value is None and not self.optional:
            raise ConfigError(f"{path}: the recipe has nothing at {self.source}")
        return value_at(recipe, path) if value is None else value


@dataclass(frozen=True)
class From:
    """A value of another data set's recipe, named as the paper names data sets: pre-trained elsewhere.

    Args:
        source: its field; empty: the one that is set.
    """

    dataset: str
    source: str = ""

    def of(self, path: str, recipe: Recipe, recipes: Mapping[str, Recipe]) -> Any:
        """Return that recipe's value."""
        if self.dataset not in recipes:
            raise ConfigError(f"{path}: no recipe stands for {self.dataset!r}{near(self.dataset, recipes)}")
        return value_at(recipes[self.dataset], self.source or path)


Relative = Times | Share | SameSteps | As | From


@dataclass(frozen=True)
class Arm:
    """One answer tried.

    Args:
        name: for tables.
        settings: dotted fields set together; values may be relative.
        paper: where a paper gives the number that this arm asks for again.
        presets: the presets at which it makes sense; empty: all.
    """

    name: str
    settings: Mapping[str, Any]
    paper: PaperRow | None = None
    presets: tuple[str, ...] = ()

    def resolved(self, recipe: Recipe, recipes: Mapping[str, Recipe]) -> dict[str, Any]:
        """Return the settings as plain values for `recipe`; `recipes` are all of the sweep by the paper's data set names."""
        return {
            path: value.of(path, recipe, recipes) if isinstance(value, Relative) else value
            for path, value in self.settings.items()
        }


FROM_SCRATCH = {"pretrain": None, "finetune.optim.epochs": As("instead.scratch_epochs", optional=True)}
SCRATCH = Arm("scratch", FROM_SCRATCH)


def grid_arms(fields: Mapping[str, Sequence[Any]], name: str) -> tuple[Arm, ...]:
    """Return the product of `fields` {dotted path: values} as arms; `name` is a format over the paths' last words.

    ConfigError for a word in `name` that is none of them, or a format that does not suit a value.

    >>> [arm.name for arm in grid_arms({"pretrain.mask.kind": ["tube"], "pretrain.mask.ratio": [0.5, 0.75]}, "{kind} {ratio}")]
    ['tube 0.5', 'tube 0.75']
    """
    arms = []
    for values in itertools.product(*fields.values()):
        settings = dict(zip(fields, values, strict=True))
        words = {path.rsplit(".", 1)[-1]: value for path, value in settings.items()}
        try:
            arms.append(Arm(name.format(**words), settings))
        except KeyError as error:
            word = str(error.args[0])
            raise ConfigError(f"arms named {name!r}: no path ends in {word!r}{near(word, words)}") from None
        except (IndexError, TypeError, ValueError) as error:
            raise ConfigError(f"arms named {name!r}: {error}; as in '{{{next(iter(words))}}}'") from None
    return tuple(arms)


def value_at(recipe: Recipe, path: str) -> Any:
    """Return the value of a dotted field; ConfigError where there is none."""
    here: Any = recipe
    for key in path.split("."):
        if not hasattr(here, key):
            raise ConfigError(f"{path}: {type(here).__name__} has no {key!r}{near(key, getattr(type(here), 'model_fields', ()))}")
        here = getattr(here, key)
    return here


def _pretrain(path: str, recipe: Recipe) -> PretrainConfig | ContrastConfig:
    if recipe.pretrain is None:
        raise ConfigError(f"{path} depends on the pre-training videos, but the recipe has no pre-training")
    return recipe.pretrain
