"""Estimates of arms and tests between them, from moments alone.

An arm's moments have three variables: the value y, the denominator d and the covariate x (d and x are zero where a
metric has none). Every estimate here is smooth in their means, so that its variance is that of a linear form: with
weights w (the gradient) and the covariance matrix S of (y, d, x), it is w'Sw / n.

docs/ab-testing.md gives the formulas and their sources.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence

import numpy as np
from scipy import stats

from tfx_cassandra.components.ab_evaluator.moments import Moments
from tfx_cassandra.components.errors import invalid

Y, D, X = 0, 1, 2  # places of value, denominator and covariate


@dataclasses.dataclass(frozen=True)
class Estimate:
    """What one arm says of a metric.

    Attributes:
      n: Observations.
      value: Mean, proportion or ratio; adjusted, where there is a covariate.
      variance: Of `value`: the square of its standard error.
    """

    n: int
    value: float
    variance: float


@dataclasses.dataclass(frozen=True)
class Comparison:
    """A treatment against the control.

    Attributes:
      difference: Treatment minus control.
      stderr: Its standard error.
      low: Lower end of its confidence interval.
      high: Upper end.
      p_value: Two-sided, of the hypothesis that there is no difference.
      relative: The difference over the control's value, with its interval; None where that value is zero.
    """

    difference: float
    stderr: float
    low: float
    high: float
    p_value: float
    relative: tuple[float, float, float] | None


def mean(arm: Moments) -> Estimate:
    """Returns the mean of y with variance s^2 / n; raises ValueError for fewer than two observations."""
    _enough(arm)
    return _linear(arm, arm.mean[Y], (1, 0, 0))


def proportion(arm: Moments) -> Estimate:
    """Returns the share p of ones among y, each 0 or 1, with variance p (1 - p) / n.

    Raises:
      ValueError: There are fewer than two observations, or a y is neither 0 nor 1.
    """
    _enough(arm)
    n, p = int(arm.n), float(arm.mean[Y])
    # Of zeros and ones the sum of squares is the sum, and of nothing else in [0, 1]; products[Y, Y] = sum(y^2) - n p^2.
    if not 0 <= p <= 1 or not math.isclose(arm.products[Y, Y], n * p * (1 - p), rel_tol=1e-9, abs_tol=1e-6):
        raise invalid('proportion', p, 'a mean of zeros and ones')
    return Estimate(n, p, p * (1 - p) / n)


def ratio(arm: Moments) -> Estimate:
    """Returns mean(y) / mean(d), with its variance by the delta method.

    Raises:
      ValueError: There are fewer than two observations, or the denominators' mean is not positive.
    """
    _enough(arm)
    return _linear(arm, _ratio(arm), _ratio_weights(arm))


def adjusted(arms: Sequence[Moments], of_ratio: bool = False) -> list[Estimate]:
    """Returns each arm's mean or ratio with what the covariate explains taken out (CUPED).

    y - theta (x - mean of x over all arms), with one theta = cov(y, x) / var(x) pooled within arms; for a ratio,
    y is replaced by its linear form (y - R d) / mean(d).

    Args:
      arms: Every arm of the experiment; x must be known before the arm could influence it.
      of_ratio: Whether the metric is y / d.

    Raises:
      ValueError: An arm has fewer than two observations, or a ratio's denominators are not positive.
    """
    for arm in arms:
        _enough(arm)
    weights = [np.array(_ratio_weights(arm) if of_ratio else (1.0, 0.0, 0.0)) for arm in arms]
    spread = sum(arm.products[X, X] for arm in arms)
    shared = sum(w @ arm.products[:, X] for w, arm in zip(weights, arms, strict=True))
    theta = shared / spread if spread > 0 else 0.0
    center = sum(arm.n * arm.mean[X] for arm in arms) / sum(arm.n for arm in arms)
    estimates = []
    for w, arm in zip(weights, arms, strict=True):
        plain = _ratio(arm) if of_ratio else arm.mean[Y]
        estimates.append(_linear(arm, plain - theta * (arm.mean[X] - center), w - (0, 0, theta)))
    return estimates


def welch(control: Estimate, treatment: Estimate, alpha: float) -> Comparison:
    """Compares two means by Welch's t-test, which does not take their variances to be equal."""
    variance = control.variance + treatment.variance
    if variance == 0:
        return _compared(control, treatment, alpha, math.inf, 0.0)
    parts = sum(arm.variance**2 / (arm.n - 1) for arm in (control, treatment))
    return _compared(control, treatment, alpha, variance**2 / parts, math.sqrt(variance))


