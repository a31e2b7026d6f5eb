"""What an A/B test found: the values behind verdict.json, the report and the rows in Cassandra."""

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
      left_out: Requests without one.
      value: Mean, proportion or ratio; adjusted, where the metric has a covariate. None where it cannot be had.
      stderr: Its standard error.
      effective_units: Units of one weight that weigh as these do together.
    """

    metric: str
    n: int
    left_out: int
    value: float | None
    stderr: float | None
    effective_units: float | None = None


@dataclasses.dataclass(frozen=True)
class HeavyUnit:
    """A unit that weighs much in a metric of an arm.

    Attributes:
      metric: Name of the metric.
      unit: The unit, or the request where none was logged.
      share: Its share of the arm's requests or denominators, or of the sum of the sizes where units count alike, before
        it is capped.
    """

    metric: str
    unit: str
    share: float


@dataclasses.dataclass(frozen=True)
class MetricResult:
    """A metric of a treatment against the control.

    Attributes:
      metric: Its name.
      test: What compared the arms at a fixed time.
      difference: Treatment minus control.
      stderr: Its standard error.
      low: Lower end of its confidence interval, valid for one look.
      high: Upper end.
      p_value: Of no difference, valid for one look.
      p_adjusted: Corrected for the number of goals (Holm); None for a guardrail.
      relative: The difference over the control's value; None where that is zero.
      relative_low: Lower end of its interval.
      relative_high: Upper end.
      sequential_low: Lower end of the confidence sequence, valid for any number of looks; None where it is too early.
      sequential_high: Upper end.
      sequential_p: Of no difference, valid for any number of looks; None where it is too early.
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
      units: The units they are of; as many, where none was logged.
      estimates: Its metrics.
      verdict: 'ship', 'hold', 'harm' or 'invalid' of a treatment; None of the control.
      reasons: Why, in words.
      metrics: A treatment's metrics against the control.
      heaviest: The units that weigh most, by metric.
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
    """The control's two random halves against each other: the p-value should be that of chance."""

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
      difference: Of a treatment: its difference from the control from the window's start to this step's end.
      low: Lower end of the confidence sequence then.
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
    """What an A/B test found.

    Attributes:
      experiment_id: Of which experiment.
      verdict: 'ship' if a treatment is better and no guardrail stands against it, else 'harm' if one does harm, else
        'hold'; 'invalid' where the data cannot tell.
      reasons: Why, in words.
      winner: Name of the arm to ship.
      control: The control.
      treatments: The other arms.
      srm_p_value: Of the planned shares; None without traffic.
      aa_checks: The control against itself.
      outcomes: Outcomes read, without those of requests before the window.
      outcomes_without_request: Of these, those that no request was found for.
      series: Metrics over time.
      design: The experiment.
      as_of: When it was evaluated; None in verdicts that were written before this was recorded.
      immature: Requests of the window that were too young to count then.
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


def deciding(design: Design, result: MetricResult) -> tuple[float, float, float | None] | None:
    """Returns the interval and the corrected p-value that the design decides by; None where it is too early."""
    if result.sequential_low is None or result.sequential_high is None:
        return None
    if design.decide_by == 'fixed':
        return result.low, result.high, result.p_adjusted
    return result.sequential_low, result.sequential_high, result.sequential_p_adjusted


def metric_values(verdict: Verdict, arm: ArmResult) -> dict[str, float]:
    """Returns what goes into `model_versions.metrics` of an arm's version, by key.

    A key is a metric's name and what is said of it, as `brier{ab=value}`: of every arm `n`, `value` and `stderr`; of a
    treatment also `difference`, `low`, `high`, `p_value` and the other numbers of its MetricResult. `requests{ab=n}`,
    `units{ab=n}` and `srm{ab=p_value}` are about the arm and the whole test. What is None has no key.
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
        # `stderr` alone is the arm's own.
        values |= {key.replace('ab=stderr', 'ab=difference_stderr'): v for key, v in _keyed(result, *numbers)}
    return {key: float(value) for key, value in values.items() if value is not None}


def _keyed(of: ArmEstimate | MetricResult, *fields: str) -> Iterator[tuple[str, float | None]]:
    return ((f'{of.metric}{{ab={field}}}', getattr(of, field)) for field in fields)
