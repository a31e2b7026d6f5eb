"""The design of an A/B test: what it compares and how it decides, fixed before the results are seen."""

from __future__ import annotations

import collections
import dataclasses
import datetime
import math
import re
from typing import Annotated, Literal

from tfx_cassandra.components.checks import Name, Rule, check_fields, conform
from tfx_cassandra.components.errors import invalid
from tfx_cassandra.components.window import MILLISECOND, TimeWindow

# What a metric can take from a request. `prediction` and `confidence` are logged, `requests` is always 1,
# `feature:NAME` is a logged input, `outcome:NAME` is observed later, and the other kinds compare the prediction with
# that outcome.
PLAIN_VALUES = ('prediction', 'confidence', 'requests')
OUTCOME_KINDS = ('outcome', 'squared_error', 'absolute_error', 'log_loss', 'correct')
NAMED_VALUES = ('feature', *OUTCOME_KINDS)
BEFORE = 'before'
CLOCK_SKEW = datetime.timedelta(minutes=1)  # an outcome's timestamp may be earlier than its request's by so much
_MAX_STEPS = 400


def parse_value(value: str) -> tuple[str, str | None]:
    """Splits a value expression: 'feature:age' -> ('feature', 'age'), 'prediction' -> ('prediction', None)."""
    kind, colon, name = value.partition(':')
    return kind, name if colon else None


def _is_value(text: str) -> bool:
    kind, name = parse_value(text)
    return (kind in PLAIN_VALUES and name is None) or bool(kind in NAMED_VALUES and name)


PlainName = Annotated[
    str,
    Rule(
        'letters, digits, dots, underscores and hyphens',
        lambda name: re.fullmatch('[A-Za-z0-9_.-]+', name) is not None,
    ),
]
Value = Annotated[
    str,
    Rule(
        f'a number: one of {", ".join(PLAIN_VALUES)}, or NAME after one of {", ".join(NAMED_VALUES)} and a colon',
        _is_value,
    ),
]
Weight = Annotated[float, Rule('a share above 0', lambda weight: 0 < weight <= 1)]
Probability = Annotated[float, Rule('between 0 and 1', lambda chance: 0 < chance < 1)]
Units = Annotated[int, Rule('an integer of at least 2 and below 2^31', lambda units: 2 <= units < 2**31)]


@dataclasses.dataclass(frozen=True)
class Arm:
    """One arm of an experiment: a model version that serves a share of the units.

    For ABEvaluator `version` may also be a RuntimeParameter or Placeholder of TFX.

    Attributes:
      name: Name of the arm, such as 'control'.
      model_id: The model, as in `inference_results` and `model_versions`.
      version: Its version, as in `model_versions`.
      weight: Planned share of the units; the weights of all arms sum to one.
    """

    name: PlainName
    model_id: Name
    version: Name
    weight: Weight

    def __post_init__(self) -> None:
        conform('arm.name', self.name, PlainName)
        conform(f'arm.weight of {self.name}', self.weight, Weight)
        check_fields(self, 'arm.', may_be_open=('version',))


