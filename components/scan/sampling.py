"""A few rows of a table, read before its scan is planned: how large they are, and how densely partitions lie.

    place of the ring -> its first rows, a page of one row first, then as many more as those that came allow
    its first partition -> its last row too, for rows may have become larger in the course of time

Nothing is known yet of the rows, and a server that is asked for too many large ones at once runs out of memory.
"""

from __future__ import annotations

import dataclasses
import logging
import struct
import time
from collections.abc import Sequence

from cassandra import ConsistencyLevel
from cassandra.cluster import EXEC_PROFILE_DEFAULT, Session
from cassandra.query import BoundStatement

from tfx_cassandra.components.cql import rows
from tfx_cassandra.components.cql.table import quoted
from tfx_cassandra.components.driver.errors import DRIVER_ERRORS, one_line
from tfx_cassandra.components.scan import page, ring
from tfx_cassandra.components.scan.area import Area
from tfx_cassandra.components.scan.limits import Limiter, quarter
from tfx_cassandra.components.scan.page import Page
from tfx_cassandra.components.scan.page_size import PageSize
from tfx_cassandra.components.scan.plan import SPLIT_BYTES, Giant, Sample
from tfx_cassandra.components.scan.query import Scan
from tfx_cassandra.components.scan.ring import TokenRange

_PLACES = 8
_PAGES = 128  # in all
_PAGE_ROWS, _PAGE_BYTES = 64, 1 << 20  # of one page
_PLACE_ROWS, _PLACE_BYTES = 80, 4 << 20  # of one place: no further page is read
_HEADER_BYTES = 500  # of a page, at most, besides its rows
_FAILURES = 2  # of pages; a cluster in trouble is left in peace
_LIMITED_SECONDS = 2.0  # of a sample whose rows or bytes a second are limited

_log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Bounds:
    """What a scan may ask for, in its sample too.

    Attributes:
      page_rows: Rows of a page at most.
      rows_per_second, bytes_per_second: Limits, or None.
    """

    page_rows: int = _PAGE_ROWS
    rows_per_second: float | None = None
    bytes_per_second: float | None = None


