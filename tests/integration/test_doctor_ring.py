"""The doctor on rings of its own: two data centers with a node down, and a role with few rights."""

from __future__ import annotations

import dataclasses
import os
import signal
import sys
from collections.abc import Iterator

import pytest
from nodes import running

from tfx_cassandra.components import doctor, schema
from tfx_cassandra.components.cli import main as cli
from tfx_cassandra.components.devcluster.cluster import DevCluster
from tfx_cassandra.components.driver import connection as connections
from tfx_cassandra.components.driver.connection import CassandraConnection

pytestmark = [pytest.mark.integration, pytest.mark.slow]

FAST = '-XX:TieredStopAtLevel=1'
FLAT = schema.table('flat', 'Anything.', {'k': 'text', 'v': 'double'}, ('k',), {})


def severities(facts: doctor.Facts) -> set[tuple[str, str]]:
    about = ('server-version', 'driver-version', 'throughput')
    return {(each.check, each.severity) for each in doctor.examine(facts) if each.check not in about}


def test_a_ring_of_two_data_centers_and_a_node_that_dies(tmp_path_factory: pytest.TempPathFactory) -> None:
    cluster = DevCluster(
        tmp_path_factory.mktemp('ring'), 3, '127.0.152', storage_port=7152, jmx_port=7525, heap='512M', data_centers=2
    )
    with running(cluster, {}, FAST):
        connection = CassandraConnection(cluster.contact_points[:2], keyspace='ring', request_timeout=20.0)
        schema.apply(connection, schema.NetworkReplication({'dc1': 2, 'dc2': 1}), relations=[FLAT])
        facts = doctor.gather(connection, ['flat'])
        # The node of dc2 is examined as well, although clients of dc1 do not connect to it.
        assert [(node.name, node.datacenter, node.down) for node in facts.nodes] == [
            (f'{address}:9042', center, '')
            for address, center in zip(cluster.contact_points, ('dc1', 'dc1', 'dc2'), strict=True)
        ]
        assert len({node.schema_version for node in facts.nodes}) == 1
        assert all(node.clock is not None and node.settings and node.release for node in facts.nodes)
        assert len(facts.readings) == 3
        assert facts.keyspace.copies == {'dc1': 2, 'dc2': 1}
        assert all(table.repairs_known and table.repaired_at is None for table in facts.tables)
        assert facts.unread == ()
        assert severities(facts) == {('consistency', 'info')}  # between the data centers

        assert cluster.nodetool(['repair', '--full', 'ring', 'flat'], 1) == 0
        (repaired,) = doctor.gather(connection, ['flat']).tables
        assert repaired.repaired_at is not None
        assert abs((repaired.repaired_at - facts.now).total_seconds()) < 600

        nodetool = f'{sys.executable} -m {cli.__name__} cluster nodetool --directory {cluster.directory}'
        told = doctor.gather(connection, ['flat'], nodetool=f'{nodetool} --node {{address}} --')
        assert told.unread == ()
        assert [reading.droppable for reading in told.readings] == [0.0] * 3

        status = cluster.status()[1]
        assert status.pid is not None
        os.kill(status.pid, signal.SIGKILL)
        status.node.wait_ended(status.pid)
        one = dataclasses.replace(connection, contact_points=cluster.contact_points[:1])
        facts = doctor.gather(one, ['flat'])
        assert [bool(node.down) for node in facts.nodes] == [False, True, False]
        assert len(facts.readings) == 2
        assert severities(facts) == {('node-down', 'error'), ('availability', 'error'), ('consistency', 'info')}


@pytest.fixture(scope='module')
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CassandraConnection]:
    """A connection as superuser to a node with roles."""
    cluster = DevCluster(
        tmp_path_factory.mktemp('guarded'), subnet='127.0.153', storage_port=7153, jmx_port=7529, heap='512M',
        authenticated=True,
    )  # fmt: skip
    settings = {'authorizer': 'CassandraAuthorizer', 'permissions_validity': '100ms', 'compaction_throughput': '0MiB/s'}
    with pytest.MonkeyPatch.context() as patch, running(cluster, settings, FAST):
        patch.setenv('GUARDED_PASSWORD', 'cassandra')
        patch.setenv('DOCTOR_PASSWORD', 'look')
        root = CassandraConnection(
            cluster.contact_points, keyspace='guarded', username='cassandra', password_env='GUARDED_PASSWORD'
        )
        schema.apply(root, schema.SimpleReplication(1), relations=[FLAT])
        with connections.session(root) as session:
            for role in ('doctor', 'applier'):
                session.execute(f"CREATE ROLE {role} WITH PASSWORD = 'look' AND LOGIN = true")
            session.execute('ALTER KEYSPACE guarded WITH replication = '
                            "{'class': 'NetworkTopologyStrategy', 'dc1': 3}")  # fmt: skip
        yield root


def as_role(connection: CassandraConnection, name: str) -> CassandraConnection:
    return dataclasses.replace(connection, username=name, password_env='DOCTOR_PASSWORD')


def test_a_role_without_rights_is_told_what_it_needs_and_the_grants_are_enough(guarded: CassandraConnection) -> None:
    facts = doctor.gather(as_role(guarded, 'doctor'), ['flat'])
    assert all(node.release and node.clock for node in facts.nodes)
    needed = {unread.needs for unread in facts.unread}
    assert 'GRANT SELECT ON system_distributed.repair_history TO the role of the doctor' in needed
    assert all(
        '\n' not in unread.reason and 'doctor has no SELECT permission' in unread.reason for unread in facts.unread
    )
    with connections.session(guarded) as session:
        for keyspace in ('system_views', 'system_distributed', 'guarded'):
            session.execute(f'GRANT SELECT ON KEYSPACE {keyspace} TO doctor')
    later = dataclasses.replace(as_role(guarded, 'doctor'), connect_timeout=11.0)
    facts = doctor.gather(later, ['flat'])
    assert facts.unread == ()
    assert ('throughput', 'warning') in {(each.check, each.severity) for each in doctor.examine(facts)}


def test_an_applier_without_rights_is_one_line(guarded: CassandraConnection) -> None:
    more = schema.table('more', 'Anything.', {'k': 'text'}, ('k',), {})
    with pytest.raises(Exception, match=r'^[a-z._]+: Unauthorized: .*applier has no ') as caught:
        schema.apply(as_role(guarded, 'applier'), schema.SimpleReplication(1), relations=[FLAT, more])
    assert '\n' not in str(caught.value)
