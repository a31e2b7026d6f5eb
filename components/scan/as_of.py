"""Restores a table's rows as of a reference time, as far as the write times allow.

A cell is kept if it was written at `as_of` or before: a cell written later becomes null, and a row without any kept
cell is dropped. A static cell belongs to its partition: it keeps a row only if no other cell can, because no other
column is read or the partition has no rows. A collection or user-defined type that is not frozen has the write time of
its newest part. What Cassandra no longer stores cannot be restored: a value that a later write has replaced, a cell or
row deleted since, and one that has expired since.
"""

from __future__ import annotations

import datetime
import functools
from collections.abc import Sequence

import pyarrow as pa
import pyarrow.compute as pc

from tfx_cassandra.components.cql.table import writetime_name as writetime
from tfx_cassandra.components.window import EPOCH, aware

_MICROSECOND = datetime.timedelta(microseconds=1)


def microseconds(as_of: datetime.datetime) -> int:
    """Returns the last write time that is kept: whole microseconds since 1970."""
    return (aware('as_of', as_of) - EPOCH) // _MICROSECOND


def kept(
    batch: pa.RecordBatch,
    columns: Sequence[str],
    as_of: datetime.datetime,
    wanted: Sequence[str] = (),
    static: Sequence[str] = (),
    clustering: str | None = None,
) -> pa.RecordBatch:
    """Returns a batch as of a reference time.

    Args:
      batch: Rows with, for each of `columns`, an int64 column `writetime(column)`: microseconds since 1970, null where
        the cell is null.
      columns: The columns that have a write time: those not in the primary key.
      as_of: The reference time; a cell written exactly then is kept.
      wanted: Those of `columns` whose write times stay in the batch, null where the cell is null.
      static: Names of the table's static columns.
      clustering: A clustering column of the batch, which is null where a partition has static cells but no rows.

    Returns:
      The rows with at least one cell kept. If `columns` is empty, all rows.
    """
    last = pa.scalar(microseconds(as_of), pa.int64())
    known = {name: pc.less_equal(_column(batch, writetime(name)), last).fill_null(False) for name in columns}
    # A write time is kept or dropped with its cell.
    known |= {writetime(name): known[name] for name in wanted if name in known}
    dropped = set(map(writetime, columns)) - set(known)
    arrays, fields = [], []
    for field in batch.schema:
        if field.name not in dropped:
            array = _column(batch, field.name)
            arrays.append(_nulled(array, known[field.name]) if field.name in known else array)
            fields.append(field)
    rows = pa.RecordBatch.from_arrays(arrays, schema=pa.schema(fields))
    if not columns:
        return rows
    row_cells = [known[name] for name in columns if name not in static]
    static_cells = [known[name] for name in columns if name in static]
    if not row_cells:
        return rows.filter(_any(static_cells))
    has_cell = _any(row_cells)
    if static_cells and clustering is not None:
        has_cell = pc.or_(has_cell, pc.and_(_any(static_cells), _column(batch, clustering).is_null()))
    return rows.filter(has_cell)


def _any(columns: Sequence[pa.BooleanArray]) -> pa.BooleanArray:
    return functools.reduce(pc.or_, columns)


def _nulled(array: pa.Array, keep: pa.BooleanArray) -> pa.Array:
    if keep.true_count == len(keep):
        return array
    # pc.if_else does not support every type; taking by a null index gives a null.
    index = pc.if_else(keep, pa.array(range(len(array)), pa.int64()), pa.scalar(None, pa.int64()))
    return array.take(index)


def _column(batch: pa.RecordBatch, name: str) -> pa.Array:
    return batch.column(batch.schema.get_field_index(name))