def sample(session: Session, scan: Scan, keys: Sequence[int] | None = None, bounds: Bounds = Bounds()) -> Sample:
    """Reads the first rows of places spread over the ring.

    The window is left out, for a page of a narrow one may be far to find.

    Args:
      session: A session with page.RawHandler.
      scan: What is to be read.
      keys: Tokens of the only partitions wanted; None for all.
      bounds: What the scan may ask for.
    """
    places = ring.RING.split(_PLACES) if keys is None else [TokenRange(key - 1, key) for key in keys]
    whole = len(places)
    sampler = _Sampler(session, scan, bounds)
    for place in places[:: max(1, -(-whole // (_PAGES // 2)))]:
        sampler.take(place)
    share = 1.0 if sampler.complete == whole else min(sampler.share / whole, 0.99)
    return dataclasses.replace(sampler.found, share=share)


@dataclasses.dataclass
class _Head:
    """The first rows of a place.

    Attributes:
      rows, size: Rows read, and the bytes of the results they came in.
      keys: Keys of their partitions, as they came, in order.
      times: The times of the first and the last row that have one.
      paging_state: Where it goes on; None if it has all rows of the place.
      last: The last row of its first partition, once that was looked up.
    """

    rows: int = 0
    size: int = 0
    keys: dict[tuple[bytes, ...], None] = dataclasses.field(default_factory=dict)
    times: list[int] = dataclasses.field(default_factory=list)
    paging_state: bytes | None = None
    last: _Head | None = None


class _Sampler:
    """Adds up what the first rows of some places tell."""

    def __init__(self, session: Session, scan: Scan, bounds: Bounds) -> None:
        self._session, self._scan, self._bounds = session, scan, bounds
        # Of the rows only the keys matter: what has no form in a batch is the scan's to tell.
        self._keys = page.key_columns(scan)._replace(columns=())
        self._profile = session.execution_profile_clone_update(EXEC_PROFILE_DEFAULT, row_factory=page.raw_rows)
        self._statement = session.prepare(scan.cql())
        self._statement.consistency_level = ConsistencyLevel.LOCAL_ONE
        self._limiter = Limiter(bounds.rows_per_second, bounds.bytes_per_second)
        self._until = time.monotonic() + _LIMITED_SECONDS
        self._pages = self._failures = 0
        self._usual_bytes = 0.0  # of a page of one row, at most
        self.found = Sample()
        self.complete = 0
        self.share = 0.0  # of places

    def take(self, place: TokenRange) -> None:
        """Reads the first rows of a place; and goes on behind a partition that is to be read in slices."""
        at: TokenRange | None = place
        while at is not None:
            head = self._head(at)
            if head is None:
                return
            tokens = [page.token_of(list(key)) for key in head.keys]
            if head.paging_state is None or not tokens:
                self._add(head.rows, head.size, at.width / place.width, len(tokens))
                self.complete += at == place
                return
            giants = len(self.found.giants)
            times = self._larger(head, tokens[-1]) if len(tokens) == 1 else 1.0
            self._add(
                int(head.rows * times), int(head.size * times), (tokens[-1] - at.start) / place.width, len(tokens)
            )
            if len(self.found.giants) == giants:
                return
            at = TokenRange(tokens[-1], at.end) if tokens[-1] < at.end else None

    def _add(self, rows: int, size: int, share: float, partitions: int) -> None:
        found = self.found
        self.found = dataclasses.replace(
            found, rows=found.rows + rows, bytes=found.bytes + size, partitions=found.partitions + partitions
        )
        self.share += share

    def _head(self, at: TokenRange) -> _Head | None:
        """Reads the first rows of a range; None where that fails."""
        head = _Head()
        size = PageSize(
            quarter(self._bounds.rows_per_second, min(self._bounds.page_rows, _PAGE_ROWS)),
            bytes=quarter(self._bounds.bytes_per_second, _PAGE_BYTES),
        )
        bound = self._statement.bind(self._scan.values(Area(at)))
        while True:
            found = self._page(bound, size, head)
            if found is None:
                return None
            cells, _ = rows.cells(found.body, found.offset, found.rows, len(found.names))
            for row in range(found.rows):
                head.keys[tuple(cells[i].value(row) or b'' for i in self._keys.partition)] = None
                moment = b'' if self._keys.time is None else cells[self._keys.time].value(row)
                if moment:  # a timestamp may be empty
                    head.times = [*head.times[:1], *struct.unpack('>q', moment)]
            if head.last is None and head.paging_state is not None and head.keys:
                head.last = self._last(head)  # before more is asked for
                largest = max(head.size, head.last.size)
                size.bound(largest)
                if largest <= self._usual_bytes:  # as at the place before
                    size.rows = size.most
            if head.paging_state is None or head.rows >= _PLACE_ROWS or head.size >= _PLACE_BYTES:
                if head.rows >= _PLACE_ROWS:
                    self._usual_bytes = 2 * size.row_bytes + _HEADER_BYTES
                return head

    def _page(self, bound: BoundStatement, size: PageSize, head: _Head) -> Page | None:
        """Reads the next page of a head; None if it fails, or no more are to be read."""
        due = self._limiter.book(time.monotonic(), size.rows)
        limited = self._bounds.rows_per_second is not None or self._bounds.bytes_per_second is not None
        if self._pages >= _PAGES or self._failures >= _FAILURES or (limited and due > self._until):
            return None
        time.sleep(max(0.0, due - time.monotonic()))
        self._pages += 1
        bound.fetch_size = asked = size.rows
        try:
            future = self._session.execute_async(bound, execution_profile=self._profile, paging_state=head.paging_state)
            (found,) = future.result().current_rows
        except DRIVER_ERRORS as error:  # a plan is only rougher without it
            self._failures += 1
            _log.info('No sample of %s: %s', self._scan.table, one_line(error))
            return None
        self._limiter.settle(asked, found.rows, len(found.body))
        size.came(found.rows, len(found.body))
        head.rows, head.size = head.rows + found.rows, head.size + len(found.body)
        head.paging_state = future._paging_state
        return found

    def _larger(self, head: _Head, token: int) -> float:
        """Estimates how many times its first rows a partition is; notes a giant.

        By the time that the rows span and the time between the partition's first and last row.
        """
        if not head.times or head.last is None or not head.last.times:
            return 1.0
        ends = sorted([head.times[0], head.last.times[0]])
        times = max(1.0, (ends[1] - ends[0]) / max(1, abs(head.times[-1] - head.times[0])))
        size = int(times * head.size)
        if size > SPLIT_BYTES:
            giant = Giant(token, ends[0], ends[1], size)
            self.found = dataclasses.replace(self.found, giants=(*self.found.giants, giant))
        return times

    def _last(self, head: _Head) -> _Head:
        """Reads the last row of a head's first partition and notes how large it is; without a row where that fails."""
        table, last = self._scan.table, _Head()
        if not table.clustering:
            return last
        where = ' AND '.join(f'{quoted(column)} = ?' for column in table.partition_key)
        values = list(next(iter(head.keys)))  # as they came: no value is decoded and encoded again
        if self._scan.sliced_column is not None:  # the last row that has a time, which may be empty
            where += f' AND {quoted(self._scan.sliced_column)} >= ?'
            values.append(struct.pack('>q', -(2**63)))
        order = f'{quoted(table.clustering[0])} {"ASC" if table.descending else "DESC"}'
        statement = self._session.prepare(f'{self._scan.select} WHERE {where} ORDER BY {order} LIMIT 1')
        statement.consistency_level = ConsistencyLevel.LOCAL_ONE
        bound = BoundStatement(statement)
        bound.values = values
        found = self._page(bound, PageSize(1), last)
        if found is None or not found.rows:
            return last
        self.found = dataclasses.replace(self.found, last_bytes=max(self.found.last_bytes, last.size))
        if self._keys.time is not None:
            cells, _ = rows.cells(found.body, found.offset, found.rows, len(found.names))
            moment = cells[self._keys.time].value(0)
            last.times = list(struct.unpack('>q', moment)) if moment else []
        return last
