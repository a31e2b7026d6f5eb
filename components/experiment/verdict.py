"""A tally -> estimates, comparisons, checks, and the verdict with its reasons."""

from __future__ import annotations

import dataclasses
import datetime
import itertools
import math
import uuid
from collections.abc import Iterator, Sequence

import polars as pl
from scipy import stats

from tfx_cassandra.components.experiment import statistics
from tfx_cassandra.components.experiment.comparisons import (
    Estimates,
    by_arm,
    compare,
    estimates_of,
    exact_p_value,
    results_of,
)
from tfx_cassandra.components.experiment.design import Design, Metric
from tfx_cassandra.components.experiment.estimates import Estimate, proportion
from tfx_cassandra.components.experiment.moments import total
from tfx_cassandra.components.experiment.results import (
    AaCheck,
    ArmEstimate,
    ArmResult,
    HeavyUnit,
    MetricResult,
    Verdict,
    decisive_interval,
)
from tfx_cassandra.components.experiment.series import series_of
from tfx_cassandra.components.experiment.tally import Tally


def decide(design: Design, tally: Tally, as_of: datetime.datetime | None = None) -> Verdict:
    """Returns the verdict on the design's treatments, or 'invalid' with the reasons if the data cannot be trusted.

    Args:
      design: The experiment.
      tally: Statistics of its requests that count.
      as_of: Time of the evaluation, which the verdict records.
    """
    estimates: dict[str, Sequence[Estimate]] = {}
    problems = [*_traffic_problems(design, tally), *_value_problems(design, tally), *_lost_outcomes(design, tally)]
    early: list[str] = []  # no problem yet: requests that are too young to count may still bring values
    for metric in design.metrics:
        try:
            estimates[metric.name] = estimates_of(metric, by_arm(tally.moments[metric.name]))
        except ValueError as error:
            (early if tally.counts.immature else problems).append(f'metric {metric.name}: {error}')
    checks = tuple(_aa_checks(design, tally, estimates))
    problems += _aa_problems(design, checks)
    results = results_of(design, estimates, tally)
    treatments = tuple(
        _treatment(design, tally, estimates, place, results[arm.name], bool(problems))
        for place, arm in enumerate(design.treatments, 1)
    )
    verdict, winner = ('invalid', None) if problems else _overall(design, treatments)
    reasons = early + [f'{arm.arm}: {reason}' for arm in treatments for reason in arm.reasons]
    reasons += _immature(design, tally)
    return Verdict(
        experiment_id=design.experiment_id,
        verdict=verdict,
        reasons=tuple(problems or reasons),
        winner=winner,
        control=_arm(design, tally, estimates, 0),
        treatments=treatments,
        srm_p_value=_srm(design, tally),
        aa_checks=checks,
        outcomes=tally.counts.outcomes,
        outcomes_without_request=tally.counts.orphans,
        series=tuple(series_of(design, tally)),
        design=design,
        as_of=as_of,
        immature=tally.counts.immature,
    )


def _immature(design: Design, tally: Tally) -> list[str]:
    if not tally.counts.immature:
        return []
    age = f'younger than {design.maturity}' if design.maturity else 'later than the evaluation'
    return [f'{tally.counts.immature:,} requests are {age} and do not count yet']


def _traffic_problems(design: Design, tally: Tally) -> Iterator[str]:
    counts = tally.units.tolist()
    for arm, count in zip(design.arms, counts, strict=True):
        if not count and not tally.counts.immature:
            yield f'arm {arm.name}: no request of model {arm.model_id} version {arm.version} in {design.window}'
    p_value = _srm(design, tally)
    if p_value is not None and p_value < design.srm_alpha:
        got = ', '.join(
            f'{arm.name} {count:,} ({count / sum(counts):.2%} where {arm.weight:.2%} were planned)'
            for arm, count in zip(design.arms, counts, strict=True)
        )
        yield f'sample-ratio mismatch: units went to {got}; p = {p_value:.2g} for the planned shares'
    if tally.counts.ambiguous:
        yield f'{tally.counts.ambiguous:,} request ids belong to more than one unit'
    if tally.crossed:
        yield f'{tally.crossed:,} units were answered by more than one arm'
    if tally.counts.unattributed:
        yield f'{tally.counts.unattributed:,} requests have no version, and several arms serve their model'
    if tally.counts.exposed:
        count = tally.counts.exposed
        yield f"{count:,} requests of the experiment are before its window, so covariate 'before' is not pre-exposure"
    if tally.counts.outcomes and tally.counts.orphans == tally.counts.outcomes and sum(counts):
        yield f'outcomes: none of {tally.counts.outcomes:,} belongs to a request of an arm in {design.window}'


