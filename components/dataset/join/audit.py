"""The leakage audit of a training set: of each feature, how often a value was known, why not, and how old it was."""

from __future__ import annotations

import dataclasses
import datetime
import math
from collections.abc import Iterable, Mapping
from typing import Annotated, Any

import numpy as np

from tfx_cassandra.components.checks import Rule, Share, check_fields
from tfx_cassandra.components.dataset.join.join import STATUSES, Looked
from tfx_cassandra.components.errors import DatasetError

# Ages are counted in bins a constant factor apart, so that a quantile is right to 1 % and counts can be added up: the
# sketch of Masson, Rim and Lee, DDSketch, VLDB 12 (2019), section 2.
_ACCURACY = 0.01
_GAMMA = math.log((1 + _ACCURACY) / (1 - _ACCURACY))
_OLD = 10 * 365 * 86_400  # seconds
_QUANTILES = {'p50': 0.5, 'p95': 0.95}
_Age = Annotated[datetime.timedelta, Rule('zero or more', lambda age: age >= datetime.timedelta(0))]


@dataclasses.dataclass(frozen=True)
class AuditLimits:
    """What the audit must not exceed, in any feature.

    Attributes:
      missing: Greatest share of examples without a value up to their time, from 0 to 1; None for any.
      expired: Greatest share of examples whose newest value was older than the view's ttl.
      cut_off: Greatest share of examples that have no value because it was written after their time.
      age_p95: The age that at most one of twenty values that were found may exceed.

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
        """Raises DatasetError, naming every feature beyond a limit, if the report of `Audit.report` has any.

        Without examples nothing is proven: no limit then holds.
        """
        if self != AuditLimits() and not any(one['examples'] for one in report['features'].values()):
            raise DatasetError('limits: got no examples, rule: at least one, for without any no limit can be checked')
        beyond = []
        for name, of_feature in report['features'].items():
            for field in ('missing', 'expired', 'cut_off'):
                limit, share = getattr(self, field), of_feature[field]
                if limit is not None and share > limit:
                    beyond.append(f'{name} {field} {share:.4f} (limit {limit})')
            age = of_feature.get('age_seconds')
            if self.age_p95 is not None and age and age['p95'] > self.age_p95.total_seconds():
                beyond.append(f'{name} age_p95 {age["p95"]:.0f} s (limit {self.age_p95.total_seconds():.0f} s)')
        if beyond:
            raise DatasetError(f'limits: got {"; ".join(beyond)}, rule: no feature of the training set beyond a limit')


class Audit:
    """What became of features, added up; two audits of parts of a training set add up to that of the whole."""

    def __init__(self) -> None:
        self._counts: dict[str, np.ndarray] = {}  # feature -> counts of the four statuses
        self._ages: dict[str, dict[int, int]] = {}  # feature -> bin -> number of values; bin 0 holds age 0
        self._oldest: dict[str, int] = {}  # microseconds

    def add(self, looked: Iterable[Looked]) -> Audit:
        """Adds what became of the features of a shard."""
        for one in looked:
            part = Audit()
            part._counts[one.name] = np.bincount(one.status, minlength=len(STATUSES))
            if len(one.age):
                # Ages are whole microseconds, so bins of what is above zero begin at 1.
                bins = np.where(one.age > 0, np.ceil(np.log(np.maximum(one.age, 1)) / _GAMMA).astype(int) + 1, 0)
                numbers, counts = np.unique(bins, return_counts=True)
                part._ages[one.name] = dict(zip(numbers.tolist(), counts.tolist(), strict=True))
                part._oldest[one.name] = int(one.age.max())
            self.merge(part)
        return self

    def merge(self, other: Audit) -> Audit:
        """Adds another audit to this one."""
        for name, counts in other._counts.items():
            self._counts[name] = self._counts.get(name, 0) + counts
        for name, bins in other._ages.items():
            mine = self._ages.setdefault(name, {})
            for number, count in bins.items():
                mine[number] = mine.get(number, 0) + count
            self._oldest[name] = max(self._oldest.get(name, 0), other._oldest[name])
        return self

    def report(self, cut_off: bool, overflows: Mapping[str, int] | None = None) -> dict[str, Any]:
        """Returns the audit as JSON takes it: of each feature the shares of the four outcomes, and ages in seconds.

        Its notes tell what is unlikely to be meant: see _notes.

        Args:
          cut_off: Whether the availability cut-off was on.
          overflows: For each feature or label that has any, how many of its values are infinite in the examples because
            they are beyond a 32-bit float.
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
    known = 'on: no example holds a value written after its time' if report['availability_cut_off'] else (
        'OFF: when a value was written was not looked at (backfilled data); leakage by late writes is not excluded'
    )  # fmt: skip
    lines = [
        '# Leakage audit', '', f'Availability cut-off {known}.', '',
        '| feature | examples | found | missing | expired | cut off | age p50 | age p95 | age max |',
        '|---|---|---|---|---|---|---|---|---|',
    ]  # fmt: skip
    for name, of_feature in report['features'].items():
        shares = [f'{of_feature[status]:.2%}' for status in STATUSES]
        ages = of_feature.get('age_seconds')
        spans = [_span(ages[label]) if ages else '-' for label in (*_QUANTILES, 'max')]
        lines.append(f'| {" | ".join([_cell(name), format(of_feature["examples"], ","), *shares, *spans])} |')
    if beyond := report.get('beyond_float32'):
        counts = ', '.join(f'{_cell(name)} {count:,}' for name, count in beyond.items())
        lines += ['', f'Beyond a 32-bit float, which tf.Examples hold, and so infinite there: {counts} values.']
    notes = [f'- {_cell(note)}' for note in report.get('notes', ())]
    return '\n'.join([*lines, *(['', '## Notes', '', *notes] if notes else []), ''])


def _notes(features: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Returns what hints at times in a wrong unit: of the past in seconds, and of the future in microseconds."""
    notes = []
    for name, of_feature in features.items():
        ages = of_feature.get('age_seconds')
        if ages and ages['p50'] > _OLD:
            years = ages['p50'] / 86_400 / 365
            notes.append(
                f'{name}: half of its values are {years:.0f} years old or more; are the times of its view seconds?'
            )
        if of_feature['examples'] and of_feature['missing'] == 1:
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
