"""ReadFromSSTables: a table of a backup as a PCollection of record batches, proven to be read once."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from typing import Any, Literal

import apache_beam as beam

from tfx_cassandra.components.backup.backup import CassandraBackup
from tfx_cassandra.components.backup.opening import LATE
from tfx_cassandra.components.backup.tables import BackupTables
from tfx_cassandra.components.checks import Count, Name, TableName, checked
from tfx_cassandra.components.cql import values
from tfx_cassandra.components.cql.types import Decoding
from tfx_cassandra.components.scan.fetch import ReadOptions
from tfx_cassandra.components.scan.options import Columns, ReadRequest
from tfx_cassandra.components.scan.read import ScanTable
from tfx_cassandra.components.sstable.read import BATCH_ROWS
from tfx_cassandra.components.window import TimeWindow


class ReadFromSSTables(beam.PTransform):
    """Reads a table of a backup, by its files and without the cluster.

    Gives what ReadFromCassandra gives of the table as it was at the moment of the backup: a PCollection of
    `pyarrow.RecordBatch`, each of at most `batch_rows` rows, in no particular order. The pipeline fails with
    CoverageError unless the token ranges that were read tile the whole ring exactly once, and each SSTable had as many
    rows as its statistics say; with ReadError where a file is missing or damaged.
    """

    @checked
    def __init__(
        self,
        backup: CassandraBackup,
        table: TableName,
        columns: Columns | None = None,
        window: TimeWindow | str | None = None,
        time_column: Name | None = None,
        where: Mapping[str, Any] | None = None,
        splits: Count | None = None,
        batch_rows: Count = BATCH_ROWS,
        as_of: datetime.datetime | None = None,
        invalid_text: Literal['error', 'replace'] = 'error',
        wide_varints: Literal['error', 'text'] = 'error',
        since: CassandraBackup | None = None,
        late: datetime.timedelta = LATE,
    ) -> None:
        """Declares a scan; nothing is opened before the pipeline runs.

        Args:
          backup: Where the files are; its keyspace holds the table.
          table: Name of a table; `keyspace.table` for one of another keyspace.
          columns: Names of the columns wanted; None for all but those of the table's layout (docs/layouts.md).
          window: Event times wanted, half-open `[start, end)`, also as text, 'START/END' in ISO-8601; None for all.
          time_column: The column of type timestamp that the window is about; None for the first clustering column.
          where: Column -> value, or a collection of values, that a row must have, as of ReadFromCassandra. Where it
            names the whole partition key, only these partitions are read.
          splits: Least number of token ranges read apart; None for one for each 64 MB of Data.db files.
          batch_rows: Rows of a batch at most.
          as_of: A reference time, at or after the moment of the backup; see scan/as_of.py.
          invalid_text, wide_varints: As of ReadFromCassandra.
          since: An earlier backup: only rows of which a cell was written since are wanted. Only SSTables that it lacks
            are read, and rows have the values that stand in these; see changes.py for what cannot be seen so.
          late: How much later than its write time a write may have reached a node; rows of so long before `since` come
            again.

        Raises:
          ValueError: An argument breaks its rule; the message names field, value and rule.
        """
        super().__init__()
        filters = tuple((column, values.alternatives(value)) for column, value in (where or {}).items())
        options = ReadOptions(splits=splits, page_rows=batch_rows, decoding=Decoding(invalid_text, wide_varints))
        self._request = ReadRequest(
            BackupTables(backup, since, late), table, columns, None if window is None else TimeWindow.parse(window),
            time_column, filters, options, as_of=as_of,
        )  # fmt: skip

    def expand(self, pbegin: beam.pvalue.PBegin) -> beam.PCollection:
        return (pbegin | ScanTable(self._request)).batches

    def display_data(self) -> dict:
        request = self._request
        return {'backup': str(request.connection), 'table': request.table, 'window': str(request.window)}


__all__ = ['ReadFromSSTables']
