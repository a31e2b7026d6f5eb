"""In which partitions the rows of a key are: of which hash salts, in which time buckets.

A table without a layout has one partition for a key. A salt of columns that the key gives is computed; one of other
columns may be any, so that each of them is read. Of the buckets only those are read that the table layout_buckets has
(driver/buckets.py), newest first: a read of the newest rows ends where it has found them, at the latest behind the
oldest of these buckets.
"""

from __future__ import annotations

import bisect
from collections.abc import Iterator, Mapping
from typing import Any

import pyarrow as pa
from cassandra.cluster import Session

from tfx_cassandra.components.cql.table import Table
from tfx_cassandra.components.driver.buckets import TABLE, Buckets
from tfx_cassandra.components.lookup.key_reads import KeyReads

_FIRST_ROWS = 1000
_BEYOND = 2**63  # milliseconds since 1970, after every time

Place = tuple[int, ...]  # the values of the layout's columns, in their order


class Partitions:
    """The partitions of the keys of a table.

    Args:
      session: An open session with page.RawHandler.
      table: The table.
      consistency: Consistency level at which the known buckets are read.

    Attributes:
      columns: The columns of the table's layout.
    """

    def __init__(self, session: Session, table: Table, consistency: str) -> None:
        self._table, self.columns = table, table.layout.columns
        self._starts: list[int] = []  # of the known buckets, in order
        self._ends: list[int] = []
        self._end_of: dict[int, int] = {}
        self._reads: KeyReads | None = None
        if table.layout.bucket is not None:
            name = f'{table.keyspace}.{TABLE}'
            select = Buckets(session, table).select
            self._reads = KeyReads(
                session, select, name, lambda _: f'{name}: buckets of {table}', consistency, _FIRST_ROWS
            )

    def refresh(self) -> None:
        """Reads which buckets there are.

        Raises:
          ReadError: They could not be read.
        """
        bucket = self._table.layout.bucket
        if self._reads is None or bucket is None:
            return
        found: list[int] = []

        def consume(_: Any, page: pa.RecordBatch) -> bool:
            found.extend(page.column(0).cast(pa.int64()).to_pylist())
            return True

        self._reads.run(filter(None, [self._reads.read([[self._table.name]], None)]), consume)
        self._end_of = {start: self._end_of.get(start) or bucket.end(start) for start in found}
        self._starts = found[::-1]
        self._ends = [self._end_of[start] for start in self._starts]

    def of(self, given: Mapping[str, Any], start: int | None, end: int | None) -> list[Iterator[tuple[int, Place]]]:
        """Returns the partitions with the rows of a key and of a window.

        Args:
          given: The key's parsed values by column.
          start, end: Milliseconds since 1970, `[start, end)`; None for no bound.

        Returns:
          For each salt its partitions, newest first: the first moment that is beyond the partition, and the values of
          the layout's columns.
        """
        salts = [() if salt is None else (salt,) for salt in self._table.salts(given)]
        if self._reads is None:
            return [iter([(_BEYOND, salt)]) for salt in salts]
        first = 0 if start is None else bisect.bisect_right(self._ends, start)
        last = len(self._starts) if end is None else bisect.bisect_left(self._starts, end)
        return [self._places(salt, range(last - 1, first - 1, -1)) for salt in salts]

    def _places(self, salt: tuple[int, ...], places: range) -> Iterator[tuple[int, Place]]:
        for i in places:
            yield self._ends[i], (self._starts[i], *salt)
