"""One session for all users of a connection, opened and closed without holding up those of another."""

from __future__ import annotations

import collections
import contextlib
import random
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from tfx_cassandra.components.driver import connection as connections
from tfx_cassandra.components.driver import kept, tables
from tfx_cassandra.components.driver.connection import CassandraConnection
from tfx_cassandra.components.errors import SchemaError, UnavailableError
from tfx_cassandra.components.feature_store.client import FeatureStore
from tfx_cassandra.components.inference_log.logger import InferenceLogger
from tfx_cassandra.components.registry.registry import ModelRegistry
from tfx_cassandra.components.write.transform import WriteToCassandra

HERE, THERE = CassandraConnection(('10.0.0.1',)), CassandraConnection(('10.0.0.2',))


class _Cluster:
    """Stands for a cluster whose opening and closing take as long as a test wants."""

    def __init__(self, opening: Callable[[CassandraConnection], None] = lambda connection: None) -> None:
        self._opening, self._closing = opening, threading.Event()
        self._closing.set()
        self.opened: list[_Session] = []
        self.refreshing: Callable[[], object] = lambda: None

    def open(self, connection: CassandraConnection) -> _Session:
        self._opening(connection)
        session = _Session(self)
        self.opened.append(session)
        return session


class _Session:
    client_protocol_handler = None

    def __init__(self, owner: _Cluster) -> None:
        self._owner, self.closed, self.cluster = owner, 0, self

    def shutdown(self) -> None:
        self._owner._closing.wait(30)
        self.closed += 1

    def refresh_nodes(self) -> None:
        self._owner.refreshing()

    def refresh_schema_metadata(self, max_schema_agreement_wait: float) -> None:
        self._owner.refreshing()

    def prepare(self, cql: str) -> None:
        raise ValueError('no statement')


@pytest.fixture(autouse=True)
def nothing_open(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, '_sessions', {})
    monkeypatch.setattr(kept, '_kept', {})


@contextlib.contextmanager
def _running(*calls: Callable[[], object]) -> Iterator[list]:
    with ThreadPoolExecutor(len(calls)) as pool:
        yield [pool.submit(call) for call in calls]


def _waiters(key: CassandraConnection, users: int) -> None:
    """Returns once so many threads have or want the session."""
    ends = time.monotonic() + 30
    while getattr(connections._sessions.get((key, None)), 'users', 0) < users:
        assert time.monotonic() < ends
        time.sleep(0.001)