def two_proportions(control: Estimate, treatment: Estimate, alpha: float) -> Comparison:
    """Compares two proportions by the z-test, with the pooled variance; the interval is Wald's, not pooled."""
    pooled = (control.n * control.value + treatment.n * treatment.value) / (control.n + treatment.n)
    stderr = math.sqrt(max(pooled * (1 - pooled), 0.0) * (1 / control.n + 1 / treatment.n))
    return _compared(control, treatment, alpha, math.inf, stderr)


def z_test(control: Estimate, treatment: Estimate, alpha: float) -> Comparison:
    """Compares two estimates that are normal for many observations, such as ratios."""
    return _compared(control, treatment, alpha, math.inf, math.sqrt(control.variance + treatment.variance))


def holm(p_values: Mapping[str, float]) -> dict[str, float]:
    """Returns p-values by key, corrected for their number: below alpha, whatever their dependence, for a family whose
    chance of any false discovery is at most alpha (Holm 1979)."""
    corrected, greatest = {}, 0.0
    for place, key in enumerate(sorted(p_values, key=lambda key: p_values[key])):
        greatest = max(greatest, min(1.0, (len(p_values) - place) * p_values[key]))
        corrected[key] = greatest
    return {key: corrected[key] for key in p_values}


def minimum_detectable_effect(stderr: float, alpha: float, power: float) -> float:
    """Returns the least absolute difference that a two-sided test of this standard error finds with this power."""
    return float(stats.norm.isf(alpha / 2) + stats.norm.ppf(power)) * stderr


def sample_ratio_mismatch(counts: Sequence[int], weights: Sequence[float]) -> float:
    """Returns the p-value of the chi-square test that the arms got units as planned.

    Args:
      counts: Units of each arm.
      weights: Planned share of each arm; they sum to one.

    Raises:
      ValueError: There is no unit, or the weights are not shares.
    """
    check_weights(weights)
    if sum(counts) == 0:
        raise invalid('counts', list(counts), 'at least one unit')
    return float(stats.chisquare(counts, np.array(weights) * (sum(counts) / sum(weights))).pvalue)


def check_weights(weights: Sequence[float]) -> None:
    """Raises ValueError unless the weights are positive and sum to one."""
    positive = all(math.isfinite(weight) and weight > 0 for weight in weights)
    if not positive or not math.isclose(sum(weights), 1, rel_tol=0, abs_tol=1e-9):
        raise invalid('weights', list(weights), 'positive numbers that sum to one')


def _enough(arm: Moments) -> None:
    if arm.n < 2:
        raise invalid('observations', int(arm.n), 'at least two in each arm')


def _linear(arm: Moments, value: float, weights: Sequence[float] | np.ndarray) -> Estimate:
    w = np.asarray(weights, dtype=float)
    # Rounding may leave a variance of zero a hair below it.
    return Estimate(int(arm.n), float(value), max(float(w @ arm.covariance @ w) / int(arm.n), 0.0))


def _ratio(arm: Moments) -> float:
    if not arm.mean[D] > 0:
        raise invalid('denominator', float(arm.mean[D]), 'a mean above zero')
    return float(arm.mean[Y] / arm.mean[D])


def _ratio_weights(arm: Moments) -> tuple[float, float, float]:
    r = _ratio(arm)
    return 1 / float(arm.mean[D]), -r / float(arm.mean[D]), 0.0


def _compared(control: Estimate, treatment: Estimate, alpha: float, df: float, test_stderr: float) -> Comparison:
    """Tests by `test_stderr` and Student's t with `df` degrees of freedom (infinite: the normal)."""
    difference = treatment.value - control.value
    stderr = math.sqrt(control.variance + treatment.variance)
    if test_stderr > 0:
        p_value = float(2 * stats.t.sf(abs(difference) / test_stderr, df))
    else:
        p_value = 1.0 if difference == 0 else 0.0
    reach = float(stats.t.isf(alpha / 2, df)) * stderr
    return Comparison(
        difference, stderr, difference - reach, difference + reach, p_value, _relative(control, treatment, alpha)
    )


def _relative(control: Estimate, treatment: Estimate, alpha: float) -> tuple[float, float, float] | None:
    """Returns (treatment - control) / control with its interval by the delta method."""
    if control.value == 0:
        return None
    lift = treatment.value / control.value - 1
    variance = (treatment.variance + (treatment.value / control.value) ** 2 * control.variance) / control.value**2
    reach = float(stats.norm.isf(alpha / 2)) * math.sqrt(variance)
    return lift, lift - reach, lift + reach
