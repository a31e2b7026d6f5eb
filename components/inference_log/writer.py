"""The writing half of InferenceLogger: a bounded queue of rows, which one thread empties.

put() -> queue -> chunks of the queue, one after the other -> requests of one partition -> Cassandra
"""

from __future__ import annotations

import collections
import dataclasses
import logging
import os
import threading
import weakref
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from cassandra import InvalidRequest
from cassandra.cluster import Session
from cassandra.query import UNSET_VALUE, BatchStatement, BatchType, BoundStatement, PreparedStatement, Statement

from tfx_cassandra.components import metrics
from tfx_cassandra.components.driver.concurrent import outcomes
from tfx_cassandra.components.driver.errors import one_line

_CHUNK_ROWS = 2000  # rows taken out of the queue at once and grouped by partition
_REQUEST_ROWS = 50  # rows of one partition in one request
_CONCURRENCY = 16  # requests in flight
_CLOSE_SECONDS = 30.0
_PAUSE = 0.05  # seconds to wait for more rows, so that there is something to batch

logger = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class LogCounts:
    """Rows since the logger was made, in this process.

    Attributes:
      accepted: Rows put into the queue.
      dropped: Rows rejected because the queue was full or the logger not open.
      written: Rows acknowledged by the cluster.
      failed: Rows rejected or not answered by the cluster, or left over when the logger closed.
      last_error: Why the last row failed.
    """

    accepted: int = 0
    dropped: int = 0
    written: int = 0
    failed: int = 0
    last_error: str | None = None


class Row(NamedTuple):
    """A row in the queue; its values are in the order of its table's statement, the write time last."""

    table: str
    partition: tuple[str, ...]
    values: tuple[object, ...]


