"""A tally -> estimates, comparisons, checks, and the verdict with its reasons."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Sequence

from tfx_cassandra.components.experiment import statistics
from tfx_cassandra.components.experiment.comparisons import Estimates, by_arm, compare, estimates_of, results_of
from tfx_cassandra.components.experiment.design import Design, Metric
from tfx_cassandra.components.experiment.moments import total
from tfx_cassandra.components.experiment.results import AaCheck, ArmEstimate, ArmResult, MetricResult, Verdict, deciding
from tfx_cassandra.components.experiment.series import series_of
from tfx_cassandra.components.experiment.statistics import Estimate
from tfx_cassandra.components.experiment.tally import Tally


def decide(design: Design, tally: Tally) -> Verdict:
    """Returns what the tally says of the design's arms; where it cannot tell, a verdict 'invalid' that says why."""
    estimates: dict[str, Sequence[Estimate]] = {}
    problems = [*_traffic_problems(design, tally), *_number_problems(design, tally)]
    for metric in design.metrics:
        try:
            estimates[metric.name] = estimates_of(metric, by_arm(tally.moments[metric.name]))
        except ValueError as error:
            problems.append(f'metric {metric.name}: {error}')
    checks = tuple(_aa_checks(design, tally, estimates))
    problems += _aa_problems(design, checks)
    results = results_of(design, estimates)
    treatments = tuple(
        _treatment(design, tally, estimates, place, results[arm.name], bool(problems))
        for place, arm in enumerate(design.treatments, 1)
    )
    verdict, winner = ('invalid', None) if problems else _overall(design, treatments)
    said = [f'{arm.arm}: {reason}' for arm in treatments for reason in arm.reasons]
    return Verdict(
        experiment_id=design.experiment_id,
        verdict=verdict,
        reasons=tuple(problems or said),
        winner=winner,
        control=_arm(design, tally, estimates, 0),
        treatments=treatments,
        srm_p_value=_srm(design, tally),
        aa_checks=checks,
        outcomes=tally.counts.outcomes,
        outcomes_without_request=tally.counts.orphans,
        series=tuple(series_of(design, tally)),
        design=design,
    )


def _traffic_problems(design: Design, tally: Tally) -> Iterator[str]:
    counts = tally.units.tolist()
    for arm, count in zip(design.arms, counts, strict=True):
        if not count:
            yield f'arm {arm.name}: no request of model {arm.model_id} version {arm.version} in {design.window}'
    p_value = _srm(design, tally)
    if p_value is not None and p_value < design.srm_alpha:
        got = ', '.join(
            f'{arm.name} {count:,} ({count / sum(counts):.2%} where {arm.weight:.2%} were planned)'
            for arm, count in zip(design.arms, counts, strict=True)
        )
        yield f'sample-ratio mismatch: units went to {got}; chance does so with p = {p_value:.2g}'
    if tally.crossed:
        yield f'{tally.crossed:,} units were answered by more than one arm'
    if tally.counts.unattributed:
        yield f'{tally.counts.unattributed:,} requests have no version, of a model that several arms are versions of'
    if tally.counts.exposed:
        count = tally.counts.exposed
        yield f"{count:,} requests of the experiment are before its window, so the covariate 'before' has seen the arms"
    if tally.counts.outcomes and tally.counts.orphans == tally.counts.outcomes and sum(counts):
        yield f'outcomes: none of {tally.counts.outcomes:,} belongs to a request of an arm in {design.window}'


def _number_problems(design: Design, tally: Tally) -> Iterator[str]:
    for metric in design.metrics:
        rule = 'neither 0 nor 1' if metric.kind == 'proportion' else 'NaN, infinite or beyond 1e100'
        for arm, count in zip(design.arms, tally.unusable[metric.name], strict=True):
            if count:
                yield f'metric {metric.name}: {count:,} values of arm {arm.name} are {rule}'


def _srm(design: Design, tally: Tally) -> float | None:
    counts, weights = tally.units.tolist(), [arm.weight for arm in design.arms]
    return statistics.sample_ratio_mismatch(counts, weights) if sum(counts) else None


def _aa_checks(design: Design, tally: Tally, estimates: Estimates) -> Iterator[AaCheck]:
    """Compares the control's halves, each metric without its covariate."""
    for metric in design.metrics:
        halves = [total(half.along(0)) for half in tally.moments[metric.name][0].along(0)]
        if metric.name in estimates and all(half.n > 1 for half in halves):
            plain = dataclasses.replace(metric, covariate=None)
            try:
                first, second = estimates_of(plain, halves)
                _, compared = compare(plain, first, second, design.alpha)
            except ValueError:  # a half whose denominators are all zero
                continue
            yield AaCheck(metric.name, compared.p_value)


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
        # The numbers stay, to find out what is wrong; nothing is concluded from them.
        undecided = tuple(dataclasses.replace(result, conclusion='undecided') for result in results)
        return dataclasses.replace(arm, verdict='invalid', metrics=undecided)
    reasons = tuple(_words(design, metric, result) for metric, result in _paired(design, results))
    return dataclasses.replace(arm, verdict=_verdict(design, results), reasons=reasons, metrics=tuple(results))


def _verdict(design: Design, results: Sequence[MetricResult]) -> str:
    conclusions = [result.conclusion for result in results]
    if 'worse' in conclusions or 'violated' in conclusions:
        return 'harm'
    guarded = all(r.conclusion == 'not worse' for metric, r in _paired(design, results) if metric.margin is not None)
    # Without a goal the question was only whether it does no harm.
    gained = 'better' in conclusions or all(metric.margin is not None for metric in design.metrics)
    return 'ship' if guarded and gained else 'hold'


def _overall(design: Design, treatments: Sequence[ArmResult]) -> tuple[str, str | None]:
    """Returns the verdict of the whole test, and the arm to ship: the one that gains most on the first metric."""
    ready = [arm for arm in treatments if arm.verdict == 'ship']
    if ready:
        return 'ship', max(ready, key=lambda arm: arm.metrics[0].difference * design.metrics[0].sign).arm
    return ('harm' if any(arm.verdict == 'harm' for arm in treatments) else 'hold'), None


def _words(design: Design, metric: Metric, result: MetricResult) -> str:
    """Says one result in words."""
    decided = deciding(design, result)
    if decided is None:
        return f'{metric.name}: too early to tell, fewer than {design.least_units:,} units with a value in an arm'
    low, high, p_adjusted = decided
    guardrail = '' if metric.margin is None else f' (guardrail, margin {metric.margin:.4g})'
    lift = '' if result.relative is None else f' ({result.relative:+.1%})'
    interval = f'{100 * (1 - design.alpha):g}% interval {low:+.4g} to {high:+.4g}'
    p_value = '' if p_adjusted is None else f', corrected p = {p_adjusted:.2g}'
    return f'{metric.name}{guardrail}: {result.conclusion}, {result.difference:+.4g}{lift}, {interval}{p_value}'


def _paired(design: Design, results: Sequence[MetricResult]) -> list[tuple[Metric, MetricResult]]:
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
    )


def _arm_estimate(metric: Metric, tally: Tally, estimates: Estimates, place: int) -> ArmEstimate:
    n = int(tally.moments[metric.name].n[place].sum())
    left_out = int(tally.left_out[metric.name][place])
    if metric.name not in estimates:
        return ArmEstimate(metric.name, n, left_out, None, None)
    estimate = estimates[metric.name][place]
    return ArmEstimate(metric.name, n, left_out, estimate.value, math.sqrt(estimate.alone))
