"""Splits -> pages: reads several areas at once, prefetches the next page of each, and retries what fails.

reading.py decides how a failure is retried. No area is skipped: one that cannot be read ends the scan with an error
that names it.
"""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import functools
import queue
import time
from collections.abc import Callable, Generator, Sequence
from typing import Any

from cassandra import OperationTimedOut, ReadFailure, ReadTimeout, Unavailable
from cassandra.cluster import EXEC_PROFILE_DEFAULT, NoHostAvailable, Session
from cassandra.connection import ConnectionBusy, ConnectionException
from cassandra.policies import FallthroughRetryPolicy
from cassandra.pool import NoConnectionsAvailable
from cassandra.protocol import IsBootstrappingErrorMessage, OverloadedErrorMessage, ServerError
from cassandra.query import PreparedStatement

from tfx_cassandra.components import metrics
from tfx_cassandra.components.checks import Count, Rate, check_fields
from tfx_cassandra.components.cql.types import DEFAULT, Decoding
from tfx_cassandra.components.driver.connection import Consistency, consistency_level
from tfx_cassandra.components.driver.errors import DRIVER_ERRORS, one_line
from tfx_cassandra.components.errors import DatasetError, ReadError
from tfx_cassandra.components.scan import identity
from tfx_cassandra.components.scan import page as pages
from tfx_cassandra.components.scan.area import Area
from tfx_cassandra.components.scan.ledger import RangeRead
from tfx_cassandra.components.scan.limits import Limiter, page_limit
from tfx_cassandra.components.scan.page import Decoded, Keys, Page
from tfx_cassandra.components.scan.page_size import PAGE_BYTES
from tfx_cassandra.components.scan.plan import Split
from tfx_cassandra.components.scan.query import Scan
from tfx_cassandra.components.scan.reading import Failure, Reading
from tfx_cassandra.components.scan.schedule import OrderedSchedule, Schedule
from tfx_cassandra.components.scan.spans import ScanSpans
from tfx_cassandra.components.scan.survey import name_of

IN_FLIGHT = 16  # areas read at once by one worker thread
PAGE_ROWS = 5000

_FAILURES: dict[Failure, tuple[type[Exception], ...]] = {
    Failure.SLOW: (ReadTimeout, OperationTimedOut, OverloadedErrorMessage),
    Failure.REFUSED: (ReadFailure,),
    Failure.UNREACHABLE: (
        Unavailable, NoHostAvailable, ConnectionException, ConnectionBusy, NoConnectionsAvailable, ServerError,
        IsBootstrappingErrorMessage,
    ),
}  # fmt: skip


# (reading, rows requested, the page or why it did not arrive, next paging state)
_Arrived = queue.SimpleQueue[tuple[Reading, int, Page | Exception, bytes | None]]


@dataclasses.dataclass
class _Call:
    """What one call of `fetch` waits for. Its queue is its own: a call that ends early leaves pages behind.

    Attributes:
      schedule: Areas to be started.
      spans: The spans of the areas.
      active: Areas being read, by node.
      arrived: Pages that nobody has taken.
    """

    schedule: Schedule
    spans: ScanSpans
    active: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)
    arrived: _Arrived = dataclasses.field(default_factory=queue.SimpleQueue)


@dataclasses.dataclass(frozen=True)
class ReadOptions:
    """How a table is read, independent of what is read.

    Attributes:
      consistency: Consistency level of every read.
      splits: Minimum number of token ranges; None to derive it from the table's size.
      page_rows: Rows of a page at most; of a backup, which has no pages, of a record batch.
      rows_per_second, bytes_per_second: Limits of a scan, or None.
      decoding: How to decode values that Arrow cannot represent.

    Raises:
      ValueError: A field breaks its rule; the message names field, value and rule.
    """

    consistency: Consistency = 'LOCAL_QUORUM'
    splits: Count | None = None
    page_rows: Count = PAGE_ROWS
    rows_per_second: Rate | None = None
    bytes_per_second: Rate | None = None
    decoding: Decoding = DEFAULT

    def __post_init__(self) -> None:
        check_fields(self)

    @property
    def limited(self) -> bool:
        return self.rows_per_second is not None or self.bytes_per_second is not None


