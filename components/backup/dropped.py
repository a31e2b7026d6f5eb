"""Columns that were dropped, where a backup's schema does not name them: from the server's own table of them."""

from __future__ import annotations

import dataclasses
import datetime
from collections.abc import Sequence

import pyarrow as pa

from tfx_cassandra.components.sstable import schema_file
from tfx_cassandra.components.sstable.files import Files, checked
from tfx_cassandra.components.sstable.read import Reading
from tfx_cassandra.components.sstable.schema_file import SchemaFile
from tfx_cassandra.components.sstable.sstable import open_sstable

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
        milliseconds = batch.column(3).view(pa.int64())  # of no bounds that Python's datetime has
        for *names, moment in zip(
            *(batch.column(i).to_pylist() for i in range(3)), milliseconds.to_pylist(), strict=True
        ):
            if names[:2] == [schema.table.keyspace, schema.table.name]:
                dropped[str(names[2])] = int(moment) * 1000
    return dataclasses.replace(schema, dropped={**schema.dropped, **dropped})
