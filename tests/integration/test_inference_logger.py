"""InferenceLogger against a real cluster: everything arrives, a slow cluster costs rows and never time."""

from __future__ import annotations

import datetime
import multiprocessing
import threading
import time
import uuid
from collections.abc import Callable, Iterator

import pytest
from cassandra import OperationTimedOut
from cassandra.cluster import Session

from tfx_cassandra.components.driver.connection import CassandraConnection
from tfx_cassandra.components.errors import SchemaError, TfxCassandraError, UnavailableError
from tfx_cassandra.components.inference_log import writer as inference_writer
from tfx_cassandra.components.inference_log.logger import InferenceLogger, bucket_of

pytestmark = pytest.mark.integration

WHEN = datetime.datetime(2026, 1, 1, 12, 0, 0, 123_456, tzinfo=datetime.timezone.utc)
WHOLE = WHEN.replace(microsecond=123_000, tzinfo=None)


@pytest.fixture(autouse=True)
def empty(connection: CassandraConnection, session: Session) -> Iterator[None]:
    yield
    for table in ('inference_results', 'inference_results_bucketed', 'inference_outcomes'):
        session.execute(f'TRUNCATE {connection.keyspace}.{table}', timeout=120)


def stalled(log: InferenceLogger, monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Lets the writer take rows and then wait until the event is set."""
    go, write = threading.Event(), log._writer._write
    monkeypatch.setattr(log._writer, '_write', lambda rows: (go.wait(30), write(rows)))
    return go


def warnings(caplog: pytest.LogCaptureFixture, what: str) -> int:
    return sum(what in record.getMessage() for record in caplog.records)


def stored(connection: CassandraConnection, session: Session, table: str = 'inference_results') -> int:
    return session.execute(f'SELECT count(*) FROM {connection.keyspace}.{table}').one()[0]


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
    with InferenceLogger(connection, capacity=100) as log:
        go = stalled(log, monkeypatch)
        log.log('m', 0.5)
        time.sleep(0.3)  # the writer has taken it, and stalls
        began = time.monotonic()
        for _ in range(1000):
            log.log('m', 0.5)
        assert time.monotonic() - began < 1
        assert (log.counts.accepted, log.counts.dropped) == (101, 900)
        assert not log.flush(0.1)
        go.set()
        assert log.flush(30)
        assert log.counts.written == 101


def test_rows_outside_the_block_are_dropped(connection: CassandraConnection, session: Session) -> None:
    log = InferenceLogger(connection)
    log.log('m', 0.5)
    with log:
        log.log('m', 0.5)
    log.log('m', 0.5)
    assert (log.counts.accepted, log.counts.dropped, log.counts.written) == (1, 2, 1)
    assert stored(connection, session) == 1


def test_closing_ends_while_rows_keep_coming(connection: CassandraConnection, session: Session) -> None:
    done = threading.Event()

    def traffic() -> None:
        while not done.is_set():
            log.log('m', 0.5)
            time.sleep(0.001)

    with InferenceLogger(connection) as log:
        thread = threading.Thread(target=traffic)
        thread.start()
        time.sleep(0.3)
        began = time.monotonic()
    took = time.monotonic() - began
    time.sleep(0.2)
    done.set()
    thread.join()
    assert took < 10
    assert log.counts.dropped > 0
    assert stored(connection, session) == log.counts.accepted == log.counts.written


def test_a_logger_opens_again_but_not_twice_at_once(connection: CassandraConnection, session: Session) -> None:
    log = InferenceLogger(connection)
    for _ in range(2):
        with log:
            log.log('m', 0.5)
            with pytest.raises(TfxCassandraError, match='rule: one at a time'), log:
                pass
            log.log('m', 0.5)
    assert (log.counts.accepted, log.counts.written) == (4, 4)
    assert stored(connection, session) == 4


def test_what_is_left_when_closing_takes_too_long_has_failed(
    connection: CassandraConnection, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(inference_writer, '_CLOSE_SECONDS', 0.5)
    with InferenceLogger(connection) as log:
        go = stalled(log, monkeypatch)
        thread = log._writer._thread
        for _ in range(5):
            log.log('m', 0.5)
    assert warnings(caplog, '5 inferences were not written within 0.5 seconds of closing') == 1
    assert log.flush(0)
    go.set()
    thread.join(30)
    assert (log.counts.accepted, log.counts.written, log.counts.failed) == (5, 0, 5)


def test_flush_waits_for_its_rows_and_no_others(
    connection: CassandraConnection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inference_writer, '_PAUSE', 1.0)
    one_group, go, flushed = threading.Event(), threading.Event(), []
    with InferenceLogger(connection) as log:
        count = log._writer._count
        monkeypatch.setattr(log._writer, '_count', lambda *of: (count(*of), one_group.set(), go.wait(30)))
        log.log('m', 0.5)
        log.log('n', 0.5)
        thread = threading.Thread(target=lambda: flushed.append(log.flush(30)))
        thread.start()
        time.sleep(0.2)
        log.log('m', 0.5)  # in the same gather, and written together with the first
        assert one_group.wait(30)
        assert log.counts.written == 2
        with log._writer._changed:
            log._writer._changed.notify_all()
        thread.join(0.3)
        assert not flushed
        go.set()
        thread.join(30)
    assert flushed == [True]


def in_a_fork(child: Callable[[], None]) -> int | None:
    """Runs in a forked child; returns its exit code, or None if it hangs."""
    process = multiprocessing.get_context('fork').Process(target=child)
    process.start()
    process.join(20)
    code = process.exitcode
    process.kill()
    process.join()
    return code


def test_a_forked_child_writes_with_a_session_of_its_own(connection: CassandraConnection, session: Session) -> None:
    def child() -> None:
        with InferenceLogger(connection) as log:
            log.log('m', 0.5)
        assert log.counts.written == 1

    assert in_a_fork(child) == 0
    assert stored(connection, session) == 1


def test_a_logger_entered_before_the_fork_drops_in_the_child(connection: CassandraConnection, session: Session) -> None:
    def child() -> None:
        log.log('m', 0.5)
        assert (log.counts.accepted, log.counts.dropped) == (0, 1)
        log.__exit__(None, None, None)
        with log:
            log.log('m', 0.5)
        assert log.counts.written == 1

    with InferenceLogger(connection) as log:
        log.log('m', 0.5)
        with log._writer._changed:  # as another thread may
            code = in_a_fork(child)
        log.log('m', 0.5)
    assert (code, log.counts.written, log.counts.dropped) == (0, 2, 0)
    assert stored(connection, session) == 3


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
    assert warnings(caplog, 'Inferences are not being logged') == 1


class _Odd:
    def __float__(self) -> float:
        raise KeyError('odd')


def test_a_value_that_raises_anything_spoils_no_other(connection: CassandraConnection) -> None:
    with InferenceLogger(connection) as log:
        for value in (0.5, _Odd(), 0.5):
            log.log('m', value)  # type: ignore[arg-type]
        log.log('m', 0.5, features=3)  # type: ignore[arg-type]
        log.log(['m'], 0.5)  # type: ignore[arg-type]
    assert (log.counts.written, log.counts.failed) == (2, 3)


def test_rows_are_counted_once_when_a_gather_breaks_off(
    connection: CassandraConnection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inference_writer, '_PAUSE', 0.5)
    with InferenceLogger(connection) as log:
        request, made = log._writer._request, iter(range(20))
        monkeypatch.setattr(log._writer, '_request', lambda group: request(group) if next(made) < 18 else 1 / 0)
        for i in range(20):
            log.log(f'm{i}', 0.5)
        assert log.flush(30)
        assert (log.counts.written, log.counts.failed) == (2, 18)  # 16 were in flight


def test_what_is_not_refused_is_not_sent_again(
    connection: CassandraConnection, monkeypatch: pytest.MonkeyPatch
) -> None:
    requests = []
    with InferenceLogger(connection, consistency='THREE') as log:  # of one replica
        request = log._writer._request
        monkeypatch.setattr(log._writer, '_request', lambda group: (requests.append(len(group)), request(group))[1])
        for _ in range(50):
            log.log('m', 0.5)
        assert log.flush(30)
    assert (sum(requests), log.counts.failed) == (50, 50)
    assert 'THREE' in (log.counts.last_error or '')


def test_each_outage_is_told_once(
    connection: CassandraConnection, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with InferenceLogger(connection, capacity=10) as log:
        for outage in (1, 2):
            for _ in range(2):
                log.log('', 0.5)
                assert log.flush(30)
            with monkeypatch.context() as patch:
                go = stalled(log, patch)
                log.log('m', 0.5)
                time.sleep(0.3)  # the writer has taken it, and stalls
                for _ in range(50):
                    log.log('m', 0.5)
                go.set()
                assert log.flush(30)
            assert warnings(caplog, 'Inferences are not being logged') == outage
            assert warnings(caplog, 'Inferences are being dropped: 10 rows wait already') == outage
            log.log('m', 0.5)
            assert log.flush(30)


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


def test_features_are_those_of_the_call(connection: CassandraConnection, session: Session) -> None:
    features = {'x': 1.0}
    with InferenceLogger(connection) as log:
        log.log('m', 0.5, features=[features])
        features['x'] = 2.0
    (row,) = session.execute(f'SELECT features FROM {connection.keyspace}.inference_results')
    assert [dict(entries) for entries in row.features] == [{'x': 1.0}]


def test_an_empty_unit_is_none(connection: CassandraConnection, session: Session) -> None:
    with InferenceLogger(connection) as log:
        log.log('m', 0.5, unit='')
        log.log('m', 0.5, unit='u')
    rows = session.execute(f'SELECT unit FROM {connection.keyspace}.inference_results')
    assert {row.unit for row in rows} == {None, 'u'}


def test_a_naive_time_is_refused(connection: CassandraConnection) -> None:
    with InferenceLogger(connection) as log, pytest.raises(ValueError, match='timestamp: got'):
        log.log('m', 0.5, timestamp=datetime.datetime(2026, 1, 1))


def test_a_keyspace_without_the_schema_is_named(cluster_connection: CassandraConnection) -> None:
    import dataclasses

    nowhere = dataclasses.replace(cluster_connection, keyspace='no_such_keyspace')
    with pytest.raises(SchemaError, match="keyspace: got 'no_such_keyspace'"), InferenceLogger(nowhere):
        pass


def test_a_cluster_that_does_not_answer_is_named(
    connection: CassandraConnection, monkeypatch: pytest.MonkeyPatch
) -> None:
    def silent(session: Session, query: str) -> None:
        raise OperationTimedOut

    monkeypatch.setattr(Session, 'prepare', silent)
    with pytest.raises(UnavailableError, match=r'connection: got .*, rule: it answers \(OperationTimedOut'):
        InferenceLogger(connection).__enter__()


@pytest.mark.parametrize('table', ['inference_results', 'inference_results_bucketed'])
def test_of_two_answers_to_one_request_the_later_call_wins(
    connection: CassandraConnection, session: Session, table: str
) -> None:
    requests = [uuid.UUID(int=n) for n in range(50)]
    with InferenceLogger(connection, table=table) as log:
        for prediction in (0.9, 0.5, 0.1):
            for request in requests:
                log.log('m', prediction, version=str(prediction), request_id=request, timestamp=WHEN)
        log.log('m', 0.05, request_id=requests[0], timestamp=WHEN)  # no version: the one it had stays
    rows = session.execute(f'SELECT request_id, prediction, version FROM {connection.keyspace}.{table}')
    found = {row.request_id: (row.prediction, row.version) for row in rows}
    assert found == dict.fromkeys(requests, (0.1, '0.1')) | {requests[0]: (0.05, '0.1')}


@pytest.mark.parametrize('moment', [WHEN, None])
def test_a_corrected_outcome_counts(
    connection: CassandraConnection, session: Session, moment: datetime.datetime | None
) -> None:
    requests = [uuid.UUID(int=n) for n in range(50)]
    with InferenceLogger(connection, salts=1) as log:
        for request in requests:
            log.log_outcome('m', request, 'late', 1.0, moment)
            log.log_outcome('m', request, 'late', 0.0, moment)
    latest = {}
    rows = session.execute(f'SELECT request_id, timestamp, value FROM {connection.keyspace}.inference_outcomes')
    for row in sorted(rows, key=lambda row: row.timestamp):
        latest[row.request_id] = row.value
    assert latest == dict.fromkeys(requests, 0.0)


def test_a_corrected_outcome_counts_across_flushes_loggers_and_refused_requests(
    connection: CassandraConnection, session: Session
) -> None:
    request = uuid.UUID(int=1)
    with InferenceLogger(connection, salts=1) as slow, InferenceLogger(connection, salts=1) as log:
        go = threading.Event()
        write, slow._writer._write = slow._writer._write, lambda rows: (go.wait(30), write(rows))
        slow.log_outcome('m', request, 'two loggers', 9.0, WHEN)
        log.log_outcome('m', request, 'two loggers', 1.0, WHEN)
        for value in (3.0, 2.0, 1.0):
            log.log_outcome('m', request, 'flushed', value, WHEN)
            assert log.flush(30)
        # The server refuses the request of the first fifty rows, which are then sent again, after the last one.
        log.log_outcome('m', request, 'b' * 70_000, 1.0, WHEN)
        for value in range(60, 0, -1):
            log.log_outcome('m', request, 'refused', value, WHEN)
        go.set()
    rows = session.execute(f'SELECT outcome, value FROM {connection.keyspace}.inference_outcomes')
    assert {row.outcome: row.value for row in rows} == {'two loggers': 1.0, 'flushed': 1.0, 'refused': 1.0}
