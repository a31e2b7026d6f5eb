"""Columns that were dropped, where a backup's schema does not name them: from the server's own table of them."""

from __future__ import annotations

import dataclasses
import datetime
from collections.abc import Sequence

from tfx_cassandra.components.sstable import schema_file
from tfx_cassandra.components.sstable.files import Files, checked
from tfx_cassandra.components.sstable.read import Reading, open_sstable
from tfx_cassandra.components.sstable.schema_file import SchemaFile

_TABLE = schema_file.parse(
    'CREATE TABLE system_schema.dropped_columns (keyspace_name text, table_name text, column_name text, '
    'dropped_time timestamp, kind text, type text, PRIMARY KEY (keyspace_name, table_name, column_name))'
)


def with_dropped(schema: SchemaFile, files: Sequence[Files], now: datetime.datetime) -> SchemaFile:
    """Returns a schema with the table's dropped columns and the times up to which their cells are gone.

    Args:
      schema: The table.
      files: Those of system_schema.dropped_columns in the same backup.
      now: The moment of the backup.

    Raises:
      ReadError: A file is damaged.
    """
    sstables = [open_sstable(checked(one)) for one in files]
    columns = ['keyspace_name', 'table_name', 'column_name', 'dropped_time']
    dropped = {}
    for batch in Reading(_TABLE, sstables, now, columns):
        for row in batch.to_pylist():
            if (row['keyspace_name'], row['table_name']) == (schema.table.keyspace, schema.table.name):
                moment = row['dropped_time']
                dropped[row['column_name']] = (moment - _EPOCH) // _MICROSECOND
    return dataclasses.replace(schema, dropped={**schema.dropped, **dropped})


_EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.timezone.utc)
_MICROSECOND = datetime.timedelta(microseconds=1)
