"""Rows that were written since an earlier backup: what is new costs what is new.

    table = open_table(CassandraBackup(uri, 'tuesday'), 'feature_store', since=CassandraBackup(uri, 'monday'))
    for batch in rows_since(table): ...

SSTables are never changed, so those that the earlier backup has hold nothing new. Of the others, which may have come
from a compaction of old ones, rows are taken by their write times.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tfx_cassandra.components.backup.opening import BackupTable
from tfx_cassandra.components.cql.types import DEFAULT, Decoding
from tfx_cassandra.components.errors import invalid
from tfx_cassandra.components.sstable.read import Reading
from tfx_cassandra.components.window import EPOCH, MICROSECOND

_NEVER = np.iinfo(np.int64).min


def rows_since(
    table: BackupTable, columns: Sequence[str] | None = None, decoding: Decoding = DEFAULT
) -> Iterator[pa.RecordBatch]:
    """Yields the rows of which a cell was written at `table.since` or later, in the order of their tokens.

    A row has the values that stand in new SSTables: whole where rows are written whole, as events and features are;
    null where only other columns have been written since. Deletions and expiries leave no row, so they are not
    seen, and a write that reached a node later than `late` after its time may be missed. A row without any cell
    but its key comes with each backup that has a new SSTable with it.

    Args:
      table: The table, opened with `since`.
      columns: Names of the columns, in this order; None for all, keys first.
      decoding: How to decode values that Arrow cannot represent.

    Raises:
      ReadError: A file is damaged.
      ValueError: The table was opened without `since`.
    """
    if table.since is None:
        raise invalid('table', table.name, 'one that was opened with `since`')
    names, timed = list(table.schema.table.readable if columns is None else columns), dated(table)
    reading = Reading(
        table.schema, table.sstables, table.created_at, names, timed, decoding, owned=table.owned
    )  # fmt: skip
    for batch in reading:
        new = are_new(batch.columns[len(names) :], table.since) if timed else np.ones(batch.num_rows, bool)
        found = pa.RecordBatch.from_arrays(
            batch.columns[: len(names)], schema=pa.schema(list(batch.schema)[: len(names)])
        )
        if new.all():
            yield found
        elif new.any():
            yield found.filter(pa.array(new))


def dated(table: BackupTable) -> list[str]:
    """Returns the columns of a table whose cells have write times: those outside of its primary key."""
    known = table.schema.table
    return [name for name, _ in known.types if name not in (*known.partition_key, *known.clustering)]


def are_new(writetimes: Sequence[pa.Array], since: datetime.datetime) -> NDArray[np.bool_]:
    """Says for each row whether one of its cells was written at a time or later, or it has none.

    Args:
      writetimes: Of each column the write times of its cells, microseconds since 1970; null where there is none.
      since: The time.
    """
    newest = np.maximum.reduce([times.fill_null(_NEVER).to_numpy(zero_copy_only=False) for times in writetimes])
    return (newest >= (since - EPOCH) // MICROSECOND) | (newest == _NEVER)
