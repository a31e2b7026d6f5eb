"""InferenceLogger: logs the predictions and outcomes of a serving process to Cassandra, without waiting for it.

    log(), log_outcome() -> a bounded queue -> one thread -> batches of one partition -> Cassandra

A call puts a row into the queue and returns. If the queue is full, because the cluster is slower than the traffic, the
row is dropped and counted: a log must not slow down the server.
"""

from __future__ import annotations

import contextlib
import datetime
import uuid
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Annotated

from cassandra import InvalidRequest
from cassandra.cluster import Session
from cassandra.query import PreparedStatement

from tfx_cassandra.components.checks import Count, Name, Rule, checked
from tfx_cassandra.components.cql.table import quoted
from tfx_cassandra.components.driver import connection as connections
from tfx_cassandra.components.driver.connection import CassandraConnection, Consistency
from tfx_cassandra.components.driver.errors import DRIVER_ERRORS, one_line
from tfx_cassandra.components.driver.write_time import write_time
from tfx_cassandra.components.errors import SchemaError, TfxCassandraError, UnavailableError, invalid
from tfx_cassandra.components.experiment.assignment import SALTS, assign, bucket_of
from tfx_cassandra.components.inference_log.writer import LogCounts, Row, Writer
from tfx_cassandra.components.window import EPOCH, aware

_KEYS = {
    'inference_results': ('model_id', 'timestamp', 'request_id'),
    'inference_results_bucketed': ('model_id', 'bucket', 'timestamp', 'request_id'),
    'inference_outcomes': ('model_id', 'bucket', 'timestamp', 'request_id', 'outcome'),
}
_Table = Annotated[str, Rule(' or '.join(list(_KEYS)[:2]), lambda table: table in list(_KEYS)[:2])]
_ANSWER = ('input_hash', 'prediction', 'confidence', 'features', 'version', 'experiment_id', 'unit')

__all__ = ['InferenceLogger', 'LogCounts', 'assign', 'bucket_of']