class Writer:
    """Writes rows in a thread of its own, so that `put` never waits for Cassandra.

    Args:
      capacity: The maximum number of rows in the queue.
      level: The driver's number for the consistency level of the writes.
    """

    def __init__(self, capacity: int, level: int) -> None:
        self._capacity, self._level = capacity, level
        self.reset()
        _writers.add(self)

    def reset(self) -> None:
        """Resets all state, the lock too: in a forked child, a thread that no longer exists may hold it."""
        self._changed = threading.Condition()  # guards the state below
        self._waiting: collections.deque[Row] = collections.deque()
        self._open = False
        self._thread: threading.Thread | None = None
        self._accepted = self._dropped = self._written = self._failed = 0
        # Rows of finished chunks. Chunks finish in the order of the queue, their partitions do not.
        self._finished = 0
        self._last_error: str | None = None
        self._warned: set[str] = set()
        self._lost = 0  # dropped or failed when the last chunk was finished

    @property
    def running(self) -> bool:
        """Whether the writer was started in this process, and not stopped since."""
        return self._thread is not None

    @property
    def counts(self) -> LogCounts:
        """Rows accepted, dropped, written and failed so far."""
        with self._changed:
            return LogCounts(self._accepted, self._dropped, self._written, self._failed, self._last_error)

    def start(self, session: Session, statements: Mapping[str, PreparedStatement]) -> None:
        """Starts to write with a session and its prepared inserts by table, until `stop`."""
        with self._changed:
            self._session, self._statements = session, statements
            self._thread = threading.Thread(target=self._run, name='inference-logger', daemon=True)
            self._thread.start()
            self._open = True

    def stop(self) -> bool:
        """Writes the queue for at most 30 seconds; returns whether the writer was running in this process."""
        with self._changed:
            thread, self._open = self._thread, False
            self._changed.notify_all()
        if thread is None:
            return False
        thread.join(_CLOSE_SECONDS)
        with self._changed:
            self._thread = None  # if the thread is too slow, its further writes are not counted
            left = self._accepted - self._written - self._failed
            if left:
                self._failed += left
                metrics.LOG_DEAD_LETTERS.add(left)
                self._last_error = f'not written within {_CLOSE_SECONDS:g} seconds of closing'
            self._finished = self._accepted
            self._waiting.clear()
            self._changed.notify_all()
        if left:
            logger.warning('%d inferences were %s', left, self._last_error)
        return True

    def put(self, row: Row) -> None:
        """Puts a row into the queue, or drops it."""
        with self._changed:
            if self._open and len(self._waiting) < self._capacity:
                self._waiting.append(row)
                self._accepted += 1
                return
            self._dropped += 1
            metrics.LOG_DROPS.add(1)
            reason = f'{self._capacity} rows wait already' if self._open else 'the logger is not open'
            first = self._is_first('dropped')
        if first:
            logger.warning('Inferences are being dropped: %s', reason)

    def flush(self, timeout: float) -> bool:
        """Waits until every row accepted so far is written or failed; returns False after `timeout` seconds."""
        with self._changed:
            awaited = self._accepted
            return self._changed.wait_for(lambda: self._finished >= awaited, timeout)

    def _is_first(self, problem: str) -> bool:
        """Returns whether a problem is the first of its kind in this outage, which a chunk without losses ends."""
        known = problem in self._warned
        self._warned.add(problem)
        return not known

    def _run(self) -> None:
        while rows := self._next_chunk():
            try:
                self._write(rows)
            except Exception as error:  # whatever it is, the next rows may succeed, and the server must not fail
                self._count(self._finished + len(rows) - self._written - self._failed, error)
            with self._changed:
                if self._is_abandoned():
                    return
                self._finished += len(rows)
                if self._lost == self._dropped + self._failed:
                    self._warned.clear()
                self._lost = self._dropped + self._failed
                self._changed.notify_all()

    def _is_abandoned(self) -> bool:
        return self._thread is not threading.current_thread()

    def _next_chunk(self) -> list[Row]:
        """Waits for rows and takes a chunk of them; an empty one when the writer has stopped and the queue is empty."""
        with self._changed:
            while True:
                if self._open and len(self._waiting) < _CHUNK_ROWS:
                    self._changed.wait(_PAUSE)
                if self._is_abandoned():
                    return []
                rows = [self._waiting.popleft() for _ in range(min(len(self._waiting), _CHUNK_ROWS))]
                if rows or not self._open:
                    return rows

    def _write(self, rows: list[Row]) -> None:
        rejected: list[BoundStatement] = []
        for group, outcome in self._outcomes(self._groups(rows)):
            if isinstance(outcome, InvalidRequest) and len(group) > 1:
                rejected += group
            else:
                self._count(len(group), outcome)
        metrics.LOG_RETRIES.add(len(rejected))
        # A batch is rejected as a whole, for one of its rows or for its size, so its rows are sent again one by one. A
        # batch that failed otherwise is not: fifty more requests do not help a cluster that is too slow.
        for group, outcome in self._outcomes([insert] for insert in rejected):
            self._count(len(group), outcome)

    def _groups(self, rows: list[Row]) -> Iterator[list[BoundStatement]]:
        """Groups the inserts by partition."""
        bound: dict[tuple[str, tuple[str, ...]], list[BoundStatement]] = {}
        for row in rows:
            values = [UNSET_VALUE if value is None else value for value in row.values]
            try:
                insert = self._statements[row.table].bind(values)
                bound.setdefault((row.table, row.partition), []).append(insert)
            except Exception as error:  # a value from the caller can raise anything
                self._count(1, error)
        for inserts in bound.values():
            yield from (inserts[i : i + _REQUEST_ROWS] for i in range(0, len(inserts), _REQUEST_ROWS))

    def _outcomes(
        self, groups: Iterable[list[BoundStatement]]
    ) -> Iterator[tuple[list[BoundStatement], list[Any] | Exception]]:
        requests = ((group, self._request(group)) for group in groups)
        return outcomes(self._session, requests, _CONCURRENCY, metrics=metrics.LOG_REQUESTS)

    def _request(self, group: list[BoundStatement]) -> Statement:
        if len(group) == 1:
            return group[0]
        # An unlogged batch of one partition is one mutation.
        batch = BatchStatement(BatchType.UNLOGGED, consistency_level=self._level)
        batch.is_idempotent = True
        for insert in group:
            batch.add(insert)
        return batch

    def _count(self, rows: int, outcome: list[Any] | Exception) -> None:
        with self._changed:
            if self._is_abandoned():
                return
            if not isinstance(outcome, Exception):
                self._written += rows
                metrics.LOG_ROWS.add(rows)
                return
            self._failed += rows
            metrics.LOG_DEAD_LETTERS.add(rows)
            self._last_error = one_line(outcome)
            first = self._is_first('failed')
        if first:
            logger.warning('Inferences are not being logged: %s', self._last_error)


_writers: weakref.WeakSet[Writer] = weakref.WeakSet()
metrics.LOG_QUEUE.read_from(lambda: sum(len(writer._waiting) for writer in list(_writers)))


def _reset_all() -> None:
    for writer in _writers:
        writer.reset()


os.register_at_fork(after_in_child=_reset_all)
