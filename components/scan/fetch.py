"""Splits -> pages: several ranges in flight, each with its next page under way, and patience where a node is slow."""

from __future__ import annotations

import collections
import dataclasses
import queue
import random
import time
from collections.abc import Iterator, Sequence

from cassandra import OperationTimedOut, ReadFailure, ReadTimeout, Unavailable
from cassandra.cluster import EXEC_PROFILE_DEFAULT, NoHostAvailable, Session
from cassandra.connection import ConnectionException
from cassandra.protocol import IsBootstrappingErrorMessage, OverloadedErrorMessage
from cassandra.query import BoundStatement

from tfx_cassandra.components.errors import ReadError
from tfx_cassandra.components.scan.page import Page, raw_rows
from tfx_cassandra.components.scan.plan import Split
from tfx_cassandra.components.store.driver_errors import DRIVER_ERRORS, one_line

IN_FLIGHT = 4  # ranges read at once by one worker thread; more did not read faster
RETRIES = 6  # of one range, without a page in between
_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 5.0  # seconds

# What may be otherwise a moment later, or with a smaller page.
_PASSING = (
    ReadTimeout, OperationTimedOut, ReadFailure, Unavailable, NoHostAvailable, ConnectionException,
    OverloadedErrorMessage, IsBootstrappingErrorMessage,
)  # fmt: skip


@dataclasses.dataclass
class _Reading:
    """One range being read: from where, in pages of what size, and how often it failed since the last page."""

    split: Split
    statement: BoundStatement
    paging_state: bytes | None = None
    failures: int = 0
    retries: int = 0


@dataclasses.dataclass(frozen=True)
class Fetched:
    """A page of a split, in the split's order; the last one says so and how many retries the split took."""

    split: Split
    page: Page
    last: bool
    retries: int


class Fetcher:
    """Reads splits through one session; at most two pages of each split in flight are held.

    Args:
      session: A session with page.RawHandler.
      describe: The table, for messages.
    """

    def __init__(self, session: Session, describe: str) -> None:
        self._session, self._describe = session, describe
        self._profile = session.execution_profile_clone_update(EXEC_PROFILE_DEFAULT, row_factory=raw_rows)

    def fetch(self, work: Sequence[tuple[Split, BoundStatement]]) -> Iterator[Fetched]:
        """Yields all pages of all splits, as they arrive.

        Raises:
          ReadError: A range could not be read; the message names table, range and cause.
        """
        waiting = collections.deque(_Reading(*item) for item in work)
        # (reading, page, where the next one begins, error); of this call alone, for one that ends early leaves some.
        arrived: queue.SimpleQueue = queue.SimpleQueue()
        active = 0
        while waiting or active:
            while waiting and active < IN_FLIGHT:
                self._ask(waiting.popleft(), arrived)
                active += 1
            reading, page, paging_state, error = arrived.get()
            if error is not None:
                self._wait(reading, error)
                self._ask(reading, arrived)
                continue
            reading.paging_state, reading.failures = paging_state, 0
            if paging_state is None:
                active -= 1
            else:
                self._ask(reading, arrived)  # the next page is under way while the caller works on this one
            yield Fetched(reading.split, page, paging_state is None, reading.retries)

    def _ask(self, reading: _Reading, arrived: queue.SimpleQueue) -> None:
        try:
            future = self._session.execute_async(
                reading.statement, execution_profile=self._profile, paging_state=reading.paging_state
            )
        except DRIVER_ERRORS as error:
            arrived.put((reading, None, None, error))
            return
        future.add_callbacks(
            lambda pages: arrived.put((reading, pages[0], future._paging_state, None)),
            lambda error: arrived.put((reading, None, None, error)),
        )

    def _wait(self, reading: _Reading, error: Exception) -> None:
        reading.failures += 1
        if reading.failures > RETRIES or not isinstance(error, _PASSING):
            where = f'{self._describe} token range {reading.split.token_range}'
            raise ReadError(f'{where}: not read in {reading.failures} attempts ({one_line(error)})') from error
        reading.retries += 1
        # Smaller pages are answered sooner; the range goes on from the page it has come to.
        reading.statement.fetch_size = max(1, reading.statement.fetch_size // 2)
        time.sleep(random.uniform(0, min(_LONGEST_PAUSE, _FIRST_PAUSE * 2**reading.failures)))