class InferenceLogger:
    """Logs inferences and outcomes of a serving process; a context manager that uses the process's session.

    Any number of threads may log. Rows logged outside the `with` block are dropped; so are those of a child process
    that was forked within it, until the child enters a block of its own. Rows with the same request id and timestamp
    are one row: within one process the values of the later call win, and None keeps the stored value.

    Example:
      with InferenceLogger(connection, experiment_id='e') as log:
          arm = assign('e', user, {'control': 0.5, 'treatment': 0.5})
          request_id = log.log('m', 0.7, version=VERSIONS[arm], unit=user)
          log.log_outcome('m', request_id, 'click', 1.0)
    """

    @checked
    def __init__(
        self,
        connection: CassandraConnection,
        experiment_id: Name | None = None,
        table: _Table = 'inference_results',
        capacity: Count = 20_000,
        salts: Count = SALTS,
        consistency: Consistency = 'LOCAL_ONE',
    ) -> None:
        """Declares the logger; it connects when the `with` block is entered.

        Args:
          connection: The cluster and keyspace of the tables.
          experiment_id: Written to every row, so that traffic outside the experiment is not counted.
          table: 'inference_results', or 'inference_results_bucketed' for more than a trial.
          capacity: The maximum number of rows in the queue, whatever their size.
          salts: The number of buckets per hour.
          consistency: Consistency level of the writes.

        Raises:
          ValueError: An argument breaks its rule.
        """
        self._level = connections.consistency_level(consistency)
        self._connection, self._experiment_id, self._table, self._salts = connection, experiment_id, table, salts
        self._writer = Writer(capacity, self._level)

    def __enter__(self) -> InferenceLogger:
        """Connects, and starts the writing thread.

        Raises:
          UnavailableError: The cluster does not answer.
          SchemaError: The keyspace lacks the tables.
          TfxCassandraError: The logger is already open.
        """
        if self._writer.running:
            raise TfxCassandraError('InferenceLogger: got a second `with` block, rule: one at a time')
        with contextlib.ExitStack() as stack:
            session = stack.enter_context(connections.session(self._connection))
            statements = self._statements(session)
            self._writer.start(session, statements)
            self._held = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Accepts no more rows, writes those in the queue for at most 30 seconds, and closes."""
        self._writer.stop()
        self._held.close()

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
        """Logs one prediction, unless the queue is full, and returns its request id, which outcomes refer to.

        Args:
          model_id: The model.
          prediction: Its prediction.
          version: Its version.
          unit: The unit that was assigned to an arm, as given to `assign`; the request itself if it is None or empty,
            as for an unknown user.
          request_id: The uuid.UUID of the request; a new random one by default.
          timestamp: Aware datetime of the request, truncated to whole milliseconds; now by default.
          confidence: The confidence of the prediction.
          input_hash: A hash of the input.
          features: The inputs by name, which are copied.

        Raises:
          ValueError: The timestamp is naive, or the request id is not a uuid.UUID.
        """
        request_id = uuid.uuid4() if request_id is None else _checked(request_id)
        now = write_time()
        moment = _milliseconds(now, timestamp)
        bucket = (bucket_of(moment, request_id, self._salts),) if self._table.endswith('bucketed') else ()
        key, unit = (model_id, *bucket, moment, request_id), None if unit == '' else unit
        answer = (input_hash, prediction, confidence, _copied(features), version, self._experiment_id, unit)
        self._writer.put(Row(self._table, (model_id, *bucket), (*key, *answer, now)))
        return request_id

    def log_outcome(
        self,
        model_id: str,
        request_id: uuid.UUID,
        outcome: str,
        value: float,
        timestamp: datetime.datetime | None = None,
    ) -> None:
        """Logs an outcome of a request, unless the queue is full.

        Args:
          model_id: The model that answered the request.
          request_id: As `log` returned it, a uuid.UUID.
          outcome: The name of the outcome, such as 'click'.
          value: Its value; the latest one counts, and of two with the same timestamp that of the later call.
          timestamp: Aware datetime at which it was known, truncated to whole milliseconds; now by default.

        Raises:
          ValueError: The timestamp is naive, or the request id is not a uuid.UUID.
        """
        now = write_time()
        moment = _milliseconds(now, timestamp)
        bucket = bucket_of(moment, _checked(request_id), self._salts)
        values = (model_id, bucket, moment, request_id, outcome, value, now)
        self._writer.put(Row('inference_outcomes', (model_id, bucket), values))

    def flush(self, timeout: float = 30.0) -> bool:
        """Waits until every row accepted so far is written or failed; returns False after `timeout` seconds."""
        return self._writer.flush(timeout)

    @property
    def counts(self) -> LogCounts:
        """Rows accepted, dropped, written and failed so far."""
        return self._writer.counts

    def _statements(self, session: Session) -> dict[str, PreparedStatement]:
        try:
            return {table: self._prepared(session, table) for table in (self._table, 'inference_outcomes')}
        except InvalidRequest as error:
            rule = f'a keyspace with the schema applied ({one_line(error)})'
            raise SchemaError(f'keyspace: got {self._connection.keyspace!r}, rule: {rule}') from error
        except DRIVER_ERRORS as error:
            rule = f'it answers ({one_line(error)})'
            raise UnavailableError(f'connection: got {self._connection}, rule: {rule}') from error

    def _prepared(self, session: Session, table: str) -> PreparedStatement:
        columns = (*_KEYS[table], *(('value',) if table == 'inference_outcomes' else _ANSWER))
        name = f'{quoted(self._connection.keyspace)}.{quoted(table)}'
        places = ', '.join('?' * len(columns))
        # Each row has its own write time: rows of a batch would share one otherwise, and the last would not win.
        cql = f'INSERT INTO {name} ({", ".join(columns)}) VALUES ({places}) USING TIMESTAMP ?'
        statement = session.prepare(cql)
        statement.is_idempotent = True  # an insert is an upsert, and the whole key is in the row
        statement.consistency_level = self._level
        return statement


def _milliseconds(now: int, moment: datetime.datetime | None) -> datetime.datetime:
    # Write times never decrease, so of two outcomes logged without a timestamp the second is never the earlier one.
    moment = EPOCH + datetime.timedelta(microseconds=now) if moment is None else aware('timestamp', moment)
    return moment.replace(microsecond=moment.microsecond // 1000 * 1000)


def _checked(request_id: uuid.UUID) -> uuid.UUID:
    if not isinstance(request_id, uuid.UUID):
        raise invalid('request_id', request_id, 'a uuid.UUID; for a text, uuid.UUID(text)')
    return request_id


def _copied(features: Sequence[Mapping[str, float]] | None) -> Sequence[Mapping[str, float]] | None:
    """Copies what the caller may change before it is written; the writer rejects features of any other shape."""
    try:
        return None if features is None else [dict(entries) for entries in features]
    except Exception:
        return features
