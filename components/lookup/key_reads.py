"""Reads by key: a bounded number at once, each in pages that begin small and grow by the bytes that come.

Neither the number of reads in flight nor their pages may together ask a server for more than some megabytes, whatever
the size of a row.
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

from tfx_cassandra.components.cql import values
from tfx_cassandra.components.cql.types import DEFAULT, Decoding
from tfx_cassandra.components.driver.connection import consistency_level
from tfx_cassandra.components.driver.errors import DRIVER_ERRORS, one_line
from tfx_cassandra.components.errors import ReadError
from tfx_cassandra.components.scan.page import Page, decode, raw_rows
from tfx_cassandra.components.scan.page_size import PAGE_BYTES, PageSize

IN_FLIGHT = 128  # reads at once, as long as rows are small
_FIRST_IN_FLIGHT = 8  # as long as nothing is known of the rows
_BYTES_IN_FLIGHT = 4 * PAGE_BYTES  # of all pages asked for at once, by estimate
_READ_BYTES = 256 << 10  # of a page: many are in flight
_MOST_ROWS = 5000  # of a page
_TRIES, _PAUSE = 5, 0.25  # seconds, doubled each time
_FINAL = (RequestValidationException, RefusedRequest)  # errors that no further try can mend


@dataclasses.dataclass
class Read:
    """One read by key.

    Attributes:
      statement: What is read, newest row first.
      asked: What it is read for; for the taker.
      size: Rows of the next page.
      expected: Size of the page asked for, by estimate.
      again: When it may be tried again, in seconds of the monotonic clock.
    """

    statement: BoundStatement
    asked: Any
    size: PageSize
    expected: float = 0.0
    paging_state: bytes | None = None
    failures: int = 0
    again: float = 0.0


class KeyReads:
    """Runs reads by key through a session.

    Args:
      session: An open session with page.RawHandler.
      statement: What is read; its values are bound for each read.
      named: Tells in a message what is read, given what it is read for.
      consistency: Consistency level of the reads.
      first_rows: Rows of the first page of a read, once rows are known to be small.
      decoding: What is made of values that have no form of their own.
    """

    def __init__(
        self, session: Session, statement: PreparedStatement, named: Callable[[Any], str], consistency: str,
        first_rows: int = 1, decoding: Decoding = DEFAULT,
    ) -> None:  # fmt: skip
        self._session, self._statement, self._named, self._first_rows = session, statement, named, first_rows
        self._decoding = decoding
        statement.is_idempotent = True
        statement.consistency_level = consistency_level(consistency)
        self._profile = session.execution_profile_clone_update(EXEC_PROFILE_DEFAULT, row_factory=raw_rows)
        self._largest: float | None = None  # bytes of a row: the largest mean of a page so far

    def read(self, key: Sequence[Any], asked: Any) -> Read | None:
        """Returns the read of a key; None where no row can have it.

        Args:
          key: The values of the statement.
          asked: What it is read for.
        """
        bound = self._statement.bind(key)
        if not values.is_key([bound.values[i] for i in self._statement.routing_key_indexes]):
            return None
        return Read(bound, asked, PageSize(_MOST_ROWS, bytes=_READ_BYTES))

    def run(self, reads: Iterable[Read], take: Callable[[Any, pa.RecordBatch], bool]) -> None:
        """Runs reads, each page by page.

        Args:
          reads: The reads, taken as there is room.
          take: Is given what a read is for and its next page; returns whether older rows are needed.

        Raises:
          ReadError: A read was refused, or not answered in several tries.
        """
        flight = _Flight(iter(reads))
        while self._send(flight):
            read, page, paging_state, error = flight.landed()
            if error is not None:
                flight.pausing.append(self._failed(read, error))
            elif self._came(read, page, paging_state, take):
                flight.waiting.append(read)

    def _send(self, flight: _Flight) -> bool:
        """Asks for as many pages as there is room for; returns whether one is to come."""
        while flight.active < (_FIRST_IN_FLIGHT if self._largest is None else IN_FLIGHT):
            read = flight.next()
            if read is None:
                break
            read.expected = self._estimate(read)
            if flight.active and flight.bytes + read.expected > _BYTES_IN_FLIGHT:
                flight.waiting.appendleft(read)
                break
            flight.active, flight.bytes = flight.active + 1, flight.bytes + read.expected
            self._ask(read, flight.arrived)
        return flight.active > 0

    def _came(
        self, read: Read, page: Page, paging_state: bytes | None, take: Callable[[Any, pa.RecordBatch], bool]
    ) -> bool:
        """Passes a page on; returns whether the next one is needed."""
        read.size.came(page.rows, len(page.body))
        if page.rows:
            self._largest = max(self._largest or 0.0, len(page.body) / page.rows)
        read.paging_state, read.failures = paging_state, 0
        return take(read.asked, decode(page, decoding=self._decoding).content) and paging_state is not None

    def _estimate(self, read: Read) -> float:
        """Returns the size of a read's next page, having set its rows where it is the first."""
        if self._largest is None:
            return 0.0
        if read.paging_state is None and not read.failures:
            read.size.rows = max(1, min(self._first_rows, int(_READ_BYTES / self._largest)))
        return read.size.rows * (read.size.row_bytes or self._largest)

    def _ask(self, read: Read, arrived: queue.SimpleQueue) -> None:
        read.statement.fetch_size = read.size.rows
        try:
            future = self._session.execute_async(
                read.statement, execution_profile=self._profile, paging_state=read.paging_state
            )
        except DRIVER_ERRORS as error:
            arrived.put((read, None, None, error))
            return
        future.add_callbacks(
            lambda pages: arrived.put((read, pages[0], future._paging_state, None)),
            lambda error: arrived.put((read, None, None, error)),
        )

    def _failed(self, read: Read, error: Exception) -> Read:
        read.failures += 1
        if read.failures == _TRIES or isinstance(error, _FINAL):
            raise ReadError(
                f'{self._named(read.asked)}: not read in {read.failures} tries ({one_line(error)})'
            ) from error
        read.size.rows = max(1, read.size.rows // 2)
        read.again = time.monotonic() + _PAUSE * 2**read.failures
        return read


@dataclasses.dataclass
class _Flight:
    """The reads of one run: those to be asked, those asked, and those that wait for their next try.

    Attributes:
      source: Reads not yet begun.
      waiting: Reads whose next page can be asked for.
      pausing: Reads that failed.
      active: Number of pages asked for.
      bytes: Their size, by estimate.
      arrived: (read, page, paging state, error) of each page asked for, once it is there.
    """

    source: Iterator[Read]
    waiting: collections.deque[Read] = dataclasses.field(default_factory=collections.deque)
    pausing: list[Read] = dataclasses.field(default_factory=list)
    active: int = 0
    bytes: float = 0.0
    arrived: queue.SimpleQueue = dataclasses.field(default_factory=queue.SimpleQueue)

    def next(self) -> Read | None:
        """Returns the next read to be asked, waiting for one only where no page is to come; None if there is none."""
        if self.pausing:
            first = min(self.pausing, key=lambda read: read.again)
            pause = first.again - time.monotonic()
            if pause <= 0 or not (self.active or self.waiting):
                time.sleep(max(0.0, pause))
                self.pausing.remove(first)
                return first
        return self.waiting.popleft() if self.waiting else next(self.source, None)

    def landed(self) -> tuple[Read, Any, Any, Exception | None]:
        """Waits for a page that was asked for."""
        read, page, paging_state, error = self.arrived.get()
        self.active, self.bytes = self.active - 1, self.bytes - read.expected
        return read, page, paging_state, error
