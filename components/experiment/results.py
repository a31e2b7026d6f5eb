"""Results of an A/B test: the values behind verdict.json, the report and the rows in Cassandra."""

from __future__ import annotations

import dataclasses
import datetime
from collections.abc import Iterator

from tfx_cassandra.components.experiment.design import Design


@dataclasses.dataclass(frozen=True)
class ArmEstimate:
    """A metric in one arm.

    Attributes:
      metric: Its name.
      n: Units with a value.
      left_out: Requests without a value.
      value: Mean, proportion or ratio; adjusted if the metric has a covariate. None if it cannot be estimated.
      stderr: Its standard error.
      effective_units: Effective sample size: the number of equally weighted units with the same information (Kish).
    """

    metric: str
    n: int
    left_out: int
    value: float | None
    stderr: float | None
    effective_units: float | None = None


@dataclasses.dataclass(frozen=True)
class HeavyUnit:
    """A unit with a large weight in a metric of an arm.

    Attributes:
      metric: Name of the metric.
      unit: The unit, or the request id if no unit was logged.
      share: Its share of the arm's requests or denominators, or with `per='unit'` of the sum of absolute values, before
        capping.
    """

    metric: str
    unit: str
    share: float


@dataclasses.dataclass(frozen=True)
class MetricResult:
    """A metric of a treatment against the control.

    Attributes:
      metric: Its name.
      test: Name of the fixed test.
      difference: Treatment minus control.
      stderr: Its standard error.
      low: Lower end of its confidence interval, valid for one look.
      high: Upper end.
      p_value: For no difference, valid for one look.
      p_adjusted: Corrected for the number of goals (Holm); None for a guardrail.
      relative: The difference over the control's value; None if that is zero.
      relative_low: Lower end of its interval.
      relative_high: Upper end.
      sequential_low: Lower end of the confidence sequence, valid for any number of looks; None if it is too early.
      sequential_high: Upper end.
      sequential_p: For no difference, valid for any number of looks; None if it is too early.
      sequential_p_adjusted: Corrected for the number of goals; None for a guardrail.
      minimum_detectable_effect: Absolute difference found with the design's power, by the fixed test.
      conclusion: 'better', 'worse' or 'undecided' for a goal; 'not worse', 'violated' or 'undecided' for a guardrail.
    """

    metric: str
    test: str
    difference: float
    stderr: float
    low: float
    high: float
    p_value: float
    p_adjusted: float | None
    relative: float | None
    relative_low: float | None
    relative_high: float | None
    sequential_low: float | None
    sequential_high: float | None
    sequential_p: float | None
    sequential_p_adjusted: float | None
    minimum_detectable_effect: float
    conclusion: str


@dataclasses.dataclass(frozen=True)
class ArmResult:
    """One arm.

    Attributes:
      arm: Its name.
      model_id: Its model.
      version: Its version.
      weight: Its planned share.
      requests: Its requests in the window.
      units: Units of these requests; a request without a logged unit counts as one.
      estimates: Its metrics.
      verdict: 'ship', 'hold', 'harm' or 'invalid' for a treatment; None for the control.
      reasons: The reasons, one line each.
      metrics: A treatment's metrics against the control.
      heaviest: The units with the largest weights, by metric.
    """

    arm: str
    model_id: str
    version: str
    weight: float
    requests: int
    units: int
    estimates: tuple[ArmEstimate, ...]
    verdict: str | None = None
    reasons: tuple[str, ...] = ()
    metrics: tuple[MetricResult, ...] = ()
    heaviest: tuple[HeavyUnit, ...] = ()


@dataclasses.dataclass(frozen=True)
class AaCheck:
    """An A/A test of the control's two random halves; its p-value should not be significant."""

    metric: str
    p_value: float


@dataclasses.dataclass(frozen=True)
class Point:
    """A metric of an arm in one step of time.

    Attributes:
      time: Start of the step.
      arm: Name of the arm.
      metric: Name of the metric.
      n: Units with a value whose first request was in the step.
      value: Their mean, proportion or ratio.
      difference: A treatment's difference from the control, from the window's start to this step's end.
      low: Lower end of the confidence sequence at this step's end.
      high: Upper end.
    """

    time: datetime.datetime
    arm: str
    metric: str
    n: int
    value: float | None
    difference: float | None = None
    low: float | None = None
    high: float | None = None


@dataclasses.dataclass(frozen=True)
class Verdict:
    """The result of an A/B test.

    Attributes:
      experiment_id: The experiment.
      verdict: 'ship' if a treatment is better and every guardrail holds, else 'harm' if a treatment does harm, else
        'hold'; 'invalid' if the data cannot be trusted.
      reasons: The reasons, one line each.
      winner: Name of the arm to ship.
      control: The control.
      treatments: The other arms.
      srm_p_value: p-value of the planned shares (sample-ratio mismatch); None without traffic.
      aa_checks: A/A tests of the control.
      outcomes: Outcomes read, without those of requests before the window.
      outcomes_without_request: Those of them without a request.
      series: Metrics over time.
      design: The experiment.
      as_of: Time of the evaluation; None in verdicts of versions that did not record it.
      immature: Requests of the window that were too young to count at that time.
    """

    experiment_id: str
    verdict: str
    reasons: tuple[str, ...]
    winner: str | None
    control: ArmResult
    treatments: tuple[ArmResult, ...]
    srm_p_value: float | None
    aa_checks: tuple[AaCheck, ...]
    outcomes: int
    outcomes_without_request: int
    series: tuple[Point, ...]
    design: Design
    as_of: datetime.datetime | None = None
    immature: int = 0

    @property
    def arms(self) -> tuple[ArmResult, ...]:
        """Every arm, the control first."""
        return (self.control, *self.treatments)


def decisive_interval(design: Design, result: MetricResult) -> tuple[float, float, float | None] | None:
    """Returns the ends of the interval and the corrected p-value that decide; None if it is too early."""
    if result.sequential_low is None or result.sequential_high is None:
        return None
    if design.decide_by == 'fixed':
        return result.low, result.high, result.p_adjusted
    return result.sequential_low, result.sequential_high, result.sequential_p_adjusted


def metric_values(verdict: Verdict, arm: ArmResult) -> dict[str, float]:
    """Returns the entries of `model_versions.metrics` for an arm's version.

    A key is a metric's name and a statistic, such as `brier{ab=value}`: for every arm `n`, `value` and `stderr`; for a
    treatment also `difference`, `low`, `high`, `p_value` and the other numbers of its MetricResult. `requests{ab=n}`
    and `units{ab=n}` are the arm's, `srm{ab=p_value}` is the test's. None has no key.
    """
    values: dict[str, float | None] = {
        'requests{ab=n}': arm.requests,
        'units{ab=n}': arm.units,
        'srm{ab=p_value}': verdict.srm_p_value,
    }
    for estimate in arm.estimates:
        values |= dict(_keyed(estimate, 'n', 'value', 'stderr'))
    numbers = [field.name for field in dataclasses.fields(MetricResult) if field.type != 'str']
    for result in arm.metrics:
        # `stderr` is the arm's own standard error.
        values |= {key.replace('ab=stderr', 'ab=difference_stderr'): v for key, v in _keyed(result, *numbers)}
    return {key: float(value) for key, value in values.items() if value is not None}


def _keyed(result: ArmEstimate | MetricResult, *fields: str) -> Iterator[tuple[str, float | None]]:
    return ((f'{result.metric}{{ab={field}}}', getattr(result, field)) for field in fields)
