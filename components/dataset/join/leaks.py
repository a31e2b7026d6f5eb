"""Finds leakage between splits: entities that are in two of them, and times that overlap or are too close."""

from __future__ import annotations

import datetime
import itertools
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import polars as pl
import pyarrow as pa
import tensorflow as tf

from tfx_cassandra.components.dataset.files.decode import decode, records
from tfx_cassandra.components.errors import DatasetError, invalid
from tfx_cassandra.components.window import MILLISECOND, duration


class Leak(NamedTuple):
    """Information about one split that another contains.

    Attributes:
      kind: 'entity' or 'time'.
      splits: The two splits, the earlier one first.
      examples: Number of examples of the first split that leak.
      first: The entity of one of them, or its time in milliseconds since 1970.
    """

    kind: str
    splits: tuple[str, str]
    examples: int
    first: tuple[Any, ...]

    def __str__(self) -> str:
        what = 'have an entity of' if self.kind == 'entity' else 'are not early enough before'
        return (
            f'{self.kind}: {self.examples} examples of {self.splits[0]} {what} {self.splits[1]}, such as {self.first}'
        )


def find(
    splits: Mapping[str, pa.Table],
    entity_columns: Sequence[str] = (),
    time_column: str | None = None,
    gap: datetime.timedelta = datetime.timedelta(0),
) -> list[Leak]:
    """Compares every two splits.

    Args:
      splits: Rows of each split by its name; in the order of time if times are compared.
      entity_columns: Columns of the entity, which must not be in two splits; empty not to compare entities.
      time_column: Column of the time, which plus `gap` must not be after any time of a later split; None not to
        compare times.
      gap: Minimum time between two splits.

    Returns:
      The leaks that were found.

    Raises:
      ValueError: The gap is below zero.
    """
    if (min_gap := duration('gap', gap) // MILLISECOND) < 0:
        raise invalid('gap', gap, 'zero or more')
    # Frames with numbers as column names: polars treats some names as patterns.
    keys = list(dict.fromkeys(entity_columns))
    entities = {name: _frame(rows, keys) for name, rows in splits.items()}
    times = {name: _milliseconds(_frame(rows, [time_column])['0']) for name, rows in splits.items() if time_column}
    leaks = []
    for earlier, later in itertools.combinations(splits, 2):
        if keys:
            both = entities[earlier].join(entities[later], on=entities[earlier].columns, how='semi', nulls_equal=True)
            if len(both):
                leaks.append(Leak('entity', (earlier, later), len(both), both.row(0)))
        if time_column and len(times[earlier]) and len(times[later]):
            # Python's integers, since the difference may overflow 64 bits.
            last = max(int(times[later].min()) - min_gap, -(2**63))  # type: ignore[arg-type]
            late = times[earlier].filter(times[earlier] > last)
            if len(late):
                leaks.append(Leak('time', (earlier, later), len(late), (late[0],)))
    return leaks


def _frame(rows: pa.Table, columns: Sequence[str]) -> pl.DataFrame:
    return pl.DataFrame([pl.Series(str(i), pl.from_arrow(rows.column(name))) for i, name in enumerate(columns)])


def read(paths: Sequence[str], columns: Sequence[str]) -> pa.Table:
    """Reads single-valued features of the examples in TFRecord files, for `find`.

    Raises:
      DatasetError: An example has no or several values of a feature, or a file does not contain tf.Examples.
    """
    tables = []
    for path in paths:
        for batch in _batches(path):
            tables.append(pa.table({name: _single(batch, name) for name in columns}))
    return pa.concat_tables(tables) if tables else pa.table({name: pa.array([], pa.int64()) for name in columns})


def _batches(path: str) -> Iterator[pa.RecordBatch]:
    if os.path.exists(path) and not os.path.isfile(path):
        raise DatasetError(f'examples: got {path!r}, rule: a regular file')
    try:
        for examples in records(path):
            yield decode(examples)[0]
    except (tf.errors.OpError, RuntimeError) as error:  # what TensorFlow and tfx_bsl raise
        cause = ' '.join(str(getattr(error, 'message', error)).rpartition('}} ')[2].split())
        raise DatasetError(f'examples: got {path!r}, rule: a TFRecord file of tf.Examples ({cause})') from error


def _single(batch: pa.RecordBatch, name: str) -> pa.Array:
    index = batch.schema.get_field_index(name)
    values = batch.column(index).flatten() if index >= 0 else pa.array([])
    if len(values) != batch.num_rows:
        raise DatasetError(f'columns: got {name!r}, rule: a feature with one value in every example')
    return values


def _milliseconds(times: pl.Series) -> pl.Series:
    if not times.dtype.is_temporal() and not times.dtype.is_numeric():
        raise DatasetError(f'time: got a feature of {times.dtype}, rule: milliseconds since 1970')
    return times.dt.epoch('ms') if times.dtype.is_temporal() else times.cast(pl.Int64)
