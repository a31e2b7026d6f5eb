"""Rows that were written since an earlier backup: what is new costs what is new.

    table = open_table(CassandraBackup(uri, 'tuesday'), 'feature_store', since=CassandraBackup(uri, 'monday'))
    for batch in rows_since(table): ...

SSTables are never changed, so those that the earlier backup has hold nothing new. Of the others, which may have come
from a compaction of old ones, rows are taken by their write times.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa

from tfx_cassandra.components.backup.opening import BackupTable
from tfx_cassandra.components.cql.types import DEFAULT, Decoding
from tfx_cassandra.components.errors import invalid
from tfx_cassandra.components.sstable.read import Reading
from tfx_cassandra.components.window import EPOCH

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
    known = table.schema.table
    names = list(known.readable if columns is None else columns)
    keys = {*known.partition_key, *known.clustering}
    timed = [name for name, _ in known.types if name not in keys]
    first = (table.since - EPOCH) // np.timedelta64(1, 'us').astype(object)
    reading = Reading(
        table.schema, table.sstables, table.created_at, names, timed, decoding, owned=table.owned
    )  # fmt: skip
    for batch in reading:
        times = [
            batch.column(len(names) + i).fill_null(_NEVER).to_numpy(zero_copy_only=False) for i in range(len(timed))
        ]
        newest = np.maximum.reduce(times) if times else np.full(batch.num_rows, _NEVER)
        kept = (newest >= first) | (newest == _NEVER)
        found = pa.RecordBatch.from_arrays(
            batch.columns[: len(names)], schema=pa.schema(list(batch.schema)[: len(names)])
        )
        if kept.all():
            yield found
        elif kept.any():
            yield found.filter(pa.array(kept))
