"""Reads by key: a bounded number in flight, each in pages that begin small and grow as the size of rows allows.

All reads in flight together request no more than some megabytes of a server, whatever the size of a row.
"""

from __future__ import annotations

import collections
import dataclasses
import queue
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import pyarrow as pa
from cassandra import RequestValidationException
from cassandra.cluster import EXEC_PROFILE_DEFAULT, Session
from cassandra.protocol import RequestValidationException as RefusedRequest
from cassandra.query import BoundStatement, PreparedStatement

from tfx_cassandra.components import metrics, tracing
from tfx_cassandra.components.cql import values
from tfx_cassandra.components.cql.types import DEFAULT, Decoding
from tfx_cassandra.components.driver.connection import consistency_level
from tfx_cassandra.components.driver.errors import DRIVER_ERRORS, one_line
from tfx_cassandra.components.errors import ReadError
from tfx_cassandra.components.scan.page import Page, decode, raw_rows
from tfx_cassandra.components.scan.page_size import PAGE_BYTES, PageSize

IN_FLIGHT = 128  # reads at once, if rows are small
_FIRST_IN_FLIGHT = 8  # as long as the size of a row is unknown
_BYTES_IN_FLIGHT = 4 * PAGE_BYTES  # estimated size of all pages requested at once
_READ_BYTES = 256 << 10  # of one page, of which many are in flight
_MAX_PAGE_ROWS = 5000
_ATTEMPTS, _BACKOFF = 5, 0.25  # seconds, doubled after each attempt
_NOT_RETRIED = (RequestValidationException, RefusedRequest)  # errors that every attempt would get


@dataclasses.dataclass
class Read:
    """One read by key.

    Attributes:
      statement: The bound statement; its rows are returned newest first.
      older: The statements of older rows, in other partitions: each is taken when the rows before have not sufficed.
      context: What the read is for; passed on to the consumer.
      page_size: Rows of the next page.
      begun: Whether a page has arrived.
      expected_bytes: Estimated size of the requested page.
      paging_state: Where the next page begins; None for the first.
      failures: Failures since the last page.
      retry_at: When it may be retried, in seconds of the monotonic clock.
      request: The last request of a page.
    """

    statement: BoundStatement
    context: Any
    page_size: PageSize
    older: Iterator[BoundStatement] = dataclasses.field(default_factory=lambda: iter(()))
    begun: bool = False
    expected_bytes: float = 0.0
    paging_state: bytes | None = None
    failures: int = 0
    retry_at: float = 0.0
    request: metrics.Request = dataclasses.field(init=False, repr=False, compare=False)

    def advance(self) -> bool:
        """Goes on to the next statement of older rows; returns whether there is one."""
        statement = next(self.older, None)
        if statement is None:
            return False
        self.statement = statement
        return True


Consumer = Callable[[Any, pa.RecordBatch], bool]
_Arrived = queue.SimpleQueue[tuple[Read, Page | Exception, bytes | None]]  # read, page or error, paging state


