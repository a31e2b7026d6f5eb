"""Splits -> pages: several areas in flight, each with its next page under way, and patience where a node is slow.

What fails is asked again, as reading.py says; nothing is given up silently: an area that cannot be read ends the scan
with an error that names it.
"""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import functools
import heapq
import itertools
import queue
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from cassandra import OperationTimedOut, ReadFailure, ReadTimeout, Unavailable
from cassandra.cluster import EXEC_PROFILE_DEFAULT, NoHostAvailable, Session
from cassandra.connection import ConnectionBusy, ConnectionException
from cassandra.policies import FallthroughRetryPolicy
from cassandra.pool import NoConnectionsAvailable
from cassandra.protocol import IsBootstrappingErrorMessage, OverloadedErrorMessage, ServerError
from cassandra.query import PreparedStatement

from tfx_cassandra.components.checks import Count, Rate, check_fields
from tfx_cassandra.components.cql.types import DEFAULT, Decoding
from tfx_cassandra.components.driver.connection import Consistency, consistency_level
from tfx_cassandra.components.driver.errors import DRIVER_ERRORS, one_line
from tfx_cassandra.components.errors import DatasetError, ReadError
from tfx_cassandra.components.scan import identity
from tfx_cassandra.components.scan import page as pages
from tfx_cassandra.components.scan.area import Area
from tfx_cassandra.components.scan.ledger import RangeRead
from tfx_cassandra.components.scan.limits import Limiter, quarter
from tfx_cassandra.components.scan.page import Decoded, Keys, Page
from tfx_cassandra.components.scan.page_size import PAGE_BYTES
from tfx_cassandra.components.scan.plan import Split
from tfx_cassandra.components.scan.query import Scan
from tfx_cassandra.components.scan.reading import Reading, Trouble
from tfx_cassandra.components.scan.survey import name_of

PER_NODE = 4  # areas read at once from one node by one worker thread; more did not read faster
IN_FLIGHT = 16  # areas read at once by one worker thread
PAGE_ROWS = 5000

