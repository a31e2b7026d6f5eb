"""Requests and outcomes of one shard -> one row per request, with the values of the metrics.

    rows of inference_results  -> reduced.prepare_requests -+
    rows of inference_outcomes -> reduced.prepare_outcomes -+-> join_outcomes

Both sides are reduced before they are shuffled, to a request id of 16 bytes and the columns that the metrics need. A
row of the result has `unit`, `request_id`, `timestamp`, `arm` (index in the design; null before the window), and for
each metric `NAME.y` (value), `NAME.d` (denominator of a ratio), `NAME.x` (covariate, if it is a feature) and `NAME.k`
(whether its outcomes are known, if it has any).
"""

from __future__ import annotations

import dataclasses
import datetime
from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa

from tfx_cassandra.components.experiment.design import CLOCK_SKEW, OUTCOME_KINDS, Design
from tfx_cassandra.components.experiment.reduced import EARLIER, EXPOSED, UNATTRIBUTED, start_of
from tfx_cassandra.components.experiment.values import metric_columns


@dataclasses.dataclass(frozen=True)
class Counts:
    """Counts of requests and outcomes that the joined rows do not show.

    Attributes:
      unattributed: Requests without a version, of a model that several arms serve.
      exposed: Requests of the experiment before its window, if the covariate 'before' is used.
      outcomes: Outcomes read, without those of requests before the window.
      orphans: Outcomes without a request.
      ambiguous: Request ids of several units; their requests are left out.
      immature: Requests of the window that are too young to count at the time of the evaluation.
    """

    unattributed: int = 0
    exposed: int = 0
    outcomes: int = 0
    orphans: int = 0
    ambiguous: int = 0
    immature: int = 0

    def __add__(self, other: Counts) -> Counts:
        left, right = dataclasses.astuple(self), dataclasses.astuple(other)
        return Counts(*(a + b for a, b in zip(left, right, strict=True)))


def join_outcomes(
    requests: Sequence[pa.RecordBatch],
    outcomes: Sequence[pa.RecordBatch],
    design: Design,
    as_of: datetime.datetime | None = None,
) -> tuple[pl.DataFrame, Counts]:
    """Joins outcomes to requests and computes each request's values of the metrics.

    Args:
      requests: Results of `prepare_requests`. The earliest row of a request in an arm counts.
      outcomes: Results of `prepare_outcomes`. The latest row of an outcome of a request within the delay counts; for a
        request before the window it must be known before the window.
      design: The experiment.
      as_of: Time of the evaluation, at which a request must be `design.maturity` old; None counts all requests.

    Returns:
      (one row per request and arm, ordered by request id for any order of batches and rows; counts)
    """
    rows = _frame(requests, _REQUEST_SCHEMA | {f'feature:{name}': pl.Float64 for name in design.names_of('feature')})
    known = _frame(outcomes, _OUTCOME_SCHEMA)
    if as_of is not None:
        known = known.filter(pl.col('timestamp') < _moment(as_of))  # so that a rerun as of an earlier time agrees
    rows, known = _numbered(rows, known)
    unattributed, exposed = (rows.filter(pl.col('arm') == code).height for code in (UNATTRIBUTED, EXPOSED))
    unique, repeated = _unique(rows.filter(pl.col('arm').is_in([UNATTRIBUTED, EXPOSED]).not_()))
    in_window = unique.filter(pl.col('arm') != EARLIER)
    orphans = known.join(unique, on='request', how='anti').height
    matched = known.join(in_window, on='request', how='semi').height
    arm = pl.when(pl.col('arm') != EARLIER).then(pl.col('arm').cast(pl.Int64)).alias('arm')
    values = [column for metric in design.metrics for column in metric_columns(metric)]
    units = repeated.filter(pl.col('arm') != EARLIER).group_by('request').agg(pl.col('unit').n_unique())
    ambiguous = units.filter(pl.col('unit') > 1)
    counted = unique.join(ambiguous, on='request', how='anti').filter(_is_mature(design, as_of))
    joined = _with_outcomes(counted, known, design).select('unit', 'request_id', 'timestamp', arm, *values)
    immature = in_window.filter(~_is_mature(design, as_of)).height
    return joined, Counts(unattributed, exposed, matched + orphans, orphans, ambiguous.height, immature)


