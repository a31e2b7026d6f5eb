"""A node that speaks TLS, asks its clients for certificates and passwords, and grants rights to roles."""

from __future__ import annotations

import pathlib
from collections.abc import Iterator

import pytest
from authority import Authority
from nodes import running
from tls_node import SUBNET, WORKER, TlsNode

from tfx_cassandra.components import schema
from tfx_cassandra.components.devcluster.cluster import DevCluster
from tfx_cassandra.components.driver.connection import CassandraConnection, Tls


@pytest.fixture(scope='package')
def tls_node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TlsNode]:
    folder = tmp_path_factory.mktemp('tls-node')
    authority = Authority(folder, 'authority')
    certificate, key = authority.issue('node', f'{SUBNET}.1')
    files = folder / 'node-with-key.pem'
    files.write_text(pathlib.Path(key).read_text() + pathlib.Path(certificate).read_text())
    # A port of its own, for it listens on every address.
    cluster = DevCluster(
        folder / 'node', subnet=SUBNET, port=9951 + WORKER, jmx_port=7511 + WORKER, heap='512M', authenticated=True
    )
    settings = {
        'authorizer': 'CassandraAuthorizer', 'permissions_validity': '50ms', 'roles_validity': '50ms',
        'credentials_validity': '50ms',
        'rpc_address': '0.0.0.0', 'broadcast_rpc_address': f'{SUBNET}.1',
        'client_encryption_options': {
            'enabled': True,
            'optional': True,  # so that the development cluster, which knows no TLS, sees that the node is ready
            'require_client_auth': True,
            'ssl_context_factory': {'class_name': 'org.apache.cassandra.security.PEMBasedSslContextFactory'},
            'keystore': str(files),
            'truststore': authority.file,
        },
    }  # fmt: skip
    client = authority.issue('client')
    with pytest.MonkeyPatch.context() as patch, running(cluster, settings, '-XX:TieredStopAtLevel=1'):
        patch.setenv('TLS_NODE_PASSWORD', 'cassandra')
        connection = CassandraConnection(
            cluster.contact_points, cluster.port, keyspace='guarded', username='cassandra',
            password_env='TLS_NODE_PASSWORD', tls=Tls(authority.file, *client),
        )  # fmt: skip
        schema.apply(connection, schema.SimpleReplication(1))
        yield TlsNode(cluster, authority, files, connection)
