"""What an A/B test compares and how it decides: written down before it is looked at."""

from __future__ import annotations

import dataclasses
import datetime
import math
import re
from collections.abc import Iterator

from tfx_cassandra.components.errors import invalid
from tfx_cassandra.components.parameters import known
from tfx_cassandra.components.window import MILLISECOND, TimeWindow

# What a metric can be made of, per request. The first two are logged with the answer, and `requests` is 1;
# `feature:NAME` is one of its logged inputs; `outcome:NAME` is what became known later, and the rest compare the
# prediction with it.
PLAIN_VALUES = ('prediction', 'confidence', 'requests')
OUTCOME_KINDS = ('outcome', 'squared_error', 'absolute_error', 'log_loss', 'correct')
NAMED_VALUES = ('feature', *OUTCOME_KINDS)
KINDS = ('mean', 'proportion', 'ratio')
PER = ('request', 'unit')
BEFORE = 'before'
DECISIONS = ('sequential', 'fixed')
_MOST_STEPS = 400
_NAME = r'[A-Za-z0-9_.-]+'


@dataclasses.dataclass(frozen=True)
class Arm:
    """One arm of an experiment: a model version that answers a share of the units.

    In a pipeline, ABEvaluator takes RuntimeParameters and Placeholders of TFX for the version too.

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
            value = known('arm.version', self.version, 'open') if field == 'version' else getattr(self, field)
            if not isinstance(value, str) or not value:
                raise invalid(f'arm.{field}', value, 'a non-empty text')
        if not re.fullmatch(_NAME, self.name):
            raise invalid('arm.name', self.name, 'letters, digits, dots, underscores and hyphens')
        if not _number(self.weight) or not 0 < self.weight <= 1:
            raise invalid(f'arm.weight of {self.name}', self.weight, 'a share above 0')


@dataclasses.dataclass(frozen=True)
class Metric:
    """What is compared between arms.

    Attributes:
      name: Name of the metric, and the beginning of its keys in `model_versions.metrics`.
      value: What is taken of each request: 'prediction', 'confidence', 'requests' (1), 'feature:NAME', 'outcome:NAME',
        or how the prediction fares against an outcome: 'squared_error:NAME', 'absolute_error:NAME', 'log_loss:NAME' (of
        a probability), 'correct:NAME' (1 if both are, or both are not, at least one half).
      kind: 'mean' (Welch's t), 'proportion' of ones among zeros and ones (z), or 'ratio' of the sums of `value` and
        `denominator` (delta method).
      denominator: As `value`; for a ratio only.
      covariate: What was known before the arm could influence it, and what it explains is taken out (CUPED):
        'feature:NAME', of the unit's first request in the window, or 'before', the metric itself in the time before it.
      missing: What counts where an outcome is not known within the delay, such as 0 for a click that did not come;
        None leaves such requests out. For metrics of outcomes only.
      better: 'higher' or 'lower'.
      margin: Makes the metric a guardrail: how much worse the treatment may be, in the metric's unit. Without one, the
        metric is a goal.
      per: What counts alike. 'request': the mean is that of all requests, and its error is still that of the units,
        whose requests are alike. 'unit': the mean is that of the units' sums, such as what a user spent, and the
        proportion that of the units with a one, such as users who ever clicked.
    """

    name: str
    value: str
    kind: str = 'mean'
    denominator: str | None = None
    covariate: str | None = None
    missing: float | None = None
    better: str = 'higher'
    margin: float | None = None
    per: str = 'request'

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
        if self.covariate not in (None, BEFORE) and not re.fullmatch('feature:.+', str(self.covariate)):
            rule = "'feature:NAME' or 'before', for an outcome is no cause"
            raise invalid(f'{self.name}.covariate', self.covariate, rule)
        if self.covariate is not None and self.kind == 'proportion':
            raise invalid(f'{self.name}.covariate', self.covariate, "of a mean or a ratio; give kind='mean'")
        _one_of(f'{self.name}.per', self.per, PER)
        if self.per == 'unit' and self.kind == 'ratio':
            raise invalid(f'{self.name}.per', self.per, "'request' of a ratio, which is one of sums")
        if self.missing is not None and not _number(self.missing):
            raise invalid(f'{self.name}.missing', self.missing, 'a finite number, or None')
        if self.missing is not None and not any(parse_value(value)[0] in OUTCOME_KINDS for value in self.values):
            raise invalid(f'{self.name}.missing', self.missing, 'None where no outcome is taken')
        if self.margin is not None and not (_number(self.margin) and self.margin >= 0):
            raise invalid(f'{self.name}.margin', self.margin, 'a number of at least zero, or None for a goal')

    @property
    def sign(self) -> int:
        """1 where more is better, -1 where less is."""
        return 1 if self.better == 'higher' else -1

    @property
    def values(self) -> tuple[str, ...]:
        """The expressions of value, denominator and covariate, those that are taken of a request."""
        return tuple(filter(None, (self.value, self.denominator, self.feature)))

    @property
    def feature(self) -> str | None:
        """The covariate, where it is a feature."""
        return None if self.covariate == BEFORE else self.covariate


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
      planned_units: Units of a treatment and the control for which the sequential interval is narrowest.
      least_units: Below so many units with a value in either arm, nothing sequential is said.
      srm_alpha: The test is invalid if the p-value of the planned shares is below this.
      aa_alpha: The test is invalid if the control's two halves differ with a corrected p-value below this.
      series_step: Step of the time series; None for a twenty-fourth of the window.
      before: How long before the window the covariate 'before' looks back; for such a covariate only.

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
    before: datetime.timedelta | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.experiment_id, str) or not self.experiment_id:
            raise invalid('experiment_id', self.experiment_id, 'a non-empty text')
        self._check_types()
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
        self._check_before()
        if self.step <= datetime.timedelta(0) or self.steps > _MOST_STEPS:
            raise invalid('series_step', self.series_step, f'at most {_MOST_STEPS} steps in the window')

    def _check_before(self) -> None:
        if (self.before is not None) != any(metric.covariate == BEFORE for metric in self.metrics):
            raise invalid('before', self.before, "given for a covariate 'before', and for nothing else")
        if self.before is not None and self.before < MILLISECOND:
            raise invalid('before', self.before, 'at least a millisecond')
        for field, moment in (('before', lambda: self.read_window), ('outcome_delay', lambda: self.outcome_window)):
            try:
                moment()
            except OverflowError as error:
                raise invalid(field, getattr(self, field), 'so long that the years have four digits') from error

    def _check_types(self) -> None:
        kinds = {'control': Arm, 'window': TimeWindow, 'treatments': Arm, 'metrics': Metric}
        for field, kind in kinds.items():
            value = getattr(self, field)
            wrong = [one for one in (value if isinstance(value, tuple) else (value,)) if not isinstance(one, kind)]
            if wrong:
                raise invalid(field, wrong[0], f'of type {kind.__name__}')

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
    def read_window(self) -> TimeWindow:
        """Times of all requests that are looked at, `[start, end)`: the window, and what covariates look back at."""
        return TimeWindow(self.window.start - (self.before or datetime.timedelta(0)), self.window.end)

    @property
    def outcome_window(self) -> TimeWindow:
        """Times of all outcomes that can count."""
        return TimeWindow(self.read_window.start, self.window.end + self.outcome_delay)

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
