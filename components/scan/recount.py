"""A second count of what a scan has read, by reads that know nothing of how the scan was cut.

The ledger proves that the areas tile what was asked for; not that the server gave each row in one of them. So here each
range of tokens is counted again, without slices of time, by the driver's own paging, and of the keys alone.
"""

from __future__ import annotations

import bisect
from collections.abc import Iterator, Sequence

from cassandra.cluster import EXEC_PROFILE_DEFAULT, Session

from tfx_cassandra.components.cql.table import quoted
from tfx_cassandra.components.driver.connection import consistency_level
from tfx_cassandra.components.driver.errors import DRIVER_ERRORS, one_line
from tfx_cassandra.components.errors import CoverageError, ReadError
from tfx_cassandra.components.scan import page
from tfx_cassandra.components.scan.area import Area
from tfx_cassandra.components.scan.ledger import RangeRead
from tfx_cassandra.components.scan.page_size import PAGE_BYTES
from tfx_cassandra.components.scan.plan import Plan
from tfx_cassandra.components.scan.query import Scan
from tfx_cassandra.components.scan.ring import TokenRange


def check(session: Session, planned: Plan, reads: Sequence[RangeRead], consistency: str) -> None:
    """Counts again what was read of each split of a plan; `session` has page.RawHandler.

    Raises:
      CoverageError: A range of tokens has another number of rows than was read of it; the message names each.
      ReadError: A range could not be counted.
    """
    complaints = []
    scan = planned.scan
    for tokens, entries in _by_split(planned, reads):
        rows = sum(entry.rows for entry in entries)
        found = _count(session, scan, tokens, consistency, min(planned.page_rows, _page_rows(entries)))
        if found != rows:
            complaints.append(f'{tokens} {rows:,} rows read, {found:,} counted')
    if complaints:
        rule = 'as many rows as a second count finds; rows written or expired meanwhile differ too'
        raise CoverageError(f'{scan.table} token ranges {"; ".join(complaints)} (rule: {rule})')


def _page_rows(entries: Sequence[RangeRead]) -> int:
    """Returns the rows of a page by those that were read: a node reads whole rows, though it sends keys alone."""
    sizes = [min(entry.rows // entry.pages, PAGE_BYTES * entry.rows // entry.bytes) for entry in entries if entry.rows]
    return max(1, min(sizes, default=1))


def _by_split(planned: Plan, reads: Sequence[RangeRead]) -> Iterator[tuple[TokenRange, list[RangeRead]]]:
    """Yields the token range of each split, and all entries in it.

    An area that was cut while it was read may count rows of its neighbour, but not of another split.
    """
    ranges = sorted({split.area.tokens for split in planned.splits})
    entries: dict[TokenRange, list[RangeRead]] = {tokens: [] for tokens in ranges}
    for entry in reads:
        entries[ranges[bisect.bisect_left(ranges, entry.token_range.end, key=lambda tokens: tokens.end)]].append(entry)
    yield from entries.items()


def _count(session: Session, scan: Scan, tokens: TokenRange, consistency: str, page_rows: int) -> int:
    area = Area(tokens, scan.times)
    columns = ', '.join(map(quoted, scan.table.partition_key))
    table = f'{quoted(scan.table.keyspace)}.{quoted(scan.table.name)}'
    try:
        statement = session.prepare(f'SELECT {columns} FROM {table} WHERE {scan.condition(scan.times)}')
        statement.consistency_level, statement.is_idempotent = consistency_level(consistency), True
        bound = statement.bind(scan.values(area))
        bound.fetch_size = page_rows
        profile = session.execution_profile_clone_update(EXEC_PROFILE_DEFAULT, row_factory=page.raw_rows)
        future = session.execute_async(bound, execution_profile=profile)
        count = future.result().current_rows[0].rows
        while future.has_more_pages:
            future.start_fetching_next_page()
            count += future.result().current_rows[0].rows
    except DRIVER_ERRORS as error:
        raise ReadError(f'{scan.table} token range {area}: not counted ({one_line(error)})') from error
    return count
