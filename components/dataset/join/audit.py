"""The leakage audit of a training set: how often each feature had a value, why it had none, and how old values were."""

from __future__ import annotations

import dataclasses
import datetime
import math
from collections.abc import Iterable, Mapping
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray

from tfx_cassandra.components.checks import Rule, Share, check_fields
from tfx_cassandra.components.dataset.join.join import STATUSES, FeatureOutcome
from tfx_cassandra.components.errors import DatasetError

# Ages are counted in bins whose bounds grow by a constant factor, so that quantiles are accurate to 1 % and counts can
# be added up: the sketch of Masson, Rim and Lee, DDSketch, VLDB 12 (2019), section 2.
_ACCURACY = 0.01
_GAMMA = math.log((1 + _ACCURACY) / (1 - _ACCURACY))
_OLD = 10 * 365 * 86_400  # seconds
_QUANTILES = {'p50': 0.5, 'p95': 0.95}
_Age = Annotated[datetime.timedelta, Rule('zero or more', lambda age: age >= datetime.timedelta(0))]


@dataclasses.dataclass(frozen=True)
class AuditLimits:
    """Limits of the audit that no feature may exceed.

    Attributes:
      missing: Maximum share of examples without a value up to their time, from 0 to 1; None for no limit.
      expired: Maximum share of examples whose newest value was older than the view's ttl.
      cut_off: Maximum share of examples without a value because it was written after their time.
      age_p95: Maximum of the 95th percentile of the ages of the values that were found.

    Raises:
      ValueError: A share is not from 0 to 1, or the age is negative.
    """

    missing: Share | None = None
    expired: Share | None = None
    cut_off: Share | None = None
    age_p95: _Age | None = None

    def __post_init__(self) -> None:
        check_fields(self, 'limits.')

    def check(self, report: Mapping[str, Any]) -> None:
        """Raises DatasetError, naming every feature beyond a limit, if a report of `Audit.report` has any.

        A report without examples proves nothing, so it fails every limit.
        """
        if self != AuditLimits() and not any(statistics['examples'] for statistics in report['features'].values()):
            raise DatasetError('limits: got no examples, rule: at least one example, to check limits')
        beyond = []
        for name, statistics in report['features'].items():
            for field in ('missing', 'expired', 'cut_off'):
                limit, share = getattr(self, field), statistics[field]
                if limit is not None and share > limit:
                    beyond.append(f'{name} {field} {share:.4f} (limit {limit})')
            age = statistics.get('age_seconds')
            if self.age_p95 is not None and age and age['p95'] > self.age_p95.total_seconds():
                beyond.append(f'{name} age_p95 {age["p95"]:.0f} s (limit {self.age_p95.total_seconds():.0f} s)')
        if beyond:
            raise DatasetError(f'limits: got {"; ".join(beyond)}, rule: no feature of the training set beyond a limit')


