"""The tests between arms against statsmodels, scipy and plain row-by-row computations."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.power import NormalIndPower
from statsmodels.stats.proportion import confint_proportions_2indep, proportions_ztest
from statsmodels.stats.weightstats import CompareMeans, DescrStatsW

from tfx_cassandra.components.experiment import estimates, statistics
from tfx_cassandra.components.experiment.moments import Moments

ALPHA = 0.05


def arm(y: np.ndarray, d: np.ndarray | None = None, x: np.ndarray | None = None) -> Moments:
    """Units with one value each, unless d says otherwise; the covariate, where there is one, is known of each."""
    zero, one = np.zeros(len(y)), np.ones(len(y))
    return Moments.of(np.column_stack([y, one if d is None else d, zero if x is None else x, one]))


def rng(seed: int = 3) -> np.random.Generator:
    return np.random.default_rng(seed)


@pytest.mark.parametrize(
    ('ones', 'sizes'), [((120, 150), (1000, 1010)), ((3, 9), (40, 400)), ((500, 501), (999, 1001))]
)
def test_two_proportions_is_statsmodels(ones: tuple[int, int], sizes: tuple[int, int]) -> None:
    samples = [np.repeat([1.0, 0.0], [k, n - k]) for k, n in zip(ones, sizes, strict=True)]
    control, treatment = (estimates.proportion(arm(sample)) for sample in samples)
    compared = statistics.two_proportions(control, treatment, ALPHA)
    assert compared.p_value == pytest.approx(proportions_ztest(ones, sizes)[1], rel=1e-9)
    low, high = confint_proportions_2indep(ones[1], sizes[1], ones[0], sizes[0], method='agresti-caffo', alpha=ALPHA)
    assert (compared.low, compared.high) == pytest.approx((low, high), rel=1e-9)


@pytest.mark.parametrize('sizes', [(2, 3), (50, 500), (4000, 4000)])
def test_welch_is_statsmodels_and_scipy(sizes: tuple[int, int]) -> None:
    a, b = rng().normal(5, 1, sizes[0]), rng(4).normal(5.1, 3, sizes[1])
    compared = statistics.welch(estimates.ratio(arm(a)), estimates.ratio(arm(b)), ALPHA)
    assert compared.p_value == pytest.approx(stats.ttest_ind(a, b, equal_var=False).pvalue, rel=1e-9)
    oracle = CompareMeans(DescrStatsW(b), DescrStatsW(a)).tconfint_diff(ALPHA, usevar='unequal')
    assert (compared.low, compared.high) == pytest.approx(oracle, rel=1e-9)


def test_the_delta_method_is_a_test_of_linearized_rows() -> None:
    ratios, rows = [], []
    for seed, lift in ((1, 1.0), (2, 1.2)):
        d = rng(seed).poisson(5, 3000) + 1.0
        y = d * lift * rng(seed + 10).gamma(2, 1, 3000)
        ratios.append(estimates.ratio(arm(y, d)))
        r = y.sum() / d.sum()
        rows.append(r + (y - r * d) / d.mean())
    compared = statistics.z_test(*ratios, ALPHA)
    control, treatment = (DescrStatsW(row) for row in rows)
    assert compared.difference == pytest.approx(treatment.mean - control.mean, rel=1e-9)
    oracle = CompareMeans(treatment, control).zconfint_diff(ALPHA, usevar='unequal')
    assert (compared.low, compared.high) == pytest.approx(oracle, rel=1e-9)
    assert compared.p_value == pytest.approx(CompareMeans(treatment, control).ztest_ind(usevar='unequal')[1], rel=1e-6)


def test_the_delta_methods_error_is_the_bootstraps() -> None:
    d = rng(1).poisson(5, 2000) + 1.0
    y = d * rng(2).gamma(2, 1, 2000)
    drawn = stats.bootstrap((y, d), lambda y, d, axis: y.sum(axis) / d.sum(axis), paired=True, vectorized=True,
                            n_resamples=2000, random_state=rng(5), method='basic', batch=200)  # fmt: skip
    assert math.sqrt(estimates.ratio(arm(y, d)).variance) == pytest.approx(drawn.standard_error, rel=0.05)


def test_cuped_is_a_test_of_adjusted_rows() -> None:
    x = [rng(seed).normal(10, 2, n) for seed, n in ((1, 2000), (2, 2500))]
    y = [
        3 * xs + rng(seed + 5).normal(effect, 1, len(xs))
        for seed, (xs, effect) in enumerate(zip(x, (0, 0.1), strict=True))
    ]
    adjusted = estimates.adjusted([arm(ys, x=xs) for ys, xs in zip(y, x, strict=True)])
    within = [(ys - ys.mean(), xs - xs.mean()) for ys, xs in zip(y, x, strict=True)]
    theta = sum(ys @ xs for ys, xs in within) / sum(xs @ xs for _, xs in within)
    center = np.concatenate(x).mean()
    rows = [ys - theta * (xs - center) for ys, xs in zip(y, x, strict=True)]
    compared = statistics.welch(*adjusted, ALPHA)
    assert [estimate.value for estimate in adjusted] == pytest.approx([row.mean() for row in rows], rel=1e-12)
    assert compared.p_value == pytest.approx(stats.ttest_ind(*rows, equal_var=False).pvalue, rel=1e-6)
    plain = statistics.welch(*(estimates.ratio(arm(ys)) for ys in y), ALPHA)
    assert compared.stderr < 0.2 * plain.stderr


def test_cuped_of_a_ratio_is_a_test_of_adjusted_linearized_rows() -> None:
    arms, linear, covariates = [], [], []
    for seed in (1, 2):
        d = rng(seed).poisson(5, 3000) + 1.0
        x = rng(seed + 2).normal(0, 1, 3000)
        y = d * (2 + x) + rng(seed + 4).normal(0, 0.5, 3000)
        arms.append(arm(y, d, x))
        r = y.sum() / d.sum()
        linear.append(r + (y - r * d) / d.mean())
        covariates.append(x)
    slopes = [np.cov(row, x) for row, x in zip(linear, covariates, strict=True)]
    theta = sum(slope[0, 1] for slope in slopes) / sum(slope[1, 1] for slope in slopes)
    center = np.concatenate(covariates).mean()
    rows = [row - theta * (x - center) for row, x in zip(linear, covariates, strict=True)]
    for estimate, row in zip(estimates.adjusted(arms), rows, strict=True):
        assert estimate.value == pytest.approx(row.mean(), rel=1e-9)
        assert estimate.variance == pytest.approx(row.var(ddof=1) / len(row), rel=1e-9)


def test_a_covariate_that_does_not_vary_changes_nothing() -> None:
    y = rng().normal(size=50)
    assert estimates.adjusted([arm(y), arm(y + 1)])[1] == estimates.ratio(arm(y + 1))


def test_the_relative_lift_is_a_ratio_of_means() -> None:
    a, b = rng(1).normal(4, 1, 800), rng(2).normal(5, 2, 900)
    lift, low, high = statistics.welch(estimates.ratio(arm(a)), estimates.ratio(arm(b)), ALPHA).relative or (0, 0, 0)
    drawn = stats.bootstrap((a, b), lambda a, b, axis: b.mean(axis) / a.mean(axis) - 1, vectorized=True,
                            n_resamples=3000, random_state=rng(5), method='percentile', batch=200)  # fmt: skip
    assert lift == pytest.approx(b.mean() / a.mean() - 1)
    assert (low, high) == pytest.approx(tuple(drawn.confidence_interval), abs=0.005)
    zero = estimates.Estimate(10, 0.0, 1.0, 1.0)
    assert statistics.welch(zero, zero, ALPHA).relative is None


def test_holm_is_statsmodels() -> None:
    p_values = dict(zip('abcdefg', [0.01, 0.04, 0.03, 0.005, 0.2, 0.9, 0.01], strict=True))
    oracle = multipletests(list(p_values.values()), method='holm')[1]
    assert list(statistics.holm(p_values).values()) == pytest.approx(oracle.tolist())


def test_the_minimum_detectable_effect_is_statsmodels() -> None:
    sigma, n = 2.5, 400
    effect = NormalIndPower().solve_power(nobs1=n, alpha=ALPHA, power=0.8, ratio=1)
    stderr = sigma * math.sqrt(2 / n)
    # statsmodels also counts the other tail, where the difference is significant with the wrong sign.
    assert statistics.minimum_detectable_effect(stderr, ALPHA, 0.8) == pytest.approx(effect * sigma, rel=1e-4)


def test_sample_ratio_mismatch_is_a_chi_square_test() -> None:
    assert statistics.sample_ratio_mismatch([480, 520], [0.5, 0.5]) == pytest.approx(stats.chi2.sf(20**2 / 500 * 2, 1))
    assert statistics.sample_ratio_mismatch([900, 100], [0.9, 0.1]) == 1.0
    assert statistics.sample_ratio_mismatch([821_588, 815_482], [0.5, 0.5]) == pytest.approx(1.8e-6, rel=0.05)  # Kohavi
    assert statistics.sample_ratio_mismatch([0, 1000], [0.5, 0.5]) < 1e-200


@pytest.mark.parametrize('weights', [[0.5, 0.4], [0.5, 0.6], [1.0, 0.0], [1.5, -0.5], [math.nan, 0.5], [math.inf, 0.5]])
def test_weights_are_shares(weights: list[float]) -> None:
    with pytest.raises(ValueError, match=r'weights: got .*, rule: positive numbers that sum to one'):
        statistics.sample_ratio_mismatch([5, 5], weights)


def test_no_traffic_is_refused() -> None:
    with pytest.raises(ValueError, match=r'counts: got \[0, 0\], rule: at least one unit'):
        statistics.sample_ratio_mismatch([0, 0], [0.5, 0.5])
    for estimate in (estimates.proportion, estimates.ratio):
        with pytest.raises(ValueError, match='units with a value: got 1, rule: at least two in each arm'):
            estimate(arm(np.ones(1)))


def test_a_ratio_has_a_denominator() -> None:
    with pytest.raises(ValueError, match=r'denominator: got 0.0, rule: a mean above zero'):
        estimates.ratio(arm(np.ones(3), np.zeros(3)))


def test_values_that_never_vary_are_certain() -> None:
    same, other = estimates.ratio(arm(np.ones(5))), estimates.ratio(arm(np.full(5, 2.0)))
    assert statistics.welch(same, same, ALPHA).p_value == 1.0
    assert statistics.welch(same, other, ALPHA).p_value == 0.0


def test_tea_tasting_gives_the_same_figures() -> None:
    """tea-tasting 1.14.0, which does not install beside this package's pins, was given these 2,000 rows."""
    draw, n = np.random.default_rng(11), 2000
    treated = np.arange(n) % 2 == 1
    d, x = draw.poisson(4, n) + 1.0, draw.normal(10, 2, n)
    y = d * draw.gamma(2, 1, n) + 0.3 * x + 0.2 * treated
    arms = [arm(y[of], d[of], x[of]) for of in (~treated, treated)]
    plain = statistics.welch(*map(estimates.ratio, [arm(y[of]) for of in (~treated, treated)]), ALPHA)
    assert plain.difference == pytest.approx(0.06817327306663579, rel=1e-9)
    assert plain.p_value == pytest.approx(0.8579112726028909, rel=1e-9)
    assert (plain.low, plain.high) == pytest.approx((-0.6785071361317504, 0.814853682265022), rel=1e-9)
    delta = statistics.z_test(*map(estimates.ratio, arms), ALPHA)
    assert delta.difference == pytest.approx(-0.019430105864221225, rel=1e-9)
    assert delta.difference / delta.stderr == pytest.approx(-0.2807948250346117, rel=1e-9)
    cuped = statistics.welch(*estimates.adjusted([arm(y[of], x=x[of]) for of in (~treated, treated)]), ALPHA)
    # Its theta is that of all rows, ours that of the rows within arms.
    assert cuped.difference == pytest.approx(0.09301322534754242, rel=1e-2)
    assert cuped.difference / cuped.stderr == pytest.approx(0.24455068759598392, rel=1e-2)
