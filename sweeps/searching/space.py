"""The space of a search: ranges and choices over dotted fields of a recipe, and points of it that need no history."""

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from vmae.arms import value_at
from vmae.errors import ConfigError
from vmae.recipe import Recipe

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

STAGES = ("pretrain", "finetune")
MAX_SAMPLES = 16  # values of a range that are tried on the recipe before anything runs
MAX_CORNERS = 64  # of a space
FIXED = tuple(f"{stage}.{field}" for stage in STAGES for field in ("seed", "data", "subset"))


@dataclass(frozen=True)
class Range:
    """Numbers from `low` to `high`; whole ones if both are.

    Args:
        log: even in the logarithm.
        digits: significant ones that a proposal keeps, so that ids repeat.
        points: of the grid, for enumeration.
    """

    low: float
    high: float
    log: bool = False
    digits: int = 2
    points: int | None = None

    def problem(self) -> str | None:
        """Return what is wrong with the range, None if nothing is."""
        if bool in (kinds := {type(self.low), type(self.high)}) or not kinds <= {int, float}:
            return f"{self.low!r} to {self.high!r}: two numbers are needed"
        if not (math.isfinite(self.low) and math.isfinite(self.high)):
            return f"{self.low} to {self.high} is not finite"
        if self.low >= self.high:
            return f"{self.low:g} to {self.high:g} is {'empty' if self.low == self.high else 'inverted'}; low must be below high"
        if self.log and self.low <= 0:
            return f"{self.low:g} to {self.high:g} has no logarithm; low must be above 0"
        counts = (self.digits, 2 if self.points is None else self.points)
        if any(type(count) is not int for count in counts) or counts[0] < 1 or counts[1] < 2:
            return f"digits = {self.digits}, points = {self.points}; allowed: digits from 1, points from 2"
        return None

    @property
    def is_whole(self) -> bool:
        """Whether its values are integers."""
        return isinstance(self.low, int) and isinstance(self.high, int)

    def distribution(self) -> "BaseDistribution":
        """Return it in Optuna's words."""
        from optuna.distributions import FloatDistribution, IntDistribution

        if self.is_whole:
            return IntDistribution(int(self.low), int(self.high), log=self.log)
        return FloatDistribution(self.low, self.high, log=self.log)

    def rounded(self, value: Any) -> Any:
        """Return the value with `digits` significant digits, inside the range.

        >>> Range(1e-4, 1e-2, log=True).rounded(0.00123456)
        0.0012
        """
        if self.is_whole:
            return int(value)
        return min(max(float(f"{value:.{self.digits}g}"), self.low), self.high)

    def at(self, share: float) -> Any:
        """Return the value at a share of the way from low to high, 0 to 1."""
        if self.log:
            value = self.low * (self.high / self.low) ** share
        else:
            value = self.low + share * (self.high - self.low)
        return self.rounded(round(value) if self.is_whole else value)

    def samples(self) -> list[Any]:
        """Return some of its values, the ends among them; all of a short range of whole numbers."""
        if self.is_whole and self.high - self.low <= MAX_SAMPLES:
            return list(range(int(self.low), int(self.high) + 1))
        return [self.at(k / MAX_SAMPLES) for k in range(MAX_SAMPLES + 1)]

    def grid(self, path: str) -> list[Any]:
        """Return its points, each once; ConfigError if it does not say how many."""
        if self.points is None:
            raise ConfigError(f"{path}: a grid needs the number of points of a range: Range(..., points=5), or a Choice")
        return list(dict.fromkeys(self.at(k / (self.points - 1)) for k in range(self.points)))

    def holds(self, value: Any) -> bool:
        """Return whether a value lies in it."""
        return isinstance(value, int | float) and self.low <= value <= self.high

    def __str__(self) -> str:
        return f"{self.low:g} to {self.high:g}{' (log)' if self.log else ''}"