def _value_problems(design: Design, tally: Tally) -> Iterator[str]:
    for metric in design.metrics:
        rule = 'neither 0 nor 1' if metric.kind == 'proportion' else 'NaN, infinite or beyond 1e100'
        for arm, count in zip(design.arms, tally.unusable[metric.name], strict=True):
            if count:
                yield f'metric {metric.name}: {count:,} values of arm {arm.name} are {rule}'


def _lost_outcomes(design: Design, tally: Tally) -> Iterator[str]:
    """Finds arms whose share of requests with a value differs significantly from the control's."""
    p_values: dict[str, float] = {}
    shares_text: dict[str, str] = {}
    for metric, (place, arm) in itertools.product(design.metrics, enumerate(design.arms)):
        if metric.name not in tally.valued:
            continue
        shares = tally.valued[metric.name]
        if place and min(shares.n[0], shares.n[place]) > 1 and shares.mean[[0, place], 0].min() >= 0:
            key = f'{metric.name} {arm.name}'
            control, treatment = (proportion(shares[i]) for i in (0, place))
            p_values[key] = _share_p_value(control, treatment)
            shares_text[key] = (
                f'metric {metric.name}: {control.value:.2%} of the requests of {design.control.name} have a value, and '
                f'{treatment.value:.2%} of {arm.name}'
            )
    for key, p_value in statistics.holm(p_values).items():
        if p_value < design.srm_alpha:
            yield f'{shares_text[key]}; p = {p_value:.2g} for equal shares, so values were lost in one arm'
    yield from _arms_without_outcomes(design, tally)


def _share_p_value(control: Estimate, treatment: Estimate) -> float:
    """Returns the p-value for equal shares of requests with a value; exact if each unit has one request."""
    if not (control.binomial and treatment.binomial):
        cautious = statistics.cautious_p_value(control, treatment)
        return max(cautious, statistics.z_test(control, treatment, 0.05).p_value)
    ones = [round(arm.n * arm.value) for arm in (control, treatment)]
    table = [[count, arm.n - count] for count, arm in zip(ones, (control, treatment), strict=True)]
    return float(stats.fisher_exact(table)[1])


def _arms_without_outcomes(design: Design, tally: Tally) -> Iterator[str]:
    """Finds arms without any known outcome, if the other arms have significantly more."""
    for metric in design.metrics:
        if metric.missing is None or metric.name not in tally.outcomes:
            continue  # without `missing`, such an arm has no values
        answered, units = tally.outcomes[metric.name], tally.units
        for place, arm in enumerate(design.arms):
            if answered[place] or not units[place] or not answered.sum():
                continue
            # Fisher's exact test of the arm against the others, by units: requests of one unit are correlated.
            table = [[0, units[place]], [answered.sum(), units.sum() - units[place] - answered.sum()]]
            p_value = float(stats.fisher_exact(table)[1])
            if p_value < design.srm_alpha:
                yield (
                    f'metric {metric.name}: of the {units[place]:,} units of arm {arm.name} no outcome '
                    f'{", ".join(metric.outcomes)} is known; p = {p_value:.2g} for equal shares'
                )


def _srm(design: Design, tally: Tally) -> float | None:
    counts, weights = tally.units.tolist(), [arm.weight for arm in design.arms]
    return statistics.sample_ratio_mismatch(counts, weights) if sum(counts) else None


def _aa_checks(design: Design, tally: Tally, estimates: Estimates) -> Iterator[AaCheck]:
    """Compares the control's halves, each metric without its covariate."""
    for metric in design.metrics:
        halves = [total(half.along(0)) for half in tally.moments[metric.name][0].along(0)]
        few = tally.units_of(metric.name, 0)
        if metric.name in estimates and all(half.n > 1 for half in halves):
            plain = dataclasses.replace(metric, covariate=None)
            try:
                first, second = estimates_of(plain, halves)
                _, compared = compare(plain, first, second, design.alpha)
            except ValueError:  # a half whose denominators are all zero
                continue
            exact = 0.0 if few is None else exact_p_value(few.filter(half=0), few.filter(half=1))
            cautious = statistics.cautious_p_value(first, second)
            yield AaCheck(metric.name, max(exact, cautious, compared.p_value))


def _aa_problems(design: Design, checks: Sequence[AaCheck]) -> list[str]:
    corrected = statistics.holm({check.metric: check.p_value for check in checks})
    return [
        f'A/A check: two random halves of the control differ in {name} (corrected p = {p_value:.2g})'
        for name, p_value in corrected.items()
        if p_value < design.aa_alpha
    ]


