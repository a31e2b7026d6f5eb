"""How rows become inserts and requests. Statements are the driver's own; only the cluster's answers are made up."""

from __future__ import annotations

import datetime
import decimal
import time
import uuid
from collections.abc import Callable, Mapping
from typing import Any

import pyarrow as pa
import pytest
from cassandra import InvalidRequest, OperationTimedOut, cqltypes
from cassandra.protocol import ColumnMetadata
from cassandra.query import UNSET_VALUE, BatchStatement, BatchType, BoundStatement, PreparedStatement
from cassandra.util import Date, Duration
from counted import counted

from tfx_cassandra.components.cql.table import Table
from tfx_cassandra.components.driver import tables
from tfx_cassandra.components.driver.connection import CassandraConnection
from tfx_cassandra.components.driver.responses import Milliseconds
from tfx_cassandra.components.errors import WriteError
from tfx_cassandra.components.write import transform as write
from tfx_cassandra.components.write.transform import FailedRow, WriteToCassandra

UTC = datetime.timezone.utc
NOON = datetime.datetime(2013, 1, 1, 12, tzinfo=UTC)
MS = int(NOON.timestamp() * 1000)
LIST = cqltypes.ListType.apply_parameters
TYPES = {
    'id': cqltypes.Int32Type,
    'at': cqltypes.TimestampType,
    'value': cqltypes.DoubleType,
    'metadata': cqltypes.MapType.apply_parameters([cqltypes.UTF8Type, cqltypes.UTF8Type]),
    'user_id': cqltypes.UTF8Type,
}
TABLE = Table('k', 'feature_store', ('id',), ('at',), tuple((name, kind.typename) for name, kind in TYPES.items()))


class _Session:
    """Prepares as the driver does, and answers a request with what `answer` gives or raises for it."""

    def __init__(self, types: Mapping[str, Any] = TYPES, answer: Callable[[list], None] = lambda ids: None) -> None:
        self._types, self._answer, self.requests, self.cql = types, answer, [], ''
        self.statements: list = []

    def prepare(self, cql: str) -> PreparedStatement:
        self.cql = cql
        after = {'TTL ?': ('[ttl]', cqltypes.Int32Type), 'TIMESTAMP ?': ('[timestamp]', cqltypes.LongType)}
        names = [*self._types.items(), *(after[each] for each in after if each in cql)]
        columns = [ColumnMetadata('k', 'feature_store', name, kind) for name, kind in names]
        return PreparedStatement(columns, b'', [0], cql, None, 5, None, None)

    def execute_async(self, statement: Any, execution_profile: object) -> _Session._Future:
        self.statements.append(statement)
        several = isinstance(statement, BatchStatement)
        bound = [values for _, _, values in statement._statements_and_parameters] if several else [statement.values]
        rows = [[int.from_bytes(values[0], 'big', signed=True), *values[1:]] for values in bound]
        self.requests.append(rows)
        return _Session._Future(self._answer, [row[0] for row in rows])

    class _Future:
        def __init__(self, answer: Callable[[list], None], ids: list) -> None:
            self._answer, self._ids = answer, ids

        def result(self) -> _Session._Future:
            self._answer(self._ids)
            return self

        def all(self) -> list:
            return []

        def add_callback(self, answered: Callable[..., None]) -> None:
            answered()


