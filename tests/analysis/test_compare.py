"""The statistics against scipy and against simulation: the interval covers, the tests err as often as they say."""

import numpy as np
import pytest
from scipy import stats

from analysis.compare import estimate, over_seeds, over_videos


def test_the_interval_is_scipys():
    values = [50.0, 52.5, 49.0, 51.0]
    found = estimate(values)
    low, high = stats.t.interval(0.95, 3, loc=np.mean(values), scale=stats.sem(values))
    assert (found.mean - found.half_width, found.mean + found.half_width) == pytest.approx((low, high))


def test_the_interval_covers_95_percent():
    rng = np.random.default_rng(0)
    draws = rng.normal(10, 2, (4000, 3))
    hits = [abs(e.mean - 10) <= e.half_width for e in (estimate(list(d)) for d in draws)]
    assert np.mean(hits) == pytest.approx(0.95, abs=0.012)


def test_one_seed_has_no_interval_and_none_has_no_mean():
    assert estimate([3.0]).half_width is None
    assert estimate([3.0]).text() == "3.0 (1)"
    assert estimate([]) is None
    assert estimate([float("nan")]) is None


def test_seeds_are_paired():
    """A constant gain on wildly different seeds is seen; unpaired it would drown."""
    base = [10.0, 50.0, 90.0]
    found = over_seeds([b + g for b, g in zip(base, (2.0, 2.1, 1.9), strict=True)], base)
    assert found.verdict == "better"
    assert found.p_value == pytest.approx(stats.ttest_1samp([2.0, 2.1, 1.9], 0).pvalue)
    assert over_seeds(base, [b + g for b, g in zip(base, (2.0, 2.1, 1.9), strict=True)]).verdict == "worse"


def test_equal_arms_are_not_distinguishable_as_often_as_promised():
    rng = np.random.default_rng(1)
    verdicts = [over_seeds(list(rng.normal(0, 1, 4)), list(rng.normal(0, 1, 4))).verdict for _ in range(2000)]
    assert np.mean([v != "not distinguishable" for v in verdicts]) == pytest.approx(0.05, abs=0.015)


def test_mcnemar_is_exact_and_conservative():
    rng = np.random.default_rng(2)
    wrong = 0
    for _ in range(800):
        a, b = rng.random(200) < 0.5, rng.random(200) < 0.5
        found = over_videos(a, b)
        won, lost = int((a & ~b).sum()), int((~a & b).sum())
        assert found.p_value == pytest.approx(stats.binomtest(won, won + lost).pvalue)
        assert found.points == pytest.approx(100 * (a.mean() - b.mean()))
        wrong += found.verdict != "not distinguishable"
    assert wrong / 800 < 0.06


def test_identical_predictions_differ_by_nothing():
    found = over_videos([True, False], [True, False])
    assert (found.points, found.p_value, found.verdict) == (0.0, 1.0, "not distinguishable")


def test_other_videos_cannot_be_paired():
    with pytest.raises(ValueError, match="3 and 2 videos"):
        over_videos([True] * 3, [True] * 2)