@dataclasses.dataclass(frozen=True)
class Metric:
    """A quantity that is compared between arms.

    Attributes:
      name: Name of the metric, and the prefix of its keys in `model_versions.metrics`.
      value: Value of each request: 'prediction', 'confidence', 'requests' (1), 'feature:NAME', 'outcome:NAME', or a
        comparison of the prediction with an outcome: 'squared_error:NAME', 'absolute_error:NAME', 'log_loss:NAME' (of a
        probability), 'correct:NAME' (1 if both, or neither, are at least one half).
      kind: 'mean' (Welch's t), 'proportion' of ones among zeros and ones (z), or 'ratio' of the sums of `value` and
        `denominator` (delta method).
      denominator: As `value`; for a ratio only.
      covariate: Pre-exposure covariate that reduces the variance (CUPED): 'feature:NAME' of the unit's first request in
        the window, or 'before', the same metric in the period before the window.
      missing: Value of a request whose outcome is not known within the delay, such as 0 for no click; None leaves such
        requests out. For metrics of outcomes only.
      better: 'higher' or 'lower'.
      margin: Makes the metric a guardrail: how much worse the treatment may be, in the metric's unit. None makes it a
        goal.
      per: What is weighted equally. 'request': the mean over requests; its error is that of units, because requests of
        one unit are correlated. 'unit': the mean of the units' sums, such as spend per user, or the proportion of units
        with a one, such as users who ever clicked.
      cap: Largest contribution of one unit (winsorization), fixed beforehand, such as the 99 % quantile of an earlier
        period. With `per='unit'` a unit's sum is clipped to [-cap, cap]; otherwise its weight, which is the number of
        its requests or the sum of its denominators, is scaled down to `cap`. None for no limit. Not for a proportion of
        units.
    """

    name: PlainName
    value: Value
    kind: Literal['mean', 'proportion', 'ratio'] = 'mean'
    denominator: Value | None = None
    covariate: str | None = None
    missing: float | None = None
    better: Literal['higher', 'lower'] = 'higher'
    margin: Annotated[float, Rule('a number of at least zero', lambda margin: margin >= 0)] | None = None
    per: Literal['request', 'unit'] = 'request'
    cap: Annotated[float, Rule('a number above zero', lambda cap: cap > 0)] | None = None

    def __post_init__(self) -> None:
        conform('metric.name', self.name, PlainName)
        check_fields(self, f'{self.name}.')
        if (self.denominator is not None) != (self.kind == 'ratio'):
            raise invalid(f'{self.name}.denominator', self.denominator, 'given for a ratio, and only for a ratio')
        if self.covariate not in (None, BEFORE) and not re.fullmatch('feature:.+', str(self.covariate)):
            rule = "'feature:NAME' or 'before'; the arm may influence an outcome"
            raise invalid(f'{self.name}.covariate', self.covariate, rule)
        if self.covariate is not None and self.kind == 'proportion':
            raise invalid(f'{self.name}.covariate', self.covariate, "of a mean or a ratio; give kind='mean'")
        if self.per == 'unit' and self.kind == 'ratio':
            raise invalid(f'{self.name}.per', self.per, "'request' for a ratio, which is one of sums")
        if self.cap is not None and self.per == 'unit' and self.kind == 'proportion':
            raise invalid(f'{self.name}.cap', self.cap, 'None for a proportion of units, where each counts as one')
        if self.missing is not None and not any(parse_value(value)[0] in OUTCOME_KINDS for value in self.values):
            raise invalid(f'{self.name}.missing', self.missing, 'None for a metric without outcomes')

    @property
    def sign(self) -> int:
        """1 if higher is better, -1 if lower is."""
        return 1 if self.better == 'higher' else -1

    @property
    def values(self) -> tuple[str, ...]:
        """The value expressions that are computed of each request: value, denominator, and a feature covariate."""
        return tuple(filter(None, (self.value, self.denominator, self.feature)))

    @property
    def outcomes(self) -> tuple[str, ...]:
        """The names of the outcomes that value and denominator use."""
        parsed = (parse_value(value) for value in filter(None, (self.value, self.denominator)))
        return tuple(dict.fromkeys(name for kind, name in parsed if name and kind in OUTCOME_KINDS))

    @property
    def feature(self) -> str | None:
        """The covariate if it is a feature."""
        return None if self.covariate == BEFORE else self.covariate


