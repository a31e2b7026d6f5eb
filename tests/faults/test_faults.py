"""Every row once, whatever a slow, overloaded or broken node answers; or an error that names what was not read."""

from __future__ import annotations

import datetime
import re
import struct
from collections.abc import Callable, Iterator

import pytest
from cassandra.cluster import Session
from cassandra.concurrent import execute_concurrent_with_args
from cql_proxy import OVERLOADED, READ_TIMEOUT, CqlProxy, Damage, Delay, Drop, Execute, Fail
from murmur3 import key_of
from scans import looped_rows, read_rows

from tfx_cassandra.components.driver.connection import CassandraConnection
from tfx_cassandra.components.errors import ReadError
from tfx_cassandra.components.scan import reading
from tfx_cassandra.components.scan.ring import RING
from tfx_cassandra.components.window import TimeWindow

pytestmark = pytest.mark.integration

PARTITIONS, ROWS = 400, 20
COLUMNS = ['k', 'n', 'v']


@pytest.fixture(scope='module', autouse=True)
def expected(node: CassandraConnection, session: Session) -> Iterator[list[tuple]]:
    """The rows of the table `numbers`, as a driver loop past the proxy has them."""
    session.execute('CREATE TABLE faults.numbers (k int, n int, v text, PRIMARY KEY (k, n))')
    insert = session.prepare('INSERT INTO faults.numbers (k, n, v) VALUES (?, ?, ?)')
    rows = [(k, n, f'{k} {n}') for k in range(PARTITIONS) for n in range(ROWS)]
    execute_concurrent_with_args(session, insert, rows, concurrency=200)
    assert looped_rows(session, node, 'numbers', 'k, n, v') == rows
    return rows


def every(nth: int, fault: Fail | Drop | Delay) -> Callable[[Execute], Fail | Drop | Delay | None]:
    """Gives a rule: every nth read of a token range meets the fault."""
    seen = iter(range(1, 1_000_000))
    return lambda execute: fault if execute.token_range and next(seen) % nth == 0 else None


def test_nothing_fails_without_a_fault(proxy: CqlProxy, proxied: CassandraConnection, expected: list[tuple]) -> None:
    assert read_rows(proxied, 'numbers', columns=COLUMNS, page_rows=100) == expected
    assert sum(execute.rows or 0 for execute in proxy.scans()) == len(expected)


