"""The statistics of an ablation: intervals over seeds, paired differences, paired tests over videos."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Estimate:
    """A mean over `n` seeds; `half_width` of its t interval is None for one seed: one seed has no interval."""

    mean: float
    n: int
    half_width: float | None

    def text(self, digits: int = 1) -> str:
        """Return `54.2 ± 1.3 (3)` or `54.2 (1)`."""
        spread = f" ± {self.half_width:.{digits}f}" if self.half_width is not None else ""
        return f"{self.mean:.{digits}f}{spread} ({self.n})"


def estimate(values: Sequence[float], confidence: float = CONFIDENCE) -> Estimate | None:
    """Return mean and t interval of replicates; None where there are none."""
    finite = np.asarray([value for value in values if value is not None and np.isfinite(value)], dtype=float)
    if len(finite) == 0:
        return None
    if len(finite) == 1:
        return Estimate(float(finite[0]), 1, None)
    half = stats.t.ppf((1 + confidence) / 2, len(finite) - 1) * finite.std(ddof=1) / np.sqrt(len(finite))
    return Estimate(float(finite.mean()), len(finite), float(half))


@dataclass(frozen=True)
class Difference:
    """A paired difference of two arms, in points.

    Attributes:
        over: what the pairs are: "seeds", or "videos" where there is one seed, which says nothing about another seed.
    """

    points: float
    half_width: float | None
    p_value: float
    n: int
    over: str

    @property
    def verdict(self) -> str:
        """Return better, worse or not distinguishable, at 5 %."""
        if not self.p_value < 1 - CONFIDENCE:
            return "not distinguishable"
        return "better" if self.points > 0 else "worse"


def over_seeds(arm: Sequence[float], baseline: Sequence[float]) -> Difference:
    """Return the difference arm - baseline of values paired by seed, with a two-sided paired t test.

    >>> over_seeds([3.0, 4.0, 5.0], [1.0, 2.5, 2.0]).verdict
    'better'
    """
    gaps = np.subtract(arm, baseline)
    mean = estimate(list(gaps))
    assert mean is not None, "there are pairs"
    assert mean.half_width is not None, "there are two pairs or more"
    if np.ptp(gaps) == 0:
        p_value = 1.0 if gaps[0] == 0 else 0.0
    else:
        p_value = float(stats.ttest_rel(arm, baseline).pvalue)
    return Difference(mean.mean, mean.half_width, p_value, mean.n, "seeds")


def over_videos(arm: Sequence[bool], baseline: Sequence[bool]) -> Difference:
    """Return the difference arm - baseline of correct shares on the same videos, with the exact McNemar test.

    The half width is the normal approximation of the paired difference.
    """
    a, b = np.asarray(arm, dtype=bool), np.asarray(baseline, dtype=bool)
    if a.shape != b.shape:
        raise ValueError(f"{len(a)} and {len(b)} videos cannot be paired")
    won, lost, n = int((a & ~b).sum()), int((~a & b).sum()), len(a)
    p_value = float(stats.binomtest(won, won + lost).pvalue) if won + lost else 1.0
    variance = (won + lost - (won - lost) ** 2 / n) / n**2
    half = float(stats.norm.ppf((1 + CONFIDENCE) / 2) * np.sqrt(variance))
    return Difference(100 * (won - lost) / n, 100 * half, p_value, n, "videos")
