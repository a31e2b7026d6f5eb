"""InferenceLogger against a real cluster: everything arrives, a slow cluster costs rows and never time."""

from __future__ import annotations

import datetime
import threading
import time
import uuid
from collections.abc import Iterator

import pytest
from cassandra.cluster import Session

from tfx_cassandra.components.errors import SchemaError
from tfx_cassandra.components.inference_logger import InferenceLogger, bucket_of
from tfx_cassandra.components.store.connection import CassandraConnection

pytestmark = pytest.mark.integration

WHEN = datetime.datetime(2026, 1, 1, 12, 0, 0, 123_456, tzinfo=datetime.timezone.utc)
WHOLE = WHEN.replace(microsecond=123_000, tzinfo=None)


@pytest.fixture(autouse=True)
def empty(connection: CassandraConnection, session: Session) -> Iterator[None]:
    yield
    for table in ('inference_results', 'inference_results_bucketed', 'inference_outcomes'):
        session.execute(f'TRUNCATE {connection.keyspace}.{table}', timeout=120)


@pytest.mark.parametrize('table', ['inference_results', 'inference_results_bucketed'])
def test_a_row_arrives_as_it_was_logged(connection: CassandraConnection, session: Session, table: str) -> None:
    with InferenceLogger(connection, 'e', table) as log:
        request = log.log('m', 0.25, version='7', timestamp=WHEN, confidence=0.5, input_hash='h', features=[{'x': 1.0}])
        log.log_outcome('m', request, 'late', 1.0, WHEN + datetime.timedelta(hours=3))
    (row,) = session.execute(f'SELECT * FROM {connection.keyspace}.{table}')
    assert (row.model_id, row.request_id, row.timestamp, row.version) == ('m', request, WHOLE, '7')
    assert (row.prediction, row.confidence, row.input_hash, row.experiment_id) == (0.25, 0.5, 'h', 'e')
    assert [dict(entries) for entries in row.features] == [{'x': 1.0}]
    if table.endswith('bucketed'):
        assert row.bucket == bucket_of(WHEN, request)
    (row,) = session.execute(f'SELECT * FROM {connection.keyspace}.inference_outcomes')
    assert (row.model_id, row.request_id, row.outcome, row.value) == ('m', request, 'late', 1.0)
    assert row.bucket == bucket_of(WHEN + datetime.timedelta(hours=3), request)


def test_many_threads_lose_nothing(connection: CassandraConnection, session: Session) -> None:
    with InferenceLogger(connection, table='inference_results_bucketed') as log:
        threads = [threading.Thread(target=lambda: [log.log('m', 0.5) for _ in range(500)]) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert log.flush(60)
        assert (log.counts.written, log.counts.dropped, log.counts.failed) == (4000, 0, 0)
    rows = session.execute(f'SELECT request_id FROM {connection.keyspace}.inference_results_bucketed')
    assert len({row.request_id for row in rows}) == 4000


def test_closing_writes_what_waits(connection: CassandraConnection, session: Session) -> None:
    with InferenceLogger(connection) as log:
        for _ in range(3000):
            log.log('m', 0.5)
    assert log.counts.written == 3000
    assert session.execute(f'SELECT count(*) FROM {connection.keyspace}.inference_results').one()[0] == 3000


def test_a_full_queue_drops_and_does_not_wait(connection: CassandraConnection, monkeypatch: pytest.MonkeyPatch) -> None:
    stalled = threading.Event()
    with InferenceLogger(connection, capacity=100) as log:
        write = log._write
        monkeypatch.setattr(log, '_write', lambda rows: (stalled.wait(30), write(rows)))
        log.log('m', 0.5)
        time.sleep(0.3)  # the writer has taken it, and stalls
        began = time.monotonic()
        for _ in range(1000):
            log.log('m', 0.5)
        assert time.monotonic() - began < 1
        assert (log.counts.accepted, log.counts.dropped) == (101, 900)
        assert not log.flush(0.1)
        stalled.set()
        assert log.flush(30)
        assert log.counts.written == 101


def test_a_row_that_cannot_be_written_is_counted_and_spoils_no_other(
    connection: CassandraConnection, caplog: pytest.LogCaptureFixture
) -> None:
    with InferenceLogger(connection) as log:
        log.log('m', 'high')  # type: ignore[arg-type]
        log.log('', 0.5)  # the server refuses an empty partition key
        log.log('m', 0.5)
        log.log('m', 0.6)
        assert log.flush(30)
        counts = log.counts
    assert (counts.written, counts.failed) == (2, 2)
    assert counts.last_error
    assert len([record for record in caplog.records if 'Inferences are not being logged' in record.message]) == 1


def test_a_row_that_the_server_refuses_spoils_no_other_of_its_request(connection: CassandraConnection) -> None:
    request = uuid.UUID(int=1)
    with InferenceLogger(connection) as log:
        for name in ('a', 'b' * 70_000, 'c'):  # a clustering column has 65,535 bytes at most
            log.log_outcome('m', request, name, 1.0, WHEN)
    assert (log.counts.written, log.counts.failed) == (2, 1)


def test_writing_again_changes_nothing(connection: CassandraConnection, session: Session) -> None:
    for _ in range(2):
        with InferenceLogger(connection) as log:
            log.log('m', 0.5, request_id=uuid.UUID(int=1), timestamp=WHEN)
    assert session.execute(f'SELECT count(*) FROM {connection.keyspace}.inference_results').one()[0] == 1


def test_a_naive_time_is_refused(connection: CassandraConnection) -> None:
    with InferenceLogger(connection) as log, pytest.raises(ValueError, match='timestamp: got'):
        log.log('m', 0.5, timestamp=datetime.datetime(2026, 1, 1))


def test_a_keyspace_without_the_schema_is_named(cluster_connection: CassandraConnection) -> None:
    import dataclasses

    nowhere = dataclasses.replace(cluster_connection, keyspace='no_such_keyspace')
    with pytest.raises(SchemaError, match="keyspace: got 'no_such_keyspace'"), InferenceLogger(nowhere):
        pass
