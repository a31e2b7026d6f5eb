"""Tests between arms, and what belongs to them: sample ratio, multiple tests, power.

docs/ab-testing.md gives the formulas and their sources.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import special, stats

from tfx_cassandra.components.errors import invalid
from tfx_cassandra.components.experiment.estimates import MAX_SIZE, ROUNDING, Estimate

_MAX_ASSIGNMENTS = 10_000  # that a permutation test compares


@dataclasses.dataclass(frozen=True)
class Comparison:
    """A comparison of a treatment with the control.

    Attributes:
      difference: Treatment minus control.
      stderr: Its standard error.
      low: Lower end of its confidence interval.
      high: Upper end.
      p_value: Two-sided, for no difference.
      cautious: A standard error that is not too small with few units or rare events either: the greatest of `stderr`,
        the pooled one, and that of the interval.
      relative: The difference over the control's absolute value, with its interval, so that it is above zero if the
        treatment's value is greater. None if the control's value is zero or almost zero.
    """

    difference: float
    stderr: float
    low: float
    high: float
    p_value: float
    cautious: float
    relative: tuple[float, float, float] | None


def welch(control: Estimate, treatment: Estimate, alpha: float) -> Comparison:
    """Compares two means by Welch's t-test, which does not assume equal variances."""
    variance = control.variance + treatment.variance
    if variance == 0:
        return _compared(control, treatment, alpha, math.inf, 0.0)
    parts = sum((arm.variance / variance) ** 2 / (arm.n - 1) for arm in (control, treatment))
    return _compared(control, treatment, alpha, 1 / parts, math.sqrt(variance))


def two_proportions(control: Estimate, treatment: Estimate, alpha: float) -> Comparison:
    """Compares two proportions by the z-test with the pooled variance; the interval is that of Agresti and Caffo.

    It is Wald's with one more success and one more failure in each arm, so that an arm without successes has a
    variance.
    """
    pooled = (control.n * control.value + treatment.n * treatment.value) / (control.n + treatment.n)
    stderr = math.sqrt(max(pooled * (1 - pooled), 0.0) * (1 / control.n + 1 / treatment.n))
    comparison = _compared(control, treatment, alpha, math.inf, stderr)
    # (proportion, trials) of each arm
    plus_two = [((arm.n * arm.value + 1) / (arm.n + 2), arm.n + 2) for arm in (control, treatment)]
    center = plus_two[1][0] - plus_two[0][0]
    interval_stderr = math.sqrt(sum(p * (1 - p) / n for p, n in plus_two))
    reach = float(stats.norm.isf(alpha / 2)) * interval_stderr
    cautious = max(comparison.cautious, stderr, interval_stderr)
    return dataclasses.replace(comparison, low=center - reach, high=center + reach, cautious=cautious)


def z_test(control: Estimate, treatment: Estimate, alpha: float) -> Comparison:
    """Compares two estimates that are asymptotically normal, such as ratios."""
    return _compared(control, treatment, alpha, math.inf, math.sqrt(control.variance + treatment.variance))


def permutation_test(control: NDArray[Any], treatment: NDArray[Any]) -> float:
    """Returns the two-sided p-value of a permutation test of the difference of mean(y) / mean(d).

    It is the share of assignments of the units to the arms whose difference is at least as great as the observed one
    (Fisher 1935): of all assignments if there are at most 10,000, otherwise of 9,999 random ones and the observed one
    (Phipson and Smyth 2010). The same units always give the same p-value.

    Args:
      control: (y, d) of each unit, shape (units, 2).
      treatment: As `control`.
    """
    units = np.concatenate([control, treatment])

    def difference(first: NDArray[Any]) -> NDArray[Any]:
        """Returns the difference of each assignment, given the units of the first arm, shape (assignments, units)."""
        with np.errstate(divide='ignore', invalid='ignore'):
            a, b = first @ units, ~first @ units
            return np.nan_to_num(np.abs(b[:, 0] / b[:, 1] - a[:, 0] / a[:, 1]), nan=np.inf)

    observed = difference(np.arange(len(units))[None, :] < len(control))[0]
    threshold = observed * (1 - 1e-9)
    if math.comb(len(units), len(control)) <= _MAX_ASSIGNMENTS:
        chosen = np.array(list(itertools.combinations(range(len(units)), len(control))))
        assignments = np.zeros((len(chosen), len(units)), dtype=bool)
        np.put_along_axis(assignments, chosen, True, axis=1)
        return float((difference(assignments) >= threshold).mean())
    order = np.random.default_rng(0).random((_MAX_ASSIGNMENTS - 1, len(units))).argsort(axis=1)
    return float((1 + (difference(order < len(control)) >= threshold).sum()) / _MAX_ASSIGNMENTS)