_TROUBLES = {
    Trouble.SLOW: (ReadTimeout, OperationTimedOut, OverloadedErrorMessage),
    Trouble.TOO_MUCH: (ReadFailure,),
    Trouble.UNREACHED: (
        Unavailable, NoHostAvailable, ConnectionException, ConnectionBusy, NoConnectionsAvailable, ServerError,
        IsBootstrappingErrorMessage,
    ),
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class ReadOptions:
    """How a table is read, whatever is read of it.

    Attributes:
      consistency: Consistency level of every read.
      splits: Least number of token ranges read apart; None for as many as the table's size asks for.
      page_rows: Rows of a page at most.
      rows_per_second, bytes_per_second: Limits of a scan, or None.
      decoding: What is made of values that have no form of their own.

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

    Of each area in flight at most two pages are held: one on its way or waiting, and one that the caller works on. A
    page is asked for when the one before it is taken, so a slow caller slows the reads and nothing piles up.

    Args:
      session: A session with page.RawHandler.
      scan: What is read.
      options: How.
      decode: What turns a page, and where its keys stand, into what is yielded; None for record batches.
    """

    def __init__(
        self,
        session: Session,
        scan: Scan,
        options: ReadOptions = ReadOptions(),
        decode: Callable[[Page, Keys], Decoded] | None = None,
    ) -> None:
        self._session, self._scan, self._options = session, scan, options
        self._decode = decode or functools.partial(pages.decode, decoding=options.decoding)
        self._keys = pages.key_columns(scan)
        self._limiter = Limiter(options.rows_per_second, options.bytes_per_second)
        self._page_rows = quarter(options.rows_per_second, options.page_rows)
        self._page_bytes = quarter(options.bytes_per_second, PAGE_BYTES)
        self._kinds: tuple[Any, ...] = ()
        self._statements: dict[tuple[bool, bool], PreparedStatement] = {}
        self._hosts = {name_of(host): host for host in session.cluster.metadata.all_hosts()}
        # What a failure calls for is decided here, where the area is known, and not by the driver.
        self._profile = session.execution_profile_clone_update(
            EXEC_PROFILE_DEFAULT, row_factory=pages.raw_rows, retry_policy=FallthroughRetryPolicy()
        )

    def fetch(self, splits: Sequence[Split]) -> Iterator[Any]:
        """Yields what `decode` makes of each page, as they come, and a RangeRead for each area read to its end.

        Raises:
          ReadError: An area could not be read; the message names table, area, node and cause.
        """
        # Of this call alone, for one that ends early leaves some.
        arrived: queue.SimpleQueue = queue.SimpleQueue()  # (reading, rows asked for, page, next paging state, error)
        due = _Due([Reading.of(split, self._page_rows, self._page_bytes) for split in splits])
        active: collections.Counter[str] = collections.Counter()
        while due or active.total():
            while active.total() < self._room() and (reading := due.next(active)):
                active[reading.node] += 1
                self._ask(reading, arrived)
            try:
                reading, asked, page, paging_state, error = arrived.get(timeout=due.wait() if due else None)
            except queue.Empty:
                continue
            node = reading.node
            if error is not None:
                active[node] -= 1
                self._limiter.settle(asked, 0, 0)
                done = self._after(reading, error, due)
                if done is not None:
                    yield done
                continue
            self._limiter.settle(asked, page.rows, len(page.body))
            reading.came(page.rows, len(page.body), paging_state)
            oversized = paging_state is not None and reading.oversized
            if paging_state is None:
                active[node] -= 1
            elif not oversized:
                self._ask(reading, arrived)  # the next page is under way while the caller works on this one
            decoded = self._decoded(page, reading)
            reading.reached(decoded.last, self._keys.descending)
            read = reading.read.with_page(page.rows, len(page.body), decoded.checksum)
            reading.read = dataclasses.replace(read, coordinator=node)
            done = reading.read if paging_state is None else None
            if oversized:  # cut before its next page is asked for, which is of the area as it is then
                done, (_, *others) = reading.shared(self._scan)
                self._ask(reading, arrived)
                for other in others:
                    due.later(other, pause=0.0)
            yield decoded.content
            if done is not None:
                yield done

    def _room(self) -> int:
        """Returns how many areas may be read at once: while a limit holds reads up, one is, and gives back its rest."""
        held_up = self._limiter.blind or self._limiter.busy(time.monotonic())
        return 1 if held_up else IN_FLIGHT

    def _decoded(self, page: Page, reading: Reading) -> Decoded:
        """Decodes a page; an error names the range, or says that the table is no longer the one that was planned."""
        try:
            if page.kinds != self._kinds:
                identity.check_page(page, self._scan.table)
                self._kinds = page.kinds
            return self._decode(page, self._keys)
        except (ReadError, DatasetError) as error:
            self._check_unchanged()
            raise type(error)(f'{self._scan.table} token range {reading.area}: {error}') from error

    def _check_unchanged(self) -> None:
        """Raises SchemaError if that explains an error: the table is not the one that the scan was planned for."""
        with contextlib.suppress(ReadError):  # of the question
            identity.check_unchanged(self._session, self._scan.table)

    def _ask(self, reading: Reading, arrived: queue.SimpleQueue) -> None:
        """Asks for the next page of a reading, once the limits allow; what comes is put into `arrived`."""
        asked = reading.size
        time.sleep(max(0.0, self._limiter.book(time.monotonic(), asked) - time.monotonic()))
        try:
            bound = self._statement(reading.area).bind(self._scan.values(reading.area))
            bound.fetch_size = asked
            future = self._session.execute_async(
                bound,
                execution_profile=self._profile,
                paging_state=reading.paging_state,
                host=self._hosts.get(reading.node),
            )
        except DRIVER_ERRORS as error:
            arrived.put((reading, asked, None, None, error))
            return
        future.add_callbacks(
            lambda found: arrived.put((reading, asked, found[0], future._paging_state, None)),
            lambda error: arrived.put((reading, asked, None, None, error)),
        )

    def _after(self, reading: Reading, error: Exception, due: _Due) -> RangeRead | None:
        """Puts off a reading that failed, or what it is cut into; returns what of it is done, if it is cut."""
        node = reading.node
        trouble = next((trouble for trouble, kinds in _TROUBLES.items() if isinstance(error, kinds)), None)
        if trouble is None or not reading.failed(trouble):
            where = f'{self._scan.table} at {self._options.consistency} token range {reading.area}'
            self._check_unchanged()
            tries = f'not read in {max(1, reading.failures)} attempts, the last of {node or "any node"}'
            raise ReadError(f'{where}: {tries} ({one_line(error)})') from error
        done, readings = reading.divided(self._scan, trouble)
        for part in readings:
            due.later(part, part.pause(trouble))
        return done

    def _statement(self, area: Area) -> PreparedStatement:
        ends = area.times.bounded
        if ends not in self._statements:
            statement = self._session.prepare(self._scan.cql(area.times))
            statement.consistency_level = consistency_level(self._options.consistency)
            statement.is_idempotent = True
            self._statements[ends] = statement
        return self._statements[ends]


class _Due:
    """Readings that wait for their turn, or for the end of a pause."""

    def __init__(self, readings: Sequence[Reading]) -> None:
        self._ready = collections.deque(readings)
        self._paused: list[tuple[float, int, Reading]] = []  # (when it is over, tie, reading), a heap
        self._ties = itertools.count()

    def __bool__(self) -> bool:
        return bool(self._ready or self._paused)

    def later(self, reading: Reading, pause: float) -> None:
        """Takes a reading back for after a pause of so many seconds."""
        heapq.heappush(self._paused, (time.monotonic() + pause, next(self._ties), reading))

    def wait(self) -> float | None:
        """Returns the seconds until the next pause is over; None where none is."""
        return max(0.0, self._paused[0][0] - time.monotonic()) + 0.001 if self._paused else None

    def next(self, active: collections.Counter[str]) -> Reading | None:
        """Returns the first reading whose node has room; None where none has."""
        while self._paused and self._paused[0][0] <= time.monotonic():
            self._ready.appendleft(heapq.heappop(self._paused)[2])
        for i, reading in enumerate(self._ready):
            if active[reading.node] < PER_NODE:
                del self._ready[i]
                return reading
        return None
