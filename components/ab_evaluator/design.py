"""What an A/B test compares and how it decides: written down before it is looked at."""

from __future__ import annotations

import dataclasses
import datetime
import math
import re
from collections.abc import Iterator

from tfx_cassandra.components.dataset.window import MILLISECOND, TimeWindow
from tfx_cassandra.components.errors import invalid

# What a metric can be made of, per request. The first two are logged with the answer; `feature:NAME` is one of its
# logged inputs; `outcome:NAME` is what became known later, and the rest compare the prediction with it.
PLAIN_VALUES = ('prediction', 'confidence')
NAMED_VALUES = ('feature', 'outcome', 'squared_error', 'absolute_error', 'log_loss', 'correct')
KINDS = ('mean', 'proportion', 'ratio')
DECISIONS = ('sequential', 'fixed')
_MOST_STEPS = 400
_NAME = r'[A-Za-z0-9_.-]+'


@dataclasses.dataclass(frozen=True)
class Arm:
    """One arm of an experiment: a model version that answers a share of the units.

    Attributes:
      name: Name of the arm, such as 'control'.
      model_id: The model, as in `inference_results` and `model_versions`.
      version: Its version, as in `model_versions`.
      weight: Planned share of the units; the weights of an experiment's arms sum to one.
    """

    name: str
    model_id: str
    version: str
    weight: float

    def __post_init__(self) -> None:
        for field in ('name', 'model_id', 'version'):
            if not isinstance(getattr(self, field), str) or not getattr(self, field):
                raise invalid(f'arm.{field}', getattr(self, field), 'a non-empty text')
        if not re.fullmatch(_NAME, self.name):
            raise invalid('arm.name', self.name, 'letters, digits, dots, underscores and hyphens')
        if not _number(self.weight) or not 0 < self.weight <= 1:
            raise invalid(f'arm.weight of {self.name}', self.weight, 'a share above 0')


@dataclasses.dataclass(frozen=True)
class Metric:
    """What is compared between arms.

    Attributes:
      name: Name of the metric, and the beginning of its keys in `model_versions.metrics`.
      value: What is taken of each request: 'prediction', 'confidence', 'feature:NAME', 'outcome:NAME', or how the
        prediction fares against an outcome: 'squared_error:NAME', 'absolute_error:NAME', 'log_loss:NAME' (of a
        probability), 'correct:NAME' (1 if both are, or both are not, at least one half).
      kind: 'mean' (Welch's t), 'proportion' of ones among zeros and ones (z), or 'ratio' of the sums of `value` and
        `denominator` (delta method).
      denominator: As `value`; for a ratio only.
      covariate: 'feature:NAME', known before the arm could influence it; what it explains is taken out (CUPED).
      missing: What counts where an outcome is not known within the delay, such as 0 for a click that did not come;
        None leaves such requests out.
      better: 'higher' or 'lower'.
      margin: Makes the metric a guardrail: how much worse the treatment may be, in the metric's unit. Without one, the
        metric is a goal.
    """

    name: str
    value: str
    kind: str = 'mean'
    denominator: str | None = None
    covariate: str | None = None
    missing: float | None = None
    better: str = 'higher'
    margin: float | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not re.fullmatch(_NAME, self.name):
            raise invalid('metric.name', self.name, 'letters, digits, dots, underscores and hyphens')
        _one_of(f'{self.name}.kind', self.kind, KINDS)
        _one_of(f'{self.name}.better', self.better, ('higher', 'lower'))
        _check_value(f'{self.name}.value', self.value)
        if (self.denominator is not None) != (self.kind == 'ratio'):
            raise invalid(f'{self.name}.denominator', self.denominator, 'given for a ratio, and for nothing else')
        if self.denominator is not None:
            _check_value(f'{self.name}.denominator', self.denominator)
        if self.covariate is not None and not str(self.covariate).startswith('feature:'):
            raise invalid(f'{self.name}.covariate', self.covariate, "'feature:NAME', for an outcome is no cause")
        if self.covariate is not None and self.kind == 'proportion':
            raise invalid(f'{self.name}.covariate', self.covariate, "of a mean or a ratio; give kind='mean'")
        if self.missing is not None and not _number(self.missing):
            raise invalid(f'{self.name}.missing', self.missing, 'a finite number, or None')
        if self.margin is not None and not (_number(self.margin) and self.margin >= 0):
            raise invalid(f'{self.name}.margin', self.margin, 'a number of at least zero, or None for a goal')

    @property
    def sign(self) -> int:
        """1 where more is better, -1 where less is."""
        return 1 if self.better == 'higher' else -1

    @property
    def values(self) -> tuple[str, ...]:
        """The expressions of value, denominator and covariate, those that are given."""
        return tuple(filter(None, (self.value, self.denominator, self.covariate)))


