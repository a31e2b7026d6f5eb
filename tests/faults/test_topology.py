"""Nodes join, leave and are replaced while a table is scanned and written: each row once, or an error."""

from __future__ import annotations

import concurrent.futures
import dataclasses
import itertools
import os
import signal
from collections.abc import Callable, Iterator

import pytest
from cassandra.cluster import Session
from fault_place import Writer, base_rows, batch_of, compare, read_once
from fault_results import Outcome, note, outcome_of
from nodes import running

from tfx_cassandra.components.devcluster import launch
from tfx_cassandra.components.devcluster.cache import cache_folder
from tfx_cassandra.components.devcluster.cluster import DevCluster
from tfx_cassandra.components.devcluster.distribution import find_distribution
from tfx_cassandra.components.devcluster.java import find_java
from tfx_cassandra.components.devcluster.naming import rmi_options
from tfx_cassandra.components.devcluster.node import Node
from tfx_cassandra.components.driver import connection as connections
from tfx_cassandra.components.driver import tables
from tfx_cassandra.components.driver.connection import CassandraConnection
from tfx_cassandra.components.errors import TfxCassandraError
from tfx_cassandra.components.write.statement import WriteOptions
from tfx_cassandra.components.write.writer import TableWriter

pytestmark = [pytest.mark.integration, pytest.mark.slow]

SUBNET = '127.0.54'
QUICK_JAVA = '-XX:TieredStopAtLevel=1'


@dataclasses.dataclass
class Ring:
    """Three nodes, and those that have come."""

    cluster: DevCluster
    connection: CassandraConnection
    writer: Writer
    come: list[Node] = dataclasses.field(default_factory=list)

    def join(self, replaced: Node | None = None) -> None:
        """Starts a node that takes tokens of its own, or those of one that has died; returns when it has its rows."""
        first, index = self.cluster.ring[0], 3 + len(self.come)
        node = dataclasses.replace(
            first, index=index, folder=first.folder.parent / f'node{index + 1}', address=f'{SUBNET}.{index + 1}',
            jmx_port=first.jmx_port + index, seeds=first.seeds[:2],
        )  # fmt: skip
        usual = Node.settings

        def settings(node: Node) -> dict[str, object]:
            made = {**usual(node), 'auto_bootstrap': True}
            return {key: value for key, value in made.items() if key != 'initial_token'}

        java = f' -Dcassandra.replace_address_first_boot={replaced.address}' if replaced else ''
        distribution = find_distribution(cache_folder(), version=self.cluster.version)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Node, 'settings', settings)
            patch.setattr('tfx_cassandra.components.devcluster.ready.is_ready', self._has_joined)
            patch.setenv('JAVA_TOOL_OPTIONS', QUICK_JAVA + java)
            self.come.append(node)
            launch.start([node], [node], find_java(cache_folder()), distribution, lambda detail: None)

    def leave(self) -> None:
        """Decommissions the node that came last."""
        self.nodetool(self.come[-1], 'decommission')
        launch.stop(self.come[-1:])

    def replace(self) -> None:
        """Kills the third node for good, and starts one that takes its tokens."""
        dead = self.cluster.ring[2]
        pid = dead.pid()
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        dead.wait_ended(pid)
        self.join(dead)

    def nodetool(self, node: Node, *words: str) -> None:
        java, cache = find_java(cache_folder()), cache_folder()
        options = rmi_options(java, find_distribution(cache, version=self.cluster.version), cache)
        assert node.nodetool(java, options, words) == 0

    def _has_joined(self, node: Node) -> bool:
        alone = dataclasses.replace(self.connection, contact_points=(node.address,))
        try:
            with connections.session(alone) as session:
                query = "SELECT bootstrapped FROM system.local WHERE key = 'local'"
                host = next(host for host in session.cluster.metadata.all_hosts() if host.address == node.address)
                return bool(session.execute(query, host=host).one()[0] == 'COMPLETED')
        except TfxCassandraError:
            return False


@pytest.fixture(scope='module')
def ring(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ring]:
    cluster = DevCluster(tmp_path_factory.mktemp('ring'), 3, SUBNET, storage_port=7054, jmx_port=7541, heap='320M')
    with running(cluster, {}, QUICK_JAVA):
        connection = CassandraConnection(cluster.contact_points[:2], keyspace='moved', request_timeout=20.0)
        with connections.session(connection) as session:
            replication = "{'class': 'NetworkTopologyStrategy', 'dc1': 3}"
            session.execute(f'CREATE KEYSPACE moved WITH replication = {replication}')
            for table in ('numbers', 'written'):
                session.execute(f'CREATE TABLE moved.{table} (k int, n int, v text, PRIMARY KEY (k, n))')
            write(session, 'numbers', base_rows())
        made = Ring(cluster, connection, Writer(connection, 'moved'))
        made.writer.start()
        try:
            yield made
        finally:
            made.writer.end()
            for node in made.come:
                if (pid := node.pid()) is not None:
                    os.kill(pid, signal.SIGKILL)
                    node.wait_ended(pid)


def write(session: Session, table: str, keys: set[tuple[int, int]]) -> None:
    """Writes rows at QUORUM; raises TfxCassandraError where one is not acknowledged."""
    writer = TableWriter(session, tables.describe(session, 'moved', table), WriteOptions(consistency='QUORUM'))
    if failures := writer.write(batch_of(sorted(keys))):
        raise TfxCassandraError(failures[0].message)


# In this order: the node that leaves is the one that has joined.
CHANGES: dict[str, Callable[[Ring], None]] = {
    'a node joins': Ring.join,
    'a node leaves': Ring.leave,
    'a node is replaced': Ring.replace,
}


@pytest.mark.parametrize('change', CHANGES)
def test_scans_and_writes_while_the_ring_changes(ring: Ring, change: str) -> None:
    writer, before = ring.writer, len(ring.writer.acknowledged)
    numbers = itertools.count(1_000_000 * (1 + list(CHANGES).index(change)), 500)
    written: set[tuple[int, int]] = set()

    def scan() -> None:
        least = writer.acknowledged | base_rows()
        found = read_once(ring.connection, 'numbers', consistency='QUORUM', page_rows=500)
        compare(found, least, writer.tried | base_rows())

    def add() -> None:
        first = next(numbers)
        keys = {(n % 50, n) for n in range(first, first + 500)}
        with connections.session(ring.connection) as session:
            write(session, 'written', keys)
        written.update(keys)

    outcomes: list[tuple[str, Outcome]] = []
    with concurrent.futures.ThreadPoolExecutor() as pool:
        changing = pool.submit(CHANGES[change], ring)
        while not changing.done() or len(outcomes) < 2:
            outcomes += [('read', outcome_of(scan)), ('write', outcome_of(add))]
        changing.result()
    for path, outcome in outcomes:
        note(path, change, outcome)
    scan()
    assert written <= set(read_once(ring.connection, 'written', consistency='QUORUM'))
    assert len(writer.acknowledged) > before + 100
    assert not [found for found in outcomes if found[1].kind == 'wrong'], outcomes
