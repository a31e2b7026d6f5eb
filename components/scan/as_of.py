"""What a table's rows were at a reference time, as far as the times of writing tell.

A cell counts if it was written at `as_of` or before: a cell written later is null, and a row that has no cell left is
absent. A static cell is its partition's and not its row's: it keeps a row only where no other cell could, because no
other column is read or the partition has no rows. A collection or user-defined type that is not frozen counts as
written when its newest part was. What this cannot give back, for Cassandra does not keep it: a value that a later write
has replaced, a cell or row deleted since, and one whose time to live has passed since.
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
    """Returns the last time of writing that counts: whole microseconds since 1970."""
    return (aware('as_of', as_of) - EPOCH) // _MICROSECOND


def kept(
    batch: pa.RecordBatch,
    columns: Sequence[str],
    as_of: datetime.datetime,
    wanted: Sequence[str] = (),
    static: Sequence[str] = (),
    clustering: str | None = None,
) -> pa.RecordBatch:
    """Returns a batch as it was at a reference time.

    Args:
      batch: Rows with, for each of `columns`, an int64 column `writetime(column)`: microseconds since 1970, null where
        the cell is null.
      columns: The columns that have a time of writing: those not in the primary key.
      as_of: The reference time; a cell written at it counts.
      wanted: Those of `columns` whose times of writing stay in the batch, null where the cell is.
      static: Names of the table's static columns.
      clustering: A clustering column of the batch, which is null where a partition has static cells and no rows.

    Returns:
      The rows with a cell left. Where `columns` is empty, all rows.
    """
    last = pa.scalar(microseconds(as_of), pa.int64())
    known = {name: pc.less_equal(_of(batch, writetime(name)), last).fill_null(False) for name in columns}
    # A time of writing goes with its cell.
    known |= {writetime(name): known[name] for name in wanted if name in known}
    left_out = set(map(writetime, columns)) - set(known)
    arrays, fields = [], []
    for field in batch.schema:
        if field.name not in left_out:
            array = _of(batch, field.name)
            arrays.append(_nulled(array, known[field.name]) if field.name in known else array)
            fields.append(field)
    rows = pa.RecordBatch.from_arrays(arrays, schema=pa.schema(fields))
    if not columns:
        return rows
    of_rows = [known[name] for name in columns if name not in static]
    of_partitions = [known[name] for name in columns if name in static]
    if not of_rows:
        return rows.filter(_any(of_partitions))
    left = _any(of_rows)
    if of_partitions and clustering is not None:
        left = pc.or_(left, pc.and_(_any(of_partitions), _of(batch, clustering).is_null()))
    return rows.filter(left)


def _any(of_columns: Sequence[pa.BooleanArray]) -> pa.BooleanArray:
    return functools.reduce(pc.or_, of_columns)


def _nulled(array: pa.Array, keep: pa.BooleanArray) -> pa.Array:
    if keep.true_count == len(keep):
        return array
    # Not pc.if_else, which does not take every type: a null index takes a null.
    index = pc.if_else(keep, pa.array(range(len(array)), pa.int64()), pa.scalar(None, pa.int64()))
    return array.take(index)


def _of(batch: pa.RecordBatch, name: str) -> pa.Array:
    return batch.column(batch.schema.get_field_index(name))
