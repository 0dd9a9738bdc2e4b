"""The statistics against scipy and against simulation: the interval covers, the tests err as often as they say."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from analysis.compare import (
    Difference,
    bootstrap,
    detectable_over_seeds,
    detectable_over_videos,
    estimate,
    holm,
    over_seeds,
    over_signs,
    over_videos,
    seeds_for,
)

PAIRS = st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=80)
POINTS = st.floats(0, 100)


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


@given(st.lists(st.one_of(POINTS, st.none(), st.just(float("nan")), st.just(float("inf"))), max_size=9))
def test_what_is_no_number_is_left_out(values):
    known = [value for value in values if value is not None and np.isfinite(value)]
    found = estimate(values)
    assert (found is None) == (not known)
    if found:
        assert (found.n, found.mean) == (len(known), pytest.approx(np.mean(known)))
    if len(known) > 1:
        assert found.half_width == pytest.approx(stats.t.ppf(0.975, len(known) - 1) * stats.sem(known), abs=1e-9)
        half, mean = found.half_width, found.mean
        assert (found.text(), found.text(3)) == (
            f"{mean:.1f} ± {half:.1f} ({len(known)})",
            f"{mean:.3f} ± {half:.3f} ({len(known)})",
        )


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
    assert np.mean([v in ("better", "worse") for v in verdicts]) == pytest.approx(0.05, abs=0.015)
    assert set(verdicts) == {"better", "worse", "not distinguishable at n = 4"}


def test_mcnemar_is_exact_and_conservative():
    rng = np.random.default_rng(2)
    wrong = 0
    for _ in range(800):
        a, b = rng.random(200) < 0.5, rng.random(200) < 0.5
        found = over_videos(a, b)
        won, lost = int((a & ~b).sum()), int((~a & b).sum())
        assert found.p_value == pytest.approx(stats.binomtest(won, won + lost).pvalue)
        assert found.points == pytest.approx(100 * (a.mean() - b.mean()))
        wrong += found.verdict in ("better", "worse")
    assert wrong / 800 < 0.06


def test_identical_predictions_differ_by_nothing():
    found = over_videos([True, False], [True, False])
    assert (found.points, found.p_value, found.verdict) == (0.0, 1.0, "not distinguishable at n = 2 videos")


@given(PAIRS)
@settings(max_examples=50)
def test_over_videos_by_hand(pairs):
    """Gains of +1, 0 and -1 on each video: mean, standard error and the two-sided binomial test of who won the untied."""
    arm, baseline = np.array(pairs).T
    found, gains = over_videos(arm, baseline), arm.astype(float) - baseline
    won, lost = int((gains > 0).sum()), int((gains < 0).sum())
    assert (found.n, found.over, found.df) == (len(pairs), "videos", None)
    assert found.points == pytest.approx(100 * gains.mean())
    assert found.half_width == pytest.approx(100 * stats.norm.ppf(0.975) * gains.std() / len(pairs) ** 0.5)
    assert found.p_value == pytest.approx(stats.binomtest(won, won + lost).pvalue if won + lost else 1.0)
    error = ((won + lost) / len(pairs) / len(pairs)) ** 0.5
    assert found.detectable == pytest.approx(100 * (stats.norm.ppf(0.975) + stats.norm.ppf(0.8)) * error)


@given(st.lists(st.tuples(POINTS, POINTS), min_size=2, max_size=12))
@settings(max_examples=50)
def test_over_seeds_is_scipys_paired_t_test(pairs):
    arm, baseline = np.array(pairs).T
    found, gaps = over_seeds(arm, baseline), arm - baseline
    n, error = len(gaps), stats.sem(gaps)
    assert (found.n, found.over, found.df) == (n, "seeds", n - 1)
    assert found.points == pytest.approx(gaps.mean())
    assert found.half_width == pytest.approx(stats.t.ppf(0.975, n - 1) * error, abs=1e-7)
    if error > 1e-6:
        assert found.p_value == pytest.approx(stats.ttest_rel(arm, baseline).pvalue, abs=1e-9)
    elif error < 1e-12:
        assert found.p_value == (1.0 if abs(gaps.mean()) < 1e-12 else 0.0)


@pytest.mark.parametrize(("gap", "p_value"), [(2.0, 0.0), (0.0, 1.0), (-0.5, 0.0)])
def test_seeds_that_all_differ_alike(gap, p_value):
    found = over_seeds([50.0 + gap, 60.0 + gap, 70.0 + gap], [50.0, 60.0, 70.0])
    assert (found.points, found.half_width, found.p_value, found.detectable) == (gap, 0.0, p_value, 0.0)
    assert found.verdict == {2.0: "better", -0.5: "worse"}.get(gap, "not distinguishable at n = 3")


@given(st.floats(-9, 9), st.floats(0, 1), st.sampled_from(["seeds", "videos"]), st.integers(1, 500))
def test_a_verdict_is_the_sign_where_p_is_below_5_percent(points, p_value, over, n):
    found = Difference(points, None, p_value, n, over)
    if p_value >= 0.05:
        assert found.verdict == f"not distinguishable at n = {n}" + (" videos" if over == "videos" else "")
    elif points:
        of_videos = f" at n = {n} videos" if over == "videos" else ""
        assert found.verdict == ("better" if points > 0 else "worse") + of_videos
    assert found.verdict_at(float("nan")).startswith("not distinguishable"), "a comparison that was not made"
    assert Difference(points, None, 0.0, n, over).verdict_at(1 - 0.95).startswith("not distinguishable"), "5 % itself"


def test_other_videos_cannot_be_paired():
    with pytest.raises(ValueError, match="3 and 2 videos"):
        over_videos([True] * 3, [True] * 2)


def holm_by_hand(p_values):
    """Smallest first: the k-th of m is multiplied by m - k; none becomes smaller than one before it, nor larger than 1."""
    corrected, worst = dict.fromkeys(range(len(p_values)), 1.0), 0.0
    for rank, i in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        worst = max(worst, (len(p_values) - rank) * p_values[i])
        corrected[i] = min(1.0, worst)
    return [corrected[i] for i in range(len(p_values))]


@given(st.lists(st.floats(0, 1), max_size=12))
def test_holm_is_holm(p_values):
    assert holm(p_values) == pytest.approx(holm_by_hand(p_values))
    with_gap = holm([*p_values, float("nan")])
    assert with_gap[:-1] == pytest.approx(holm(p_values))
    assert np.isnan(with_gap[-1])


def test_holm_holds_the_error_of_a_whole_table():
    """Five arms all equal to the baseline: one is called different in at most 5 % of tables, uncorrected in far more."""
    rng = np.random.default_rng(3)
    base, arms = rng.normal(0, 1, (1500, 1, 4)), rng.normal(0, 1, (1500, 5, 4))
    p_values = stats.ttest_rel(arms, np.broadcast_to(base, arms.shape), axis=2).pvalue
    corrected = np.array([holm(row) for row in p_values])
    assert np.mean((corrected < 0.05).any(axis=1)) < 0.065
    assert np.mean((p_values < 0.05).any(axis=1)) > 0.12


@pytest.mark.parametrize("n", [2, 3, 5, 10])
def test_the_detectable_difference_is_found_four_times_of_five(n):
    sd = 2.0
    truth = detectable_over_seeds(sd, n)
    gaps = np.random.default_rng(n).normal(truth, sd, (8000, n))
    found = stats.ttest_1samp(gaps, 0, axis=1).pvalue < 0.05
    assert np.mean(found) == pytest.approx(0.8, abs=0.02)
    assert detectable_over_seeds(sd, 1) is None


def test_the_detectable_difference_over_videos_is_found_four_times_of_five():
    n, share = 2000, 0.3
    truth = detectable_over_videos(share, n) / 100
    rng = np.random.default_rng(4)
    found = 0
    for won, lost, _ in rng.multinomial(n, [(share + truth) / 2, (share - truth) / 2, 1 - share], size=1500):
        found += stats.binomtest(int(won), int(won + lost)).pvalue < 0.05
    assert found / 1500 == pytest.approx(0.8, abs=0.04)


def test_the_bootstrap_covers_and_agrees_with_the_normal_interval():
    rng = np.random.default_rng(5)
    truth, hits = 5.0, 0
    for i in range(300):
        base = rng.random(1000) < 0.6
        arm = np.where(rng.random(1000) < 0.8, base, rng.random(1000) < 0.85)
        low, high = bootstrap(arm, base, seed=i)
        hits += low <= truth <= high
        found = over_videos(arm, base)
        assert low == pytest.approx(found.points - found.half_width, abs=0.35)
        assert high == pytest.approx(found.points + found.half_width, abs=0.35)
    assert hits / 300 == pytest.approx(0.95, abs=0.035)
    assert bootstrap(arm, base) == bootstrap(arm, base), "seeded"


@pytest.mark.parametrize(("n", "df"), [(2, None), (3, None), (5, None), (10, None), (3, 20), (5, 40)])
def test_the_detectable_difference_has_80_percent_power(n, df):
    """By the noncentral t as a mixture of normals over the sample's deviation, integrated by scipy, each side of the test."""
    d = detectable_over_seeds(1.0, n, df) * n**0.5
    freedom = df or n - 1
    limit, deviation = stats.t.ppf(0.975, freedom), stats.chi(freedom, scale=freedom**-0.5)
    found = deviation.expect(lambda s: stats.norm.sf(limit * s - d) + stats.norm.cdf(-limit * s - d))
    assert found == pytest.approx(0.8, abs=2e-4)
    assert detectable_over_seeds(3.0, n, df) == pytest.approx(3 * detectable_over_seeds(1.0, n, df))
    assert detectable_over_seeds(float("nan"), n, df) is None