class KeyReads:
    """Runs reads by key through a session.

    Args:
      session: An open session with page.RawHandler.
      statement: The prepared statement; its values are bound for each read.
      table: Names the table in metrics.
      describe: Describes a read in a message, given its context.
      consistency: Consistency level of the reads.
      first_rows: Rows of the first page of a read, once rows are known to be small.
      decoding: How to decode values that Arrow cannot represent.
    """

    def __init__(
        self, session: Session, statement: PreparedStatement, table: str, describe: Callable[[Any], str],
        consistency: str, first_rows: int = 1, decoding: Decoding = DEFAULT,
    ) -> None:  # fmt: skip
        self._session, self._statement, self._table = session, statement, table
        self._describe, self._first_rows = describe, first_rows
        self._decoding = decoding
        statement.is_idempotent = True
        statement.consistency_level = consistency_level(consistency)
        self._profile = session.execution_profile_clone_update(EXEC_PROFILE_DEFAULT, row_factory=raw_rows)
        self._max_row_bytes: float | None = None  # the largest mean over a page so far

    def read(self, keys: Iterable[Sequence[Any]], context: Any) -> Read | None:
        """Returns the read of a key, or None if no row can have this key.

        Args:
          keys: The values of the statement; several where the rows are in several partitions, those of the newest rows
            first. They are taken one by one, as older rows are needed.
          context: What the key is read for.
        """
        bounds = filter(None, map(self._bound, keys))
        first = next(bounds, None)
        return None if first is None else Read(first, context, PageSize(_MAX_PAGE_ROWS, bytes=_READ_BYTES), bounds)

    def _bound(self, key: Sequence[Any]) -> BoundStatement | None:
        bound = self._statement.bind(key)
        is_key = values.is_key([bound.values[i] for i in self._statement.routing_key_indexes])
        return bound if is_key else None

    def run(self, reads: Iterable[Read], consume: Consumer) -> None:
        """Runs reads, each page by page.

        Args:
          reads: The reads; the next one is taken whenever it may be requested.
          consume: Called with the context of a read and its next page, which may be empty; returns whether older rows
            are needed.

        Raises:
          ReadError: A read was refused, or not answered in several attempts.
        """
        with tracing.span('lookup', self._table) as span:
            self._run(_Queue(iter(reads)), consume, span)

    def _run(self, queued: _Queue, consume: Consumer, span: tracing.Span) -> None:
        counts = _Counts()
        try:
            while self._request_pages(queued):
                read, page, paging_state = queued.next_page()
                read.request.observe()
                if isinstance(page, Exception):
                    queued.delayed.append(self._record_failure(read, page))
                    counts.retries += 1
                    continue
                counts.page(page, first=not read.begun)
                if self._record_page(read, page, paging_state, consume):
                    queued.ready.append(read)
        finally:
            counts.add(self._table)
            span.set(keys=counts.keys, rows=counts.rows, bytes=counts.bytes, pages=counts.pages, retries=counts.retries)

    def _request_pages(self, queued: _Queue) -> bool:
        """Requests as many pages as may be in flight; returns whether any is."""
        while queued.active < (_FIRST_IN_FLIGHT if self._max_row_bytes is None else IN_FLIGHT):
            read = queued.next_read()
            if read is None:
                break
            read.expected_bytes = self._estimate(read)
            if queued.active and queued.expected_bytes + read.expected_bytes > _BYTES_IN_FLIGHT:
                queued.ready.appendleft(read)
                break
            queued.active, queued.expected_bytes = queued.active + 1, queued.expected_bytes + read.expected_bytes
            self._request(read, queued.arrived)
        return queued.active > 0

    def _record_page(self, read: Read, page: Page, paging_state: bytes | None, consume: Consumer) -> bool:
        """Passes a page to the consumer; returns whether the next one is needed."""
        read.page_size.record_page(page.rows, len(page.body))
        if page.rows:
            self._max_row_bytes = max(self._max_row_bytes or 0.0, len(page.body) / page.rows)
        read.paging_state, read.failures, read.begun = paging_state, 0, True
        if not consume(read.context, decode(page, decoding=self._decoding).content):
            return False
        return paging_state is not None or read.advance()

    def _estimate(self, read: Read) -> float:
        """Returns the expected bytes of a read's next page; sets the rows of its first page."""
        if self._max_row_bytes is None:
            return 0.0
        if read.paging_state is None and not read.failures:
            read.page_size.rows = max(1, min(self._first_rows, int(_READ_BYTES / self._max_row_bytes)))
        return read.page_size.rows * (read.page_size.row_bytes or self._max_row_bytes)

    def _request(self, read: Read, arrived: _Arrived) -> None:
        read.statement.fetch_size = read.page_size.rows
        request = read.request = metrics.LOOKUP_REQUESTS.begin()

        def arrive(page: Page | Exception, paging_state: bytes | None) -> None:
            if request.end():
                arrived.put((read, page, paging_state))

        try:
            future = self._session.execute_async(
                read.statement, execution_profile=self._profile, paging_state=read.paging_state
            )
        except DRIVER_ERRORS as error:
            arrive(error, None)
            return
        future.add_callbacks(lambda pages: arrive(pages[0], future._paging_state), lambda error: arrive(error, None))

    def _record_failure(self, read: Read, error: Exception) -> Read:
        read.failures += 1
        if read.failures == _ATTEMPTS or isinstance(error, _NOT_RETRIED):
            attempts = f'not read in {read.failures} attempts'
            raise ReadError(f'{self._describe(read.context)}: {attempts} ({one_line(error)})') from error
        read.page_size.rows = max(1, read.page_size.rows // 2)
        read.retry_at = time.monotonic() + _BACKOFF * 2**read.failures
        return read


@dataclasses.dataclass
class _Counts:
    """What one run has read; added to the metrics at its end, because most pages hold one row."""

    keys: int = 0
    pages: int = 0
    rows: int = 0
    bytes: int = 0
    retries: int = 0

    def page(self, page: Page, first: bool) -> None:
        self.keys, self.pages = self.keys + first, self.pages + 1
        self.rows, self.bytes = self.rows + page.rows, self.bytes + len(page.body)

    def add(self, table: str) -> None:
        metrics.LOOKUP_KEYS.add(self.keys, table)
        metrics.LOOKUP_PAGES.add(self.pages, table)
        metrics.LOOKUP_ROWS.add(self.rows, table)
        metrics.LOOKUP_BYTES.add(self.bytes, table)
        metrics.LOOKUP_RETRIES.add(self.retries, table)


@dataclasses.dataclass
class _Queue:
    """The reads of one run: those not yet begun, those whose next page may be requested, and those in flight.

    Attributes:
      source: Reads not yet begun.
      ready: Reads whose next page may be requested.
      delayed: Reads that failed and wait for their retry.
      active: Number of pages in flight.
      expected_bytes: Estimated size of these pages.
      arrived: The result of each page in flight, once it has arrived.
    """

    source: Iterator[Read]
    ready: collections.deque[Read] = dataclasses.field(default_factory=collections.deque)
    delayed: list[Read] = dataclasses.field(default_factory=list)
    active: int = 0
    expected_bytes: float = 0.0
    arrived: _Arrived = dataclasses.field(default_factory=queue.SimpleQueue)

    def next_read(self) -> Read | None:
        """Returns the next read to request, or None; waits for a retry only if no page is in flight."""
        if self.delayed:
            first = min(self.delayed, key=lambda read: read.retry_at)
            delay = first.retry_at - time.monotonic()
            if delay <= 0 or not (self.active or self.ready):
                time.sleep(max(0.0, delay))
                self.delayed.remove(first)
                return first
        return self.ready.popleft() if self.ready else next(self.source, None)

    def next_page(self) -> tuple[Read, Page | Exception, bytes | None]:
        """Waits for the result of a page in flight."""
        read, page, paging_state = self.arrived.get()
        self.active -= 1
        self.expected_bytes -= read.expected_bytes
        return read, page, paging_state
