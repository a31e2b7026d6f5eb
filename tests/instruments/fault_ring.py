"""A ring of three nodes whose clients reach each node through a proxy, and the faults of nodes and their networks.

Every client learns the proxies' addresses as those of the nodes, so that no request goes past them.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import random
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from nodes import running
from tcp_proxy import Corrupt, Cut, Hole, Late, NetworkFault, Slow, TcpProxy

from tfx_cassandra.components.devcluster.cluster import DevCluster
from tfx_cassandra.components.devcluster.node import Node
from tfx_cassandra.components.driver import connection as connections
from tfx_cassandra.components.driver.connection import CassandraConnection

SUBNET = '127.0.53'
AT_ONCE = 3  # paths that meet a fault
NETWORK: dict[str, Callable[[int], NetworkFault]] = {
    'delay': lambda seed: Late(0.3),
    'throttle': lambda seed: Slow(20_000),
    'black hole': lambda seed: Hole(),
    'reset': lambda seed: Cut(reset=True),
    'cut': lambda seed: Cut(reset=False),
    'corrupt bytes': lambda seed: Corrupt(0.05, seed),
}
PROCESS = ('SIGKILL', 'SIGSTOP', 'restart')
FAULTS = (*NETWORK, *PROCESS)


@dataclasses.dataclass(frozen=True)
class FaultRing:
    """The ring.

    Attributes:
      cluster: Its nodes.
      proxies: One before each node.
      connection: Leads through the proxies.
      straight: Leads past them.
    """

    cluster: DevCluster
    proxies: tuple[TcpProxy, ...]
    connection: CassandraConnection
    straight: CassandraConnection

    @contextlib.contextmanager
    def fault(self, kind: str, number: int, seed: int) -> Iterator[None]:
        """Has a fault of FAULTS at a node for the length of the block; afterwards the ring is whole again.

        Of 'SIGKILL' and 'restart' the node is down for the block; a restart flushes first.
        """
        if kind in NETWORK:
            with self.proxies[number].faulty(NETWORK[kind](seed)):
                yield
            return
        pid = self.cluster.status()[number].pid
        assert pid is not None
        node = self.cluster.ring[number]
        os.kill(pid, {'SIGKILL': signal.SIGKILL, 'SIGSTOP': signal.SIGSTOP, 'restart': signal.SIGTERM}[kind])
        try:
            yield
        finally:
            if kind == 'SIGSTOP':
                os.kill(pid, signal.SIGCONT)
            else:
                node.wait_ended(pid)
                with pytest.MonkeyPatch.context() as patch:
                    patch.delenv('CASSANDRA_CONTACT_POINTS', raising=False)
                    self.cluster.start()

    def wait_whole(self, seconds: float = 300.0) -> None:
        """Waits until every node answers at ALL through its proxy; raises TimeoutError after so many seconds."""
        deadline = time.monotonic() + seconds
        while True:
            try:
                for number in range(3):
                    point = (f'{SUBNET}.{11 + number}',)
                    alone = dataclasses.replace(self.connection, contact_points=point, request_timeout=20.0)
                    with connections.session(alone) as session:
                        query = 'SELECT count(*) FROM system_distributed.view_build_status'
                        statement = session.prepare(query)
                        statement.consistency_level = 5  # ALL
                        session.execute(statement)
                return
            except Exception as error:
                if time.monotonic() > deadline:
                    raise TimeoutError(f'the ring is not whole after {seconds:.0f} s') from error
                time.sleep(0.5)


@contextlib.contextmanager
def fault_ring(folder: Path) -> Iterator[FaultRing]:
    cluster = DevCluster(folder, 3, SUBNET, storage_port=7053, jmx_port=7531, heap='640M')
    usual = Node.settings

    def settings(node: Node) -> dict[str, object]:
        return {**usual(node), 'broadcast_rpc_address': f'{SUBNET}.{11 + node.index}'}

    with contextlib.ExitStack() as stack:
        patch = stack.enter_context(pytest.MonkeyPatch.context())
        patch.setattr(Node, 'settings', settings)
        stack.enter_context(running(cluster, {}, '-XX:TieredStopAtLevel=1'))
        proxies = tuple(
            stack.enter_context(TcpProxy((f'{SUBNET}.{11 + node.index}', node.port), (node.address, node.port)))
            for node in cluster.ring
        )
        straight = CassandraConnection(cluster.contact_points, keyspace='faulty', request_timeout=60.0)
        points = tuple(f'{SUBNET}.{11 + number}' for number in range(3))
        connection = dataclasses.replace(straight, contact_points=points, request_timeout=6.0, connect_timeout=3.0)
        yield FaultRing(cluster, proxies, connection, straight)


@dataclasses.dataclass(frozen=True)
class Case:
    """What a seed stands for.

    Attributes:
      seed: Gives all of it.
      fault: One of FAULTS.
      node: The node that has it.
      length: Seconds that the fault lasts; a node that has ended takes some more to come back.
      begins: For each of the paths: when the fault begins, as a share of the time that it takes without one.
    """

    seed: int
    fault: str
    node: int
    length: float
    begins: dict[str, float]

    @classmethod
    def of(cls, seed: int, paths: tuple[str, ...]) -> Case:
        chance = random.Random(seed)
        # Both come in turn, so that some hundred seeds meet every pair of a path and a fault three times.
        fault = FAULTS[seed % len(FAULTS)]
        length = chance.uniform(1.0, 4.0) / (3 if fault in ('SIGKILL', 'restart') else 1)
        chosen = [paths[(AT_ONCE * seed + number) % len(paths)] for number in range(AT_ONCE)]
        return cls(seed, fault, chance.randrange(3), length, {path: chance.uniform(0, 0.6) for path in chosen})

    @property
    def facts(self) -> dict[str, object]:
        """What the case is besides its fault."""
        return {'seed': self.seed, 'node': self.node, 'length': self.length, 'begins': self.begins}