def test_a_cluster_that_is_silent_holds_up_nobody_else(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = threading.Event()
    cluster = _Cluster(lambda connection: answers.wait(30) if connection is HERE else None)
    monkeypatch.setattr(connections, '_open', cluster.open)
    with _running(lambda: connections.acquire(HERE)) as (silent,):
        _waiters(HERE, 1)
        with connections.session(THERE):
            assert not silent.done()
        assert cluster.opened[0].closed == 1
        assert not silent.done()
        answers.set()
        assert silent.result(30) is cluster.opened[1]


def test_a_session_that_closes_slowly_holds_up_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = _Cluster()
    monkeypatch.setattr(connections, '_open', cluster.open)
    connections.acquire(HERE)
    cluster._closing.clear()
    with _running(lambda: connections.release(HERE)) as (closing,):
        while connections._sessions:
            time.sleep(0.001)
        assert connections.acquire(THERE) is cluster.opened[1]
        assert connections.acquire(HERE) is cluster.opened[2]  # the old one is nobody's any more
        assert not closing.done()
        cluster._closing.set()
    assert [session.closed for session in cluster.opened] == [1, 0, 0]


def test_one_thread_connects_and_the_others_wait_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = threading.Event()
    cluster = _Cluster(lambda connection: answers.wait(30))
    monkeypatch.setattr(connections, '_open', cluster.open)
    with _running(*[lambda: connections.acquire(HERE)] * 8) as waiting:
        _waiters(HERE, 8)
        answers.set()
        assert {id(each.result(30)) for each in waiting} == {id(cluster.opened[0])}
    for _ in range(8):
        assert cluster.opened[0].closed == 0
        connections.release(HERE)
    assert [session.closed for session in cluster.opened] == [1]


def test_all_who_wait_hear_of_a_failure_and_the_next_tries_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    answers, errors = threading.Event(), [UnavailableError('contact_points: down')]

    def opening(connection: CassandraConnection) -> None:
        answers.wait(30)
        if errors:
            raise errors.pop()

    cluster = _Cluster(opening)
    monkeypatch.setattr(connections, '_open', cluster.open)
    with _running(*[lambda: connections.acquire(HERE)] * 8) as waiting:
        _waiters(HERE, 8)
        answers.set()
        assert [str(each.exception(30)) for each in waiting] == ['contact_points: down'] * 8
    assert connections._sessions == {}
    with connections.session(HERE) as session:
        assert session is cluster.opened[0]
    assert session.closed == 1


def test_an_interrupt_is_nobodys_but_the_connecting_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    answers, interrupts = threading.Event(), [KeyboardInterrupt()]

    def opening(connection: CassandraConnection) -> None:
        answers.wait(30)
        if interrupts:
            raise interrupts.pop()

    cluster = _Cluster(opening)
    monkeypatch.setattr(connections, '_open', cluster.open)
    with _running(*[lambda: connections.acquire(HERE)] * 4) as waiting:
        _waiters(HERE, 4)
        answers.set()
        outcomes = collections.Counter(type(each.exception(30)) for each in waiting)
    assert outcomes == {KeyboardInterrupt: 1, type(None): 3}
    for _ in range(3):
        connections.release(HERE)
    assert [session.closed for session in cluster.opened] == [1]


def test_sessions_with_handlers_of_their_own_are_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = _Cluster()
    monkeypatch.setattr(connections, '_open', cluster.open)
    with connections.session(HERE) as plain, connections.session(HERE, dict) as own:
        assert (plain, own) == (cluster.opened[0], cluster.opened[1])
        assert (plain.client_protocol_handler, own.client_protocol_handler) == (connections.ReadableHandler, dict)


def test_many_threads_come_and_go(monkeypatch: pytest.MonkeyPatch) -> None:
    """No session is used after it was closed, each is closed once, and a failure is of its own attempt alone."""
    chance = random.Random(7)

    def opening(connection: CassandraConnection) -> None:
        time.sleep(chance.random() / 2000)
        if chance.random() < 0.2:
            raise UnavailableError('down')

    cluster = _Cluster(opening)
    monkeypatch.setattr(connections, '_open', cluster.open)
    keys = [CassandraConnection((f'10.0.0.{i}',)) for i in range(3)]

    def user(seed: int) -> collections.Counter:
        mine, seen = random.Random(seed), collections.Counter()
        for _ in range(200):
            try:
                with connections.session(mine.choice(keys)) as session:
                    time.sleep(mine.random() / 5000)
                    seen['used'] += 1
                    seen['closed'] += session.closed
            except UnavailableError:
                seen['failed'] += 1
        return seen

    with ThreadPoolExecutor(12) as pool:
        seen = sum(pool.map(user, range(12)), collections.Counter())
    assert seen['used'] + seen['failed'] == 12 * 200
    assert seen['used'] > 0
    assert seen['closed'] == 0
    assert connections._sessions == {}
    assert {session.closed for session in cluster.opened} == {1}


def _written(connection: CassandraConnection) -> None:
    write = WriteToCassandra(connection, 'a_table')._write
    write.setup()


@pytest.mark.parametrize(
    ('opened', 'closed'),
    [
        (lambda: FeatureStore(HERE).__enter__(), [1, 1, 1]),
        (lambda: ModelRegistry(HERE).__enter__(), [1, 1, 1]),
        (lambda: InferenceLogger(HERE).__enter__(), [1, 1, 1]),
        (lambda: _written(HERE), [0]),  # a step of a pipeline, which leaves it to the next attempt
    ],
    ids=['FeatureStore', 'ModelRegistry', 'InferenceLogger', 'WriteToCassandra'],
)
def test_what_fails_to_open_holds_no_session(
    monkeypatch: pytest.MonkeyPatch, opened: Callable[[], object], closed: list[int]
) -> None:
    cluster = _Cluster()
    monkeypatch.setattr(connections, '_open', cluster.open)

    def describe(*_: object) -> None:
        raise SchemaError('no such table')

    monkeypatch.setattr(tables, 'describe', describe)
    for _ in range(3):
        with pytest.raises((ValueError, SchemaError)):
            opened()
    assert connections._sessions == {}
    assert [session.closed for session in cluster.opened] == closed


def test_a_forked_child_gives_back_only_what_it_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a child that opens a session of its own within the parent's block, and then leaves that block."""
    cluster = _Cluster()
    monkeypatch.setattr(connections, '_open', cluster.open)
    monkeypatch.setattr(connections, '_inherited', [])
    parents = connections.session(HERE)
    parents.__enter__()
    connections._reset_after_fork()
    mine = connections.session(HERE)
    mine.__enter__()
    parents.__exit__(None, None, None)
    assert [session.closed for session in cluster.opened] == [0, 0]
    mine.__exit__(None, None, None)
    assert [session.closed for session in cluster.opened] == [0, 1]
