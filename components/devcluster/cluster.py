"""Runs a real Cassandra of one or three nodes on this machine, without Docker: start, stop, status, nodetool."""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import json
import os
import platform
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from tfx_cassandra.components.devcluster import launch, ready, releases, tuning
from tfx_cassandra.components.devcluster.cache import cache_folder
from tfx_cassandra.components.devcluster.distribution import find_distribution
from tfx_cassandra.components.devcluster.exporter import check_java, find_exporter
from tfx_cassandra.components.devcluster.java import find_java
from tfx_cassandra.components.devcluster.naming import rmi_options
from tfx_cassandra.components.devcluster.node import Node
from tfx_cassandra.components.driver import connection as connections
from tfx_cassandra.components.errors import DevClusterError, invalid
from tfx_cassandra.components.progress import Step, step

Progress = Callable[[str], AbstractContextManager[Step]]
_UNRECORDED = '5.0.8'  # the release of data from before its version was recorded


@dataclass(frozen=True)
class NodeStatus:
    """State of one node: its process id or None, whether it answers CQL, its resident memory in bytes."""

    node: Node
    pid: int | None
    answers: bool
    memory: int


@dataclass(frozen=True)
class DevCluster:
    """A development cluster and the folder of its data; node i listens on `subnet`.(i + 1).

    Attributes:
        directory: folder of the cluster; each configuration of the ring has its own data below it.
        nodes: 1, or 3 for a ring that holds three copies, in racks rack1 to rack3.
        subnet: first three numbers of the loopback addresses.
        port: CQL port of every node.
        storage_port: port for connections between nodes.
        jmx_port: port of node 0 on 127.0.0.1 for nodetool; node i has jmx_port + i.
        heap: Java heap of each node, such as 512M or 1G.
        authenticated: whether clients have to log in; the first user is cassandra with password cassandra.
        tokens: number of tokens of each node (num_tokens).
        version: Cassandra release to run where CASSANDRA_HOME names none, or its first numbers, such as 4.1.
        data_centers: how many the nodes are in, dc1 and on; with 2, nodes 1 and 2 are in dc1, node 3 in dc2.
        tuning: workload that the nodes are tuned for: ingest, serve or training (see tuning.py); None for none.
        metrics_port: port on which each node shows its metrics to Prometheus; None for not at all.

    Raises:
        ValueError: a field breaks its rule; the message names field, value and rule.
    """

    directory: Path
    nodes: int = 1
    subnet: str = '127.0.0'
    port: int = 9042
    storage_port: int = 7000
    jmx_port: int = 7199
    heap: str = '1G'
    authenticated: bool = False
    tokens: int = 16
    version: str = releases.DEFAULT
    data_centers: int = 1
    tuning: str | None = None
    metrics_port: int | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, 'directory', Path(self.directory).expanduser().resolve())
        if ':' in str(self.directory):
            raise invalid('directory', str(self.directory), "a path without ':'")
        if self.nodes not in (1, 3):
            raise invalid('nodes', self.nodes, '1 or 3')
        if not re.fullmatch(r'127(\.(0|[1-9]\d{0,2})){2}', self.subnet) or max(map(int, self.subnet.split('.'))) > 255:
            raise invalid('subnet', self.subnet, 'the first three numbers of a loopback address, such as 127.0.0')
        ports = {field: getattr(self, field) for field in ('port', 'storage_port', 'jmx_port', 'metrics_port')}
        if self.metrics_port is None:
            del ports['metrics_port']
        for field, port in ports.items():
            if not 0 < port <= 65533:
                raise invalid(field, port, 'from 1 to 65533')
        if self.port == self.storage_port:
            raise invalid('storage_port', self.storage_port, 'another port than port')
        if self.metrics_port in (self.port, self.storage_port):
            raise invalid('metrics_port', self.metrics_port, 'another port than port and storage_port')
        tuning.check_heap(self.heap)
        if self.tuning is not None and self.tuning not in tuning.WORKLOADS:
            raise invalid('tuning', self.tuning, f'one of {", ".join(tuning.WORKLOADS)}')
        if not 1 <= self.tokens <= 256:
            raise invalid('tokens', self.tokens, 'from 1 to 256')
        if not 1 <= self.data_centers <= self.nodes:
            raise invalid('data_centers', self.data_centers, f'from 1 to the number of nodes, {self.nodes}')
        object.__setattr__(self, 'version', releases.resolve(self.version))

    @classmethod
    def saved(cls, directory: Path) -> DevCluster | None:
        """Returns the cluster that was last started in a directory, or None.

        Raises:
            DevClusterError: the directory's record cannot be read.
        """
        record = Path(directory).expanduser().resolve() / 'cluster.json'
        try:
            return cls(record.parent, **json.loads(record.read_text()))
        except FileNotFoundError:
            return None
        except (OSError, TypeError, ValueError, RecursionError) as error:
            raise DevClusterError(f'directory: got {record}, rule: the record of a cluster ({error})') from error

    @property
    def contact_points(self) -> tuple[str, ...]:
        """Returns the address of every node."""
        return tuple(f'{self.subnet}.{index + 1}' for index in range(self.nodes))

    @property
    def ring(self) -> tuple[Node, ...]:
        """Returns the nodes in the order of their addresses."""
        # Stored data contains the addresses and tokens of its ring, so another ring needs another folder.
        tokens = '' if self.tokens == DevCluster.tokens else f'-{self.tokens}-tokens'
        centers = '' if self.data_centers == 1 else f'-{self.data_centers}-data-centers'
        folder = self.directory / f'{self.nodes}-node-{self.subnet}-{self.storage_port}{tokens}{centers}'
        return tuple(
            Node(
                index=index,
                folder=folder / f'node{index + 1}',
                address=address,
                port=self.port,
                storage_port=self.storage_port,
                jmx_port=self.jmx_port + index,
                heap=self.heap,
                authenticated=self.authenticated,
                tokens=self.tokens,
                data_center=f'dc{index * self.data_centers // self.nodes + 1}',
                seeds=tuple(f'{seed}:{self.storage_port}' for seed in self.contact_points),
                metrics_port=self.metrics_port,
                tuning=self.tuning,
            )
            for index, address in enumerate(self.contact_points)
        )

    def start(self, progress: Progress = step) -> None:
        """Starts the nodes that are not running, and returns when all of them answer CQL and see each other as up.

        If CASSANDRA_CONTACT_POINTS names a cluster, nothing is started: that cluster only has to answer.

        Args:
            progress: creates the context manager of each step, as `components.progress.step` does.

        Raises:
            DevClusterError: a cluster of another configuration runs in the directory, a port is in use, there is too
                little memory, the data is of another release, Java or a jar cannot be obtained, or a node ends or does
                not become ready; nodes that this call has started are stopped again.
            UnavailableError: the cluster of CASSANDRA_CONTACT_POINTS does not answer.
        """
        if use_external(progress):
            return
        if platform.system() != 'Linux':
            raise DevClusterError(f'system: got {platform.system()}, rule: Linux, or CASSANDRA_CONTACT_POINTS set')
        with self._locked():
            self._check_saved()
            missing = [node for node in self.ring if node.pid() is None]
            if not missing:
                with progress(f'already running: {self}'):
                    launch.wait_ready(self.ring)
                return
            launch.check_ports(missing)
            launch.check_memory(missing, launch.available_memory())
            with progress('cassandra') as running:
                distribution = find_distribution(cache_folder(), running.update, version=self.version)
                running.update(str(distribution))
            self._check_data(distribution.version)
            with progress('java') as running:
                java = find_java(cache_folder(), wanted=releases.java_version(distribution.version))
                running.update(str(java))
            exporter = None
            if self.metrics_port is not None:
                with progress('metrics exporter') as running:
                    check_java(java)
                    exporter = find_exporter(cache_folder())
                    running.update(f'http://{self.subnet}.1:{self.metrics_port}/metrics')
            self._save(distribution.version)
            with progress(str(self)) as running:
                launch.start(self.ring, missing, java, distribution, running.update, exporter)

    def stop(self, progress: Progress = step) -> bool:
        """Stops the nodes after they have flushed their data to disk; returns whether any was running."""
        with self._locked():
            running = [node for node in self.ring if node.pid() is not None]
            if running:
                with progress(f'stop {self}'):
                    launch.stop(running)
            return bool(running)

    def status(self) -> tuple[NodeStatus, ...]:
        """Returns the current state of each node."""
        return tuple(_status(node) for node in self.ring)

    def nodetool(self, args: Sequence[str], node: int = 1) -> int:
        """Runs Cassandra's nodetool against one node, with this process's output; returns its exit code.

        Args:
            args: command and options, such as `['status']`.
            node: which node to ask, from 1.

        Raises:
            DevClusterError: the node is not running.
            ValueError: the ring has no node of this number.
        """
        if not 1 <= node <= self.nodes:
            raise invalid('node', node, f'from 1 to {self.nodes}')
        target = self.ring[node - 1]
        if target.pid() is None:
            raise DevClusterError(
                f'node: got {node} of {self.directory}, rule: a node that is running (see cluster start)'
            )
        cache = cache_folder()
        java, distribution = find_java(cache), find_distribution(cache, version=self.version)
        return target.nodetool(java, rmi_options(java, distribution, cache), args)

    def __str__(self) -> str:
        nodes = '1 node' if self.nodes == 1 else f'{self.nodes} nodes'
        return f'{nodes} on {", ".join(self.contact_points)} port {self.port}'

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """Locks the directory, so that a second start or stop waits for the first."""
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            lock = (self.directory / 'lock').open('w')
        except OSError as error:
            rule = f'a folder that can be written ({error.strerror})'
            raise DevClusterError(f'directory: got {self.directory}, rule: {rule}') from error
        with lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _save(self, release: str) -> None:
        record = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        del record['directory']  # the folder can be moved while nothing runs
        (self.directory / 'cluster.json').write_text(json.dumps(record, indent=2) + '\n')
        self._release_file.parent.mkdir(exist_ok=True)
        self._release_file.write_text(f'{release}\n')

    @property
    def _release_file(self) -> Path:
        return self.ring[0].folder.parent / 'version'

    def _check_data(self, release: str) -> None:
        """Keeps a release away from the data of another: an older one may not read it, a newer one changes it."""
        folder = self._release_file.parent
        if not folder.exists():
            return
        try:
            made_by = self._release_file.read_text().strip()
        except FileNotFoundError:
            made_by = _UNRECORDED
        if made_by != release:
            rule = f'{made_by}, which made the data in {folder} (or another --directory)'
            raise DevClusterError(f'version: got {release}, rule: {rule}')

    def _check_saved(self) -> None:
        saved = DevCluster.saved(self.directory)
        if saved is None or all(node.pid() is None for node in saved.ring):
            return
        for field in dataclasses.fields(self):
            wanted, running = getattr(self, field.name), getattr(saved, field.name)
            if wanted != running and field.name != 'heap':
                rule = f'{running!r}, like the cluster that is running in {self.directory} (see cluster stop)'
                raise DevClusterError(f'{field.name}: got {wanted!r}, rule: {rule}')


def use_external(progress: Progress = step) -> bool:
    """Checks that the cluster of CASSANDRA_CONTACT_POINTS answers; returns False if the variable is not set.

    Raises:
        UnavailableError: the cluster does not answer.
    """
    if not os.environ.get('CASSANDRA_CONTACT_POINTS'):
        return False
    connection = connections.CassandraConnection.from_env()
    with progress(f'CASSANDRA_CONTACT_POINTS {",".join(connection.contact_points)}') as running:
        with connections.session(connection) as session:
            version = session.execute('SELECT release_version FROM system.local').one()[0]
        running.update(f'Cassandra {version} answers and is used, nothing is started')
    return True


def _status(node: Node) -> NodeStatus:
    pid, memory = node.pid(), 0
    with contextlib.suppress(OSError):
        resident = re.search(r'VmRSS:\s+(\d+) kB', Path(f'/proc/{pid}/status').read_text())
        memory = int(resident[1]) * 1024 if resident else 0
    return NodeStatus(node, pid, pid is not None and ready.is_listening(node.address, node.port), memory)
