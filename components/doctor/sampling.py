"""The widest partitions of a table's sample, with their rows and sizes, by a bounded number of rows read.

Ranges of equal width tile the ring. In each the keys of the first partitions' rows are read, up to some rows of each;
the rows of the widest partitions are counted on, and a few are read whole for their size. One request is in flight at a
time, at consistency level ONE, and its rows are not decoded where only their number counts.
"""

from __future__ import annotations

import collections
import contextlib
import itertools
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from cassandra import ConsistencyLevel
from cassandra.cluster import EXEC_PROFILE_DEFAULT, Session
from cassandra.query import BoundStatement, PreparedStatement

from tfx_cassandra.components.cql import rows
from tfx_cassandra.components.cql.table import Table, quoted
from tfx_cassandra.components.doctor.asked import Asked
from tfx_cassandra.components.doctor.facts import Partition
from tfx_cassandra.components.driver import connection as connections
from tfx_cassandra.components.driver.connection import CassandraConnection
from tfx_cassandra.components.driver.errors import DRIVER_ERRORS
from tfx_cassandra.components.driver.tables import describe
from tfx_cassandra.components.errors import TfxCassandraError, shown
from tfx_cassandra.components.scan.page import Page, RawHandler, raw_rows

RANGES = 32
_OF_A_RANGE, _OF_A_PARTITION = 8_000, 1_000  # rows whose keys are read
_WIDEST, _COUNTED = 3, 200_000  # partitions whose rows are counted on, and up to how many
_PAGE_ROWS = 5_000
_SIZED_ROWS, _SIZED_BYTES, _SIZED_PAGE = 100, 1 << 20, 5  # rows that are read whole, until so many bytes, in a page
_SECONDS = 10.0  # for a table; what was found until then is reported
_PROTOCOL = 4  # protocol version of the serialization of values, which is the same in version 5
_FIRST, _LAST = -(2**63), 2**63 - 1

_Key = tuple[bytes, ...]  # serialized, as it came


def sampled(
    asked: Asked, connection: CassandraConnection, keyspace: str, tables: Iterable[str], ranges: int
) -> Iterator[Partition]:
    """Yields the widest partitions of a sample of each table, widest first; none of a table that cannot be read.

    Args:
      asked: Remembers what cannot be read.
      connection: The cluster.
      keyspace: The keyspace.
      tables: Tables and views.
      ranges: In how many token ranges of each table partitions are read; 0 for none.
    """
    if not ranges:
        return
    with connections.session(connection, RawHandler) as session:
        with contextlib.suppress(*DRIVER_ERRORS):  # others may have just created a table
            session.cluster.refresh_keyspace_metadata(keyspace)
        for table in tables:
            try:
                found = list(_Table(session, describe(session, keyspace, table)).widest(ranges))
            except (*DRIVER_ERRORS, TfxCassandraError) as error:
                asked.failed(f'{keyspace}.{table}', error, 'the cluster')
            else:
                yield from sorted(found, key=lambda partition: -partition.size)


def tiles(count: int) -> Iterator[tuple[int, int]]:
    """Yields `count` token ranges [first, last] of equal width, which tile the ring."""
    edges = [_FIRST + (2**64 * i) // count for i in range(count)] + [_LAST + 1]
    for first, after in itertools.pairwise(edges):
        yield first, after - 1


class _Table:
    """The reads of one table."""

    def __init__(self, session: Session, table: Table) -> None:
        self._session, self._table = session, table
        self._profile = session.execution_profile_clone_update(
            EXEC_PROFILE_DEFAULT, row_factory=raw_rows, consistency_level=ConsistencyLevel.ONE
        )
        names = ', '.join(map(quoted, table.partition_key))
        source = f'FROM {quoted(table.keyspace)}.{quoted(table.name)} WHERE'
        where = ' AND '.join(f'{quoted(name)} = ?' for name in table.partition_key)
        self._keys = session.prepare(
            f'SELECT {names} {source} token({names}) >= ? AND token({names}) <= ? '
            f'PER PARTITION LIMIT {_OF_A_PARTITION} LIMIT {_OF_A_RANGE}'
        )
        self._rows = session.prepare(f'SELECT {names} {source} {where} LIMIT {_COUNTED}')
        self._whole = session.prepare(f'SELECT * {source} {where} LIMIT {_SIZED_ROWS}')

    def widest(self, ranges: int) -> Iterator[Partition]:
        """Yields the partitions with most rows."""
        deadline = time.monotonic() + _SECONDS
        counts: collections.Counter[_Key] = collections.Counter()
        for first, last in tiles(ranges):
            edges = [edge.to_bytes(8, 'big', signed=True) for edge in (first, last)]
            for page in self._pages(self._keys, edges, _PAGE_ROWS):
                self._kinds = page.kinds
                cells, _ = rows.cells(page.body, page.offset, page.rows, len(page.names))
                counts.update(tuple(cell.value(row) or b'' for cell in cells) for row in range(page.rows))
            if time.monotonic() > deadline:
                break
        for key, met in counts.most_common(_WIDEST):
            # The last partition of a range may have been cut off as well, after fewer rows than the others.
            counted = sum(page.rows for page in self._pages(self._rows, key, _PAGE_ROWS, deadline))
            whole = met <= counted < _COUNTED and time.monotonic() < deadline
            yield Partition(
                self._table.name, self._shown(key), max(met, counted), whole, self._row_bytes(key, deadline)
            )

    def _row_bytes(self, key: _Key, deadline: float) -> float:
        count = size = 0
        for page in self._pages(self._whole, key, _SIZED_PAGE, deadline):
            count, size = count + page.rows, size + len(page.body) - page.offset
            if size > _SIZED_BYTES:
                break
        return size / max(count, 1)

    def _pages(
        self, statement: PreparedStatement, values: Sequence[bytes], page_rows: int, deadline: float | None = None
    ) -> Iterator[Page]:
        """Yields the pages of a result, undecoded; none begins after the deadline."""
        bound = BoundStatement(statement, fetch_size=page_rows)
        bound.values = list(values)
        result = self._session.execute(bound, execution_profile=self._profile)
        while True:
            yield from result.current_rows
            if not result.has_more_pages or (deadline is not None and time.monotonic() > deadline):
                return
            result.fetch_next_page()

    def _shown(self, key: _Key) -> str:
        parts = zip(self._table.partition_key, self._kinds, key, strict=True)
        return ', '.join(f'{name}={_shown(kind, value)}' for name, kind, value in parts)


def _shown(kind: Any, value: bytes) -> str:
    try:
        return shown(kind.from_binary(value, _PROTOCOL))
    except Exception:  # each decoder of the driver raises errors of its own
        return f'0x{value.hex()[:80]}'