class Fetcher:
    """Reads splits of a scan through one session.

    At most two pages of each area in flight are held: one requested or waiting, and one that the caller works on. A
    page is requested when the caller takes the one before it, so a slow caller slows the reads down (backpressure).

    Args:
      session: A session with page.RawHandler.
      scan: What is read.
      options: How pages are requested.
      decode: Converts a page, given the roles of its columns; None for record batches.
    """

    def __init__(
        self,
        session: Session,
        scan: Scan,
        options: ReadOptions = ReadOptions(),
        decode: Callable[[Page, Keys], Decoded] | None = None,
    ) -> None:
        self._session, self._scan, self._options = session, scan, options
        self._table = str(scan.table)
        self._decode = decode or functools.partial(pages.decode, decoding=options.decoding)
        self._keys = pages.key_columns(scan)
        self._limiter = Limiter(options.rows_per_second, options.bytes_per_second)
        self._page_rows = page_limit(options.rows_per_second, options.page_rows)
        self._page_bytes = page_limit(options.bytes_per_second, PAGE_BYTES)
        self._kinds: tuple[Any, ...] = ()
        self._statements: dict[tuple[bool, bool], PreparedStatement] = {}
        self._hosts = {name_of(host): host for host in session.cluster.metadata.all_hosts()}
        # Retries are decided here, where the area is known, and not by the driver.
        self._profile = session.execution_profile_clone_update(
            EXEC_PROFILE_DEFAULT, row_factory=pages.raw_rows, retry_policy=FallthroughRetryPolicy()
        )

    def fetch(self, splits: Sequence[Split], in_order: bool = False) -> Generator[Any, None, None]:
        """Yields each page as `decode` converts it, as they arrive, and a RangeRead for each area read completely.

        The first pages are requested by the call itself, before the caller takes anything.

        Args:
          splits: What is read.
          in_order: Whether rows come in the order of tokens, and within a partition as Cassandra orders them, whatever
            fails meanwhile. Then only one area is read at once.

        Raises:
          ReadError: An area could not be read; the message names table, area, node and cause.
        """
        readings = [Reading.of(split, self._page_rows, self._page_bytes) for split in splits]
        schedule = OrderedSchedule(readings, self._keys.descending) if in_order else Schedule(readings)
        call = _Call(schedule, ScanSpans(self._table))
        self._request_ready(call)
        return self._pages(call)

    def _request_ready(self, call: _Call) -> None:
        while call.active.total() < self._max_in_flight() and (reading := call.schedule.pop(call.active)):
            call.active[reading.node] += 1
            call.spans.begin(reading)
            self._request(reading, call.arrived)

    def _pages(self, call: _Call) -> Generator[Any, None, None]:
        with call.spans:
            while call.schedule or call.active.total():
                self._request_ready(call)
                try:
                    reading, requested_rows, page, paging_state = call.arrived.get(
                        timeout=call.schedule.seconds_to_next()
                    )
                except queue.Empty:
                    continue
                reading.request.observe()
                if isinstance(page, Exception):
                    call.active[reading.node] -= 1
                    self._limiter.adjust(requested_rows, 0, 0)
                    done = self._handle_failure(reading, page, call.schedule)
                else:
                    self._limiter.adjust(requested_rows, page.rows, len(page.body))
                    content, done = self._accept(call, reading, page, paging_state)
                    yield content
                    if paging_state is None:
                        call.spans.end(reading)
                if done is not None:
                    yield done

    def _accept(
        self, call: _Call, reading: Reading, page: Page, paging_state: bytes | None
    ) -> tuple[Any, RangeRead | None]:
        """Requests what follows a page and decodes the page; returns its content, and the entry of a complete area."""
        reading.record_page(page.rows, len(page.body), paging_state)
        self._count(page)
        oversized = paging_state is not None and reading.oversized
        node = reading.node
        if paging_state is None:
            call.active[node] -= 1
        elif not oversized:
            self._request(reading, call.arrived)  # the next page arrives while the caller works on this one
        decoded = self._decoded(page, reading)
        reading.record_position(decoded.last, self._keys.descending)
        read = reading.read.with_page(page.rows, len(page.body), decoded.checksum)
        reading.read = dataclasses.replace(read, coordinator=node)
        done = reading.read if paging_state is None else None
        if oversized:  # cut before the next page is requested, so that the page is one of the smaller area
            done, (_, *fresh) = reading.split_oversized(self._scan)
            self._request(reading, call.arrived)
            for part in fresh:
                call.schedule.add(part, delay=0.0)
            metrics.READ_DIVISIONS.add(len(fresh), self._table, 'size')
        self._request_ready(call)  # the next areas arrive meanwhile, too
        return decoded.content, done

    def _max_in_flight(self) -> int:
        """Returns how many areas may be read at once: only one while a limit delays the requests."""
        limited = self._limiter.needs_row_size or self._limiter.would_wait(time.monotonic())
        return 1 if limited else IN_FLIGHT

    def _count(self, page: Page) -> None:
        metrics.READ_PAGES.add(1, self._table)
        metrics.READ_ROWS.add(page.rows, self._table)
        metrics.READ_BYTES.add(len(page.body), self._table)

    def _decoded(self, page: Page, reading: Reading) -> Decoded:
        """Decodes a page; an error names the token range, or says that the table has changed since planning."""
        try:
            if page.kinds != self._kinds:
                identity.check_page(page, self._scan.table)
                self._kinds = page.kinds
            return self._decode(page, self._keys)
        except (ReadError, DatasetError) as error:
            self._check_unchanged()
            raise type(error)(f'{self._scan.table} token range {reading.area}: {error}') from error

    def _check_unchanged(self) -> None:
        """Raises SchemaError if the table has changed since planning, which explains an error."""
        with contextlib.suppress(ReadError):  # of this check: the error to be explained is raised instead
            identity.check_unchanged(self._session, self._scan.table)

    def _request(self, reading: Reading, arrived: _Arrived) -> None:
        """Requests the next page of a reading as soon as the limits allow; the result is put into `arrived`."""
        rows = reading.next_rows
        time.sleep(max(0.0, self._limiter.reserve(time.monotonic(), rows) - time.monotonic()))
        request = reading.request = metrics.READ_REQUESTS.begin()

        def arrive(page: Page | Exception, paging_state: bytes | None) -> None:
            if request.end():
                arrived.put((reading, rows, page, paging_state))

        try:
            bound = self._statement(reading.area).bind(self._scan.values(reading.area))
            bound.fetch_size = rows
            future = self._session.execute_async(
                bound,
                execution_profile=self._profile,
                paging_state=reading.paging_state,
                host=self._hosts.get(reading.node),
            )
        except DRIVER_ERRORS as error:
            arrive(error, None)
            return
        future.add_callbacks(lambda pages: arrive(pages[0], future._paging_state), lambda error: arrive(error, None))

    def _handle_failure(self, reading: Reading, error: Exception, schedule: Schedule) -> RangeRead | None:
        """Schedules a retry of a reading, or of what it is cut into; returns the entry of the part that is complete."""
        node = reading.node
        failure = next((failure for failure, errors in _FAILURES.items() if isinstance(error, errors)), None)
        if failure is None or not reading.record_failure(failure):
            where = f'{self._scan.table} at {self._options.consistency} token range {reading.area}'
            self._check_unchanged()
            attempts = f'not read in {max(1, reading.failures)} attempts, the last of {node or "any node"}'
            raise ReadError(f'{where}: {attempts} ({one_line(error)})') from error
        metrics.READ_RETRIES.add(1, self._table, failure.name.lower())
        done, readings = reading.split_after_failure(self._scan, failure)
        metrics.READ_DIVISIONS.add(len(readings) - 1, self._table, 'failure')
        for part in readings:
            schedule.add(part, part.backoff(failure))
        return done

    def _statement(self, area: Area) -> PreparedStatement:
        ends = area.times.bounded
        if ends not in self._statements:
            statement = self._session.prepare(self._scan.cql(area.times))
            statement.consistency_level = consistency_level(self._options.consistency)
            statement.is_idempotent = True
            self._statements[ends] = statement
        return self._statements[ends]
