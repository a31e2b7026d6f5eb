"""A node that speaks TLS and asks its clients for certificates."""

from __future__ import annotations

import dataclasses
import os
import pathlib

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

    def present(self, certificate: tuple[str, str]) -> None:
        """Makes the node show another certificate, given the certificate's file and the key's."""
        self.files.write_text(''.join(pathlib.Path(file).read_text() for file in reversed(certificate)))
        if self.cluster.nodetool(['reloadssl']) != 0:
            raise RuntimeError('nodetool reloadssl failed')
