"""A node that speaks TLS and asks its clients for certificates."""

from __future__ import annotations

import dataclasses
import os
import pathlib

import pytest
from authority import Authority

from tfx_cassandra.components.devcluster.cluster import DevCluster
from tfx_cassandra.components.driver.connection import CassandraConnection

WORKER = int(os.environ.get('PYTEST_XDIST_WORKER', 'gw0').removeprefix('gw'))  # each has a node of its own
SUBNET = f'127.0.{80 + WORKER}'
ELSEWHERE = f'{SUBNET}.9'  # an address of the node that its certificate does not name
PASSWORD = 'canary-7b1e4f'  # of every role; nothing that is produced may hold it


@dataclasses.dataclass(frozen=True)
class TlsNode:
    """A node with TLS.

    Attributes:
      cluster: The node.
      authority: Signs certificates that it and its clients take.
      files: PEM file of its certificate and key, which `present` replaces.
      connection: A connection as superuser.
    """

    cluster: DevCluster
    authority: Authority
    files: pathlib.Path
    connection: CassandraConnection

    def as_role(self, role: str, patch: pytest.MonkeyPatch) -> CassandraConnection:
        """Returns a connection as a role with PASSWORD, which the environment's variables name, too."""
        root = self.connection
        assert root.tls is not None
        for name, value in {
            'CONTACT_POINTS': root.contact_points[0], 'PORT': str(root.port), 'KEYSPACE': root.keyspace,
            'USERNAME': role, 'PASSWORD': PASSWORD, 'CA_FILE': root.tls.ca_file,
            'CERT_FILE': root.tls.cert_file, 'KEY_FILE': root.tls.key_file,
        }.items():  # fmt: skip
            patch.setenv(f'CASSANDRA_{name}', value or '')
        return CassandraConnection.from_env()

    def present(self, certificate: tuple[str, str]) -> None:
        """Makes the node show another certificate, given the certificate's file and the key's."""
        self.files.write_text(''.join(pathlib.Path(file).read_text() for file in reversed(certificate)))
        if self.cluster.nodetool(['reloadssl']) != 0:
            raise RuntimeError('nodetool reloadssl failed')
