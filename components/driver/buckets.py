"""Which time buckets of a table have had rows: the table layout_buckets of its keyspace.

A writer adds a bucket before the rows in it, with their consistency level, so that whoever reads an acknowledged row's
bucket here finds it. A reader that looks for the newest rows so knows where to look, and where the oldest ones end.
"""

from __future__ import annotations

import calendar
import datetime
from collections.abc import Iterable
from typing import Any

from cassandra.cluster import Session
from cassandra.query import PreparedStatement

from tfx_cassandra.components.cql.table import Table, quoted
from tfx_cassandra.components.driver.errors import DRIVER_ERRORS, one_line
from tfx_cassandra.components.errors import SchemaError

TABLE = 'layout_buckets'


class Buckets:
    """The buckets of one table.

    Args:
      session: The driver's session.
      table: A table with a time bucket.

    Attributes:
      known: Those that this object has read or added.

    Raises:
      SchemaError: The keyspace has no table layout_buckets.
    """

    def __init__(self, session: Session, table: Table) -> None:
        self._session, self._table = session, table
        name = f'{quoted(table.keyspace)}.{TABLE}'
        try:
            self.select = session.prepare(f'SELECT bucket FROM {name} WHERE table_name = ?')
            self._insert = session.prepare(f'INSERT INTO {name} (table_name, bucket) VALUES (?, ?)')
        except DRIVER_ERRORS as error:
            rule = f'a keyspace with the table {TABLE}, as `tfx-cassandra schema apply` makes it ({one_line(error)})'
            raise SchemaError(f'{table}: got {str(table.layout)!r}, rule: {rule}') from error
        self.select.is_idempotent = self._insert.is_idempotent = True
        self.known: set[int] = set()

    def selection(self, level: int) -> Any:
        """Returns the statement that reads all buckets, newest first.

        Args:
          level: The driver's number of the consistency level.
        """
        return _bound(self.select, (self._table.name,), level)

    def addition(self, bucket: int, level: int) -> Any:
        """Returns the statement that adds a bucket, in milliseconds since 1970."""
        return _bound(self._insert, (self._table.name, bucket), level)

    def read(self, level: int) -> list[int]:
        """Returns all buckets, newest first; raises the driver's error."""
        return [milliseconds(row[0]) for row in self._session.execute(self.selection(level))]

    def add(self, buckets: Iterable[int], level: int) -> dict[int, Exception]:
        """Adds those buckets that are not known; returns the driver's errors of those that could not be added."""
        new, errors = sorted({*buckets} - self.known), {}
        for bucket, future in [(each, self._session.execute_async(self.addition(each, level))) for each in new]:
            try:
                future.result()
                self.known.add(bucket)
            except DRIVER_ERRORS as error:
                errors[bucket] = error
        return errors


def milliseconds(moment: Any) -> int:
    """Returns a timestamp as the package's sessions give it in milliseconds since 1970."""
    if not isinstance(moment, datetime.datetime):
        return int(moment)
    return calendar.timegm(moment.timetuple()) * 1000 + moment.microsecond // 1000


def _bound(statement: PreparedStatement, values: tuple[Any, ...], level: int) -> Any:
    bound = statement.bind(values)
    bound.consistency_level = level
    return bound
