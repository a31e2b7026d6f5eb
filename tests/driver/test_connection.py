"""Connections are checked where they are made, and read the environment."""

from __future__ import annotations

import multiprocessing
import pickle
import types
from unittest import mock

import pytest

from tfx_cassandra.components.driver import connection as connections
from tfx_cassandra.components.driver.connection import CassandraConnection, Tls, consistency_level


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        ({'contact_points': ()}, 'contact_points: got (), rule: one or more'),
        ({'contact_points': ('a', '')}, "contact_points: got ('a', ''), rule: one or more"),
        ({'port': 0}, 'port: got 0, rule: an integer from 1 to 65535'),
        ({'port': '9042'}, "port: got '9042', rule: an integer"),
        ({'keyspace': ''}, "keyspace: got '', rule: a non-empty text"),
        ({'username': 'ada'}, 'password_env: got None, rule: given together with username'),
        ({'port': 65536}, 'port: got 65536, rule: an integer'),
        ({'port': True}, 'port: got True, rule: an integer'),
        ({'local_datacenter': None}, 'local_datacenter: got None, rule: a non-empty text'),
        ({'password_env': 'P'}, "password_env: got 'P', rule: given together with username"),
        ({'connect_timeout': 0}, 'connect_timeout: got 0, rule: seconds above zero'),
        ({'request_timeout': -1}, 'request_timeout: got -1, rule: seconds above zero'),
        ({'request_timeout': float('nan')}, 'request_timeout: got nan, rule: seconds above zero'),
    ],
)
def test_bad_connections(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match='rule') as caught:
        CassandraConnection(**arguments)
    assert str(caught.value).startswith(message)


def test_from_env() -> None:
    environ = {
        'CASSANDRA_CONTACT_POINTS': '10.0.0.1, 10.0.0.2',
        'CASSANDRA_PORT': '9142',
        'CASSANDRA_LOCAL_DATACENTER': 'east',
        'CASSANDRA_KEYSPACE': 'k',
        'CASSANDRA_USERNAME': 'ada',
        'CASSANDRA_CA_FILE': 'ca.pem',
    }
    expected = CassandraConnection(
        ('10.0.0.1', '10.0.0.2'), 9142, 'east', 'k', 'ada', 'CASSANDRA_PASSWORD', Tls('ca.pem')
    )
    assert CassandraConnection.from_env(environ) == expected
    assert CassandraConnection.from_env({}) == CassandraConnection()
    with pytest.raises(ValueError, match="CASSANDRA_PORT: got 'x'"):
        CassandraConnection.from_env({'CASSANDRA_PORT': 'x'})


def test_the_files_of_the_environment() -> None:
    environ = {'CASSANDRA_CA_FILE': 'ca', 'CASSANDRA_CERT_FILE': 'cert', 'CASSANDRA_KEY_FILE': 'key'}
    assert CassandraConnection.from_env(environ).tls == Tls('ca', 'cert', 'key')
    assert CassandraConnection.from_env({**environ, 'CASSANDRA_KEY_FILE': ''}).tls == Tls('ca', 'cert')
    bundle = {'CASSANDRA_SECURE_CONNECT_BUNDLE': 'bundle.zip'}
    assert CassandraConnection.from_env(bundle) == CassandraConnection(secure_connect_bundle='bundle.zip')
    for left in ('CERT', 'KEY'):  # which asked for TLS, and would have got a plain connection
        with pytest.raises(ValueError, match=r'^CASSANDRA_CA_FILE: got None, rule: set where CASSANDRA_CERT_FILE or'):
            CassandraConnection.from_env({f'CASSANDRA_{left}_FILE': 'file'})


def test_one_contact_point_may_stand_alone_and_connections_are_values() -> None:
    connection = CassandraConnection('10.0.0.1')  # type: ignore[arg-type]
    assert connection.contact_points == ('10.0.0.1',)
    assert pickle.loads(pickle.dumps(connection)) == connection
    assert hash(connection) == hash(CassandraConnection(('10.0.0.1',)))


@pytest.mark.parametrize(('name', 'level'), [('ONE', 1), ('local_quorum', 6), ('ALL', 5), ('LOCAL_ONE', 10)])
def test_consistency(name: str, level: int) -> None:
    assert consistency_level(name) == level  # of the protocol, native_protocol_v5.spec section 3


@pytest.mark.parametrize('name', ['MOST', '', 4, None])
def test_unknown_consistency(name: object) -> None:
    with pytest.raises(ValueError, match=r'consistency: got .*, rule: one of ALL'):
        consistency_level(name)  # type: ignore[arg-type]


@pytest.fixture
def sessions_without_a_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, '_open', lambda connection: types.SimpleNamespace(cluster=mock.Mock()))
    monkeypatch.setattr(connections, '_sessions', {})


@pytest.mark.usefixtures('sessions_without_a_cluster')
def test_a_forked_child_opens_a_session_of_its_own() -> None:
    connection = CassandraConnection()
    parents = connections.acquire(connection)

    def child() -> None:
        connections.release(connection)  # as a `with` block around the fork does
        mine = connections.acquire(connection)
        assert mine is not parents
        connections.release(connection)
        assert mine.cluster.shutdown.called
        assert not parents.cluster.shutdown.called

    process = multiprocessing.get_context('fork').Process(target=child)
    with connections._lock:  # as another thread may
        process.start()
    process.join(10)
    hung = process.is_alive()
    process.kill()
    assert (hung, process.exitcode) == (False, 0)
    assert connections.acquire(connection) is parents
