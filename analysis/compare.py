"""The statistics of an ablation: intervals over seeds, paired differences, paired tests over videos, many comparisons at once."""

import functools
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import special  # not scipy.stats or scipy.optimize: importing them takes longer than a table does

CONFIDENCE = 0.95
POWER = 0.8
ALIKE = 0.2  # p of Bartlett's test from which spreads are pooled: at three seeds it sees little, so it is asked generously
NUM_RESAMPLES = 10_000
ROUNDING = 1e-9  # points; differences of accuracies that differ by less are equal


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


def estimate(values: Sequence[float]) -> Estimate | None:
    """Return mean and t interval of replicates; None where there are none."""
    finite = np.asarray([value for value in values if value is not None and np.isfinite(value)], dtype=float)
    if len(finite) == 0:
        return None
    if len(finite) == 1:
        return Estimate(float(finite[0]), 1, None)
    half = special.stdtrit(len(finite) - 1, (1 + CONFIDENCE) / 2) * finite.std(ddof=1) / np.sqrt(len(finite))
    return Estimate(float(finite.mean()), len(finite), float(half))


@dataclass(frozen=True)
class Spread:
    """The standard deviation over seeds of one arm's value, in points, apart from what its arm and its seed do to all.

    Attributes:
        df: degrees of freedom of `sd`.
        p_equal: of Bartlett's test that all arms spread alike, without which there is no such number.
    """

    sd: float
    df: int
    num_arms: int
    p_equal: float

    @property
    def is_shared(self) -> bool:
        """Whether nothing speaks for arms that spread differently, at 20 %.

        Where one of eleven arms spreads three times as widely as the others, three seeds let that through every second time, and
        a table is wrong in 10 to 13 % of cases instead of 5 (tests/analysis/test_pooled.py).
        """
        return self.p_equal >= ALIKE


def pooled_spread(values: np.ndarray) -> Spread | None:
    """Return the spread that the arms of an experiment in blocks share; None for fewer than two arms or seeds.

    It is what value = arm + seed + rest leaves: (arms - 1)(seeds - 1) degrees of freedom instead of the seeds - 1 of a single
    comparison. With two arms the test by it is the paired t test.

    Args:
        values: [arms, seeds].
    """
    num_arms, num_seeds = values.shape
    if num_arms < 2 or num_seeds < 2:
        return None
    rest = values - values.mean(1, keepdims=True) - values.mean(0) + values.mean()
    df = (num_arms - 1) * (num_seeds - 1)
    return Spread(float(np.sqrt((rest**2).sum() / df)), df, num_arms, equal_variances(values - values.mean(0)))


def equal_variances(values: np.ndarray) -> float:
    """Return the p value of Bartlett's test that the rows of `values` [groups, n] have one variance."""
    groups, n = values.shape
    variances = values.var(1, ddof=1)
    if variances.min() <= ROUNDING**2:
        return 1.0 if variances.max() <= ROUNDING**2 else 0.0
    statistic = groups * (n - 1) * max(0.0, np.log(variances.mean()) - np.log(variances).mean())  # equal ones may round below 0
    return float(special.chdtrc(groups - 1, statistic / (1 + (groups + 1) / (3 * groups * (n - 1)))))


@dataclass(frozen=True)
class Difference:
    """A paired difference of two arms, in points.

    Attributes:
        over: what the pairs are: "seeds", or "videos" where there is one seed, which says nothing about another seed.
        half_width: of its 95 % interval; None: none is known.
        detectable: the smallest true difference, in points, that this test alone would find at 5 % in four of five such
            experiments; None: not known.
        df: degrees of freedom of a test over seeds.
    """

    points: float
    half_width: float | None
    p_value: float
    n: int
    over: str
    detectable: float | None = None
    df: int | None = None

    @property
    def verdict(self) -> str:
        """Return the verdict on this comparison alone, at 5 %."""
        return self.verdict_at(self.p_value)

    def verdict_at(self, p_value: float) -> str:
        """Return better, worse or not distinguishable, at 5 %, for a p value that may be corrected for its company."""
        videos = " videos" if self.over == "videos" else ""
        if not p_value < 1 - CONFIDENCE:
            return f"not distinguishable at n = {self.n}{videos}"
        return ("better" if self.points > 0 else "worse") + (f" at n = {self.n}{videos}" if videos else "")

    def detectable_among(self, num_comparisons: int) -> float | None:
        """Return `detectable` for a verdict after Holm's correction for so many comparisons, of which only this one differs."""
        if self.detectable is None:
            return None
        if self.over == "videos":
            return self.detectable * _errors_apart(num_comparisons) / _errors_apart()
        df = self.df or self.n - 1
        return self.detectable * _noncentrality(df, num_comparisons) / _noncentrality(df)


