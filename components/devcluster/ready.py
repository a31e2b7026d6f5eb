"""Asks a node over CQL whether it is ready to serve."""

from __future__ import annotations

import socket

from cassandra import ConsistencyLevel, DriverException
from cassandra.auth import PlainTextAuthProvider
from cassandra.cluster import EXEC_PROFILE_DEFAULT, Cluster, ExecutionProfile, NoHostAvailable
from cassandra.policies import WhiteListRoundRobinPolicy
from cassandra.query import SimpleStatement

from tfx_cassandra.components.devcluster.node import Node

SUPERUSER = PASSWORD = 'cassandra'  # the default user of PasswordAuthenticator


def is_ready(node: Node) -> bool:
    """Says whether a node answers CQL and sees every node of its ring as up."""
    if not is_listening(node.address, node.port):
        return False
    profile = ExecutionProfile(WhiteListRoundRobinPolicy([node.address]), request_timeout=5)
    cluster = Cluster(
        [node.address],
        port=node.port,
        protocol_version=5,
        auth_provider=PlainTextAuthProvider(SUPERUSER, PASSWORD) if node.authenticated else None,
        execution_profiles={EXEC_PROFILE_DEFAULT: profile},
        schema_metadata_enabled=False,
    )
    try:
        session = cluster.connect()
        peers = session.execute('SELECT peer FROM system.peers').all()
        # Every node has a replica of this keyspace: an answer at ALL means that this node sees all nodes as up.
        query = 'SELECT keyspace_name FROM system_distributed.view_build_status LIMIT 1'
        session.execute(SimpleStatement(query, consistency_level=ConsistencyLevel.ALL))
        return len(peers) == len(node.seeds) - 1
    except (NoHostAvailable, DriverException, OSError):
        return False
    finally:
        cluster.shutdown()


def is_listening(address: str, port: int) -> bool:
    """Says whether something accepts connections at an address and port."""
    try:
        with socket.create_connection((address, port), timeout=2):
            return True
    except OSError:
        return False


def is_free(address: str, port: int) -> bool:
    """Says whether a server could listen at an address and port."""
    with socket.socket() as probe:
        # As Java's servers do: recently closed connections do not block the address, a listener does.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
        except OSError:
            return False
        return True