@pytest.fixture(autouse=True)
def nothing_open(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(write.connections, '_sessions', {})


def _writer(session: _Session, monkeypatch: pytest.MonkeyPatch, table: Table = TABLE, **options: Any) -> Any:
    writer = WriteToCassandra(CassandraConnection(), 'feature_store', **options)._write
    monkeypatch.setattr(tables, 'describe', lambda *_: table)
    monkeypatch.setattr(write.connections, '_open', lambda connection: session)
    session.client_protocol_handler = None  # type: ignore[attr-defined]
    session.cluster = session  # type: ignore[attr-defined]
    session.shutdown = lambda: None  # type: ignore[attr-defined]
    writer.setup()
    return writer


def _rows(*ids: int) -> list[dict]:
    return [{'id': each, 'at': NOON, 'value': 1.0} for each in ids]


def _insert(types: Mapping[str, Any] = TYPES, **options: Any) -> write._Insert:
    table = Table('k', 't', (next(iter(types)),), (), tuple((name, 'any') for name in types))
    return write._Insert(_Session(types), table, options.get('ttl'), options.get('timestamp_column'))


def _times(requests: list) -> list[int]:
    return [int.from_bytes(row[-1], 'big') for request in requests for row in request]


def test_rows_of_one_partition_go_together(monkeypatch: pytest.MonkeyPatch) -> None:
    session = _Session()
    writer = _writer(session, monkeypatch)
    assert list(writer.process(_rows(*[1, 2] * 60, 3))) == []
    sizes = sorted((request[0][0], len(request)) for request in session.requests)
    assert sizes == [(1, 10), (1, 50), (2, 10), (2, 50), (3, 1)]
    assert all(len({row[0] for row in request}) == 1 for request in session.requests)
    for statement in session.statements:
        assert statement.consistency_level == 6  # LOCAL_QUORUM
        assert statement.is_idempotent
    batches = [statement for statement in session.statements if isinstance(statement, BatchStatement)]
    assert {batch.batch_type for batch in batches} == {BatchType.UNLOGGED}
    (single,) = (statement for statement in session.statements if isinstance(statement, BoundStatement))
    assert [row[0] for row in session.requests[session.statements.index(single)]] == [3]
    writer.teardown()
    assert write.connections._sessions == {}


@pytest.mark.parametrize('rows', [0, 1, 49, 50, 51, 100, 101])
def test_no_row_is_lost_whatever_the_size(monkeypatch: pytest.MonkeyPatch, rows: int) -> None:
    session = _Session()
    writer = _writer(session, monkeypatch)
    assert list(writer.process(_rows(*[7] * rows))) == []
    assert sorted(map(len, session.requests), reverse=True) == [50] * (rows // 50) + [rows % 50] * (rows % 50 > 0)
    writer.teardown()


def test_every_row_has_a_write_time_after_those_before_it(monkeypatch: pytest.MonkeyPatch) -> None:
    session = _Session()
    writer = _writer(session, monkeypatch)
    began = time.time() * 1e6
    for _ in range(2):
        assert list(writer.process(_rows(*[1] * 120))) == []
    times = _times(session.requests)
    assert times == sorted(set(times))
    assert began - 1 <= times[0] < times[-1] <= time.time() * 1e6 + 240
    assert session.cql == (
        'INSERT INTO "k"."feature_store" ("id", "at", "value", "metadata", "user_id") VALUES (?, ?, ?, ?, ?)'
        ' USING TIMESTAMP ?'
    )
    writer.teardown()


def test_a_row_that_is_sent_again_keeps_its_write_time(monkeypatch: pytest.MonkeyPatch) -> None:
    def answer(ids: list) -> None:
        if len(ids) > 1 or ids == [2]:
            raise InvalidRequest('no')

    session = _Session(answer=answer)
    writer = _writer(session, monkeypatch)
    rows = _rows(1, 1, 1, 2)
    assert list(writer.process(rows)) == [FailedRow(rows[3], 'feature_store: InvalidRequest: no')]
    assert [[row[0] for row in request] for request in session.requests] == [[1, 1, 1], [2], [1], [1], [1], [2]]
    times = _times(session.requests)
    assert times == [*times[:4], *times[:4]]
    assert times[:4] == sorted(set(times[:4]))
    writer.teardown()


def test_each_row_of_a_request_that_failed_is_tried_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    def answer(ids: list) -> None:
        if ids != [5]:
            raise OperationTimedOut('late')

    session = _Session(answer=answer)
    writer = _writer(session, monkeypatch)
    rows = _rows(4, 4, 5)
    with counted() as grown:
        failed = list(writer.process(rows))
    assert [failure.row for failure in failed] == rows[:2]
    assert all('OperationTimedOut' in failure.error for failure in failed)
    table = str(TABLE)
    assert grown['tfx_cassandra_write_rows_total', (table,)] == 1
    assert grown['tfx_cassandra_write_retries_total', (table,)] == 2
    assert grown['tfx_cassandra_write_dead_letters_total', (table, 'rejected')] == 2
    assert grown['tfx_cassandra_write_seconds_count', ()] == 4
    writer.teardown()


def test_what_was_written_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    writer = _writer(_Session(), monkeypatch)
    with counted() as grown:
        list(writer.process(_rows(*[4] * 51, 5)))
    assert grown['tfx_cassandra_write_rows_total', (str(TABLE),)] == 52
    assert grown['tfx_cassandra_write_seconds_count', ()] == 3
    writer.teardown()


def test_no_more_requests_are_in_flight_than_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """What docs/writing.md says, too."""
    session, taken = _Session(), []
    writer = _writer(session, monkeypatch)
    monkeypatch.setattr(_Session._Future, 'result', lambda self: taken.append(len(session.requests)) or self)
    list(writer.process(_rows(*range(100))))
    assert max(sent - done for done, sent in enumerate(taken)) == write.CONCURRENCY == 32
    writer.teardown()


@pytest.mark.parametrize(
    ('row', 'error'),
    [
        ({'at': NOON}, "row: got no ['id'], rule: every column of the primary key has a value"),
        ({'id': 1, 'at': None}, "row: got no ['at'], rule: every column of the primary key has a value"),
        ({'id': 1, 'at': NOON, 'vlaue': 1}, "row: got fields ['vlaue'], rule: columns of the table (at, id, metadata"),
        ({'id': 2**31, 'at': NOON}, ''),
        ({'id': 'x', 'at': NOON}, ''),
        ({'id': 1, 'at': NOON.replace(tzinfo=None)}, 'at: got'),
        ({'id': 1, 'at': NOON.replace(microsecond=1)}, 'at: got'),
        ({'id': 1, 'at': 7}, 'at: got 7'),
        ({'id': 1, 'at': NOON, 'value': 10**400}, ''),
        ({'id': 1, 'at': NOON, 'metadata': 7}, ''),
        ({'id': 1, 'at': NOON, 'metadata': {'a': '\ud800'}}, ''),
        (7, ''),
    ],
)
def test_a_row_that_cannot_be_bound_fails_alone(monkeypatch: pytest.MonkeyPatch, row: Any, error: str) -> None:
    session = _Session()
    writer = _writer(session, monkeypatch)
    (failure,) = writer.process([*_rows(1), row, *_rows(2)])
    assert failure.row == row
    assert failure.error.startswith(f'feature_store: {error}')
    assert len(failure.error) > len('feature_store: ')
    assert sorted(request[0][0] for request in session.requests) == [1, 2]
    writer.teardown()


def test_a_key_that_is_too_long_fails_its_row_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    types = {'a': cqltypes.UTF8Type, 'b': cqltypes.UTF8Type}
    insert = write._Insert(_Session(types), Table('k', 't', ('a', 'b'), (), (('a', 'text'), ('b', 'text'))), None, None)
    insert.statement.routing_key_indexes = [0, 1]
    assert insert.bound({'a': 'x' * 65535, 'b': 'y'}).statement.routing_key.startswith(b'\xff\xff')
    with pytest.raises(Exception, match=r'65535|format requires'):
        insert.bound({'a': 'x' * 65536, 'b': 'y'})


def test_what_a_row_lacks_is_left_alone() -> None:
    values = _insert()._values({'id': 1, 'at': NOON})
    assert values[:-1] == [1, MS, UNSET_VALUE, UNSET_VALUE, UNSET_VALUE]
    assert _insert()._values({'id': 1, 'at': NOON, 'value': None})[2] is UNSET_VALUE


@pytest.mark.parametrize(
    ('row', 'user'),
    [
        ({'metadata': {'user_id': 'ada'}}, 'ada'),
        ({'metadata': [('user_id', 'ada')]}, 'ada'),
        ({'metadata': {'user_id': 'ada'}, 'user_id': 'eve'}, 'eve'),
        ({'metadata': {'user_id': ''}}, UNSET_VALUE),
        ({'metadata': {'a': 'b'}}, UNSET_VALUE),
        ({'metadata': None}, UNSET_VALUE),
        ({}, UNSET_VALUE),
    ],
)
def test_the_user_is_the_one_of_the_metadata(row: dict, user: object) -> None:
    insert = write._Insert(_Session(), TABLE, None, None)
    assert insert._values({'id': 1, 'at': NOON, **row})[4] == user
    assert _insert()._values({'id': 1, 'at': NOON, **row})[4] == row.get('user_id', UNSET_VALUE)  # of another table


def test_ttl_and_write_time_come_last() -> None:
    row, known_at = {'id': 1}, NOON + datetime.timedelta(microseconds=7)
    types, ttl = {'id': cqltypes.Int32Type}, datetime.timedelta(hours=1)
    assert _insert(types, ttl=ttl)._values(row)[:-1] == [1, 3600]
    assert _insert(types, ttl=ttl).statement.query_string.endswith(' VALUES (?) USING TTL ? AND TIMESTAMP ?')
    both = _insert(types, ttl=ttl, timestamp_column='known_at')
    assert both._values({**row, 'known_at': known_at}) == [1, 3600, MS * 1000 + 7]
    alone = _insert(types, timestamp_column='known_at')
    assert alone.statement.query_string.endswith(' VALUES (?) USING TIMESTAMP ?')
    assert alone._values({**row, 'known_at': datetime.datetime(1969, 12, 31, 23, 59, 59, 999_999, UTC)}) == [1, -1]
    for bad in ({}, {'known_at': None}, {'known_at': NOON.replace(tzinfo=None)}):
        with pytest.raises((KeyError, ValueError)):
            alone.bound({**row, **bad})


UUID = uuid.UUID(int=7)
VALUES = [
    (cqltypes.UUIDType, str(UUID), UUID),
    (cqltypes.UUIDType, UUID, UUID),
    (cqltypes.TimeUUIDType, str(UUID), UUID),
    (cqltypes.DecimalType, '1.50', decimal.Decimal('1.50')),
    (cqltypes.DurationType, {'months': 1, 'days': 2, 'nanoseconds': 3}, Duration(1, 2, 3)),
    (cqltypes.DurationType, Duration(1, 2, 3), Duration(1, 2, 3)),
    (cqltypes.TimestampType, NOON, MS),
    (cqltypes.TimestampType, Milliseconds(2**62), 2**62),
    (LIST([cqltypes.UUIDType]), [str(UUID)], [UUID]),
    (cqltypes.SetType.apply_parameters([cqltypes.TimestampType]), {NOON}, [MS]),
    (cqltypes.MapType.apply_parameters([cqltypes.UUIDType, cqltypes.TimestampType]), {str(UUID): NOON}, {UUID: MS}),
    (cqltypes.MapType.apply_parameters([cqltypes.UUIDType, cqltypes.TimestampType]), [(UUID, NOON)], {UUID: MS}),
    (cqltypes.TupleType.apply_parameters([cqltypes.UUIDType, cqltypes.Int32Type]), (str(UUID), 1), (UUID, 1)),
    (cqltypes.TupleType.apply_parameters([cqltypes.UUIDType, cqltypes.Int32Type]), {'0': None, '1': 1}, (None, 1)),
    (cqltypes.UserType.make_udt_class('k', 'u', ('a', 'b'), (cqltypes.UUIDType, cqltypes.Int32Type)),
     {'a': str(UUID), 'b': None}, (UUID, None)),
    (LIST([LIST([cqltypes.TimestampType])]), [[NOON]], [[MS]]),
    (cqltypes.FrozenType.apply_parameters([LIST([cqltypes.UUIDType])]), [str(UUID)], [UUID]),
    (cqltypes.UTF8Type, 'x', 'x'),
]  # fmt: skip


@pytest.mark.parametrize(('kind', 'value', 'expected'), VALUES)
def test_a_value_becomes_what_the_driver_binds(kind: Any, value: object, expected: object) -> None:
    got = write._driver_value(kind)('field', value)
    assert (got, type(got)) == (expected, type(expected))


def test_a_batch_is_its_rows() -> None:
    batch = pa.RecordBatch.from_pydict(
        {
            'at': pa.array([NOON, None], pa.timestamp('ms', 'UTC')),
            'noon': pa.array([43_200 * 10**9 + 1, None], pa.time64('ns')),
            'times': pa.array([[1, None], []], pa.list_(pa.time64('ns'))),
            'text': ['a', None],
        }
    )
    assert write._rows(batch) == [
        {'at': NOON, 'noon': 43_200 * 10**9 + 1, 'times': [1, None], 'text': 'a'},
        {'at': None, 'noon': None, 'times': [], 'text': None},
    ]
    row = {'a': 1}
    assert write._rows(row) == [row]


def test_a_batch_with_what_python_cannot_hold_is_its_rows_too() -> None:
    late, moments = 1_700_000_000_000_000, pa.timestamp('ms', 'UTC')
    far = pa.array([late, None, MS]).cast(moments)
    columns = {
        'at': far,
        'naive': pa.array([late, None, 0]).cast(pa.timestamp('ms')),
        'day': pa.array([2**31 - 1, None, 0], pa.int32()).cast(pa.date32()),
        'list': pa.ListArray.from_arrays(pa.array([0, 2, 2, 3], pa.int32()), far),
        'vector': pa.FixedSizeListArray.from_arrays(far, 1),
        'map': pa.MapArray.from_arrays(pa.array([0, 1, 1, 3], pa.int32()), pa.array(['a', 'b', 'c']), far),
        'struct': pa.StructArray.from_arrays([far, pa.array([1, 2, 3])], ['x', 'y']),
        'text': pa.array(['a', 'b', None]),
    }
    first, second, third = write._rows(pa.RecordBatch.from_pydict(columns))
    assert first == {
        'at': late, 'naive': late, 'day': Date(2**31 - 1), 'list': [late, None], 'vector': [late], 'map': [('a', late)],
        'struct': {'x': late, 'y': 1}, 'text': 'a',
    }  # fmt: skip
    assert [type(first['at']), type(first['naive'])] == [Milliseconds, int]
    assert second == {
        'at': None, 'naive': None, 'day': None, 'list': [], 'vector': [None], 'map': [], 'struct': {'x': None, 'y': 2},
        'text': 'b',
    }  # fmt: skip
    assert third == {
        'at': NOON, 'naive': datetime.datetime(1970, 1, 1), 'day': datetime.date(1970, 1, 1), 'list': [NOON],
        'vector': [NOON], 'map': [('b', None), ('c', NOON)], 'struct': {'x': NOON, 'y': 3}, 'text': None,
    }  # fmt: skip


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        ({'table': ''}, "table: got '', rule: the name of a table"),
        ({'table': None}, 'table: got None, rule: the name of a table'),
        ({'ttl': datetime.timedelta(0)}, 'ttl: got datetime.timedelta(0), rule: whole seconds, at least one'),
        ({'ttl': datetime.timedelta(seconds=1.5)}, 'ttl: got .*, rule: whole seconds, at least one'),
        ({'max_errors': -1}, 'max_errors: got -1, rule: zero or more, or None'),
        ({'consistency': 'MOST'}, "consistency: got 'MOST', rule: one of"),
    ],
)
def test_bad_arguments_are_refused(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message.replace('(', r'\(').replace(')', r'\)')):
        WriteToCassandra(CassandraConnection(), **{'table': 't', **options})
    WriteToCassandra(CassandraConnection(), 't', ttl=datetime.timedelta(seconds=1), max_errors=0)


def test_more_failures_than_allowed_are_an_error() -> None:
    failures = [FailedRow({}, 'why'), FailedRow({}, 'other')]
    write._check_limit(failures, 2)
    with pytest.raises(
        WriteError, match=r'^rows failed: got more than 1, rule: at most max_errors = 1 rows fail \(one .*why'
    ):
        write._check_limit(failures, 1)
