"""InferenceLogger: what a serving process answered and what came of it, into Cassandra, without waiting for Cassandra.

    log(), log_outcome() -> a queue of bounded length -> one thread -> batches of one partition -> Cassandra

A call puts a row into the queue and returns. Where the queue is full, because the cluster is slower than the traffic,
the row is dropped and counted: a log must not slow the server down.
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
    """Logs inferences and outcomes from a serving process; a context manager that holds the process's session.

    Any number of threads may log. What is logged outside the `with` block is dropped, also in a child that was forked
    within it, until the child enters a block of its own. A row logged twice, with the same request id and timestamp, is
    one row: of its values, those of the later call count, within one process, and None leaves what is there.

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
          experiment_id: Stands in every row, so that traffic outside the experiment does not count for it.
          table: 'inference_results', or 'inference_results_bucketed' for more than a trial.
          capacity: Rows that may wait at most, however many bytes they have.
          salts: Buckets of an hour.
          consistency: Consistency level of the writes.

        Raises:
          ValueError: An argument breaks its rule.
        """
        self._level = connections.consistency_level(consistency)
        self._connection, self._experiment_id, self._table, self._salts = connection, experiment_id, table, salts
        self._writer = Writer(capacity, self._level)

    def __enter__(self) -> InferenceLogger:
        """Connects, and starts to write.

        Raises:
          UnavailableError: The cluster does not answer.
          SchemaError: The keyspace lacks the tables.
          TfxCassandraError: The logger is open already.
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
        """Drops further rows, writes what waits, for half a minute at most, and closes."""
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
        """Logs one answer, unless the queue is full, and returns its request id, which outcomes refer to.

        Args:
          model_id: The model.
          prediction: Its answer.
          version: Its version.
          unit: What was assigned to the arm, as given to `assign`; the request itself by default, and where it is
            empty, as of a user who is not known.
          request_id: Identifies the request, a uuid.UUID; a new random one by default.
          timestamp: Aware moment of the request, cut to whole milliseconds; now by default.
          confidence: Of the answer.
          input_hash: Of the input.
          features: Inputs by name, copied.

        Raises:
          ValueError: The timestamp is naive, or the request id no uuid.UUID.
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
        """Logs what became known of a request, unless the queue is full.

        Args:
          model_id: The model that answered the request.
          request_id: As `log` returned it, a uuid.UUID.
          outcome: What it is, such as 'click'.
          value: Its value; the latest one counts, and of two with one timestamp that of the later call.
          timestamp: Aware moment at which it was known, cut to whole milliseconds; now by default.

        Raises:
          ValueError: The timestamp is naive, or the request id no uuid.UUID.
        """
        now = write_time()
        moment = _milliseconds(now, timestamp)
        bucket = bucket_of(moment, _checked(request_id), self._salts)
        values = (model_id, bucket, moment, request_id, outcome, value, now)
        self._writer.put(Row('inference_outcomes', (model_id, bucket), values))

    def flush(self, timeout: float = 30.0) -> bool:
        """Waits until every row accepted so far was written or failed; returns whether that came in time (seconds)."""
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
        # Each row brings its own write time, for those of one batch would share one, and the last would not win.
        cql = f'INSERT INTO {name} ({", ".join(columns)}) VALUES ({places}) USING TIMESTAMP ?'
        statement = session.prepare(cql)
        statement.is_idempotent = True  # an insert is an upsert, and the whole key is in the row
        statement.consistency_level = self._level
        return statement


def _milliseconds(now: int, moment: datetime.datetime | None) -> datetime.datetime:
    # The write time never goes back, so of two outcomes logged without a moment the second one is never the earlier.
    moment = EPOCH + datetime.timedelta(microseconds=now) if moment is None else aware('timestamp', moment)
    return moment.replace(microsecond=moment.microsecond // 1000 * 1000)


def _checked(request_id: uuid.UUID) -> uuid.UUID:
    if not isinstance(request_id, uuid.UUID):
        raise invalid('request_id', request_id, 'a uuid.UUID; of a text, uuid.UUID(text)')
    return request_id


def _copied(features: Sequence[Mapping[str, float]] | None) -> Sequence[Mapping[str, float]] | None:
    """Copies what the caller may change before it is written; what has another shape is for the writer to refuse."""
    try:
        return None if features is None else [dict(entries) for entries in features]
    except Exception:
        return features
