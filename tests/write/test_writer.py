"""How a writer treats requests that fail. Statements are the driver's own; only the cluster's answers are made up."""

from __future__ import annotations

import datetime
import time
from collections.abc import Callable, Mapping
from typing import Any

import pyarrow as pa
import pytest
from batches import parsed
from cassandra import InvalidRequest, OperationTimedOut, Unavailable, WriteTimeout, cqltypes
from cassandra.cluster import NoHostAvailable
from cassandra.connection import ConnectionException
from cassandra.protocol import ColumnMetadata, OverloadedErrorMessage, ServerError
from cassandra.query import PreparedStatement
from counted import counted

from tfx_cassandra.components.cql.table import Table
from tfx_cassandra.components.write import writer as writers
from tfx_cassandra.components.write.statement import WriteOptions
from tfx_cassandra.components.write.writer import Failure, TableWriter

NOON = datetime.datetime(2013, 1, 1, 12, tzinfo=datetime.timezone.utc)
TYPES = {'id': cqltypes.Int32Type, 'at': cqltypes.TimestampType, 'value': cqltypes.DoubleType}
TABLE = Table('k', 't', ('id',), ('at',), (('id', 'int'), ('at', 'timestamp'), ('value', 'double')))
COUNTERS = Table('k', 'c', ('id',), (), (('id', 'int'), ('n', 'counter')))
Answer = Callable[[list[int]], Exception | None]


class Session:
    """Prepares as the driver does, and answers a request with the error that `answer` gives for the ids of its rows."""

    def __init__(self, answer: Answer = lambda ids: None, types: Mapping[str, Any] = TYPES) -> None:
        self.answer, self.types, self.cluster, self.protocol_version = answer, types, self, 5
        self.requests: list[list[int]] = []
        self.statements: list[Any] = []

    def prepare(self, cql: str) -> PreparedStatement:
        after = {'TTL ?': ('[ttl]', cqltypes.Int32Type), 'TIMESTAMP ?': ('[timestamp]', cqltypes.LongType)}
        named = [*self.types.items(), *(after[each] for each in after if each in cql)]
        columns = [ColumnMetadata('k', 't', name, kind) for name, kind in named]
        return PreparedStatement(columns, b'id', [0], cql, None, 5, None, None)

    def execute_async(self, statement: Any) -> Future:
        batch = parsed(statement._statements_and_parameters)
        self.statements.append(statement)
        self.requests.append([int.from_bytes(row[0], 'big', signed=True) for row in batch.rows])
        return Future(self.answer(self.requests[-1]))


class Future:
    def __init__(self, error: Exception | None) -> None:
        self.error, self.attempted_hosts = error, ['node']

    def add_callbacks(self, answered: Callable[..., None], failed: Callable[..., None]) -> None:
        answered()

    def result(self) -> None:
        if self.error is not None:
            raise self.error


def rows(*ids: int) -> list[dict]:
    return [{'id': each, 'at': NOON + datetime.timedelta(0, i), 'value': 1.0} for i, each in enumerate(ids)]


def times(session: Session) -> list[list[int]]:
    batches = [parsed(statement._statements_and_parameters) for statement in session.statements]
    return [[int.from_bytes(row[-1], 'big') for row in batch.rows] for batch in batches]


def test_rows_of_one_partition_go_together() -> None:
    session = Session()
    assert TableWriter(session, TABLE).write(rows(*[1, 2] * 60, 3)) == []
    assert sorted((request[0], len(request)) for request in session.requests) == [(1, 60), (2, 60), (3, 1)]
    assert all(len(set(request)) == 1 for request in session.requests)
    for statement in session.statements:
        batch = parsed(statement._statements_and_parameters)
        assert (batch.kind, batch.consistency, statement.is_idempotent) == (1, 6, True)
        assert statement.routing_key == batch.rows[0][0]


