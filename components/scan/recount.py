"""A second count of the rows that a scan has read, independent of how the scan was cut.

The ledger proves that the areas tile the scan; it does not prove that the server returned each row in exactly one area.
So the rows of each token range are counted once more: without slices of time, with the driver's own paging, keys only.
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
    """Counts the rows of each split of a plan again; `session` has page.RawHandler.

    Raises:
      CoverageError: A token range has another number of rows than the scan has read; the message names each.
      ReadError: A range could not be counted.
    """
    problems = []
    scan = planned.scan
    for tokens, entries in _by_split(planned, reads):
        rows = sum(entry.rows for entry in entries)
        found = _count(session, scan, tokens, consistency, min(planned.page_rows, _page_rows(entries)))
        if found != rows:
            problems.append(f'{tokens} {rows:,} rows read, {found:,} counted')
    if problems:
        rule = 'as many rows as a second count finds; rows written or expired meanwhile differ too'
        raise CoverageError(f'{scan.table} token ranges {"; ".join(problems)} (rule: {rule})')


def _page_rows(entries: Sequence[RangeRead]) -> int:
    """Returns the rows of a page by the pages of the scan: a node reads whole rows, although it sends only keys."""
    sizes = [min(entry.rows // entry.pages, PAGE_BYTES * entry.rows // entry.bytes) for entry in entries if entry.rows]
    return max(1, min(sizes, default=1))


def _by_split(planned: Plan, reads: Sequence[RangeRead]) -> Iterator[tuple[TokenRange, list[RangeRead]]]:
    """Yields the token range of each split, and the ledger entries in it.

    The entry of an area that was cut while it was read may count rows of its neighbour, but not of another split.
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
        count: int = future.result().current_rows[0].rows
        while future.has_more_pages:
            future.start_fetching_next_page()
            count += future.result().current_rows[0].rows
    except DRIVER_ERRORS as error:
        raise ReadError(f'{scan.table} token range {area}: not counted ({one_line(error)})') from error
    return count