@dataclass(frozen=True)
class Choice:
    """One of some values."""

    values: tuple[Any, ...]

    def problem(self) -> str | None:
        """Return what is wrong with the values, None if nothing is."""
        if not isinstance(self.values, tuple) or any(isinstance(value, list | dict | set) for value in self.values):
            return f"{self.values!r}: a tuple of plain values is needed, for example Choice((0.1, 0.2))"
        return (
            None if len(set(self.values)) == len(self.values) > 1 else f"{self.values}: two or more values are needed, each once"
        )

    def distribution(self) -> "BaseDistribution":
        """Return it in Optuna's words."""
        from optuna.distributions import CategoricalDistribution

        return CategoricalDistribution(self.values)

    def rounded(self, value: Any) -> Any:
        """Return the value."""
        return value

    def at(self, share: float) -> Any:
        """Return the value at a share of the way through them, 0 to 1."""
        return self.values[min(int(share * len(self.values)), len(self.values) - 1)]

    def samples(self) -> list[Any]:
        """Return the values."""
        return list(self.values)

    def grid(self, path: str) -> list[Any]:
        """Return the values."""
        return list(self.values)

    def holds(self, value: Any) -> bool:
        """Return whether a value is among them."""
        return value in self.values

    def __str__(self) -> str:
        return f"one of {', '.join(map(str, self.values))}"


Space = Mapping[str, Range | Choice]


def check_space(space: Space, recipe: Recipe, is_grid: bool = False) -> None:
    """Check every field and range against a recipe.

    Args:
        is_grid: whether only the points of a grid are ever proposed.

    Raises:
        ConfigError: unknown field (with the near word), empty or inverted range, values that no run could use, alone or
            together, a field that the trials of a cell must share, or a range without the recipe's own value, which is trial 0.
    """
    if not space:
        raise ConfigError("an empty space: nothing to tune; allowed: {field: Range(low, high) or Choice(values)}")
    for path, part in space.items():
        own = value_at(recipe, path)
        if path.split(".")[0] not in STAGES or any(f"{path}.".startswith(f"{fixed}.") for fixed in FIXED):
            raise ConfigError(
                f"{path}: the trials of a cell share its model, its data and its seed; "
                f"allowed: other fields of {' and '.join(STAGES)}"
            )
        if not isinstance(part, Range | Choice):
            raise ConfigError(f"{path}: {part!r} is no Range(low, high) and no Choice(values)")
        if problem := part.problem():
            raise ConfigError(f"{path}: {problem}")
        for value in part.grid(path) if is_grid else part.samples():
            _check_usable(recipe, {path: value})
        if not part.holds(own):
            raise ConfigError(f"{path}: the recipe's own value {own!r} is trial 0, but the space is {part}; widen it")

    # A proposal is the same at every start, so one that no run could use would end the search there for good.
    for ends in itertools.islice(itertools.product((0.0, 1.0), repeat=len(space)), MAX_CORNERS):
        _check_usable(recipe, {path: part.at(end) for (path, part), end in zip(space.items(), ends, strict=True)})


def _check_usable(recipe: Recipe, values: Mapping[str, Any]) -> None:
    try:
        recipe.replace(values).runs()
    except ConfigError as error:
        words = ", ".join(f"{path} = {value!r}" for path, value in values.items())
        raise ConfigError(f"no run could use {words}: {error}; allowed: a Choice of what fits, or narrower ranges") from None


def enumerated(space: Space) -> list[dict[str, Any]]:
    """Return every point of the grid, the last field fastest."""
    return [dict(zip(space, point, strict=True)) for point in itertools.product(*(p.grid(path) for path, p in space.items()))]


def low_discrepancy(space: Space, count: int, seed: int) -> list[dict[str, Any]]:
    """Return the first `count` points of a scrambled Sobol sequence (Joe and Kuo 2008, in scipy); more begin with the same."""
    from scipy.stats.qmc import Sobol

    shares: Sequence[Sequence[float]] = Sobol(len(space), scramble=True, rng=seed).random_base2(max(1, (count - 1).bit_length()))
    return [{path: part.at(float(x)) for (path, part), x in zip(space.items(), row, strict=True)} for row in shares][:count]