def _treatment(
    design: Design, tally: Tally, estimates: Estimates, place: int, results: Sequence[MetricResult], invalid: bool
) -> ArmResult:
    arm = _arm(design, tally, estimates, place)
    if invalid:
        # The numbers are kept for diagnosis; nothing is concluded from them.
        undecided = tuple(dataclasses.replace(result, conclusion='undecided') for result in results)
        return dataclasses.replace(arm, verdict='invalid', metrics=undecided)
    reasons = tuple(
        _reason(design, metric, result, min(estimates[metric.name][i].n for i in (0, place)))
        for metric, result in _with_metric(design, results)
    )
    return dataclasses.replace(arm, verdict=_verdict(design, results), reasons=reasons, metrics=tuple(results))


def _verdict(design: Design, results: Sequence[MetricResult]) -> str:
    conclusions = [result.conclusion for result in results]
    if 'worse' in conclusions or 'violated' in conclusions:
        return 'harm'
    guardrails = [result for metric, result in _with_metric(design, results) if metric.margin is not None]
    harmless = all(result.conclusion == 'not worse' for result in guardrails)
    # Without goals the guardrails alone decide.
    improved = 'better' in conclusions or all(metric.margin is not None for metric in design.metrics)
    return 'ship' if harmless and improved else 'hold'


def _overall(design: Design, treatments: Sequence[ArmResult]) -> tuple[str, str | None]:
    """Returns the verdict of the whole test, and the arm to ship: the one that improves the first metric most."""
    candidates = [arm for arm in treatments if arm.verdict == 'ship']
    if candidates:
        return 'ship', max(candidates, key=lambda arm: arm.metrics[0].difference * design.metrics[0].sign).arm
    return ('harm' if any(arm.verdict == 'harm' for arm in treatments) else 'hold'), None


def _reason(design: Design, metric: Metric, result: MetricResult, units: int) -> str:
    """Describes one result in a line; `units` is the number of units with a value in the smaller arm."""
    decisive = decisive_interval(design, result)
    if decisive is None:
        counted = 'effective units' if units >= design.least_units else 'units'
        return f'{metric.name}: too early to tell, fewer than {design.least_units:,} {counted} with a value in an arm'
    low, high, p_adjusted = decisive
    guardrail = '' if metric.margin is None else f' (guardrail, margin {metric.margin:.4g})'
    lift = '' if result.relative is None else f' ({result.relative:+.1%})'
    interval = f'{100 * (1 - design.alpha):g}% interval {low:+.4g} to {high:+.4g}'
    p_value = '' if p_adjusted is None else f', corrected p = {p_adjusted:.2g}'
    return f'{metric.name}{guardrail}: {result.conclusion}, {result.difference:+.4g}{lift}, {interval}{p_value}'


def _with_metric(design: Design, results: Sequence[MetricResult]) -> list[tuple[Metric, MetricResult]]:
    metrics = {metric.name: metric for metric in design.metrics}
    return [(metrics[result.metric], result) for result in results]


def _arm(design: Design, tally: Tally, estimates: Estimates, place: int) -> ArmResult:
    arm = design.arms[place]
    return ArmResult(
        arm=arm.name,
        model_id=arm.model_id,
        version=arm.version,
        weight=arm.weight,
        requests=int(tally.requests[place]),
        units=int(tally.units[place]),
        estimates=tuple(_arm_estimate(metric, tally, estimates, place) for metric in design.metrics),
        heaviest=tuple(_heaviest(design, tally, place)),
    )


def _heaviest(design: Design, tally: Tally, place: int) -> Iterator[HeavyUnit]:
    for metric in design.metrics:
        units = tally.heaviest.get(metric.name)
        total_weight = tally.weights.get(metric.name)
        if units is None or total_weight is None or not total_weight[place]:
            continue
        for unit, weight in units.filter(pl.col('arm') == place).select('unit', 'weight').iter_rows():
            yield HeavyUnit(metric.name, _name_of(unit), weight / float(total_weight[place]))


def _name_of(unit: bytes) -> str:
    """Returns the text of a unit; a request that is its own unit is 16 bytes."""
    try:
        return unit.decode()
    except UnicodeDecodeError:
        return str(uuid.UUID(bytes=unit)) if len(unit) == 16 else unit.hex()


def _arm_estimate(metric: Metric, tally: Tally, estimates: Estimates, place: int) -> ArmEstimate:
    n = int(tally.moments[metric.name].n[place].sum())
    left_out = int(tally.left_out[metric.name][place])
    if metric.name not in estimates:
        return ArmEstimate(metric.name, n, left_out, None, None)
    estimate = estimates[metric.name][place]
    return ArmEstimate(metric.name, n, left_out, estimate.value, math.sqrt(estimate.alone), estimate.weight)
