"""The ring as the cluster knows it now: nodes with their tokens, and a keyspace's replication."""

from __future__ import annotations

import ast
import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from tfx_cassandra.components.driver import connection as connections
from tfx_cassandra.components.driver.connection import CassandraConnection
from tfx_cassandra.components.driver.errors import DRIVER_ERRORS, one_line
from tfx_cassandra.components.errors import SchemaError, UnavailableError


@dataclasses.dataclass(frozen=True)
class NodePlace:
    """Where a node is: its data center, its rack and its tokens."""

    data_center: str
    rack: str
    tokens: tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class RingFacts:
    """A ring and a keyspace on it.

    Attributes:
      nodes: The nodes by address.
      replication: The keyspace's replication, such as {'class': 'NetworkTopologyStrategy', 'dc1': '3'}.
      keyspace_cql: CREATE KEYSPACE of the keyspace.
      release: Cassandra's version.
    """

    nodes: Mapping[str, NodePlace]
    replication: Mapping[str, str]
    keyspace_cql: str
    release: str

    @property
    def tokenmap(self) -> dict[str, Any]:
        """The nodes as a tokenmap.json of Cassandra Medusa has them."""
        return {
            name: {'tokens': list(place.tokens), 'is_up': True, 'rack': place.rack, 'dc': place.data_center}
            for name, place in self.nodes.items()
        }


def ring_facts(connection: CassandraConnection, tables: Sequence[str]) -> RingFacts:
    """Returns the ring of a cluster, of all data centers.

    Args:
      connection: The cluster, and the keyspace.
      tables: Tables that the keyspace must have.

    Raises:
      UnavailableError: No node answers.
      SchemaError: The keyspace or a table is missing.
    """
    with connections.session(connection) as session:
        cluster = session.cluster
        try:
            cluster.refresh_nodes(force_token_rebuild=True)
            release = session.execute('SELECT release_version FROM system.local').one()[0]
        except DRIVER_ERRORS as error:
            points = ','.join(connection.contact_points)
            raise UnavailableError(
                f'contact_points: got {points}, rule: nodes that answer ({one_line(error)})'
            ) from error
        metadata = cluster.metadata
        keyspace = metadata.keyspaces.get(connection.keyspace)
        missing = [table for table in tables if keyspace is not None and table not in keyspace.tables]
        if keyspace is None or missing:
            name = connection.keyspace if keyspace is None else f'{connection.keyspace}.{missing[0]}'
            raise SchemaError(f'keyspace: got {name}, which the cluster lacks, rule: what it has')
        tokens: dict[str, list[int]] = {}
        for token, host in metadata.token_map.token_to_host_owner.items():
            tokens.setdefault(host.address, []).append(int(token.value))
        hosts = sorted(metadata.all_hosts(), key=lambda host: host.address)
        replication = ast.literal_eval(keyspace.replication_strategy.export_for_schema())
    nodes = {
        host.address: NodePlace(host.datacenter, host.rack, tuple(sorted(tokens.get(host.address, ()))))
        for host in hosts
    }
    return RingFacts(
        nodes, {key: str(text) for key, text in replication.items()}, keyspace.as_cql_query() + ';', release
    )
