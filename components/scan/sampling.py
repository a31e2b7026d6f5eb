"""Samples a few rows of a table before its scan is planned: the size of rows, and the density of partitions.

    place of the ring    -> its first rows: a page of one row, then as many as the size of earlier rows allows
    its first partition  -> also its last row, since rows may have become larger over time

The size of a row is still unknown, and a server runs out of memory if too many large rows are requested at once.
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
from tfx_cassandra.components.scan.limits import Limiter, page_limit
from tfx_cassandra.components.scan.page import Page
from tfx_cassandra.components.scan.page_size import PageSize
from tfx_cassandra.components.scan.plan import SPLIT_BYTES, Giant, Sample
from tfx_cassandra.components.scan.query import Scan
from tfx_cassandra.components.scan.ring import TokenRange

_PLACES = 8
_MAX_PAGES = 128  # in total
_PAGE_ROWS, _PAGE_BYTES = 64, 1 << 20  # of one page at most
_PLACE_ROWS, _PLACE_BYTES = 80, 4 << 20  # of one place, after which no further page is read
_HEADER_BYTES = 500  # of a page at most, besides its rows
_MAX_FAILURES = 2  # of pages; further requests would only add to the load of a failing cluster
_LIMITED_SECONDS = 2.0  # duration of a sample whose rows or bytes a second are limited

_log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Bounds:
    """Limits of a scan that its sample keeps to as well.

    Attributes:
      page_rows: Rows of a page at most.
      rows_per_second, bytes_per_second: Limits, or None.
    """

    page_rows: int = _PAGE_ROWS
    rows_per_second: float | None = None
    bytes_per_second: float | None = None


def sample(session: Session, scan: Scan, keys: Sequence[int] | None = None, bounds: Bounds = Bounds()) -> Sample:
    """Reads the first rows of places spread over the ring.

    The window of the scan is ignored: a node may have to read far to find a page of a narrow one.

    Args:
      session: A session with page.RawHandler.
      scan: The scan to be planned.
      keys: Tokens of the only partitions to read; None for all.
      bounds: The limits of the scan.
    """
    places = ring.RING.split(_PLACES) if keys is None else [TokenRange(key - 1, key) for key in keys]
    count = len(places)
    sampler = _Sampler(session, scan, bounds)
    for place in places[:: max(1, -(-count // (_MAX_PAGES // 2)))]:
        sampler.read_place(place)
    share = 1.0 if sampler.complete_places == count else min(sampler.share / count, 0.99)
    return dataclasses.replace(sampler.result, share=share)


@dataclasses.dataclass
class _Head:
    """The first rows of a place.

    Attributes:
      rows, size: Number of rows read, and bytes of their results.
      keys: The undecoded keys of their partitions, in order.
      times: The times of the first and the last row that have one.
      paging_state: Where the next page begins; None if all rows of the place have been read.
      last: The last row of the first partition, once it has been read.
    """

    rows: int = 0
    size: int = 0
    keys: dict[tuple[bytes, ...], None] = dataclasses.field(default_factory=dict)
    times: list[int] = dataclasses.field(default_factory=list)
    paging_state: bytes | None = None
    last: _Head | None = None


class _Sampler:
    """Adds up statistics of the first rows of several places.

    Attributes:
      result: The statistics so far, without their share.
      complete_places: Number of places that were read completely.
      share: Sum of the shares that were read of each place.
    """

    def __init__(self, session: Session, scan: Scan, bounds: Bounds) -> None:
        self._session, self._scan, self._bounds = session, scan, bounds
        # Only keys are decoded: the scan reports values that Arrow cannot represent.
        self._keys = page.key_columns(scan)._replace(columns=())
        self._profile = session.execution_profile_clone_update(EXEC_PROFILE_DEFAULT, row_factory=page.raw_rows)
        self._statement = session.prepare(scan.cql())
        self._statement.consistency_level = ConsistencyLevel.LOCAL_ONE
        self._limiter = Limiter(bounds.rows_per_second, bounds.bytes_per_second)
        self._deadline = time.monotonic() + _LIMITED_SECONDS
        self._pages = self._failures = 0
        self._usual_bytes = 0.0  # of a page of one row, at most
        self.result = Sample()
        self.complete_places = 0
        self.share = 0.0

    def read_place(self, place: TokenRange) -> None:
        """Reads the first rows of a place; after a giant partition, continues with the rows behind it."""
        tokens: TokenRange | None = place
        while tokens is not None:
            head = self._head(tokens)
            if head is None:
                return
            keys = [page.token_of(list(key)) for key in head.keys]
            if head.paging_state is None or not keys:
                self._add(head.rows, head.size, tokens.width / place.width, len(keys))
                self.complete_places += tokens == place
                return
            giants = len(self.result.giants)
            factor = self._growth(head, keys[-1]) if len(keys) == 1 else 1.0
            share = (keys[-1] - tokens.start) / place.width
            self._add(int(head.rows * factor), int(head.size * factor), share, len(keys))
            if len(self.result.giants) == giants:
                return
            tokens = TokenRange(keys[-1], tokens.end) if keys[-1] < tokens.end else None

    def _add(self, rows: int, size: int, share: float, partitions: int) -> None:
        result = self.result
        self.result = dataclasses.replace(
            result, rows=result.rows + rows, bytes=result.bytes + size, partitions=result.partitions + partitions
        )
        self.share += share

    def _head(self, tokens: TokenRange) -> _Head | None:
        """Reads the first rows of a token range; None if that fails."""
        head = _Head()
        size = PageSize(
            page_limit(self._bounds.rows_per_second, min(self._bounds.page_rows, _PAGE_ROWS)),
            bytes=page_limit(self._bounds.bytes_per_second, _PAGE_BYTES),
        )
        bound = self._statement.bind(self._scan.values(Area(tokens)))
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
                head.last = self._last(head)  # before further rows are requested
                largest = max(head.size, head.last.size)
                size.limit_to(largest)
                if largest <= self._usual_bytes:  # as at the previous place
                    size.rows = size.max_rows
            if head.paging_state is None or head.rows >= _PLACE_ROWS or head.size >= _PLACE_BYTES:
                if head.rows >= _PLACE_ROWS:
                    self._usual_bytes = 2 * size.row_bytes + _HEADER_BYTES
                return head

    def _page(self, bound: BoundStatement, size: PageSize, head: _Head) -> Page | None:
        """Reads the next page of a head; None if that fails, or if the limits of the sample are reached."""
        due = self._limiter.reserve(time.monotonic(), size.rows)
        limited = self._bounds.rows_per_second is not None or self._bounds.bytes_per_second is not None
        if self._pages >= _MAX_PAGES or self._failures >= _MAX_FAILURES or (limited and due > self._deadline):
            return None
        time.sleep(max(0.0, due - time.monotonic()))
        self._pages += 1
        bound.fetch_size = requested_rows = size.rows
        try:
            future = self._session.execute_async(bound, execution_profile=self._profile, paging_state=head.paging_state)
            found: Page = future.result().current_rows[0]
        except DRIVER_ERRORS as error:  # without a sample the plan is only rougher
            self._failures += 1
            _log.info('No sample of %s: %s', self._scan.table, one_line(error))
            return None
        self._limiter.adjust(requested_rows, found.rows, len(found.body))
        size.record_page(found.rows, len(found.body))
        head.rows, head.size = head.rows + found.rows, head.size + len(found.body)
        head.paging_state = future._paging_state
        return found

    def _growth(self, head: _Head, token: int) -> float:
        """Estimates how many times larger a partition is than its first rows; records a giant.

        The estimate is the time between the partition's first and last row over the time that the first rows span.
        """
        if not head.times or head.last is None or not head.last.times:
            return 1.0
        ends = sorted([head.times[0], head.last.times[0]])
        factor = max(1.0, (ends[1] - ends[0]) / max(1, abs(head.times[-1] - head.times[0])))
        size = int(factor * head.size)
        if size > SPLIT_BYTES:
            giant = Giant(token, ends[0], ends[1], size)
            self.result = dataclasses.replace(self.result, giants=(*self.result.giants, giant))
        return factor

    def _last(self, head: _Head) -> _Head:
        """Reads the last row of a head's first partition and records its size; returns no row if that fails."""
        table, last = self._scan.table, _Head()
        if not table.clustering:
            return last
        where = ' AND '.join(f'{quoted(column)} = ?' for column in table.partition_key)
        values = list(next(iter(head.keys)))  # undecoded
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
        self.result = dataclasses.replace(self.result, last_bytes=max(self.result.last_bytes, last.size))
        if self._keys.time is not None:
            cells, _ = rows.cells(found.body, found.offset, found.rows, len(found.names))
            moment = cells[self._keys.time].value(0)
            last.times = list(struct.unpack('>q', moment)) if moment else []
        return last