class Audit:
    """Sums of feature outcomes; the audits of the parts of a training set can be merged into that of the whole."""

    def __init__(self) -> None:
        self._counts: dict[str, NDArray[np.int64]] = {}  # feature -> number of examples by status
        self._ages: dict[str, dict[int, int]] = {}  # feature -> bin -> number of values; bin 0 holds age 0
        self._oldest: dict[str, int] = {}  # microseconds

    def add(self, outcomes: Iterable[FeatureOutcome]) -> Audit:
        """Adds the outcomes of the features of a shard."""
        for outcome in outcomes:
            part = Audit()
            part._counts[outcome.name] = np.bincount(outcome.status, minlength=len(STATUSES))
            if len(outcome.age):
                # Ages are whole microseconds, so bins of ages above zero begin at 1.
                bins = np.where(
                    outcome.age > 0, np.ceil(np.log(np.maximum(outcome.age, 1)) / _GAMMA).astype(int) + 1, 0
                )
                numbers, counts = np.unique(bins, return_counts=True)
                part._ages[outcome.name] = dict(zip(numbers.tolist(), counts.tolist(), strict=True))
                part._oldest[outcome.name] = int(outcome.age.max())
            self.merge(part)
        return self

    def merge(self, other: Audit) -> Audit:
        """Adds another audit to this one."""
        for name, counts in other._counts.items():
            self._counts[name] = self._counts.get(name, 0) + counts
        for name, bins in other._ages.items():
            own_bins = self._ages.setdefault(name, {})
            for number, count in bins.items():
                own_bins[number] = own_bins.get(number, 0) + count
            self._oldest[name] = max(self._oldest.get(name, 0), other._oldest[name])
        return self

    def report(self, cut_off: bool, overflows: Mapping[str, int] | None = None) -> dict[str, Any]:
        """Returns the audit as a JSON value: for each feature the share of each status, and ages in seconds.

        Its notes point out probable mistakes; see _notes.

        Args:
          cut_off: Whether the availability cut-off was on.
          overflows: For each feature or label, the number of values that are infinite in the examples because they
            exceed a 32-bit float, if there are any.
        """
        features: dict[str, dict[str, Any]] = {}
        for name, counts in self._counts.items():
            total = max(1, int(counts.sum()))
            features[name] = {'examples': int(counts.sum())}
            features[name] |= {status: int(count) / total for status, count in zip(STATUSES, counts, strict=True)}
            if name in self._ages:
                quantiles = {label: self._quantile(name, q) / 1e6 for label, q in _QUANTILES.items()}
                features[name]['age_seconds'] = {**quantiles, 'max': self._oldest[name] / 1e6}
        beyond = dict(sorted((overflows or {}).items()))
        notes = _notes(features)
        return {'availability_cut_off': cut_off, 'features': features, 'beyond_float32': beyond, 'notes': notes}

    def _quantile(self, name: str, q: float) -> float:
        bins = sorted(self._ages[name].items())
        cumulated = np.cumsum([count for _, count in bins])
        number = bins[int(np.searchsorted(cumulated, q * (cumulated[-1] - 1), side='right'))][0]
        middle = 2 * math.exp((number - 1) * _GAMMA) / (1 + math.exp(_GAMMA)) if number else 0.0
        return min(middle, float(self._oldest[name]))


def readable(report: Mapping[str, Any]) -> str:
    """Returns a report as a page of Markdown."""
    cut_off = 'on: no example holds a value written after its time' if report['availability_cut_off'] else (
        'OFF: write times were ignored (backfilled data); leakage by late writes is not excluded'
    )  # fmt: skip
    lines = [
        '# Leakage audit', '', f'Availability cut-off {cut_off}.', '',
        '| feature | examples | found | missing | expired | cut off | age p50 | age p95 | age max |',
        '|---|---|---|---|---|---|---|---|---|',
    ]  # fmt: skip
    for name, statistics in report['features'].items():
        shares = [f'{statistics[status]:.2%}' for status in STATUSES]
        ages = statistics.get('age_seconds')
        spans = [_span(ages[label]) if ages else '-' for label in (*_QUANTILES, 'max')]
        lines.append(f'| {" | ".join([_cell(name), format(statistics["examples"], ","), *shares, *spans])} |')
    if beyond := report.get('beyond_float32'):
        counts = ', '.join(f'{_cell(name)} {count:,}' for name, count in beyond.items())
        lines += ['', f'Beyond a 32-bit float, which tf.Examples hold, and so infinite there: {counts} values.']
    notes = [f'- {_cell(note)}' for note in report.get('notes', ())]
    return '\n'.join([*lines, *(['', '## Notes', '', *notes] if notes else []), ''])


def _notes(features: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Returns hints at times in a wrong unit: all values far in the past (seconds) or in the future (microseconds)."""
    notes = []
    for name, statistics in features.items():
        ages = statistics.get('age_seconds')
        if ages and ages['p50'] > _OLD:
            years = ages['p50'] / 86_400 / 365
            notes.append(
                f'{name}: half of its values are {years:.0f} years old or more; are the times of its view seconds?'
            )
        if statistics['examples'] and statistics['missing'] == 1:
            notes.append(
                f'{name}: no example has a value up to its time; is the entity the same in both, '
                'and are the times of its view microseconds?'
            )
    return notes


def _cell(text: str) -> str:
    """Returns a text as a cell of a Markdown table."""
    return ' '.join(text.replace('|', r'\|').splitlines())


def _span(seconds: float) -> str:
    return str(datetime.timedelta(seconds=round(seconds)))