@pytest.mark.parametrize(
    ('fault', 'nth'),
    [(READ_TIMEOUT, 3), (READ_TIMEOUT, 7), (OVERLOADED, 3), (Delay(0.3), 5)],
    ids=['time-out', 'rare time-out', 'overload', 'delay'],
)
def test_every_nth_page_fails(
    proxy: CqlProxy, proxied: CassandraConnection, expected: list[tuple], fault: Fail | Delay, nth: int
) -> None:
    proxy.rule = every(nth, fault)
    assert read_rows(proxied, 'numbers', columns=COLUMNS, page_rows=100) == expected
    unanswered = [execute for execute in proxy.scans() if execute.rows is None]
    assert (len(unanswered) >= len(expected) // 100 // nth) == isinstance(fault, Fail)


def test_connections_that_end_amid_the_scan(
    proxy: CqlProxy, proxied: CassandraConnection, expected: list[tuple]
) -> None:
    ends = {20, 60}
    reads = iter(range(1_000_000))
    proxy.rule = lambda execute: Drop() if execute.token_range and next(reads) in ends else None
    assert read_rows(proxied, 'numbers', columns=COLUMNS, page_rows=100) == expected
    assert any(execute.rows is None for execute in proxy.scans())


@pytest.mark.parametrize(
    ('options', 'fits'),
    # Of single partitions without a time no part can be cut off: there, pages alone are made smaller.
    [({'page_rows': 1000, 'splits': 2}, 30), ({'page_rows': 64, 'where': {'k': range(20)}}, 3)],
    ids=['ranges', 'partitions'],
)
def test_pages_are_halved_until_they_are_answered(
    proxy: CqlProxy, proxied: CassandraConnection, expected: list[tuple], options: dict, fits: int
) -> None:
    proxy.rule = lambda execute: READ_TIMEOUT if execute.token_range and execute.page_rows > fits else None
    wanted = [row for row in expected if 'where' not in options or row[0] < 20]
    assert read_rows(proxied, 'numbers', columns=COLUMNS, **options) == wanted
    assert all(execute.page_rows <= fits for execute in proxy.scans() if execute.rows is not None)
    sizes = {execute.page_rows for execute in proxy.scans() if execute.rows is None}
    assert {options['page_rows'] // divisor for divisor in (1, 2, 4, 8)} <= sizes


def test_a_range_that_is_too_wide_is_bisected(
    proxy: CqlProxy, proxied: CassandraConnection, expected: list[tuple]
) -> None:
    widest = RING.width // 256

    def rule(execute: Execute) -> Fail | None:
        found = execute.token_range
        # The upper half of the ring alone is hard to read.
        return READ_TIMEOUT if found and found[1] > 0 and found[1] - found[0] > widest else None

    proxy.rule = rule
    assert read_rows(proxied, 'numbers', columns=COLUMNS, splits=8) == expected
    answered = [execute.token_range for execute in proxy.scans() if execute.rows is not None]
    assert all(end - start <= widest for start, end in answered if end > 0)


def test_one_range_that_is_never_read_fails_the_pipeline_and_is_named(
    proxy: CqlProxy, proxied: CassandraConnection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, '_MAX_BACKOFF', 0.02)  # it is bisected down to one token first
    bad = 2**62 + 12345

    def rule(execute: Execute) -> Fail | None:
        found = execute.token_range
        return READ_TIMEOUT if found and found[0] < bad <= found[1] else None

    proxy.rule = rule
    with pytest.raises(Exception, match='token range') as caught:
        read_rows(proxied, 'numbers', columns=COLUMNS)
    message = str(caught.value)
    start, end = map(int, re.search(r'\((-?\d+), (-?\d+)\]', message).groups())
    assert start < bad <= end
    assert 'faults.numbers' in message
    assert 'made by the proxy: timed out' in message, 'the cause'
    assert proxied.contact_points[0] in message, 'the replica'
    assert '\n' not in message.partition(' [while running')[0]


def test_overload_without_end_is_given_up(proxy: CqlProxy, proxied: CassandraConnection) -> None:
    proxy.rule = lambda execute: OVERLOADED if execute.token_range else None
    with pytest.raises(Exception, match=r'token range .*made by the proxy: overloaded'):
        read_rows(proxied, 'numbers', columns=COLUMNS, splits=1)


def test_an_error_that_another_try_does_not_mend_is_not_tried_again(
    proxy: CqlProxy, proxied: CassandraConnection
) -> None:
    invalid = Fail(0x2200, 'made by the proxy: invalid')
    proxy.rule = lambda execute: invalid if execute.token_range else None
    with pytest.raises(Exception, match='made by the proxy: invalid'):
        read_rows(proxied, 'numbers', columns=COLUMNS, splits=1)
    asked = [(execute.token_range, execute.paging_state) for execute in proxy.scans()]
    assert len(asked) == len(set(asked))


def too_long(body: bytes, at: int) -> bytes:
    return body[:at] + struct.pack('>i', 2**31 - 1) + body[at + 4 :]


@pytest.mark.parametrize(
    'change',
    [lambda body, at: body[:-1], lambda body, at: body[: at + 2], lambda body, at: body + b'\0', too_long],
    ids=['cut', 'cut to its head', 'longer', 'length'],
)
def test_a_damaged_page_fails_the_pipeline(
    proxy: CqlProxy, proxied: CassandraConnection, change: Callable[[bytes, int], bytes]
) -> None:
    with_rows = iter(range(1_000_000))
    tenth = Damage(lambda body, at: change(body, at) if len(body) > at and next(with_rows) == 9 else body)
    proxy.rule = lambda execute: tenth if execute.token_range else None
    with pytest.raises(ReadError, match=r'page: got .*, rule: every length lies within the page'):
        read_rows(proxied, 'numbers', columns=COLUMNS, page_rows=100)


@pytest.mark.parametrize('order', [pytest.param('ASC', marks=pytest.mark.slow), 'DESC'])
def test_two_partitions_of_one_token_are_not_cut_as_if_they_were_one(
    session: Session, proxy: CqlProxy, proxied: CassandraConnection, order: str
) -> None:
    table = f'twins_{order}'.lower()
    session.execute(
        f'CREATE TABLE faults.{table} (key blob, t timestamp, n int, PRIMARY KEY (key, t)) '
        f'WITH CLUSTERING ORDER BY (t {order})'
    )
    insert = session.prepare(f'INSERT INTO faults.{table} (key, t, n) VALUES (?, ?, ?)')
    rows = [(key_of(token, salt), 1000 * n, n) for token in (5, 7) for salt in (0, 1) for n in range(1000)]
    execute_concurrent_with_args(session, insert, rows, concurrency=200)
    # The first partition of token 7 is read, and half of the second; then the rest has to be cut.
    late = {35, 36, 37, 38, 39}
    reads = iter(range(1_000_000))
    proxy.rule = lambda execute: READ_TIMEOUT if holds(execute, 7) and next(reads) in late else None
    epoch = datetime.datetime(1970, 1, 1, tzinfo=datetime.timezone.utc)
    window = TimeWindow(epoch, epoch + datetime.timedelta(seconds=1000))
    got = read_rows(proxied, table, columns=['key', 'n'], window=window, page_rows=100)
    assert got == sorted((key, n) for key, _, n in rows)
    assert sum(execute.rows is None for execute in proxy.scans()) == len(late), 'each of them timed out'


def holds(execute: Execute, token: int) -> bool:
    found = execute.token_range
    return found is not None and found[0] < token <= found[1]
