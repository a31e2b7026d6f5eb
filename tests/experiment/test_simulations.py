"""What the tests promise, tried 2,000 times: false positives, false positives under peeking, power."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from scipy import optimize, stats

from tfx_cassandra.components.experiment import estimates, sequential, statistics
from tfx_cassandra.components.experiment.comparisons import estimates_of, result_of
from tfx_cassandra.components.experiment.design import Arm, Design, Metric
from tfx_cassandra.components.experiment.moments import Moments
from tfx_cassandra.components.experiment.statistics import Comparison
from tfx_cassandra.components.window import TimeWindow

SEEDS, ALPHA = 2000, 0.05
Kind = Callable[[np.random.Generator, float], Comparison]
Draw = Callable[[np.random.Generator, tuple[int, int]], np.ndarray]


def false_positives_allowed() -> tuple[int, int]:
    """Where 999 of 1,000 counts lie if each seed errs with a chance of 5 %."""
    return tuple(map(int, stats.binom.interval(0.999, SEEDS, ALPHA)))  # type: ignore[return-value]


def arm(*columns: np.ndarray) -> Moments:
    """Units with (value, denominator 1, covariate 0) unless given; the covariate is known of each."""
    n = len(columns[0])
    defaults = [np.zeros(n), np.ones(n), np.zeros(n), np.ones(n)]
    return Moments.of(np.column_stack([*columns, *defaults[len(columns) :]]))


def proportions(rng: np.random.Generator, effect: float) -> Comparison:
    arms = [estimates.proportion(arm(rng.binomial(1, p, 2000).astype(float))) for p in (0.2, 0.2 + effect)]
    return statistics.two_proportions(*arms, ALPHA)


def means(rng: np.random.Generator, effect: float) -> Comparison:
    arms = [
        estimates.ratio(arm(rng.gamma(2, scale, n) + shift)) for scale, n, shift in ((1, 800, 0), (1, 1600, effect))
    ]
    return statistics.welch(*arms, ALPHA)


def ratios(rng: np.random.Generator, effect: float) -> Comparison:
    arms = []
    for lift in (0.0, effect):
        d = rng.poisson(4, 1000) + 1.0
        arms.append(estimates.ratio(arm(d * lift + rng.gamma(2, 1, 1000) * d, d)))
    return statistics.z_test(*arms, ALPHA)


def cuped(rng: np.random.Generator, effect: float) -> Comparison:
    x = rng.normal(0, 2, (2, 1000))
    y = x + rng.normal(0, 1, (2, 1000)) + np.array([[0.0], [effect]])
    arms = [arm(ys, np.ones(1000), xs) for ys, xs in zip(y, x, strict=True)]
    return statistics.welch(*estimates.adjusted(arms), ALPHA)


KINDS = [proportions, means, ratios, cuped]


@pytest.mark.parametrize('kind', KINDS)
def test_the_fixed_test_errs_in_one_of_twenty(kind) -> None:
    p_values = [kind(np.random.default_rng(seed), 0.0).p_value for seed in range(SEEDS)]
    low, high = false_positives_allowed()
    assert low <= sum(p < ALPHA for p in p_values) <= high


@pytest.mark.parametrize('kind', KINDS)
def test_effects_are_found_as_often_as_theory_says(kind) -> None:
    effect = statistics.minimum_detectable_effect(stderr(kind, 0.0), ALPHA, 0.8)
    found = [kind(np.random.default_rng(seed), effect).p_value < ALPHA for seed in range(SEEDS)]
    # The effect itself may change the variance: that of a proportion grows towards one half.
    theory = stats.norm.sf(stats.norm.isf(ALPHA / 2) - effect / stderr(kind, effect))
    assert np.mean(found) == pytest.approx(theory, abs=0.02)
    assert theory == pytest.approx(0.8, abs=0.03)


def stderr(kind, effect: float) -> float:
    return float(np.mean([kind(np.random.default_rng(seed), effect).stderr for seed in range(50)]))


def test_the_intervals_hold_the_effect_in_95_of_100() -> None:
    low, high = false_positives_allowed()
    for kind in KINDS:
        compared = [kind(np.random.default_rng(seed), 0.05) for seed in range(SEEDS)]
        assert low <= sum(not c.low <= 0.05 <= c.high for c in compared) <= high, kind.__name__


def looks(seed: int, draw) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """An A/A test looked at after each unit: difference, standard error and units of both arms, from unit 100 on."""
    values = draw(np.random.default_rng(seed), (2, 2000))
    n = np.arange(1, 2001)
    mean = values.cumsum(axis=1) / n
    variance = ((values**2).cumsum(axis=1) / n - mean**2) / np.maximum(n - 1, 1)
    first = 99
    return (mean[1] - mean[0])[first:], np.sqrt(variance.sum(axis=0))[first:], 2 * n[first:]


@pytest.mark.parametrize(
    'draw',
    [lambda rng, shape: rng.binomial(1, 0.2, shape), lambda rng, shape: rng.exponential(1, shape)],
    ids=['proportion', 'skewed mean'],
)
def test_peeking_at_every_unit_errs_at_most_once_in_twenty(draw) -> None:
    rho2 = sequential.tuned(4000, ALPHA)
    peeking, fixed = 0, 0
    for seed in range(SEEDS):
        difference, stderr, units = looks(seed, draw)
        scaled = units * rho2
        p_values = np.sqrt(scaled + 1) * np.exp(-((difference / stderr) ** 2) * scaled / (2 * (scaled + 1)))
        last = sequential.p_value(difference[-1], stderr[-1], int(units[-1]), rho2)
        assert last == pytest.approx(min(1.0, p_values[-1]))
        peeking += bool((p_values < ALPHA).any())
        fixed += bool((2 * stats.norm.sf(np.abs(difference / stderr)) < ALPHA).any())
    assert peeking / SEEDS <= ALPHA
    assert fixed / SEEDS > 4 * ALPHA  # what looking at the fixed test so often would do


@pytest.mark.parametrize(('share', 'rate'), [(0.01, 0.01), (0.01, 0.02), (0.05, 0.02), (0.1, 0.02), (0.5, 0.01)])
@pytest.mark.parametrize('kind', ['proportion', 'mean'])
def test_peeking_at_a_small_arm_and_rare_events_errs_at_most_once_in_twenty(
    share: float, rate: float, kind: str
) -> None:
    """The first looks of a canary find no event at all; that is no sign that it has none."""
    arms = (Arm('a', 'm', '1', 1 - share), Arm('b', 'm', '2', share))
    window = TimeWindow.parse('2026-01-01T00:00Z/2026-01-02T00:00Z')
    metric = Metric('rare', 'outcome:rare', kind)
    design = Design('e', arms[0], arms[1:], window, (metric,))
    seeds, looks = 300, np.unique(np.geomspace(100, 5000, 20).astype(int))
    wrong = 0
    for seed in range(seeds):
        draw = np.random.default_rng(seed)
        events = np.zeros(2)
        units = np.zeros(2)
        for step in np.diff(looks, prepend=0):
            more = np.array([round(step * (1 - share) / share), step])
            events, units = events + draw.binomial(more, rate), units + more
            estimates = estimates_of(metric, [of_events(n, k) for n, k in zip(units, events, strict=True)])
            found = result_of(design, metric, *estimates)
            if found.sequential_p < ALPHA or not found.sequential_low <= 0 <= found.sequential_high:
                wrong += 1
                break
    assert wrong / seeds <= ALPHA


def of_events(n: float, ones: float) -> Moments:
    """n units of which `ones` have a 1 and the others a 0."""
    products = np.zeros((4, 4))
    products[0, 0] = ones - ones**2 / n
    return Moments(np.array(int(n)), np.array([ones / n, 1.0, 0.0, 1.0]), products)


def test_the_sequential_test_finds_an_effect_in_the_end() -> None:
    rho2 = sequential.tuned(4000, ALPHA)
    found = 0
    for seed in range(200):
        a, b = np.random.default_rng(seed).normal(0, 1, (2, 2000)) + np.array([[0.0], [0.15]])
        found += sequential.p_value(b.mean() - a.mean(), math.sqrt((a.var() + b.var()) / 2000), 4000, rho2) < ALPHA
    assert found > 180


@pytest.mark.parametrize(('stderr', 'units', 'difference'), [(0.1, 500, 0.3), (0.01, 10_000, 0.025), (2.0, 50, 9.0)])
def test_the_p_value_is_the_alpha_whose_interval_touches_zero(stderr: float, units: int, difference: float) -> None:
    rho2 = sequential.tuned(5000, ALPHA)
    p = sequential.p_value(difference, stderr, units, rho2)
    assert 0 < p < 1
    assert sequential.radius(stderr, units, rho2, p) == pytest.approx(difference, rel=1e-9)


def test_the_interval_is_the_papers_and_narrowest_where_it_is_tuned() -> None:
    sigma, t, rho2 = 1.7, 900, 0.004
    paper = sigma * math.sqrt(2 * (t * rho2 + 1) / (t**2 * rho2) * math.log(math.sqrt(t * rho2 + 1) / ALPHA))
    assert sequential.radius(sigma / math.sqrt(t), t, rho2, ALPHA) == pytest.approx(paper, rel=1e-12)
    best = optimize.minimize_scalar(
        lambda log_rho2: sequential.radius(1.0, t, math.exp(log_rho2), ALPHA), bounds=(-15, 5), method='bounded'
    )
    assert sequential.tuned(t, ALPHA) == pytest.approx(math.exp(best.x), rel=1e-3)


def test_what_never_varies_and_bad_tuning() -> None:
    assert sequential.p_value(0.0, 0.0, 100, 0.01) == 1.0
    assert sequential.p_value(1.0, 0.0, 100, 0.01) == 0.0
    with pytest.raises(ValueError, match='planned_units: got 0, rule'):
        sequential.tuned(0, ALPHA)
    with pytest.raises(ValueError, match=r'alpha: got 1.0, rule'):
        sequential.tuned(10, 1.0)
