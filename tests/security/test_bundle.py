"""A secure connect bundle, against a stand-in for the endpoint that it names, in front of a real node with TLS."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import pathlib
import pickle
import socket
import tempfile
from collections.abc import Callable, Iterator

import pytest
import role_uses
from authority import Authority
from cloud_endpoint import NameProxy, bundle, contact_info, metadata_service
from tls_node import ELSEWHERE, PASSWORD, TlsNode

from tfx_cassandra.components import FeatureStore
from tfx_cassandra.components.driver import connection as connections
from tfx_cassandra.components.driver.connection import CassandraConnection
from tfx_cassandra.components.errors import CredentialsError, UnavailableError

pytestmark = pytest.mark.integration

STORE_PASSWORD = 'canary-store-51c0'  # of the Java key stores that a bundle of Astra also holds


@dataclasses.dataclass(frozen=True)
class Endpoint:
    """The stand-in: its proxy, the host id of the node behind it, and a connection by a bundle for it."""

    proxy: NameProxy
    host_id: str
    connection: CassandraConnection


@contextlib.contextmanager
def endpoint(node: TlsNode, folder: pathlib.Path, **changes: object) -> Iterator[Endpoint]:
    """Serves a node by a bundle; changes: `nodes`, `ca_file`, `client`, `content`, `status`, `center`."""
    with connections.session(node.connection) as session:
        host_id = str(session.execute('SELECT host_id FROM system.local').one().host_id)
    with socket.socket() as free:
        free.bind((ELSEWHERE, 0))
        place = (ELSEWHERE, free.getsockname()[1])
    content = changes.get('content', contact_info(place, changes.get('nodes', [host_id]), changes.get('center', 'dc1')))
    with (
        NameProxy(place, (node.cluster.contact_points[0], node.cluster.port), host_id) as proxy,
        metadata_service(ELSEWHERE, node.authority, content, changes.get('status', 200)) as port,
    ):
        client = changes.get('client', node.authority.issue('bundled'))
        path = bundle(
            folder / 'bundle.zip', (ELSEWHERE, port), changes.get('ca_file', node.authority.file), client,
            keyStorePassword=STORE_PASSWORD,
        )  # fmt: skip
        root = node.connection
        yield Endpoint(
            proxy, host_id,
            CassandraConnection(
                keyspace=root.keyspace, username=root.username, password_env=root.password_env,
                secure_connect_bundle=path, connect_timeout=8.0,
            ),
        )  # fmt: skip


def test_everything_works_by_a_bundle(
    tls_node: TlsNode, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with endpoint(tls_node, tmp_path) as found:
        with connections.session(tls_node.connection) as session:
            session.execute(role_uses.TABLE.format(keyspace=tls_node.connection.keyspace))
        role_uses.filled(found.connection)
        with FeatureStore(found.connection) as store, connections.session(found.connection) as session:
            assert store.get_latest_feature('JFK', 'none') is None
            clients = session.execute('SELECT connection_stage, ssl_enabled FROM system_views.clients').all()
            assert all(client.ssl_enabled for client in clients)
        for heading in ('Scan a table', 'Write rows', 'Serve features', 'Write features', 'Look at models'):
            role_uses.USES[heading](found.connection, tmp_path)
    # No connection was made past the proxy, and each named the node.
    assert len(found.proxy.asked) >= 6
    assert set(found.proxy.asked) == {found.host_id}


def test_the_commands_take_a_bundle(
    tls_node: TlsNode, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture
) -> None:
    from tfx_cassandra.components.cli.main import main

    with endpoint(tls_node, tmp_path) as found:
        monkeypatch.setenv('CASSANDRA_SECURE_CONNECT_BUNDLE', str(found.connection.secure_connect_bundle))
        monkeypatch.setenv('CASSANDRA_USERNAME', 'cassandra')
        monkeypatch.setenv('CASSANDRA_PASSWORD', 'cassandra')
        monkeypatch.setenv('CASSANDRA_KEYSPACE', found.connection.keyspace)
        assert main(['models', 'list', 'none']) == 0
        assert set(found.proxy.asked) == {found.host_id}
        monkeypatch.setenv('CASSANDRA_PASSWORD', PASSWORD)
        assert main(['models', 'list', 'none']) == 2
    said = capfd.readouterr().err.strip()
    assert said.startswith("tfx-cassandra: error: username: got 'cassandra', rule: a user whose password ")
    assert 'bundle.zip' in said
    assert PASSWORD not in said
    assert '\n' not in said


Change = Callable[[TlsNode, pathlib.Path], dict]
REFUSED: dict[str, Change] = {
    'a service of another authority': lambda node, folder: {'ca_file': Authority(folder, 'other').file},
    'a client of another authority': lambda node, folder: {'client': Authority(folder, 'other').issue('bundled')},
    'an expired client': lambda node, folder: {'client': node.authority.issue('expired', days=-1)},
    'a node that the proxy does not know': lambda node, folder: {'nodes': ['0f7b1c3e-0000-0000-0000-000000000000']},
    'no metadata': lambda node, folder: {'content': b'{'},
    'other metadata': lambda node, folder: {'content': {'contact_info': {}}},
    'no contact points': lambda node, folder: {'nodes': []},
    'a service that fails': lambda node, folder: {'status': 503},
    'a database that sleeps': lambda node, folder: {'content': b'', 'status': 404},
}


@pytest.mark.parametrize('what', REFUSED)
def test_what_is_refused_is_said_in_one_line(tls_node: TlsNode, tmp_path: pathlib.Path, what: str) -> None:
    changes = REFUSED[what](tls_node, tmp_path)
    with endpoint(tls_node, tmp_path, **changes) as found, pytest.raises(UnavailableError) as caught:
        connections.acquire(found.connection)
    message = str(caught.value)
    path = str(found.connection.secure_connect_bundle)
    assert message.startswith(f'secure_connect_bundle: got {path!r}, rule: its cluster answers (')
    assert '\n' not in message


def test_nothing_of_a_bundle_is_shown_or_left_behind(
    tls_node: TlsNode, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    unpacked = tmp_path / 'temporary'
    unpacked.mkdir()
    monkeypatch.setattr(tempfile, 'tempdir', str(unpacked))
    client = tls_node.authority.issue('bundled')
    said = []
    with endpoint(tls_node, tmp_path, client=client) as found:
        with connections.session(found.connection):
            said += [repr(found.connection), str(found.connection), pickle.dumps(found.connection).decode('latin-1')]
        monkeypatch.setenv(str(found.connection.password_env), PASSWORD)
        with pytest.raises(CredentialsError) as caught:
            connections.acquire(found.connection)
        said.append(repr(caught.value))
    assert list(unpacked.iterdir()) == []
    key = pathlib.Path(client[1]).read_text().splitlines()[1]
    everything = '\n'.join([*said, caplog.text])
    assert 'bundle.zip' in everything
    for secret in (key, STORE_PASSWORD, PASSWORD):
        assert secret not in everything
