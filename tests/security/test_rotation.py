"""A password and certificates that change while a process runs."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator

import pytest
from cassandra.cluster import Session
from tls_node import PASSWORD, SUBNET, TlsNode

from tfx_cassandra.components import FeatureStore
from tfx_cassandra.components.driver import connection as connections
from tfx_cassandra.components.driver.connection import CassandraConnection
from tfx_cassandra.components.errors import CredentialsError, ReadError

pytestmark = pytest.mark.integration


@pytest.fixture
def superuser(tls_node: TlsNode) -> Iterator[Session]:
    with connections.session(tls_node.connection) as session:
        yield session


@pytest.fixture
def rotating(tls_node: TlsNode, superuser: Session, monkeypatch: pytest.MonkeyPatch) -> Iterator[CassandraConnection]:
    """A connection of a role that may read features, with the password of ROTATING_PASSWORD."""
    superuser.execute(f"CREATE ROLE rotating WITH PASSWORD = '{PASSWORD}' AND LOGIN = true")
    superuser.execute(f'GRANT SELECT ON TABLE {tls_node.connection.keyspace}.feature_store TO rotating')
    monkeypatch.setenv('ROTATING_PASSWORD', PASSWORD)
    yield dataclasses.replace(tls_node.connection, username='rotating', password_env='ROTATING_PASSWORD')
    superuser.execute('DROP ROLE rotating')


def test_a_rotated_password(superuser: Session, rotating: CassandraConnection, monkeypatch: pytest.MonkeyPatch) -> None:
    with FeatureStore(rotating) as store:
        assert store.get_latest_feature('JFK', 'none') is None
        time.sleep(5.1)  # within 5 s of another change Cassandra refuses to change a password
        superuser.execute("ALTER ROLE rotating WITH PASSWORD = 'another'")
        # Connections that are open stay open.
        assert store.get_latest_feature('JFK', 'none') is None
    # A new one needs the new password, which the next user of the connection reads from the environment.
    with pytest.raises(CredentialsError, match=r"^username: got 'rotating', rule: a user whose password") as caught:
        connections.acquire(rotating)
    assert PASSWORD not in str(caught.value)
    monkeypatch.setenv('ROTATING_PASSWORD', 'another')
    with FeatureStore(rotating) as store:
        assert store.get_latest_feature('JFK', 'none') is None


def test_a_right_that_is_taken_away(superuser: Session, rotating: CassandraConnection, tls_node: TlsNode) -> None:
    table = f'{tls_node.connection.keyspace}.feature_store'
    with FeatureStore(rotating) as store:
        assert store.get_latest_feature('JFK', 'none') is None
        superuser.execute(f'REVOKE SELECT ON TABLE {table} FROM rotating')
        time.sleep(0.2)  # the node keeps rights for 50 ms
        with pytest.raises(ReadError, match='has no SELECT permission on <table') as caught:
            store.get_latest_feature('JFK', 'none')
        assert '\n' not in str(caught.value)
        superuser.execute(f'GRANT SELECT ON TABLE {table} TO rotating')


def test_a_certificate_that_is_replaced_while_sessions_are_open(
    tls_node: TlsNode, rotating: CassandraConnection
) -> None:
    before = tls_node.files.read_text()
    with FeatureStore(rotating) as store:
        tls_node.present(tls_node.authority.issue('renewed', f'{SUBNET}.1'))
        try:
            assert store.get_latest_feature('JFK', 'none') is None
            again = dataclasses.replace(rotating, request_timeout=29.0)  # which needs a session of its own
            with FeatureStore(again) as other:
                assert other.get_latest_feature('JFK', 'none') is None
        finally:
            tls_node.files.write_text(before)
            assert tls_node.cluster.nodetool(['reloadssl']) == 0
