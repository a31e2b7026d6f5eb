"""The commands `tfx-cassandra cluster start|stop|status|nodetool`."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping
from pathlib import Path

from tfx_cassandra.components.devcluster.cluster import DevCluster, NodeStatus, use_external
from tfx_cassandra.components.errors import DevClusterError

_START = """example:
  tfx-cassandra cluster start --nodes 3 --heap 1G

environment:
  CASSANDRA_CONTACT_POINTS  use this cluster: nothing is started, it only has to answer
  CASSANDRA_HOME            run the Cassandra 5 of this folder instead of the pinned jars
  JAVA_HOME                 where to look for a Java 17 first
  TFX_CASSANDRA_MAVEN       mirror of https://repo1.maven.org/maven2 to download the jars from
  TFX_CASSANDRA_STATE       folder for state instead of .tfx-cassandra
  XDG_CACHE_HOME            folder for downloads instead of ~/.cache
"""


def default_directory(environ: Mapping[str, str] = os.environ) -> Path:
    """Returns the folder of the cluster where none is given."""
    return Path(environ.get('TFX_CASSANDRA_STATE') or '.tfx-cassandra') / 'cluster'


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Registers `cluster` and its commands; each sets `run` to a function from namespace to exit code."""
    about = 'Runs a real Apache Cassandra of one node or three on this machine.'
    cluster = _parser(subparsers, 'cluster', about, 'example:\n  tfx-cassandra cluster start\n')
    commands = cluster.add_subparsers(required=True, metavar='command')
    _add_start(commands)

    about = 'Stops the cluster after it has written everything to disk; the data stays.'
    stop = _parser(commands, 'stop', about, 'example:\n  tfx-cassandra cluster stop\n')
    stop.set_defaults(run=_stop)

    about = 'Shows each node: process, memory, whether it answers CQL, log. Exit code 0 if all answer, otherwise 1.'
    status = _parser(commands, 'status', about, 'example:\n  tfx-cassandra cluster status\n')
    status.set_defaults(run=_status)

    about = "Runs Cassandra's nodetool against one node, with nodetool's own exit code."
    nodetool = _parser(commands, 'nodetool', about, 'example:\n  tfx-cassandra cluster nodetool -- status\n')
    nodetool.add_argument('--node', type=int, default=1, help='which node to ask, from 1 (default: %(default)s)')
    nodetool.set_defaults(run=_nodetool)
    for command in (stop, status, nodetool):
        _add_directory(command)
    nodetool.add_argument('args', nargs=argparse.REMAINDER, metavar='-- command ...', help='what nodetool is to do')


def _add_start(commands: argparse._SubParsersAction) -> None:
    about = 'Starts the cluster, or the part of it that does not run, and waits until every node answers CQL.'
    start = _parser(commands, 'start', about, _START)
    _add_directory(start)
    default = ' (default: %(default)s)'
    start.add_argument('--nodes', type=int, choices=(1, 3), default=DevCluster.nodes, help='size of the ring' + default)
    start.add_argument('--heap', default=DevCluster.heap, help='Java heap of each node, as 512M or 1G' + default)
    start.add_argument('--authenticated', action='store_true', help='ask for a login; cassandra/cassandra is the first')
    start.add_argument('--subnet', default=DevCluster.subnet, help='loopback network of the nodes' + default)
    start.add_argument('--port', type=int, default=DevCluster.port, help='CQL port of each node' + default)
    start.add_argument(
        '--storage-port', type=int, default=DevCluster.storage_port, help='port between the nodes' + default
    )
    start.add_argument('--jmx-port', type=int, default=DevCluster.jmx_port, help='JMX port of the first node' + default)
    start.add_argument('--tokens', type=int, default=DevCluster.tokens, help='tokens of each node' + default)
    start.set_defaults(run=_start)


def _add_directory(parser: argparse.ArgumentParser) -> None:
    parser.add_argument('--directory', type=Path, help='folder of the cluster (default: .tfx-cassandra/cluster)')


def _parser(
    subparsers: argparse._SubParsersAction, name: str, description: str, epilog: str
) -> argparse.ArgumentParser:
    return subparsers.add_parser(
        name,
        help=description.partition('.')[0],
        description=description,
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def _start(options: argparse.Namespace) -> int:
    fields = ('nodes', 'subnet', 'port', 'storage_port', 'jmx_port', 'heap', 'authenticated', 'tokens')
    settings = {field: getattr(options, field) for field in fields}
    DevCluster(options.directory or default_directory(), **settings).start()
    return 0


def _stop(options: argparse.Namespace) -> int:
    directory = options.directory or default_directory()
    cluster = DevCluster.saved(directory)
    if cluster is None or not cluster.stop():
        sys.stderr.write(f'no cluster runs in {directory}\n')
    return 0


def _status(options: argparse.Namespace) -> int:
    if use_external():
        return 0
    directory = options.directory or default_directory()
    cluster = DevCluster.saved(directory)
    if cluster is None:
        sys.stdout.write(f'no cluster in {directory}\n')
        return 1
    nodes = cluster.status()
    for node in nodes:
        sys.stdout.write(f'{_line(node)}\n')
    return 0 if all(node.answers for node in nodes) else 1


def _line(status: NodeStatus) -> str:
    node = status.node
    state = 'not running'
    if status.pid is not None:
        answers = 'answers CQL' if status.answers else 'does not answer CQL yet'
        state = f'{answers}, pid {status.pid}, {status.memory / 1e9:.1f} GB'
    return f'node {node.address}:{node.port} {state}, log {node.log}'


def _nodetool(options: argparse.Namespace) -> int:
    directory = options.directory or default_directory()
    cluster = DevCluster.saved(directory)
    if cluster is None:
        raise DevClusterError(f'directory: got {directory}, rule: a folder that a cluster was started in')
    args = options.args[1:] if options.args[:1] == ['--'] else options.args
    return cluster.nodetool(args or ['help'], options.node)