@pytest.mark.parametrize('count', [0, 1, 99, 100, 101, 250])
def test_no_row_is_lost_whatever_the_size(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    monkeypatch.setattr(writers, 'MOST_ROWS', 100)
    session = Session()
    assert TableWriter(session, TABLE).write(rows(*[7] * count)) == []
    assert sorted(map(len, session.requests), reverse=True) == [100] * (count // 100) + [count % 100] * (
        count % 100 > 0
    )


def test_every_row_has_a_write_time_after_those_before_it() -> None:
    session, began = Session(), time.time() * 1e6
    writer = TableWriter(session, TABLE)
    for _ in range(2):
        assert writer.write(rows(*[1] * 120)) == []
    (first, second) = times(session)
    assert first + second == sorted(set(first + second))
    assert began - 120 <= first[0] < second[-1] <= time.time() * 1e6 + 240


def test_a_row_that_is_sent_again_keeps_its_write_time() -> None:
    def answer(ids: list[int]) -> Exception | None:
        return InvalidRequest('no') if len(ids) > 1 or ids == [2] else None

    session = Session(answer)
    assert TableWriter(session, TABLE).write(rows(1, 1, 1, 2)) == [Failure(3, 'InvalidRequest', 'InvalidRequest: no')]
    assert sorted(session.requests) == [[1], [1], [1], [1, 1, 1], [2]]
    alone = sorted(of_row for request in times(session) for of_row in request)
    assert alone == sorted([*next(each for each in times(session) if len(each) == 3)] * 2 + [max(alone)])


@pytest.mark.parametrize(
    'error', [InvalidRequest('x'), ServerError(0, 'x', None), NoHostAvailable('x', {'n': ServerError(0, 'x', None)})]
)
def test_each_row_of_a_refused_request_is_tried_alone(error: Exception) -> None:
    bad = {11, 17}

    def answer(ids: list[int]) -> Exception | None:
        return error if bad & set(at) else None

    session = Session()
    given = rows(*[4] * 20)
    at: list[int] = []

    def by_time(statement: Any) -> Future:
        nonlocal at
        batch = parsed(statement._statements_and_parameters)
        at = [(int.from_bytes(row[1], 'big') // 1000 - int(NOON.timestamp())) for row in batch.rows]
        return plain_send(statement)

    plain_send, session.answer = session.execute_async, answer
    session.execute_async = by_time  # type: ignore[method-assign]
    with counted() as grown:
        failed = TableWriter(session, TABLE).write(given)
    assert [failure.row for failure in failed] == sorted(bad)
    assert {failure.kind for failure in failed} == {type(error).__name__}
    assert grown['tfx_cassandra_write_rows_total', ('k.t',)] == 18
    assert grown['tfx_cassandra_write_retries_total', ('k.t',)] == 20
    assert grown['tfx_cassandra_write_dead_letters_total', ('k.t', 'rejected')] == 2
    assert grown['tfx_cassandra_write_seconds_count', ()] == 21


OF_THE_CLUSTER = [
    OperationTimedOut('x'), WriteTimeout('x', write_type=3), Unavailable('x'),
    NoHostAvailable('x', {'n': ConnectionException('x')}),
    NoHostAvailable('x', {'n': OverloadedErrorMessage(0, 'x', None)}), NoHostAvailable('x', {}),
]  # fmt: skip


@pytest.mark.parametrize('error', OF_THE_CLUSTER)
def test_what_nodes_did_not_take_is_sent_once_more_as_it_was(error: Exception) -> None:
    answers: list[Exception | None] = [error, None, None]
    session = Session(lambda ids: answers.pop(0))
    assert TableWriter(session, TABLE).write(rows(1, 1, 1, 2)) == []
    assert sorted(session.requests[:2]) == [[1, 1, 1], [2]]
    assert session.requests[2] == session.requests[0]
    session = Session(lambda ids: error)
    failed = TableWriter(session, TABLE).write(rows(1, 1, 1, 2))
    assert [failure.row for failure in failed] == [0, 1, 2, 3]
    assert len(session.requests) == 4


def test_counters_are_never_sent_again() -> None:
    types = {'id': cqltypes.Int32Type, 'n': cqltypes.CounterColumnType}
    session = Session(lambda ids: WriteTimeout('x', write_type=3), types)
    failed = TableWriter(session, COUNTERS).write([{'id': 1, 'n': 1}, {'id': 1, 'n': 2}])
    assert [failure.kind for failure in failed] == ['WriteTimeout'] * 2
    (statement,) = session.statements
    assert parsed(statement._statements_and_parameters).kind == 2
    assert not statement.is_idempotent
    assert type(statement.retry_policy).__name__ == 'FallthroughRetryPolicy'


def test_a_rate_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    now, sent = [100.0], []
    monkeypatch.setattr(writers.time, 'monotonic', lambda: now[0])
    monkeypatch.setattr(writers.time, 'sleep', lambda seconds: now.__setitem__(0, now[0] + seconds))
    session = Session()
    plain_send = session.execute_async
    session.execute_async = lambda statement: sent.append(now[0]) or plain_send(statement)  # type: ignore
    writer = TableWriter(session, TABLE, WriteOptions(rows_per_second=40))
    writer.write(rows(*[1] * 25))
    writer.write(rows(1))
    assert list(map(len, session.requests)) == [10, 10, 5, 1]
    assert sent == [100.0, 100.25, 100.5, 100.625]


def test_the_metrics_are_those_of_what_was_written() -> None:
    with counted() as grown:
        TableWriter(Session(), TABLE).write([*rows(*[4] * 51, 5), {'id': None}])
    assert grown['tfx_cassandra_write_rows_total', ('k.t',)] == 52
    assert grown['tfx_cassandra_write_seconds_count', ()] == 2
    assert grown['tfx_cassandra_write_dead_letters_total', ('k.t', 'invalid')] == 1


@pytest.mark.parametrize(
    ('options', 'table', 'message'),
    [
        ({'ttl': datetime.timedelta(seconds=1)}, COUNTERS, r'ttl: got .*, rule: None: counters, as k\.c has'),
        ({'timestamp_column': 'at'}, COUNTERS, "timestamp_column: got 'at', rule: None: counters"),
        ({'collections': 'append'}, Table('k', 't', ('id',), (), (('id', 'int'), ('l', 'list<int>'))),
         r"collections: got 'append', rule: 'replace': k\.t has a list \(l\)"),
    ],
)  # fmt: skip
def test_a_table_that_cannot_be_written_so_is_refused(options: dict, table: Table, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TableWriter(Session(), table, WriteOptions(**options))


def test_a_record_batch_is_written_as_its_rows() -> None:
    session = Session()
    batch = pa.RecordBatch.from_pylist(rows(3, 3, 4))
    assert TableWriter(session, TABLE).write(batch) == []
    mapped = Session()
    TableWriter(mapped, TABLE).write(rows(3, 3, 4))
    contents = [
        sorted(str(row[:-1]) for each in of.statements for row in parsed(each._statements_and_parameters).rows)
        for of in (session, mapped)
    ]
    assert contents[0] == contents[1]
