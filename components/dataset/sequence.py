"""The last values of each feature before an event: what a tf.SequenceExample holds of a sequence model's past."""

from __future__ import annotations

import datetime
from collections.abc import Sequence

import numpy as np
import polars as pl
import pyarrow as pa

from tfx_cassandra.components.errors import DatasetError, invalid


def last_n(
    events: pa.RecordBatch,
    rows: pa.RecordBatch,
    entity_columns: Sequence[str],
    event_time: str,
    row_time: str,
    features: Sequence[str],
    n: int,
    ttl: datetime.timedelta | None = None,
) -> pa.RecordBatch:
    """Gathers for each event the last `n` values of each feature known by then, oldest first.

    A value counts if it is not null and `row_time <= event_time`, and with a ttl if also
    `row_time > event_time - ttl`. Rows of one entity and time keep their order.

    Args:
      events: The events, of shape (events, columns), with the entity's columns and `event_time`, of a timestamp type.
      rows: Wide feature rows of the same entities, in any order; with the entity's columns, of the same types, and
        `row_time`, of the same type as the events' time.
      entity_columns: Names of the columns that tell the entity, in both.
      event_time: Name of the event's time.
      row_time: Name of the time from which a row's values hold.
      features: Names of the rows' columns to gather.
      n: Most values of a feature.
      ttl: How long a value counts, or None for ever.

    Returns:
      A batch of shape (events, features) of lists of 0 to n values, in the order of the events.

    Raises:
      ValueError: n is below 1.
      DatasetError: An event lacks its entity or its time.
    """
    if n < 1:
        raise invalid('n', n, 'at least 1')
    left: pl.DataFrame = pl.from_arrow(events)  # type: ignore[assignment]
    left = left.select(*entity_columns, event_time)
    if sum(left.null_count().row(0)):
        raise DatasetError(f'events: got a null, rule: {", ".join([*entity_columns, event_time])} in each')
    left = left.select(*entity_columns, pl.col(event_time).alias('time')).with_row_index('event')
    known: pl.DataFrame = pl.from_arrow(rows)  # type: ignore[assignment]
    gathered = [
        _gather(left, known.select(*entity_columns, row_time, feature), entity_columns, row_time, feature, n, ttl)
        for feature in features
    ]
    return pa.RecordBatch.from_arrays(gathered, names=list(features))


def _gather(
    events: pl.DataFrame, rows: pl.DataFrame, entity: Sequence[str], time: str, feature: str, n: int,
    ttl: datetime.timedelta | None,
) -> pa.ListArray:  # fmt: skip
    known = rows.drop_nulls().sort(*entity, time, maintain_order=True).with_row_index('at')
    # By event: `last` is the place of the newest value known, `first` that of the entity's (or the ttl's) oldest.
    places = events.sort('time').join_asof(
        known.select(*entity, pl.col(time).alias('time'), pl.col('at').cast(pl.Int64).alias('last')).sort('time'),
        on='time', by=list(entity), strategy='backward', check_sortedness=False,
    )  # fmt: skip
    oldest = known.group_by(entity).agg(pl.col('at').min().cast(pl.Int64).alias('first'))
    places = places.join(oldest, on=list(entity), how='left').sort('event')
    last = places['last'].fill_null(-1).to_numpy()
    stop = last + 1
    first = np.where(last >= 0, places['first'].fill_null(0).to_numpy(), stop)
    start = np.maximum(first, stop - n)
    counts = np.where(last >= 0, stop - start, 0)
    index = _ranges(start, counts)
    if ttl is not None:
        times = known[time].to_physical().to_numpy()
        moments = np.repeat(places['time'].to_physical().to_numpy(), counts)
        alive = times[index] > moments - _units(known.schema[time], ttl)
        counts = np.bincount(np.repeat(np.arange(len(counts)), counts)[alive], minlength=len(counts))
        index = index[alive]
    offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int32)
    values = known[feature].gather(index).to_arrow(compat_level=pl.CompatLevel.oldest())
    return pa.ListArray.from_arrays(pa.array(offsets), values)


def _ranges(start: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Returns start[i], start[i] + 1, ... of counts[i] numbers each, one after the other."""
    before = np.cumsum(counts) - counts
    return np.repeat(start - before, counts) + np.arange(counts.sum())


def _units(kind: pl.DataType, ttl: datetime.timedelta) -> int:
    """Returns a span of time in the unit a timestamp type counts."""
    unit = {'ms': 1_000, 'us': 1, 'ns': 0}[kind.time_unit]  # type: ignore[attr-defined]
    microseconds = ttl // datetime.timedelta(microseconds=1)
    return microseconds // unit if unit else microseconds * 1000
