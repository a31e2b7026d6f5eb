"""The cluster: its nodes as the driver sees them, and whether they agree on the schema."""

from __future__ import annotations

import collections
import dataclasses

from cassandra.cluster import Session

STATES = {True: 'up', False: 'down', None: 'unknown'}  # of the driver's is_up; None: not connected to


@dataclasses.dataclass(frozen=True)
class Peer:
    """A node: its address, data center, rack, release, 'up', 'down' or 'unknown', and its version of the schema."""

    address: str
    datacenter: str
    rack: str
    release: str
    state: str
    schema: str


@dataclasses.dataclass(frozen=True)
class Health:
    """The state of a cluster.

    Attributes:
      name: Its name.
      release: The release of the node that was asked.
      peers: Its nodes by data center, rack and address.
      schemas: Nodes by version of the schema, of those that are not down and whose version is known; one entry if they
        agree.
    """

    name: str
    release: str
    peers: tuple[Peer, ...]
    schemas: dict[str, int]

    @property
    def up(self) -> int:
        """Number of nodes that are up."""
        return sum(peer.state == 'up' for peer in self.peers)

    @property
    def agrees(self) -> bool:
        """Whether the nodes have one version of the schema."""
        return len(self.schemas) <= 1


def health(session: Session) -> Health:
    """Asks one node for its peers; the driver knows which of them are up."""
    local = session.execute('SELECT cluster_name, host_id, release_version, schema_version FROM system.local').one()
    rows = session.execute('SELECT host_id, schema_version FROM system.peers')
    versions = {row.host_id: str(row.schema_version) for row in [*rows, local]}
    peers = [
        Peer(
            address=f'{host.address}:{host.endpoint.port}',
            datacenter=host.datacenter or '',
            rack=host.rack or '',
            release=host.release_version or '',
            state=STATES[host.is_up],
            schema=versions.get(host.host_id, ''),
        )
        for host in session.cluster.metadata.all_hosts()
    ]
    peers.sort(key=lambda peer: (peer.datacenter, peer.rack, peer.address))
    # The node that answers may not know the version of a peer yet.
    schemas = collections.Counter(peer.schema for peer in peers if peer.state != 'down' and peer.schema)
    return Health(local.cluster_name, local.release_version, tuple(peers), dict(schemas))