def over_seeds(arm: Sequence[float], baseline: Sequence[float], spread: Spread | None = None, step: float = 0.0) -> Difference:
    """Return the difference arm - baseline of values paired by seed, with a two-sided t test.

    Args:
        spread: that of the whole experiment, instead of these pairs' own (the paired t test).
        step: between two values that are possible, as 100 / n for a share of n videos. Pairs that differ by the same number of
            steps agree by chance, so their deviation is not taken to be less than what rounding two values to steps gives.

    >>> over_seeds([3.0, 4.0, 5.0], [1.0, 2.5, 2.0]).verdict
    'better'
    """
    gaps = np.subtract(arm, baseline)
    n, points = len(gaps), float(gaps.mean())
    assert n >= 2, "there are two pairs or more"
    sd, df = (float(gaps.std(ddof=1)), n - 1) if spread is None else (2**0.5 * spread.sd, spread.df)
    sd = max(sd, step / 6**0.5)
    error = sd / n**0.5
    if error < ROUNDING:
        p_value = 1.0 if abs(points) < ROUNDING else 0.0
    else:
        p_value = float(2 * special.stdtr(df, -abs(points) / error))
    half_width = float(special.stdtrit(df, (1 + CONFIDENCE) / 2) * error)
    return Difference(points, half_width, p_value, n, "seeds", detectable_over_seeds(sd, n, df), df)


def over_signs(gaps: Sequence[float]) -> Difference:
    """Return the mean of paired differences that take few values, with the exact test over all their signs, two-sided.

    Nothing is asked of their distribution but that no difference would make either sign as likely; n pairs cannot give a p
    below 2 / 2^n. There is no interval.

    >>> over_signs([6.25, 0.0, 6.25, 0.0, 6.25, 6.25, 6.25, 0.0]).p_value
    0.0625
    """
    values = np.asarray(gaps, dtype=float)
    chances: Mapping[float, float] = {0.0: 1.0}  # of the sum, each sign being as likely
    for value in values.tolist():
        moved = defaultdict[float, float](float)
        for total, chance in chances.items():
            for signed in (total - value, total + value):
                moved[round(signed, 6)] += chance / 2
        chances = moved
    p_value = min(1.0, sum(chance for total, chance in chances.items() if abs(total) >= abs(values.sum()) - 1e-6))
    return Difference(float(values.mean()), None, p_value, len(values), "seeds")


def over_videos(arm: Sequence[bool], baseline: Sequence[bool]) -> Difference:
    """Return the difference arm - baseline of correct shares on the same videos, with the exact McNemar test.

    The half width is the normal approximation of the paired difference.
    """
    won, lost, n = discordant(arm, baseline)
    p_value = min(1.0, float(2 * special.bdtr(min(won, lost), won + lost, 0.5)))
    variance = (won + lost - (won - lost) ** 2 / n) / n**2
    half = float(special.ndtri((1 + CONFIDENCE) / 2) * np.sqrt(variance))
    return Difference(100 * (won - lost) / n, 100 * half, p_value, n, "videos", detectable_over_videos((won + lost) / n, n))


def discordant(arm: Sequence[bool], baseline: Sequence[bool]) -> tuple[int, int, int]:
    """Return how many videos only `arm` has right, how many only `baseline`, and how many there are."""
    a, b = np.asarray(arm, dtype=bool), np.asarray(baseline, dtype=bool)
    if a.shape != b.shape:
        raise ValueError(f"{len(a)} and {len(b)} videos cannot be paired")
    return int((a & ~b).sum()), int((~a & b).sum()), len(a)


