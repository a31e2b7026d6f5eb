"""How much reads by key request of a server, with a fake session that answers from a list of row sizes."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pytest
from cassandra import InvalidRequest, OperationTimedOut, ReadTimeout

from tfx_cassandra.components.errors import ReadError
from tfx_cassandra.components.lookup import key_reads
from tfx_cassandra.components.lookup.key_reads import KeyReads
from tfx_cassandra.components.scan.page import Page


class Statement:
    routing_key_indexes = (0,)

    def bind(self, key: Any) -> SimpleNamespace:
        return SimpleNamespace(values=list(key), fetch_size=None)


class Session:
    """Answers the oldest of the requests in flight when asked for one more than it holds, or when drained."""

    def __init__(self, sizes: dict[bytes, list[int]], errors: list[Exception] | None = None) -> None:
        self.sizes, self.errors = sizes, errors or []
        self.asked: list[tuple[bytes, int, int]] = []  # (key, first row, rows)

    def execution_profile_clone_update(self, *_: Any, **__: Any) -> None:
        return None

    def execute_async(self, statement: Any, execution_profile: Any, paging_state: bytes | None) -> Any:
        (key,), start = statement.values, int(paging_state or 0)
        self.asked.append((key, start, statement.fetch_size))
        if self.errors:
            error = self.errors.pop()
            return SimpleNamespace(add_callbacks=lambda _, failed: failed(error))
        rows = self.sizes[key][start : start + statement.fetch_size]
        end = start + len(rows)
        page = Page(b'x' * sum(rows), 0, len(rows), (), ())
        state = str(end).encode() if end < len(self.sizes[key]) else None
        future = SimpleNamespace(_paging_state=state)
        future.add_callbacks = lambda done, _: done([page])
        return future


@pytest.fixture(autouse=True)
def decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    def batch(page: Page, **_: Any) -> Any:
        return SimpleNamespace(content=pa.RecordBatch.from_arrays([pa.nulls(page.rows)], ['x']))

    monkeypatch.setattr(key_reads, 'decode', batch)
    monkeypatch.setattr(key_reads, '_BACKOFF', 0.001)


def run(session: Session, first_rows: int = 1) -> dict[bytes, int]:
    found: dict[bytes, int] = {}
    reads = KeyReads(session, Statement(), 'k.t', lambda key: f'key {key!r}', 'ONE', first_rows)

    def consume(key: bytes, batch: pa.RecordBatch) -> bool:
        found[key] = found.get(key, 0) + batch.num_rows
        return True

    reads.run((reads.read([[key]], key) for key in session.sizes), consume)
    return found


def test_every_row_of_every_key_is_read_once() -> None:
    sizes = {b'a': [10] * 1000, b'b': [], b'c': [10]}
    assert run(Session(sizes)) == {b'a': 1000, b'b': 0, b'c': 1}


@pytest.mark.parametrize('size', [100, 100_000, 4_000_000])
def test_a_page_is_a_few_hundred_kilobytes_or_one_row(size: int) -> None:
    session = Session({b'%d' % i: [size] * 40 for i in range(20)})
    assert set(run(session, first_rows=16).values()) == {40}
    assert session.asked[0][2] == 1
    assert all(rows == 1 or rows * size <= 256 << 10 for _, _, rows in session.asked[1:])


def test_few_are_in_flight_where_rows_are_large() -> None:
    flights = []
    session = Session({b'%d' % i: [4_000_000] * 3 for i in range(50)})
    waiting: list = []
    answered = session.execute_async

    def later(*args: Any, **options: Any) -> Any:
        future = answered(*args, **options)
        at_once = future.add_callbacks

        def add(done: Any, failed: Any) -> None:
            waiting.append(lambda: at_once(done, failed))
            flights.append(len(waiting))
            if len(waiting) >= (8 if len(flights) <= 8 else 4):
                while waiting:
                    waiting.pop(0)()

        future.add_callbacks = add
        return future

    session.execute_async = later
    next_page = key_reads._Queue.next_page

    def drained(queued: Any) -> Any:
        while waiting:
            waiting.pop(0)()
        return next_page(queued)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(key_reads._Queue, 'next_page', drained)
        assert set(run(session).values()) == {3}
    assert max(flights[:8]) <= 8
    assert max(flights[16:]) <= 4


def test_a_failed_read_is_retried_with_fewer_rows_but_a_refused_one_is_not() -> None:
    session = Session({b'a': [10]}, [ReadTimeout('late') for _ in range(3)])
    assert run(session) == {b'a': 1}
    assert len(session.asked) == 4
    lost = Session({b'a': [10]}, [ReadTimeout('late') for _ in range(5)])
    with pytest.raises(ReadError, match="key b'a': not read in 5 attempts"):
        run(lost)
    refused = Session({b'a': [10]}, [InvalidRequest('no')])
    with pytest.raises(ReadError, match="key b'a': not read in 1 attempts"):
        run(refused)
    assert len(refused.asked) == 1


def test_an_answer_that_arrives_after_its_error_is_not_taken() -> None:
    """The driver may call back with an error when the time of a request is over, and with its page later."""
    session = Session({b'%d' % i: [10] * 300 for i in range(200)})
    answered, late, failed_once = session.execute_async, [], set()

    def twice(*args: Any, **options: Any) -> Any:
        while late:
            late.pop()()
        future = answered(*args, **options)
        at_once = future.add_callbacks

        def add(done: Any, failed: Any) -> None:
            failed(OperationTimedOut())
            late.append(lambda: at_once(done, failed))

        key, *_ = session.asked[-1]
        if len(session.asked) % 5 == 0 and key not in failed_once:
            failed_once.add(key)
            future.add_callbacks = add
        return future

    session.execute_async = twice
    assert run(session) == {key: len(rows) for key, rows in session.sizes.items()}


@pytest.mark.parametrize('key', [b'', b'x' * 65_536])
def test_a_key_that_no_partition_can_have_is_not_read(key: bytes) -> None:
    assert KeyReads(Session({}), Statement(), 'k.t', str, 'ONE').read([[key]], key) is None


@pytest.mark.parametrize(('needed', 'wanted'), [(1, b'a'), (3, b'a'), (4, b'abc'), (9, b'abc')])
def test_older_partitions_are_read_when_the_newer_ones_do_not_suffice(needed: int, wanted: bytes) -> None:
    session = Session({b'a': [10] * 3, b'b': [], b'c': [10] * 2})
    found: list[int] = []

    def consume(_: Any, batch: pa.RecordBatch) -> bool:
        found.append(batch.num_rows)
        return sum(found) < needed

    taken: list[bytes] = []

    def keys() -> Any:
        for key in (b'a', b'b', b'c'):
            taken.append(key)
            yield [key]

    reads = KeyReads(session, Statement(), 'k.t', str, 'ONE')  # type: ignore[arg-type]
    reads.run(filter(None, [reads.read(keys(), 'all')]), consume)
    assert b''.join(taken) == wanted
    assert b''.join(dict.fromkeys(key for key, _, _ in session.asked)) == wanted
    assert sum(found) == min(needed, 5)
