"""Moments of arms -> estimates of each metric, and comparisons of each treatment with the control."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Mapping, Sequence

import polars as pl

from tfx_cassandra.components.experiment import sequential, statistics
from tfx_cassandra.components.experiment.design import Design, Metric
from tfx_cassandra.components.experiment.estimates import MIN_ADJUSTED_UNITS, Estimate, adjusted, proportion, ratio
from tfx_cassandra.components.experiment.moments import Moments, total
from tfx_cassandra.components.experiment.results import MetricResult, decisive_interval
from tfx_cassandra.components.experiment.statistics import Comparison
from tfx_cassandra.components.experiment.tally import MAX_EXACT_UNITS, Tally

Estimates = Mapping[str, Sequence[Estimate]]  # by metric, of each arm


def by_arm(moments: Moments) -> list[Moments]:
    """(arms, halves, steps) -> the moments of each arm."""
    return [total([cell for half in arm.along(0) for cell in half.along(0)]) for arm in moments.along(0)]


def estimates_of(metric: Metric, arms: Sequence[Moments]) -> Sequence[Estimate]:
    """Returns each arm's estimate; raises ValueError if its values are too few or out of range."""
    if metric.covariate is not None:
        return adjusted(arms)
    return [(proportion if metric.kind == 'proportion' else ratio)(arm) for arm in arms]


def compare(metric: Metric, control: Estimate, treatment: Estimate, alpha: float) -> tuple[str, Comparison]:
    """Compares two arms by the fixed test for the metric's kind; returns (name of the test, comparison)."""
    if control.binomial and treatment.binomial:
        return 'two-proportion z', statistics.two_proportions(control, treatment, alpha)
    if metric.kind != 'mean':
        name, comparison = 'z by the delta method', statistics.z_test(control, treatment, alpha)
    else:
        name, comparison = "Welch's t", statistics.welch(control, treatment, alpha)
    return name + (' with CUPED' if metric.covariate else ''), comparison


def exact_p_value(first: pl.DataFrame, second: pl.DataFrame) -> float:
    """Returns the p-value of the permutation test between units with `y` and `d`."""
    return statistics.permutation_test(*(units.select('y', 'd').to_numpy() for units in (first, second)))


def result_of(
    design: Design, metric: Metric, control: Estimate, treatment: Estimate, exact: float = 0.0
) -> MetricResult:
    """Compares two arms by the fixed and the sequential test, without correction or conclusion.

    Args:
      design: The experiment.
      metric: The metric.
      control: Estimate of the control.
      treatment: Estimate of a treatment.
      exact: The p-value of an exact test if there are few units: a lower bound for the other p-values.
    """
    test, comparison = compare(metric, control, treatment, design.alpha)
    relative = comparison.relative or (None, None, None)
    low = high = p_value = None
    exact = max(exact, statistics.cautious_p_value(control, treatment))
    if min(control.weight, treatment.weight) >= design.least_units:
        rho2, units = sequential.tuned(design.planned_units, design.alpha), control.n + treatment.n
        # With the cautious error: at the first look a small arm may have no event, and so no variance.
        reach = sequential.radius(comparison.cautious, units, rho2, design.alpha)
        low, high = comparison.difference - reach, comparison.difference + reach
        p_value = max(exact, sequential.p_value(comparison.difference, comparison.cautious, units, rho2))
    return MetricResult(
        metric=metric.name,
        test=test,
        difference=comparison.difference,
        stderr=comparison.stderr,
        low=comparison.low,
        high=comparison.high,
        p_value=max(exact, comparison.p_value),
        p_adjusted=None,
        relative=relative[0],
        relative_low=relative[1],
        relative_high=relative[2],
        sequential_low=low,
        sequential_high=high,
        sequential_p=p_value,
        sequential_p_adjusted=None,
        minimum_detectable_effect=statistics.minimum_detectable_effect(comparison.stderr, design.alpha, design.power),
        conclusion='undecided',
    )


def results_of(design: Design, estimates: Estimates, tally: Tally) -> dict[str, list[MetricResult]]:
    """Returns each treatment's comparisons, corrected for the number of goals of all treatments.

    Args:
      design: The experiment.
      estimates: By metric, of each arm.
      tally: The statistics behind the estimates; it holds the values of single units if there are few.
    """

    def exact(metric: Metric, place: int) -> float:
        # The permutation test compares unadjusted values.
        is_adjusted = metric.covariate and min(arm.n for arm in estimates[metric.name]) >= MIN_ADJUSTED_UNITS
        control, treatment = (tally.units_of(metric.name, i) for i in (0, place))
        if is_adjusted or control is None or treatment is None or len(control) + len(treatment) > MAX_EXACT_UNITS:
            return 0.0
        return exact_p_value(control, treatment)

    drafts = {
        (arm.name, metric.name): result_of(
            design, metric, estimates[metric.name][0], estimates[metric.name][place], exact(metric, place)
        )
        for (place, arm), metric in itertools.product(enumerate(design.treatments, 1), design.metrics)
        if metric.name in estimates
    }
    goals = {metric.name for metric in design.metrics if metric.margin is None}
    fixed_p_values = statistics.holm({f'{a} {m}': draft.p_value for (a, m), draft in drafts.items() if m in goals})
    # A comparison that is too early has the p-value 1: it is still one of the tests to correct for.
    sequential_p_values = statistics.holm(
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
            p_adjusted=fixed_p_values.get(key),
            sequential_p_adjusted=None if draft.sequential_p is None else sequential_p_values.get(key),
        )
        conclusion = _conclusion(design, metrics[name], corrected)
        results[arm_name].append(dataclasses.replace(corrected, conclusion=conclusion))
    return results


def _conclusion(design: Design, metric: Metric, result: MetricResult) -> str:
    decisive = decisive_interval(design, result)
    if decisive is None:
        return 'undecided'
    low, high, p_adjusted = decisive
    if metric.margin is None:
        if p_adjusted is None or p_adjusted >= design.alpha:
            return 'undecided'
        return 'better' if result.difference * metric.sign > 0 else 'worse'
    if low == high:  # no variance observed yet
        return 'undecided'
    worst, best = (low, high) if metric.sign > 0 else (-high, -low)
    if worst > -metric.margin:
        return 'not worse'
    return 'violated' if best < -metric.margin else 'undecided'