@pytest.mark.parametrize(("n", "num_comparisons"), [(2, 3), (3, 4), (5, 14), (8, 25)])
def test_after_holms_correction_the_only_difference_is_found_four_times_of_five(n, num_comparisons):
    rng, sd, rounds = np.random.default_rng(n), 2.0, 4000
    truth = detectable_over_seeds(sd, n, None, num_comparisons)
    alone = over_seeds(sd / 2**0.5 * np.r_[np.ones(n - 1), 1 - n] / (n / 2) ** 0.5, np.zeros(n))  # of deviation sd
    assert alone.detectable_among(num_comparisons) == pytest.approx(truth)
    gaps = rng.normal(0, sd, (rounds, num_comparisons, n))
    gaps[:, 0] += truth
    p_values = stats.ttest_1samp(gaps, 0, axis=2).pvalue
    assert np.mean([holm(row)[0] < 0.05 for row in p_values]) == pytest.approx(0.8, abs=0.03)
    assert detectable_over_seeds(sd, n) < truth


def test_over_videos_too_the_only_difference_is_found_four_times_of_five():
    n, share, num_comparisons = 3000, 0.3, 6
    found = over_videos([True] * 450 + [False] * 450 + [True] * 2100, [False] * 450 + [True] * 450 + [True] * 2100)
    truth = found.detectable_among(num_comparisons) / 100
    draws = np.random.default_rng(1).multinomial(n, [(share + truth) / 2, (share - truth) / 2, 1 - share], size=1500)
    told = [stats.binomtest(int(won), int(won + lost)).pvalue < 0.05 / num_comparisons for won, lost, _ in draws]
    assert np.mean(told) == pytest.approx(0.8, abs=0.04)
    assert Difference(1.0, None, 0.5, 3, "seeds").detectable_among(4) is None