@dataclasses.dataclass(frozen=True)
class Design:
    """An experiment: its arms, its metrics, and its decision rules.

    Attributes:
      experiment_id: As in `model_versions`.
      control: The arm the others are compared with.
      treatments: The other arms.
      window: Times of the requests that count, `[start, end)`.
      metrics: Goals and guardrails, at least one.
      outcome_delay: An outcome counts if its timestamp is less than this after its request's, and at most a minute
        before it (clock skew). If a metric uses outcomes, a request counts once it is this old. So all requests have
        the same time to be answered, and a later evaluation finds the same outcomes of them.
      alpha: Probability of a false discovery among all goals of all treatments.
      power: Probability of finding the minimum detectable effect.
      decide_by: 'sequential' is valid however often the experiment is evaluated; 'fixed' needs fewer requests and is
        valid for one evaluation, at an end that was set beforehand.
      planned_units: Number of units, treatment and control together, at which the sequential interval is narrowest.
      least_units: Nothing is decided with fewer effective units in either arm. They are (sum d)^2 / sum d^2, where d is
        a unit's requests or denominators: the number of units if all weigh the same.
      srm_alpha: The test is invalid if the p-value of the planned shares is below this.
      aa_alpha: The test is invalid if the control's two halves differ with a corrected p-value below this.
      series_step: Step of the time series; None for a twenty-fourth of the window.
      before: Length of the period before the window, for the covariate 'before'; for such a covariate only.

    Raises:
      ValueError: A field breaks its rule; the message names field, value and rule.
    """

    experiment_id: Name
    control: Arm
    treatments: tuple[Arm, ...]
    window: TimeWindow
    metrics: tuple[Metric, ...]
    outcome_delay: datetime.timedelta = datetime.timedelta(days=1)
    alpha: Probability = 0.05
    power: Probability = 0.8
    decide_by: Literal['sequential', 'fixed'] = 'sequential'
    planned_units: Units = 10_000
    least_units: Units = 100
    srm_alpha: Probability = 0.001
    aa_alpha: Probability = 0.001
    series_step: datetime.timedelta | None = None
    before: datetime.timedelta | None = None

    def __post_init__(self) -> None:
        check_fields(self)
        if not self.treatments or not self.metrics:
            field = 'metrics' if self.treatments else 'treatments'
            raise invalid(field, getattr(self, field), 'at least one')
        self._check_arms()
        _check_unique('metrics', [metric.name for metric in self.metrics])
        if self.outcome_delay <= datetime.timedelta(0):
            raise invalid('outcome_delay', self.outcome_delay, 'above zero')
        self._check_before()
        if self.step <= datetime.timedelta(0) or self.steps > _MAX_STEPS:
            raise invalid('series_step', self.series_step, f'at most {_MAX_STEPS} steps in the window')

    def _check_before(self) -> None:
        if (self.before is not None) != any(metric.covariate == BEFORE for metric in self.metrics):
            raise invalid('before', self.before, "given for a covariate 'before', and only for that")
        if self.before is not None and self.before < MILLISECOND:
            raise invalid('before', self.before, 'at least a millisecond')
        for field, window in (('before', 'read_window'), ('outcome_delay', 'outcome_window')):
            try:
                getattr(self, window)
            except OverflowError as error:
                raise invalid(field, getattr(self, field), 'short enough to stay within the years 1 to 9999') from error

    def _check_arms(self) -> None:
        _check_unique('arms', [arm.name for arm in self.arms])
        _check_unique('arms', [f'{arm.model_id} {arm.version}' for arm in self.arms])
        weights = [arm.weight for arm in self.arms]
        if not math.isclose(sum(weights), 1, rel_tol=0, abs_tol=1e-9):
            raise invalid('weights', weights, 'they sum to one')

    @property
    def arms(self) -> tuple[Arm, ...]:
        """Every arm, the control first."""
        return (self.control, *self.treatments)

    @property
    def read_window(self) -> TimeWindow:
        """Times of all requests that are read, `[start, end)`: the window and the period before it."""
        return TimeWindow(self.window.start - (self.before or datetime.timedelta(0)), self.window.end)

    @property
    def outcome_window(self) -> TimeWindow:
        """Times of all outcomes that can count."""
        start = self.read_window.start
        first = datetime.datetime.min.replace(tzinfo=datetime.timezone.utc)
        return TimeWindow(start - min(CLOCK_SKEW, start - first), self.window.end + self.outcome_delay)

    @property
    def maturity(self) -> datetime.timedelta:
        """Age at which a request counts: all its outcomes that can count are known by then."""
        return self.outcome_delay if self.names_of(*OUTCOME_KINDS) else datetime.timedelta(0)

    @property
    def complete(self) -> datetime.datetime:
        """When all requests of the window are old enough: every later evaluation gives the same."""
        return self.window.end + self.maturity

    @property
    def step(self) -> datetime.timedelta:
        """Step of the time series."""
        return self.series_step or max((self.window.end - self.window.start) / 24, MILLISECOND)

    @property
    def steps(self) -> int:
        """Number of steps that cover the window."""
        return -((self.window.start - self.window.end) // self.step)

    def names_of(self, *kinds: str) -> tuple[str, ...]:
        """Returns the NAMEs in the metrics' value expressions of the given kinds, each once."""
        parsed = (parse_value(value) for metric in self.metrics for value in metric.values)
        return tuple(dict.fromkeys(name for kind, name in parsed if name and kind in kinds))


def _check_unique(field: str, names: list[str]) -> None:
    if duplicates := sorted(name for name, count in collections.Counter(names).items() if count > 1):
        raise invalid(field, duplicates, 'each once')