@dataclasses.dataclass(frozen=True)
class Design:
    """An experiment: its arms, its metrics, and the rules it is decided by.

    Attributes:
      experiment_id: As in `model_versions`.
      control: The arm the others are compared with.
      treatments: The other arms.
      window: Times of the requests that count, `[start, end)`.
      metrics: Goals and guardrails, at least one.
      outcome_delay: An outcome counts if it was known less than this after its request: the same for each request, and
        a later run finds no more of them.
      alpha: Chance of a false discovery among all goals of all treatments.
      power: Chance of finding the minimum detectable effect.
      decide_by: 'sequential' is valid however often the experiment is evaluated; 'fixed' needs fewer requests, and is
        valid if it is evaluated once, at an end that was fixed beforehand.
      planned_units: Requests of a treatment and the control for which the sequential interval is narrowest.
      least_units: Below so many requests with a value in either arm, nothing sequential is said.
      srm_alpha: The test is invalid if the p-value of the planned shares is below this.
      aa_alpha: The test is invalid if the control's two halves differ with a corrected p-value below this.
      series_step: Step of the time series; None for a twenty-fourth of the window.

    Raises:
      ValueError: A field breaks its rule; the message names field, value and rule.
    """

    experiment_id: str
    control: Arm
    treatments: tuple[Arm, ...]
    window: TimeWindow
    metrics: tuple[Metric, ...]
    outcome_delay: datetime.timedelta = datetime.timedelta(days=1)
    alpha: float = 0.05
    power: float = 0.8
    decide_by: str = 'sequential'
    planned_units: int = 10_000
    least_units: int = 100
    srm_alpha: float = 0.001
    aa_alpha: float = 0.001
    series_step: datetime.timedelta | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.experiment_id, str) or not self.experiment_id:
            raise invalid('experiment_id', self.experiment_id, 'a non-empty text')
        if not self.treatments or not self.metrics:
            field = 'metrics' if self.treatments else 'treatments'
            raise invalid(field, getattr(self, field), 'at least one')
        self._check_arms()
        _each_once('metrics', [metric.name for metric in self.metrics])
        _one_of('decide_by', self.decide_by, DECISIONS)
        for field in ('alpha', 'power', 'srm_alpha', 'aa_alpha'):
            if not _number(getattr(self, field)) or not 0 < getattr(self, field) < 1:
                raise invalid(field, getattr(self, field), 'between 0 and 1')
        for field in ('planned_units', 'least_units'):
            if not isinstance(getattr(self, field), int) or getattr(self, field) < 2:
                raise invalid(field, getattr(self, field), 'an integer of at least 2')
        if self.outcome_delay <= datetime.timedelta(0):
            raise invalid('outcome_delay', self.outcome_delay, 'above zero')
        if self.step <= datetime.timedelta(0) or self.steps > _MOST_STEPS:
            raise invalid('series_step', self.series_step, f'at most {_MOST_STEPS} steps in the window')

    def _check_arms(self) -> None:
        _each_once('arms', [arm.name for arm in self.arms])
        _each_once('arms', [f'{arm.model_id} {arm.version}' for arm in self.arms])
        weights = [arm.weight for arm in self.arms]
        if not math.isclose(sum(weights), 1, rel_tol=0, abs_tol=1e-9):
            raise invalid('weights', weights, 'they sum to one')

    @property
    def arms(self) -> tuple[Arm, ...]:
        """Every arm, the control first."""
        return (self.control, *self.treatments)

    @property
    def step(self) -> datetime.timedelta:
        """Step of the time series."""
        return self.series_step or max((self.window.end - self.window.start) / 24, MILLISECOND)

    @property
    def steps(self) -> int:
        """Number of steps that cover the window."""
        return -((self.window.start - self.window.end) // self.step)

    def names_of(self, *kinds: str) -> tuple[str, ...]:
        """Returns the NAMEs that the metrics take of some kinds of values, each once."""
        parsed = (parse_value(value) for metric in self.metrics for value in metric.values)
        return tuple(dict.fromkeys(name for kind, name in parsed if name and kind in kinds))


def parse_value(value: str) -> tuple[str, str | None]:
    """Splits the expression of a value: 'feature:age' -> ('feature', 'age'), 'prediction' -> ('prediction', None)."""
    kind, colon, name = value.partition(':')
    return kind, name if colon else None


def _check_value(field: str, value: object) -> None:
    kind, name = parse_value(value) if isinstance(value, str) else ('', None)
    if not (kind in PLAIN_VALUES and name is None) and not (kind in NAMED_VALUES and name):
        rule = f'a number: one of {", ".join(PLAIN_VALUES)}, or NAME after one of {", ".join(NAMED_VALUES)} and a colon'
        raise invalid(field, value, rule)


def _one_of(field: str, value: object, known: tuple[str, ...]) -> None:
    if value not in known:
        raise invalid(field, value, f'one of {", ".join(known)}')


def _each_once(field: str, names: list[str]) -> None:
    doubled = sorted(set(_doubled(names)))
    if doubled:
        raise invalid(field, doubled, 'each once')


def _doubled(names: list[str]) -> Iterator[str]:
    return (name for i, name in enumerate(names) if name in names[:i])


def _number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
