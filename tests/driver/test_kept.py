"""The session that a step of a pipeline has left: the next step's for a while, then closed; with no old secret."""

from __future__ import annotations

import multiprocessing
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import pytest
from cassandra import DriverException

from tfx_cassandra.components.driver import connection as connections
from tfx_cassandra.components.driver import kept
from tfx_cassandra.components.driver.connection import CassandraConnection, Tls

HERE = CassandraConnection(('10.0.0.1',), username='u', password_env='KEPT_PASSWORD')


@pytest.fixture(autouse=True)
def opened(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The sessions that were opened, without a cluster."""
    sessions: list[Any] = []

    def open_session(connection: CassandraConnection) -> Any:
        sessions.append(SimpleNamespace(cluster=mock.Mock(), get_pool_state=lambda: {'node': {'open_count': 1}}))
        return sessions[-1]

    monkeypatch.setattr(connections, '_open', open_session)
    monkeypatch.setattr(connections, '_sessions', {})
    monkeypatch.setattr(kept, '_kept', {})
    monkeypatch.setenv('KEPT_PASSWORD', 'first')
    return sessions


def closed(sessions: list[Any]) -> list[int]:
    return [session.cluster.shutdown.call_count for session in sessions]


def step(connection: CassandraConnection = HERE) -> None:
    with connections.session(connection, keep=True):
        pass


def wait_until_closed(session: Any) -> None:
    ends = time.monotonic() + 30
    while not session.cluster.shutdown.called:
        assert time.monotonic() < ends
        time.sleep(0.005)


def test_the_steps_of_a_pipeline_share_a_session(opened: list[Any]) -> None:
    for _ in range(5):
        step()
    assert closed(opened) == [0]
    assert opened[0].cluster.refresh_schema_metadata.call_count == 4  # as new as one that was just opened
    assert opened[0].cluster.refresh_nodes.call_count == 4


def test_what_is_no_step_of_a_pipeline_takes_it_and_keeps_none(opened: list[Any]) -> None:
    step()
    for _ in range(2):
        with connections.session(HERE):
            pass
    assert closed(opened) == [1, 1]


def test_one_step_among_its_users_is_enough(opened: list[Any]) -> None:
    with connections.session(HERE):
        step()
    assert closed(opened) == [0]


def test_it_is_closed_after_a_while(opened: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept, 'SECONDS', 0.2)
    began = time.monotonic()
    step()
    assert kept.sessions() == opened
    wait_until_closed(opened[0])
    assert time.monotonic() - began >= 0.2
    assert kept.sessions() == []
    step()
    assert len(opened) == 2


def test_its_time_does_not_end_a_use(opened: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept, 'SECONDS', 0.05)
    step()
    with connections.session(HERE, keep=True):
        time.sleep(0.3)
        assert closed(opened) == [0]
    wait_until_closed(opened[0])
    assert closed(opened) == [1]


def test_a_password_that_changed_opens_another(opened: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    step()
    monkeypatch.setenv('KEPT_PASSWORD', 'second')
    step()
    step()
    assert closed(opened) == [1, 0]


def test_a_certificate_that_changed_opens_another(opened: list[Any], tmp_path: Path) -> None:
    file = tmp_path / 'ca.pem'
    connection = CassandraConnection(('10.0.0.1',), tls=Tls(str(file)))
    step(connection)  # without the file, for what opens it here needs none
    file.write_text('a')
    step(connection)
    step(connection)
    assert closed(opened) == [1, 0]


def test_a_session_that_lost_its_cluster_is_replaced(opened: list[Any]) -> None:
    step()
    opened[0].cluster.refresh_nodes.side_effect = DriverException('gone')
    step()
    assert closed(opened) == [1, 0]


def test_a_forked_child_takes_and_closes_none_of_its_parents(opened: list[Any]) -> None:
    step()

    def child() -> None:
        assert kept.sessions() == []
        step()
        assert closed(opened) == [0, 0]

    process = multiprocessing.get_context('fork').Process(target=child)
    with kept._lock:  # as another thread may
        process.start()
    process.join(10)
    hung = process.is_alive()
    process.kill()
    assert (hung, process.exitcode) == (False, 0)
    assert kept.sessions() == opened


def test_it_is_closed_at_exit_while_the_drivers_threads_run() -> None:
    program = """
import types
from concurrent.futures import ThreadPoolExecutor
from tfx_cassandra.components.driver import kept
pool = ThreadPoolExecutor(1)
pool.submit(int)
kept.put('key', types.SimpleNamespace(cluster=types.SimpleNamespace(shutdown=lambda: pool.submit(print, 'closed'))), ())
"""
    done = subprocess.run([sys.executable, '-c', program], capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.returncode) == ('closed\n', 0)
    assert 'Traceback' not in done.stderr


def test_its_connections_are_counted(opened: list[Any]) -> None:
    step()
    assert [state['open_count'] for state in connections._states()] == [1]


def test_threads_that_come_and_go_share_it(opened: list[Any]) -> None:
    def user() -> None:
        for _ in range(100):
            with connections.session(HERE, keep=True) as session:
                assert not session.cluster.shutdown.called

    threads = [threading.Thread(target=user) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert closed(opened) == [0]
