"""InferenceLogger: what a serving process answered and what came of it, into Cassandra, without waiting for Cassandra.

    log(), log_outcome() -> a queue of bounded length -> one thread -> batches of one partition -> Cassandra

A call puts a row into the queue and returns. Where the queue is full, because the cluster is slower than the traffic,
the row is dropped and counted: a log must not slow the server down.
"""

from __future__ import annotations

import dataclasses
import datetime
import logging
import queue
import struct
import threading
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import NamedTuple

from cassandra import InvalidRequest
from cassandra.query import UNSET_VALUE, BatchStatement, BatchType, BoundStatement, PreparedStatement, Statement

from tfx_cassandra.components.assignment import SALTS, assign, bucket_of
from tfx_cassandra.components.dataset.window import aware
from tfx_cassandra.components.errors import SchemaError, invalid
from tfx_cassandra.components.scan.query import quoted
from tfx_cassandra.components.store import connection as connections
from tfx_cassandra.components.store.concurrent import outcomes
from tfx_cassandra.components.store.connection import CassandraConnection
from tfx_cassandra.components.store.driver_errors import DRIVER_ERRORS, one_line

_GATHER_ROWS = 2000  # rows taken out of the queue at once, and looked through for those of one partition
_REQUEST_ROWS = 50  # rows of one partition in one request
_CONCURRENCY = 16  # requests in flight
_CLOSE_SECONDS = 30.0
_PAUSE = 0.05  # seconds to wait for more rows, so that there is something to batch

_KEYS = {
    'inference_results': ('model_id', 'timestamp', 'request_id'),
    'inference_results_bucketed': ('model_id', 'bucket', 'timestamp', 'request_id'),
    'inference_outcomes': ('model_id', 'bucket', 'timestamp', 'request_id', 'outcome'),
}
_ANSWER = ('input_hash', 'prediction', 'confidence', 'features', 'version', 'experiment_id', 'unit')

logger = logging.getLogger(__name__)

__all__ = ['InferenceLogger', 'LogCounts', 'assign', 'bucket_of']


@dataclasses.dataclass(frozen=True)
class LogCounts:
    """Rows since the logger began.

    Attributes:
      accepted: Put into the queue.
      dropped: Not put into it, for it was full.
      written: Acknowledged by the cluster.
      failed: Refused by the cluster, or not answered by it.
      last_error: Why the last one failed.
    """

    accepted: int = 0
    dropped: int = 0
    written: int = 0
    failed: int = 0
    last_error: str | None = None


class _Row(NamedTuple):
    """A row on its way, its values in the order of its table's statement."""

    table: str
    partition: tuple[str, ...]
    values: tuple


