"""TLS with a real node: each certificate that should not be taken is refused, by whichever side it is shown to."""

from __future__ import annotations

import dataclasses
import pathlib
import ssl
from collections.abc import Iterator

import pytest
from authority import Authority
from tls_node import ELSEWHERE, SUBNET, TlsNode

from tfx_cassandra.components.driver import connection as connections
from tfx_cassandra.components.driver.connection import CassandraConnection, Tls
from tfx_cassandra.components.errors import UnavailableError

pytestmark = pytest.mark.integration


def with_tls(node: TlsNode, **changes: object) -> CassandraConnection:
    """The superuser's connection with other fields of its TLS."""
    assert node.connection.tls is not None
    return dataclasses.replace(
        node.connection, tls=dataclasses.replace(node.connection.tls, **changes), connect_timeout=5.0
    )


def refused(connection: CassandraConnection) -> str:
    """Returns the one line that says why no connection was made."""
    with pytest.raises(UnavailableError) as caught:
        connections.acquire(connection)
    message = str(caught.value)
    assert '\n' not in message
    assert message.startswith('contact_points: got ')
    return message


@pytest.fixture
def presented(tls_node: TlsNode) -> Iterator[TlsNode]:
    """The node, which may present another certificate for the length of a test."""
    before = tls_node.files.read_text()
    yield tls_node
    tls_node.files.write_text(before)
    assert tls_node.cluster.nodetool(['reloadssl']) == 0


def test_every_connection_is_encrypted_and_shows_its_certificate(tls_node: TlsNode) -> None:
    with connections.session(tls_node.connection) as session:
        clients = session.execute(
            'SELECT username, ssl_enabled, ssl_protocol, driver_name FROM system_views.clients'
        ).all()
    mine = [client for client in clients if client.username == 'cassandra']
    assert mine
    assert all(client.ssl_enabled and client.ssl_protocol.startswith('TLSv1.') for client in mine)


def test_an_authority_that_did_not_sign_the_node(tls_node: TlsNode, tmp_path: pathlib.Path) -> None:
    other = Authority(tmp_path, 'other')
    assert 'CERTIFICATE_VERIFY_FAILED' in refused(with_tls(tls_node, ca_file=other.file))
    # The name is not what it fails for: the authority is checked without it, too.
    assert 'CERTIFICATE_VERIFY_FAILED' in refused(with_tls(tls_node, ca_file=other.file, check_hostname=False))


def test_a_node_of_another_name_is_taken_only_without_the_check(tls_node: TlsNode) -> None:
    elsewhere = dataclasses.replace(with_tls(tls_node), contact_points=(ELSEWHERE,))
    assert 'IP address mismatch' in refused(elsewhere)
    assert elsewhere.tls is not None
    unchecked = dataclasses.replace(elsewhere, tls=dataclasses.replace(elsewhere.tls, check_hostname=False))
    with connections.session(unchecked) as session:
        assert session.execute('SELECT cluster_name FROM system.local').one()


def test_an_expired_certificate_of_the_node(presented: TlsNode) -> None:
    presented.present(presented.authority.issue('expired', f'{SUBNET}.1', days=-1))
    for check in (True, False):
        assert 'certificate has expired' in refused(with_tls(presented, check_hostname=check))


def test_a_node_that_signed_its_certificate_itself(presented: TlsNode, tmp_path: pathlib.Path) -> None:
    itself = Authority(tmp_path, 'itself')
    presented.present((itself.file, itself.key_file))
    for check in (True, False):
        assert 'self-signed certificate' in refused(with_tls(presented, check_hostname=check))


def test_a_certificate_of_another_address(presented: TlsNode) -> None:
    presented.present(presented.authority.issue('renamed', f'{SUBNET}.77'))
    assert 'IP address mismatch' in refused(with_tls(presented))
    with connections.session(with_tls(presented, check_hostname=False)) as session:
        assert session.execute('SELECT cluster_name FROM system.local').one()


@pytest.mark.parametrize('kind', ['none', 'expired', 'of another authority'])
def test_a_client_without_a_valid_certificate_is_not_let_in(
    tls_node: TlsNode, tmp_path: pathlib.Path, kind: str
) -> None:
    authority = Authority(tmp_path, 'other') if kind == 'of another authority' else tls_node.authority
    certificate, key = authority.issue(f'client {kind}', days=-1 if kind == 'expired' else 1)
    shown = {'cert_file': None, 'key_file': None} if kind == 'none' else {'cert_file': certificate, 'key_file': key}
    refused(with_tls(tls_node, **shown))


def test_a_node_without_tls_is_refused(tls_node: TlsNode, cluster_connection: CassandraConnection) -> None:
    plain = dataclasses.replace(cluster_connection, tls=tls_node.connection.tls, connect_timeout=5.0)
    refused(plain)


def test_old_protocols_are_not_spoken(tls_node: TlsNode) -> None:
    assert Tls(tls_node.authority.file).context().minimum_version >= ssl.TLSVersion.TLSv1_2