@given(st.lists(st.sampled_from([-6.25, 0.0, 6.25, 12.5, -37.5]), min_size=1, max_size=9))
@settings(max_examples=40)
def test_the_test_over_signs_counts_all_of_them(gaps):
    found, sums = over_signs(gaps), [sum(s) for s in itertools.product(*((gap, -gap) for gap in gaps))]
    assert found.p_value == pytest.approx(np.mean([abs(total) >= abs(sum(gaps)) - 1e-9 for total in sums]))
    assert (found.points, found.half_width, found.n) == (pytest.approx(np.mean(gaps)), None, len(gaps))
    assert found.p_value >= 2 ** (1 - len(gaps)) - 1e-12


@pytest.mark.parametrize("num_videos", [48, 480])
def test_arms_alike_are_told_apart_no_more_often_where_accuracies_are_shares_of_few_videos(num_videos):
    """Two seeds of a share of few videos often give the same difference twice, of which a t test would be certain."""
    rng, step, wrong = np.random.default_rng(num_videos), 100 / num_videos, 0
    for values in np.round(rng.normal(60, 2, (1000, 6, 2)) / step) * step:
        p_values = [over_seeds(arm, values[0], step=step).p_value for arm in values[1:]]
        wrong += min(holm(p_values)) < 0.05
    assert wrong / 1000 < 0.07


@given(PAIRS)
@settings(max_examples=20)
def test_the_bootstrap_resamples_videos(pairs):
    """Beside one that draws the videos themselves: the same quantiles to within Monte Carlo's error."""
    arm, baseline = np.array(pairs).T
    gains = 100 * (arm.astype(float) - baseline)
    means = np.random.default_rng(1).choice(gains, (4000, len(gains))).mean(axis=1)
    step = 100 / len(gains)  # means lie on a grid
    for ours, theirs in zip(bootstrap(arm, baseline), np.percentile(means, [2.5, 97.5]), strict=True):
        assert abs(ours - theirs) <= step + 0.15 * gains.std() / len(gains) ** 0.5


@pytest.mark.parametrize("num_arms", [2, 4, 11])
@pytest.mark.parametrize("n", [2, 3, 5])
def test_seeds_for_a_spread_that_all_arms_share(n, num_arms):
    """Each further seed adds a degree of freedom per arm but one."""
    detectable = detectable_over_seeds(2.0, n, (num_arms - 1) * (n - 1))
    for effect in (0.7, detectable, -2.5, 20.0):
        seeds = seeds_for(effect, detectable, n, (num_arms - 1) * (n - 1))
        assert detectable_over_seeds(2.0, seeds, (num_arms - 1) * (seeds - 1)) <= abs(effect) * (1 + 1e-6)
        fewer = seeds - 1
        assert seeds == 2 or detectable_over_seeds(2.0, fewer, (num_arms - 1) * (fewer - 1)) > abs(effect)


@pytest.mark.parametrize("n", [2, 3, 5, 12])
def test_the_seeds_asked_for_find_the_effect_and_one_less_does_not(n):
    detectable = detectable_over_seeds(2.0, n)
    for effect in (0.5, -1.0, detectable, 9.0):
        seeds = seeds_for(effect, detectable, n)
        assert detectable_over_seeds(2.0, seeds) <= abs(effect) * (1 + 1e-6)
        assert seeds == 2 or detectable_over_seeds(2.0, seeds - 1) > abs(effect)
