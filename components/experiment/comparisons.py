"""Moments of arms -> estimates of each metric, and each treatment against the control."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Mapping, Sequence

import polars as pl

from tfx_cassandra.components.experiment import sequential, statistics
from tfx_cassandra.components.experiment.design import Design, Metric
from tfx_cassandra.components.experiment.moments import Moments, total
from tfx_cassandra.components.experiment.results import MetricResult, deciding
from tfx_cassandra.components.experiment.statistics import Comparison, Estimate
from tfx_cassandra.components.experiment.tally import MAX_EXACT_UNITS, Tally

Estimates = Mapping[str, Sequence[Estimate]]  # by metric, of each arm


def by_arm(moments: Moments) -> list[Moments]:
    """(arms, halves, steps) -> the moments of each arm."""
    return [total([cell for half in arm.along(0) for cell in half.along(0)]) for arm in moments.along(0)]


def estimates_of(metric: Metric, arms: Sequence[Moments]) -> Sequence[Estimate]:
    """Returns each arm's estimate; raises ValueError where there are too few values or not such values."""
    if metric.covariate is not None:
        return statistics.adjusted(arms)
    return [(statistics.proportion if metric.kind == 'proportion' else statistics.ratio)(arm) for arm in arms]


def compare(metric: Metric, control: Estimate, treatment: Estimate, alpha: float) -> tuple[str, Comparison]:
    """Compares by the test for the metric's kind, at a fixed time.

    Returns:
      (name of the test, the comparison)
    """
    if control.binomial and treatment.binomial:
        return 'two-proportion z', statistics.two_proportions(control, treatment, alpha)
    if metric.kind != 'mean':
        name, found = 'z by the delta method', statistics.z_test(control, treatment, alpha)
    else:
        name, found = "Welch's t", statistics.welch(control, treatment, alpha)
    return name + (' with CUPED' if metric.covariate else ''), found


def exact_p_value(first: pl.DataFrame, second: pl.DataFrame) -> float:
    """Returns the p-value of the permutation test between units with `y` and `d`."""
    return statistics.permutation_test(*(units.select('y', 'd').to_numpy() for units in (first, second)))


def compared(
    design: Design, metric: Metric, control: Estimate, treatment: Estimate, exact: float = 0.0
) -> MetricResult:
    """Compares by both the fixed and the sequential test; nothing is corrected or concluded yet.

    Args:
      design: The experiment.
      metric: The metric.
      control: Estimate of the control.
      treatment: Estimate of a treatment.
      exact: The p-value of an exact test, where the units are few: no other p-value is below it.
    """
    test, found = compare(metric, control, treatment, design.alpha)
    relative = found.relative or (None, None, None)
    low = high = p_value = None
    exact = max(exact, statistics.cautious_p_value(control, treatment))
    if min(control.weight, treatment.weight) >= design.least_units:
        rho2, units = sequential.tuned(design.planned_units, design.alpha), control.n + treatment.n
        # By the cautious error: the first look may find no event at all in a small arm, and so no spread.
        reach = sequential.radius(found.cautious, units, rho2, design.alpha)
        low, high = found.difference - reach, found.difference + reach
        p_value = max(exact, sequential.p_value(found.difference, found.cautious, units, rho2))
    return MetricResult(
        metric=metric.name,
        test=test,
        difference=found.difference,
        stderr=found.stderr,
        low=found.low,
        high=found.high,
        p_value=max(exact, found.p_value),
        p_adjusted=None,
        relative=relative[0],
        relative_low=relative[1],
        relative_high=relative[2],
        sequential_low=low,
        sequential_high=high,
        sequential_p=p_value,
        sequential_p_adjusted=None,
        minimum_detectable_effect=statistics.minimum_detectable_effect(found.stderr, design.alpha, design.power),
        conclusion='undecided',
    )


def results_of(design: Design, estimates: Estimates, tally: Tally) -> dict[str, list[MetricResult]]:
    """Returns each treatment's comparisons, corrected for the number of goals of all treatments.

    Args:
      design: The experiment.
      estimates: By metric, of each arm.
      tally: What they are of, with the units themselves where these are few.
    """

    def exact(metric: Metric, place: int) -> float:
        # What a covariate takes out, the permutation test does not know of.
        adjusted = metric.covariate and min(arm.n for arm in estimates[metric.name]) >= statistics.MIN_ADJUSTED_UNITS
        units = [tally.units_of(metric.name, i) for i in (0, place)]
        known = [values for values in units if values is not None]
        if adjusted or len(known) < 2 or sum(map(len, known)) > MAX_EXACT_UNITS:
            return 0.0
        return exact_p_value(known[0], known[1])

    drafts = {
        (arm.name, metric.name): compared(
            design, metric, estimates[metric.name][0], estimates[metric.name][place], exact(metric, place)
        )
        for (place, arm), metric in itertools.product(enumerate(design.treatments, 1), design.metrics)
        if metric.name in estimates
    }
    goals = {metric.name for metric in design.metrics if metric.margin is None}
    fixed = statistics.holm({f'{a} {m}': draft.p_value for (a, m), draft in drafts.items() if m in goals})
    # Where it is too early, the p-value is one: it is part of the family all the same.
    at_any_time = statistics.holm(
        {
            f'{a} {m}': 1.0 if draft.sequential_p is None else draft.sequential_p
            for (a, m), draft in drafts.items()
            if m in goals
        }
    )
    metrics = {metric.name: metric for metric in design.metrics}
    results: dict[str, list[MetricResult]] = {arm.name: [] for arm in design.treatments}
    for (arm_name, name), draft in drafts.items():
        key = f'{arm_name} {name}'
        corrected = dataclasses.replace(
            draft,
            p_adjusted=fixed.get(key),
            sequential_p_adjusted=None if draft.sequential_p is None else at_any_time.get(key),
        )
        conclusion = _conclusion(design, metrics[name], corrected)
        results[arm_name].append(dataclasses.replace(corrected, conclusion=conclusion))
    return results


def _conclusion(design: Design, metric: Metric, result: MetricResult) -> str:
    decided = deciding(design, result)
    if decided is None:
        return 'undecided'
    low, high, p_adjusted = decided
    if metric.margin is None:
        if p_adjusted is None or p_adjusted >= design.alpha:
            return 'undecided'
        return 'better' if result.difference * metric.sign > 0 else 'worse'
    if low == high:  # nothing varies yet, which is not the same as that nothing will
        return 'undecided'
    worst, best = (low, high) if metric.sign > 0 else (-high, -low)
    if worst > -metric.margin:
        return 'not worse'
    return 'violated' if best < -metric.margin else 'undecided'