def bootstrap(arm: Sequence[bool], baseline: Sequence[bool], seed: int = 0) -> tuple[float, float]:
    """Return the 95 % percentile interval, in points, of the paired bootstrap over videos of the difference of correct shares.

    Resampling videos resamples counts: won, lost and tied videos are multinomial, so 10,000 resamples are one draw.
    """
    won, lost, n = discordant(arm, baseline)
    counts = np.random.default_rng(seed).multinomial(n, np.array([won, lost, n - won - lost]) / n, size=NUM_RESAMPLES)
    low, high = np.percentile(100 * (counts[:, 0] - counts[:, 1]) / n, [50 * (1 - CONFIDENCE), 50 * (1 + CONFIDENCE)])
    return float(low), float(high)


def holm(p_values: Sequence[float]) -> list[float]:
    """Return the p values corrected for their number by Holm's step-down rule, in the order given; NaN is left out and stays.

    Called better or worse at 5 % after it, the chance that any of a table's comparisons is called wrongly is at most 5 %.
    """
    values = np.asarray(p_values, dtype=float)
    corrected = np.full(len(values), np.nan)
    known = np.flatnonzero(~np.isnan(values))
    order = known[np.argsort(values[known], kind="stable")]
    steps = np.arange(len(order), 0, -1) * values[order]
    corrected[order] = np.minimum(1.0, np.maximum.accumulate(steps)) if len(order) else steps
    return [float(value) for value in corrected]


def detectable_over_seeds(sd: float, n: int, df: int | None = None, num_comparisons: int = 1) -> float | None:
    """Return the true difference that a two-sided t test of pairs at 5 % finds with power 80 %; None for fewer than two pairs.

    It is sd / sqrt(n) times the noncentrality d at which a noncentral t of `df` degrees of freedom passes the test's threshold,
    on either side, in 80 % of cases.

    Args:
        sd: standard deviation of the differences between paired seeds, in points.
        df: of `sd`; None: n - 1, the pairs' own.
        num_comparisons: that Holm's rule corrects for, of which this is the only one that differs.
    """
    return _noncentrality(df or n - 1, num_comparisons) * float(sd) / n**0.5 if n >= 2 and np.isfinite(sd) else None


def seeds_for(effect: float, detectable: float, n: int, df: int | None = None, num_comparisons: int = 1) -> int:
    """Return how many seeds would find a true difference of `effect` points, where `n`, with `df`, would find `detectable`.

    Args:
        num_comparisons: that Holm's rule corrects for, in `detectable` and in what is returned.

    >>> seeds_for(4.0, 4.0, 3)
    3
    """
    df = df or n - 1
    sd = detectable * n**0.5 / _noncentrality(df, num_comparisons)
    seeds = max(2, int((_errors_apart(num_comparisons) * sd / abs(effect)) ** 2))  # a t test needs a few more than a normal one
    limit = abs(effect) * (1 + ROUNDING)
    while (detectable_over_seeds(sd, seeds, df // (n - 1) * (seeds - 1), num_comparisons) or 0.0) > limit:
        seeds += 1
    return seeds


def _errors_apart(num_comparisons: int = 1) -> float:
    """Return how many standard errors apart a normal test at 5 %, corrected for so many comparisons, finds with power 80 %."""
    return float(special.ndtri(1 - (1 - CONFIDENCE) / 2 / num_comparisons) + special.ndtri(POWER))


@functools.cache
def _noncentrality(df: int, num_comparisons: int = 1) -> float:
    """Solve for d; power is a mean over the sample's deviation, for scipy's noncentral t is NaN at few degrees of freedom."""
    quantiles = (np.arange(20_000) + 0.5) / 20_000
    threshold = special.stdtrit(df, 1 - (1 - CONFIDENCE) / 2 / num_comparisons)
    limits = threshold * np.sqrt(special.chdtri(df, 1 - quantiles) / df)

    low, high = 0.0, 1000.0 * num_comparisons
    while high - low > ROUNDING:
        d = (low + high) / 2
        finds_more = np.mean(special.ndtr(d - limits) + special.ndtr(-limits - d)) > POWER
        low, high = (low, d) if finds_more else (d, high)
    return (low + high) / 2


def detectable_over_videos(discordant_share: float, n: int) -> float:
    """Return the true difference, in points, that McNemar's test at 5 % on n videos finds with power 80 %.

    By the normal approximation: (z(97.5 %) + z(80 %)) sqrt(share of videos that one arm alone has right / n).
    """
    return float(100 * _errors_apart() * np.sqrt(discordant_share / n))