def _numbered(requests: pl.DataFrame, outcomes: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Adds a column `request`, the number of the request id among all, which is sorted and joined faster than it."""
    ids = pl.concat([requests['request_id'], outcomes['request_id']], rechunk=True)
    high, low = (ids.bin.slice(at, 8).bin.reinterpret(dtype=pl.UInt64, endianness='big').to_numpy() for at in (0, 8))
    order = np.argsort(high)
    new, differs = (np.diff(half[order]) != 0 for half in (high, low))
    if (differs & ~new).any():  # two ids have their first half in common
        order = np.lexsort((low, high))
        new = (np.diff(high[order]) != 0) | (np.diff(low[order]) != 0)
    number = np.zeros(len(ids), np.int64)
    number[order[1:]] = np.cumsum(new)
    return (
        requests.with_columns(pl.Series('request', number[: requests.height])),
        outcomes.with_columns(pl.Series('request', number[requests.height :])),
    )


def _unique(requests: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Keeps the earliest row of each request, arm and unit; returns also those of requests that had several rows."""
    key = ('request', 'arm', 'timestamp')
    several = _several(requests['request'])
    repeated = requests.filter(several)
    # By all columns, so that rows with equal timestamps have a fixed order too.
    repeated = repeated.sort(*key, *(name for name in requests.columns if name not in key))
    repeated = repeated.unique(['request', 'arm', 'unit'], keep='first', maintain_order=True)
    return pl.concat([requests.filter(~several), repeated]), repeated


def _several(numbers: pl.Series) -> pl.Series:
    """Says of each row whether others have its number: what only they need is too slow for all."""
    return pl.Series(np.bincount(numbers)[numbers] > 1, dtype=pl.Boolean)


def _is_mature(design: Design, as_of: datetime.datetime | None) -> pl.Expr:
    if as_of is None:
        return pl.lit(True)
    return pl.col('timestamp').cast(pl.Datetime('us', 'UTC')) + design.maturity <= _moment(as_of)


def _moment(time: datetime.datetime) -> pl.Expr:
    return pl.lit(time.astimezone(datetime.timezone.utc)).cast(pl.Datetime('us', 'UTC'))


_REQUEST_SCHEMA = {
    'request_id': pl.Binary,
    'timestamp': pl.Datetime('ms', 'UTC'),
    'unit': pl.String,
    'arm': pl.Int16,
    'prediction': pl.Float64,
    'confidence': pl.Float64,
}
_OUTCOME_SCHEMA = {
    'request_id': pl.Binary,
    'outcome': pl.Int16,
    'timestamp': pl.Datetime('ms', 'UTC'),
    'value': pl.Float64,
}


def _frame(batches: Sequence[pa.RecordBatch], schema: dict[str, Any]) -> pl.DataFrame:
    if not batches:
        return pl.DataFrame(schema=schema)
    return pl.from_arrow(pa.Table.from_batches(batches))  # type: ignore[return-value]


def _with_outcomes(requests: pl.DataFrame, outcomes: pl.DataFrame, design: Design) -> pl.DataFrame:
    """Adds a column `outcome:NAME` for each outcome of the metrics, null where it was not known in time."""
    due = pl.col('timestamp') + design.outcome_delay
    due_before_window = pl.min_horizontal(due, start_of(design))
    deadline = pl.when(pl.col('arm') == EARLIER).then(due_before_window).otherwise(due)
    # Sorted, so that a rerun gives the same bits. Requests before and in the window may share an id.
    rows = requests.sort('request', 'arm', maintain_order=True).with_row_index('row')
    in_time = outcomes.join(
        rows.select('request', 'row', pl.col('timestamp').alias('requested'), deadline.alias('deadline')), on='request'
    ).filter(pl.col('timestamp').is_between(pl.col('requested') - CLOCK_SKEW, pl.col('deadline'), closed='left'))
    for index, name in enumerate(design.names_of(*OUTCOME_KINDS)):
        value = pl.col('value').alias(f'outcome:{name}')
        found = in_time.filter(pl.col('outcome') == index).select('row', 'timestamp', value)
        several = _several(found['row'])
        latest = (
            found.filter(several).sort('timestamp', f'outcome:{name}').unique('row', keep='last', maintain_order=True)
        )
        found = pl.concat([found.filter(~several), latest]).drop('timestamp')
        rows = rows.join(found, on='row', how='left', maintain_order='left')
    return rows