def cautious_p_value(control: Estimate, treatment: Estimate) -> float:
    """Returns a lower bound for the p-value of any test of the two arms, for data dominated by few units.

    It is the greater of `min_p_value` and the p-value of Student's t with Welch-Satterthwaite degrees of freedom, both
    of effective units (equal weights give Welch's t). Shares of independent trials have `min_p_value` alone.
    """
    attainable = min_p_value(control.weight, treatment.weight)
    variance = control.variance + treatment.variance
    if variance == 0 or (control.binomial and treatment.binomial):
        return attainable
    parts = sum((arm.variance / variance) ** 2 / max(arm.weight - 1, ROUNDING) for arm in (control, treatment))
    p_value = 2 * stats.t.sf(abs(treatment.value - control.value) / math.sqrt(variance), 1 / parts)
    return max(attainable, float(p_value))


def min_p_value(control: float, treatment: float) -> float:
    """Returns the smallest two-sided p-value of a permutation test with these numbers of units.

    Under the null hypothesis all assignments of units are equally likely, and at least two, the observed one and its
    reverse, are as extreme.
    """
    a, b = max(control, 1.0), max(treatment, 1.0)
    log_assignments = special.gammaln(a + b + 1) - special.gammaln(a + 1) - special.gammaln(b + 1)
    return min(1.0, 2 * math.exp(-log_assignments))


def holm(p_values: Mapping[str, float]) -> dict[str, float]:
    """Returns p-values by key, corrected for multiple tests by Holm's method (Holm 1979).

    Rejecting those below alpha keeps the family-wise error rate at alpha, however the tests depend on each other.
    """
    corrected, running_max = {}, 0.0
    for rank, key in enumerate(sorted(p_values, key=lambda key: p_values[key])):
        running_max = max(running_max, min(1.0, (len(p_values) - rank) * p_values[key]))
        corrected[key] = running_max
    return {key: corrected[key] for key in p_values}


def minimum_detectable_effect(stderr: float, alpha: float, power: float) -> float:
    """Returns the smallest absolute difference that a two-sided test with this standard error detects with `power`."""
    return float(stats.norm.isf(alpha / 2) + stats.norm.ppf(power)) * stderr


def sample_ratio_mismatch(counts: Sequence[int], weights: Sequence[float]) -> float:
    """Returns the p-value of the chi-square test for the planned shares of units.

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


def _compared(control: Estimate, treatment: Estimate, alpha: float, df: float, test_stderr: float) -> Comparison:
    """Tests by `test_stderr` and Student's t with `df` degrees of freedom (infinite: the normal)."""
    difference = treatment.value - control.value
    stderr = math.sqrt(control.variance + treatment.variance)
    if stderr == 0 and abs(difference) <= ROUNDING * max(abs(control.value), abs(treatment.value)):
        difference = 0.0
    if test_stderr > 0:
        p_value = float(2 * stats.t.sf(abs(difference) / test_stderr, df))
    else:
        p_value = 1.0 if difference == 0 else 0.0
    reach = float(stats.t.isf(alpha / 2, df)) * stderr
    # The pooled variance, for an arm with too few units to estimate its own.
    deviations = control.n * (control.n * control.variance) + treatment.n * (treatment.n * treatment.variance)
    pooled = math.sqrt(deviations / (control.n + treatment.n) * (1 / control.n + 1 / treatment.n))
    relative = _relative(control, treatment, alpha)
    cautious = max(stderr, pooled)
    return Comparison(difference, stderr, difference - reach, difference + reach, p_value, cautious, relative)


def _relative(control: Estimate, treatment: Estimate, alpha: float) -> tuple[float, float, float] | None:
    """Returns (treatment - control) / |control| with its interval by the delta method; None if it is not finite."""
    if control.value == 0:
        return None
    size = abs(control.value)
    quotient = treatment.value / control.value
    lift = (treatment.value - control.value) / size
    if not abs(quotient) <= MAX_SIZE:
        return None
    # Adjusted values are correlated: var(difference) = var(treatment) + var(control) - 2 covariance.
    covariance = (control.alone + treatment.alone - control.variance - treatment.variance) / 2
    variance = treatment.alone + quotient**2 * control.alone - 2 * quotient * covariance
    reach = float(stats.norm.isf(alpha / 2)) * math.sqrt(max(variance, 0.0)) / size
    relative = (lift, lift - reach, lift + reach)
    return relative if all(map(math.isfinite, relative)) else None
