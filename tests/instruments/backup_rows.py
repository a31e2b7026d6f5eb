"""Rows of a recorded table by way of a backup, and as CQL had them."""

from __future__ import annotations

import slow_pages
from recorded_sstables import Recorded

from tfx_cassandra.components.backup.opening import BackupTable
from tfx_cassandra.components.sstable.read import Reading


def _columns(one: Recorded) -> list[str]:
    return [name for name in one.names if not name.startswith(('writetime(', 'ttl('))]


def rows(table: BackupTable, one: Recorded) -> list[list[object]]:
    """Returns the values of a table's rows, column by column."""
    values: list[list[object]] = [[] for _ in _columns(one)]
    for batch in Reading(table.schema, table.sstables, one.now, _columns(one), owned=table.owned):
        for column, array in zip(values, batch.columns, strict=True):
            column += slow_pages.values(array)
    return values


def expected(one: Recorded) -> list[list[object]]:
    """Returns the values that CQL gave."""
    return [one.values[one.names.index(name)] for name in _columns(one)]