class InferenceLogger:
    """Logs inferences and outcomes from a serving process; a context manager that holds the process's session.

    Any number of threads may log. Make one in each process, after it was forked. Writing a row twice is harmless where
    request id and timestamp are given.

    Example:
      with InferenceLogger(connection, experiment_id='e') as log:
          arm = assign('e', user, {'control': 0.5, 'treatment': 0.5})
          request_id = log.log('m', 0.7, version=VERSIONS[arm], unit=user)
          log.log_outcome('m', request_id, 'click', 1.0)
    """

    def __init__(
        self,
        connection: CassandraConnection,
        experiment_id: str | None = None,
        table: str = 'inference_results',
        capacity: int = 20_000,
        salts: int = SALTS,
        consistency: str = 'LOCAL_ONE',
    ) -> None:
        """Declares the logger; it connects when the `with` block is entered.

        Args:
          connection: The cluster and keyspace of the tables.
          experiment_id: Stands in every row, so that traffic outside the experiment does not count for it.
          table: 'inference_results', or 'inference_results_bucketed' for more than a trial.
          capacity: Rows that may wait at most.
          salts: Buckets of an hour.
          consistency: Consistency level of the writes.

        Raises:
          ValueError: An argument breaks its rule.
        """
        if table not in ('inference_results', 'inference_results_bucketed'):
            raise invalid('table', table, 'inference_results or inference_results_bucketed')
        for field, value in (('capacity', capacity), ('salts', salts)):
            if not isinstance(value, int) or value < 1:
                raise invalid(field, value, 'an integer of at least 1')
        self._level = connections.consistency_level(consistency)
        self._connection, self._experiment_id, self._table, self._salts = connection, experiment_id, table, salts
        self._queue: queue.Queue[_Row] = queue.Queue(capacity)
        self._counts, self._lock = LogCounts(), threading.Lock()
        self._closing = threading.Event()

    def __enter__(self) -> InferenceLogger:
        self._session = connections.acquire(self._connection)
        try:
            self._statements = {table: self._prepared(table) for table in (self._table, 'inference_outcomes')}
        except InvalidRequest as error:
            connections.release(self._connection)
            rule = f'a keyspace with the schema applied ({one_line(error)})'
            raise SchemaError(f'keyspace: got {self._connection.keyspace!r}, rule: {rule}') from error
        except DRIVER_ERRORS:
            connections.release(self._connection)
            raise
        self._thread = threading.Thread(target=self._write_all, name='inference-logger', daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Writes what waits, for half a minute at most, and closes."""
        self._closing.set()
        self._thread.join(_CLOSE_SECONDS)
        connections.release(self._connection)

    def log(
        self,
        model_id: str,
        prediction: float,
        *,
        version: str | None = None,
        unit: str | None = None,
        request_id: uuid.UUID | None = None,
        timestamp: datetime.datetime | None = None,
        confidence: float | None = None,
        input_hash: str | None = None,
        features: Sequence[Mapping[str, float]] | None = None,
    ) -> uuid.UUID:
        """Logs one answer, unless the queue is full, and returns its request id, which outcomes refer to.

        Args:
          model_id: The model.
          prediction: Its answer.
          version: Its version.
          unit: What was assigned to the arm, as given to `assign`; the request itself by default.
          request_id: Identifies the request; a new random one by default.
          timestamp: Aware moment of the request, cut to whole milliseconds; now by default.
          confidence: Of the answer.
          input_hash: Of the input.
          features: Inputs by name.

        Raises:
          ValueError: The timestamp is naive.
        """
        request_id = request_id or uuid.uuid4()
        moment = _milliseconds(timestamp)
        answer = (input_hash, prediction, confidence, features, version, self._experiment_id, unit)
        bucket = (bucket_of(moment, request_id, self._salts),) if self._table.endswith('bucketed') else ()
        self._put(_Row(self._table, (model_id, *bucket), (model_id, *bucket, moment, request_id, *answer)))
        return request_id

    def log_outcome(
        self,
        model_id: str,
        request_id: uuid.UUID,
        outcome: str,
        value: float,
        timestamp: datetime.datetime | None = None,
    ) -> None:
        """Logs what became known of a request, unless the queue is full.

        Args:
          model_id: The model that answered the request.
          request_id: As `log` returned it.
          outcome: What it is, such as 'click'.
          value: Its value; the latest one counts.
          timestamp: Aware moment at which it was known, cut to whole milliseconds; now by default.

        Raises:
          ValueError: The timestamp is naive.
        """
        moment = _milliseconds(timestamp)
        bucket = bucket_of(moment, request_id, self._salts)
        values = (model_id, bucket, moment, request_id, outcome, value)
        self._put(_Row('inference_outcomes', (model_id, bucket), values))

    def flush(self, timeout: float = 30.0) -> bool:
        """Waits until every row accepted so far was written or failed; returns whether that came in time (seconds)."""
        awaited, until = self.counts.accepted, time.monotonic() + timeout
        while (counts := self.counts).written + counts.failed < awaited:
            if time.monotonic() > until:
                return False
            time.sleep(_PAUSE / 5)
        return True

    @property
    def counts(self) -> LogCounts:
        """Rows accepted, dropped, written and failed so far."""
        with self._lock:
            return self._counts

    def _put(self, row: _Row) -> None:
        try:
            self._queue.put_nowait(row)
        except queue.Full:
            self._count(dropped=1)
        else:
            self._count(accepted=1)

    def _count(self, last_error: str | None = None, **more: int) -> None:
        with self._lock:
            changed = {field: getattr(self._counts, field) + n for field, n in more.items()}
            error = {} if last_error is None else {'last_error': last_error}
            self._counts = dataclasses.replace(self._counts, **changed, **error)  # type: ignore[arg-type]

    def _prepared(self, table: str) -> PreparedStatement:
        columns = (*_KEYS[table], *(('value',) if table == 'inference_outcomes' else _ANSWER))
        name = f'{quoted(self._connection.keyspace)}.{quoted(table)}'
        places = ', '.join('?' * len(columns))
        statement = self._session.prepare(f'INSERT INTO {name} ({", ".join(columns)}) VALUES ({places})')
        statement.is_idempotent = True  # an insert is an upsert, and the whole key is in the row
        statement.consistency_level = self._level
        return statement

    def _write_all(self) -> None:
        while rows := self._taken():
            try:
                self._write(rows)
            except Exception as error:  # whatever it is, the next rows may be fine, and the server must not notice
                self._failed(len(rows), error)

    def _taken(self) -> list[_Row]:
        """Waits for rows, and takes some; none when the logger closes and nothing is left."""
        rows: list[_Row] = []
        while not rows:
            closing = self._closing.is_set()
            try:
                rows.append(self._queue.get(timeout=_PAUSE))
            except queue.Empty:
                if closing:
                    return []
        if not self._closing.is_set():
            time.sleep(_PAUSE)
        while len(rows) < _GATHER_ROWS:
            try:
                rows.append(self._queue.get_nowait())
            except queue.Empty:
                break
        return rows

    def _write(self, rows: list[_Row]) -> None:
        refused: list[BoundStatement] = []
        for group, outcome in self._outcomes(self._groups(rows)):
            if not isinstance(outcome, Exception):
                self._count(written=len(group))
            elif len(group) > 1:
                refused += group
            else:
                self._failed(1, outcome)
        # A batch is refused as a whole, for one of its rows or for its size; each on its own may well be written.
        for _, outcome in self._outcomes([insert] for insert in refused):
            if isinstance(outcome, Exception):
                self._failed(1, outcome)
            else:
                self._count(written=1)

    def _groups(self, rows: list[_Row]) -> Iterator[list[BoundStatement]]:
        """Gives inserts of one partition together."""
        bound: dict[tuple, list[BoundStatement]] = {}
        for row in rows:
            values = [UNSET_VALUE if value is None else value for value in row.values]
            try:
                insert = self._statements[row.table].bind(values)
            except (ValueError, TypeError, AttributeError, struct.error) as error:
                self._failed(1, error)
            else:
                bound.setdefault((row.table, row.partition), []).append(insert)
        for inserts in bound.values():
            yield from (inserts[i : i + _REQUEST_ROWS] for i in range(0, len(inserts), _REQUEST_ROWS))

    def _outcomes(
        self, groups: Iterable[list[BoundStatement]]
    ) -> Iterator[tuple[list[BoundStatement], list | Exception]]:
        requests = ((group, self._request(group)) for group in groups)
        return outcomes(self._session, requests, _CONCURRENCY)

    def _request(self, group: list[BoundStatement]) -> Statement:
        if len(group) == 1:
            return group[0]
        # Of one partition, an unlogged batch is one mutation.
        batch = BatchStatement(BatchType.UNLOGGED, consistency_level=self._level)
        batch.is_idempotent = True
        for insert in group:
            batch.add(insert)
        return batch

    def _failed(self, count: int, error: Exception) -> None:
        reason = one_line(error)
        if self.counts.failed == 0:  # once, for every row may fail alike
            logger.warning('Inferences are not being logged: %s', reason)
        self._count(failed=count, last_error=reason)


def _milliseconds(moment: datetime.datetime | None) -> datetime.datetime:
    moment = datetime.datetime.now(datetime.timezone.utc) if moment is None else aware('timestamp', moment)
    return moment.replace(microsecond=moment.microsecond // 1000 * 1000)
