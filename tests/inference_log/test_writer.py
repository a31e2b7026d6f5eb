"""The queue and the requests of InferenceLogger. Statements are the driver's own; the cluster's answers are made up."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from cassandra import InvalidRequest, OperationTimedOut, cqltypes
from cassandra.protocol import ColumnMetadata
from cassandra.query import BatchStatement, BatchType, PreparedStatement

from tfx_cassandra.components.inference_log import writer as inference_writer
from tfx_cassandra.components.inference_log.writer import LogCounts, Row, Writer

COLUMNS = [
    ColumnMetadata('k', 't', name, kind)
    for name, kind in (('model', cqltypes.UTF8Type), ('n', cqltypes.Int32Type), ('time', cqltypes.LongType))
]


class _Session:
    """Answers a request, the numbers of its rows, with what `answer` raises for it, and notes it."""

    def __init__(self, answer: Callable[[list[int]], None] = lambda numbers: None) -> None:
        self._answer = answer
        self.requests: list[list[tuple[str, int, int]]] = []
        self.statements: list[Any] = []
        self.waiting = self.most = 0

    def execute_async(self, statement: Any, execution_profile: object) -> _Future:
        several = isinstance(statement, BatchStatement)
        bound = [values for _, _, values in statement._statements_and_parameters] if several else [statement.values]
        self.statements.append(statement)
        self.requests.append([(m.decode(), int.from_bytes(n, 'big'), int.from_bytes(t, 'big')) for m, n, t in bound])
        self.waiting += 1
        self.most = max(self.most, self.waiting)
        return _Future(self, [n for _, n, _ in self.requests[-1]])


class _Future:
    def __init__(self, session: _Session, numbers: list[int]) -> None:
        self._session, self._numbers = session, numbers

    def result(self) -> _Future:
        self._session.waiting -= 1
        self._session._answer(self._numbers)
        return self

    def all(self) -> list:
        return []

    def add_callback(self, answered: Callable[..., None]) -> None:
        answered()


@pytest.fixture
def writers() -> Iterator[list[Writer]]:
    started: list[Writer] = []
    yield started
    for writer in started:
        writer.stop()


def _started(writers: list[Writer], session: Any, capacity: int = 10_000) -> Writer:
    statement = PreparedStatement(COLUMNS, b'', [0], '', None, 5, None, None)
    writer = Writer(capacity, 6)
    writer.start(session, {'t': statement})
    writers.append(writer)
    return writer


def _row(n: object, model: str = 'm') -> Row:
    return Row('t', (model,), (model, n, 1000 + n if isinstance(n, int) else 0))


def _numbers(session: _Session) -> list[list[int]]:
    return [[n for _, n, _ in request] for request in session.requests]


def test_rows_of_one_partition_go_together_in_their_order(writers: list[Writer]) -> None:
    session = _Session()
    writer = _started(writers, session)
    for n in range(60):
        writer.put(_row(n, 'ab'[n % 2]))
    writer.put(_row(60, 'c'))
    assert writer.flush(30)
    assert writer.counts == LogCounts(61, 0, 61, 0, None)
    sent: dict[str, list[int]] = {}
    for request in session.requests:
        assert len({model for model, _, _ in request}) == 1
        for model, n, write_time in request:
            sent.setdefault(model, []).append(n)
            assert write_time == 1000 + n
    assert sent == {'a': list(range(0, 60, 2)), 'b': list(range(1, 60, 2)), 'c': [60]}
    for statement in session.statements:
        if isinstance(statement, BatchStatement):
            assert (statement.batch_type, statement.consistency_level) == (BatchType.UNLOGGED, 6)
            assert statement.is_idempotent


@pytest.mark.parametrize('rows', [1, 49, 50, 51, 100, 101, 2000, 2001])
def test_no_row_is_lost_whatever_the_number(writers: list[Writer], rows: int) -> None:
    session = _Session()
    writer = _started(writers, session)
    for n in range(rows):
        writer.put(_row(n))
    assert writer.flush(30)
    assert [n for request in _numbers(session) for n in request] == list(range(rows))
    assert max(map(len, session.requests)) <= 50
    assert writer.counts == LogCounts(rows, 0, rows, 0, None)


def test_no_more_requests_are_in_flight_than_said(writers: list[Writer]) -> None:
    session = _Session()
    writer = _started(writers, session)
    for n in range(100):
        writer.put(_row(n, f'model {n}'))
    assert writer.flush(30)
    assert session.most == 16


def test_a_value_that_cannot_be_bound_fails_its_row_alone(writers: list[Writer]) -> None:
    session = _Session()
    writer = _started(writers, session)
    for n in (1, 'two', 2**40, 4):
        writer.put(_row(n))
    writer.put(Row('no such table', ('m',), ()))
    assert writer.flush(30)
    assert sorted(n for request in _numbers(session) for n in request) == [1, 4]
    counts = writer.counts
    assert (counts.accepted, counts.written, counts.failed) == (5, 2, 3)
    assert 'no such table' in (counts.last_error or '')


def test_a_refused_request_is_sent_again_row_by_row(writers: list[Writer]) -> None:
    def answer(numbers: list[int]) -> None:
        if 3 in numbers:
            raise InvalidRequest('too large')

    session = _Session(answer)
    writer = _started(writers, session)
    for n in range(5):
        writer.put(_row(n))
    assert writer.flush(30)
    alone = [request for request in session.requests if len(request) == 1]
    assert alone[-5:] == [[('m', n, 1000 + n)] for n in range(5)]  # with the write times of the first attempt
    assert writer.counts == LogCounts(5, 0, 4, 1, 'InvalidRequest: too large')
    writer.put(_row(3))  # alone from the start: not sent again
    assert writer.flush(30)
    assert _numbers(session).count([3]) == 2
    assert writer.counts == LogCounts(6, 0, 4, 2, 'InvalidRequest: too large')


def test_a_request_that_fails_otherwise_is_not_sent_again(writers: list[Writer]) -> None:
    def answer(numbers: list[int]) -> None:
        raise OperationTimedOut('late')

    session = _Session(answer)
    writer = _started(writers, session)
    for n in range(5):
        writer.put(_row(n))
    assert writer.flush(30)
    assert sorted(n for request in _numbers(session) for n in request) == list(range(5))
    assert (writer.counts.written, writer.counts.failed) == (0, 5)


def test_whatever_a_session_raises_the_next_rows_are_written(writers: list[Writer]) -> None:
    class Broken(_Session):
        broken = True

        def execute_async(self, statement: Any, execution_profile: object) -> _Future:
            if self.broken:
                raise RuntimeError('cannot schedule new futures')
            return super().execute_async(statement, execution_profile)

    session = Broken()
    writer = _started(writers, session)
    for n in range(3):
        writer.put(_row(n))
    assert writer.flush(30)
    assert writer.counts == LogCounts(3, 0, 0, 3, 'RuntimeError: cannot schedule new futures')
    session.broken = False
    writer.put(_row(3))
    assert writer.flush(30)
    assert writer.counts == LogCounts(4, 0, 1, 3, 'RuntimeError: cannot schedule new futures')


def _stalled(writers: list[Writer], capacity: int) -> tuple[Writer, _Session, threading.Event]:
    """Returns a writer whose first row is on its way, and the event that lets it arrive."""
    go, taken = threading.Event(), threading.Event()
    session = _Session(lambda numbers: (taken.set(), go.wait(30)))  # type: ignore[arg-type, return-value]
    writer = _started(writers, session, capacity)
    writer.put(_row(0))
    assert taken.wait(30)
    return writer, session, go


def test_a_full_queue_drops_and_says_so_once(writers: list[Writer], caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    writer, session, go = _stalled(writers, capacity=3)
    for n in range(1, 6):
        writer.put(_row(n))
    assert writer.counts == LogCounts(4, 2, 0, 0, None)
    assert not writer.flush(0.01)
    go.set()
    assert writer.flush(30)
    assert [n for request in _numbers(session) for n in request] == [0, 1, 2, 3]
    assert [record.getMessage() for record in caplog.records] == ['Inferences are being dropped: 3 rows wait already']


def test_what_is_put_before_and_after_is_dropped(writers: list[Writer]) -> None:
    writer = Writer(10, 6)
    writer.put(_row(0))
    assert not writer.running
    assert not writer.stop()
    assert writer.counts == LogCounts(0, 1, 0, 0, None)
    session = _Session()
    writer = _started(writers, session)
    assert writer.running
    writer.put(_row(1))
    assert writer.stop()
    assert not writer.running
    writer.put(_row(2))
    assert _numbers(session) == [[1]]
    assert writer.counts == LogCounts(1, 1, 1, 0, None)
    assert writer.flush(0)


def test_what_does_not_arrive_in_time_has_failed_and_counts_no_more(
    writers: list[Writer], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(inference_writer, '_CLOSE_SECONDS', 0.05)
    writer, _, go = _stalled(writers, capacity=10)
    thread = writer._thread
    writer.put(_row(1))
    assert writer.stop()
    expected = LogCounts(2, 0, 0, 2, 'not written within 0.05 seconds of closing')
    assert writer.counts == expected
    assert [record.getMessage() for record in caplog.records] == [
        '2 inferences were not written within 0.05 seconds of closing'
    ]
    go.set()
    assert thread is not None
    thread.join(30)
    assert not thread.is_alive()
    assert writer.counts == expected
    assert writer.flush(0)


def test_flush_does_not_wait_for_rows_put_later(writers: list[Writer]) -> None:
    writer, _, go = _stalled(writers, capacity=10)
    stop = threading.Event()

    def traffic() -> None:
        while not stop.is_set():
            writer.put(_row(1))
            time.sleep(0.001)

    thread = threading.Thread(target=traffic)
    thread.start()
    go.set()
    assert writer.flush(30)
    stop.set()
    thread.join()


def test_a_forked_child_begins_from_nothing(writers: list[Writer]) -> None:
    writer, _, go = _stalled(writers, capacity=10)
    with writer._changed:  # as the parent's thread may hold it
        inference_writer._reset_all()
    assert not writer.running
    assert writer.counts == LogCounts()
    assert not writer.stop()
    go.set()


def test_each_outage_is_told_once(writers: list[Writer], caplog: pytest.LogCaptureFixture) -> None:
    def answer(numbers: list[int]) -> None:
        if 7 in numbers:
            raise OperationTimedOut('late')

    writer = _started(writers, _Session(answer))
    told = []
    for n in (7, 7, 1, 1, 7, 7):  # a gather without any loss ends an outage
        writer.put(_row(n))
        assert writer.flush(30)
        told.append(len(caplog.records))
    assert told == [1, 1, 1, 1, 2, 2]
