"""A second count of what a scan has read, by reads that know nothing of how the scan was cut.

The ledger proves that the areas tile what was asked for; not that the server gave each row in one of them. So here each
range of tokens is counted again, without slices of time, by the driver's own paging, and of the keys alone.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

from cassandra.cluster import EXEC_PROFILE_DEFAULT, Session

from tfx_cassandra.components.errors import CoverageError, ReadError
from tfx_cassandra.components.scan import page
from tfx_cassandra.components.scan.area import Area
from tfx_cassandra.components.scan.ledger import RangeRead
from tfx_cassandra.components.scan.query import Scan, quoted
from tfx_cassandra.components.scan.ring import TokenRange
from tfx_cassandra.components.store.connection import consistency_level
from tfx_cassandra.components.store.driver_errors import DRIVER_ERRORS, one_line

_PAGE_ROWS = 1000  # of keys alone


def check(session: Session, scan: Scan, reads: Sequence[RangeRead], consistency: str) -> None:
    """Counts again what was read; `session` has page.RawHandler.

    Raises:
      CoverageError: A range of tokens has another number of rows than was read of it; the message names each.
      ReadError: A range could not be counted.
    """
    complaints = []
    for tokens, rows in _ranges(reads):
        found = _count(session, scan, tokens, consistency)
        if found != rows:
            complaints.append(f'{tokens} {rows:,} rows read, {found:,} counted')
    if complaints:
        rule = 'as many rows as a second count finds; rows written or expired meanwhile differ too'
        raise CoverageError(f'{scan.table} token ranges {"; ".join(complaints)} (rule: {rule})')


def _ranges(reads: Sequence[RangeRead]) -> Iterator[tuple[TokenRange, int]]:
    """Yields each range of tokens that was read, and the rows of all its slices."""
    ordered = sorted(reads, key=lambda read: read.area)
    for tokens, group in itertools.groupby(ordered, key=lambda read: read.token_range):
        yield tokens, sum(read.rows for read in group)


def _count(session: Session, scan: Scan, tokens: TokenRange, consistency: str) -> int:
    area = Area(tokens, scan.times)
    columns = ', '.join(map(quoted, scan.table.partition_key))
    table = f'{quoted(scan.table.keyspace)}.{quoted(scan.table.name)}'
    try:
        statement = session.prepare(f'SELECT {columns} FROM {table} WHERE {scan.condition(scan.times)}')
        statement.consistency_level, statement.is_idempotent = consistency_level(consistency), True
        bound = statement.bind(scan.values(area))
        bound.fetch_size = _PAGE_ROWS
        profile = session.execution_profile_clone_update(EXEC_PROFILE_DEFAULT, row_factory=page.raw_rows)
        future = session.execute_async(bound, execution_profile=profile)
        count = future.result().current_rows[0].rows
        while future.has_more_pages:
            future.start_fetching_next_page()
            count += future.result().current_rows[0].rows
    except DRIVER_ERRORS as error:
        raise ReadError(f'{scan.table} token range {area}: not counted ({one_line(error)})') from error
    return count
