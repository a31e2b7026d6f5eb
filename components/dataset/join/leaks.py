"""What splits share and should not: entities that are in two of them, and times that do not keep apart."""

from __future__ import annotations

import datetime
import itertools
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import polars as pl
import pyarrow as pa
import tensorflow as tf

from tfx_cassandra.components.dataset.files.decode import decode, records
from tfx_cassandra.components.errors import DatasetError, invalid
from tfx_cassandra.components.window import MILLISECOND, duration


class Leak(NamedTuple):
    """One thing that one split tells about another.

    Attributes:
      kind: 'entity' or 'time'.
      splits: The two splits, the earlier one first.
      examples: Examples of the first split that are concerned.
      first: One of them: its entity, or its time in milliseconds since 1970.
    """

    kind: str
    splits: tuple[str, str]
    examples: int
    first: tuple

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
      splits: Rows of each split by its name, in the order of time where times are compared.
      entity_columns: An entity, told by these columns, must not be in two splits; empty: entities are not compared.
      time_column: Each time of a split, plus `gap`, must not be after any time of a later split; None: not compared.
      gap: Time that must lie between two splits.

    Returns:
      The leaks found; none is good.

    Raises:
      ValueError: The gap is below zero.
    """
    if (least := duration('gap', gap) // MILLISECOND) < 0:
        raise invalid('gap', gap, 'zero or more')
    # Frames whose columns have numbers for names: polars takes some names for patterns.
    keys = list(dict.fromkeys(entity_columns))
    entities = {name: _frame(rows, keys) for name, rows in splits.items()}
    times = {name: _milliseconds(_frame(rows, [time_column])['0']) for name, rows in splits.items() if time_column}
    leaks = []
    for one, other in itertools.combinations(splits, 2):
        if keys:
            both = entities[one].join(entities[other], on=entities[one].columns, how='semi', nulls_equal=True)
            if len(both):
                leaks.append(Leak('entity', (one, other), len(both), both.row(0)))
        if time_column and len(times[one]) and len(times[other]):
            # In Python's integers, for the difference may be beyond 64 bits.
            last = max(int(times[other].min()) - least, -(2**63))  # type: ignore[arg-type]
            late = times[one].filter(times[one] > last)
            if len(late):
                leaks.append(Leak('time', (one, other), len(late), (late[0],)))
    return leaks


def _frame(rows: pa.Table, columns: Sequence[str]) -> pl.DataFrame:
    return pl.DataFrame([pl.Series(str(i), pl.from_arrow(rows.column(name))) for i, name in enumerate(columns)])


def read(paths: Sequence[str], columns: Sequence[str]) -> pa.Table:
    """Reads single-valued features of the examples in TFRecord files, for `find`.

    Raises:
      DatasetError: An example lacks one of them, or has several values of it, or a file is not of tf.Examples.
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
        for some in records(path):
            yield decode(some)[0]
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
