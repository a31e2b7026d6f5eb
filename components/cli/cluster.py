"""The commands `tfx-cassandra cluster start|stop|status|nodetool`."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import click

from tfx_cassandra.components.cli.options import Group, described, format_option
from tfx_cassandra.components.cli.tables import print_json
from tfx_cassandra.components.devcluster import releases, tuning
from tfx_cassandra.components.devcluster.cluster import DevCluster, NodeStatus, use_external
from tfx_cassandra.components.errors import DevClusterError, invalid

_ENVIRONMENT = """environment:
  CASSANDRA_CONTACT_POINTS  use this cluster: nothing is started, it only has to answer
  CASSANDRA_HOME            run the Cassandra of this folder instead of the pinned jars
  JAVA_HOME                 where to look for Java first: 17, or 11 for Cassandra 4.1
  TFX_CASSANDRA_MAVEN       mirror of https://repo1.maven.org/maven2 to download the jars from
  TFX_CASSANDRA_STATE       folder for state instead of .tfx-cassandra
  XDG_CACHE_HOME            folder for downloads instead of ~/.cache"""


def default_directory(environ: Mapping[str, str] = os.environ) -> Path:
    """Returns the folder of the cluster where none is given."""
    return Path(environ.get('TFX_CASSANDRA_STATE') or '.tfx-cassandra') / 'cluster'


_directory = click.option(
    '--directory', type=click.Path(path_type=Path), help='Folder of the cluster  [default: .tfx-cassandra/cluster]'
)


@click.group(
    cls=Group,
    **described('Runs a real Apache Cassandra of one node or three on this machine.', 'cluster start', _ENVIRONMENT),
)
def cluster() -> None:
    """Holds the commands."""


def _setting(name: str, about: str, **kind: Any) -> Callable[[Callable[..., int]], Callable[..., int]]:
    default = getattr(DevCluster, name)
    return click.option(f'--{name.replace("_", "-")}', default=default, show_default=True, help=about, **kind)


@cluster.command(
    **described(
        'Starts the cluster, or the part of it that does not run, and waits until every node answers CQL.',
        'cluster start --nodes 3 --heap 1G',
        _ENVIRONMENT,
    )
)
@_directory
@_setting('nodes', 'Size of the ring, 1 or 3', type=int)
@_setting('heap', 'Java heap of each node, as 512M or 1G')
@click.option('--authenticated', is_flag=True, help='Ask for a login; cassandra/cassandra is the first')
@_setting('subnet', 'Loopback network of the nodes')
@_setting('port', 'CQL port of each node', type=int)
@_setting('storage_port', 'Port between the nodes', type=int)
@_setting('jmx_port', 'JMX port of the first node', type=int)
@_setting('tokens', 'Tokens of each node', type=int)
@_setting('data_centers', 'Data centers that the nodes are in, dc1 and on', type=int)
@click.option('--metrics', is_flag=True, help='Show the metrics of each node to Prometheus')
@click.option('--metrics-port', type=int, default=7070, show_default=True, help='Port of --metrics on each node')
@click.option(
    '--version',
    help=f'Cassandra release: {", ".join(releases.known())}, or its first numbers  [default: {releases.DEFAULT}]',
)
@click.option('--tuning', type=click.Choice(tuning.WORKLOADS), help='Settings for a workload, as `tune` prints them')
def start(directory: Path | None, version: str | None, metrics: bool, metrics_port: int, **settings: Any) -> int:
    if version is not None:
        if os.environ.get('CASSANDRA_HOME'):
            raise invalid('version', version, 'none where CASSANDRA_HOME names the Cassandra to run')
        settings['version'] = version
    exported = metrics_port if metrics else None
    DevCluster(directory or default_directory(), metrics_port=exported, **settings).start()
    return 0


@cluster.command(
    **described('Stops the cluster after it has written everything to disk; the data stays.', 'cluster stop')
)
@_directory
def stop(directory: Path | None) -> int:
    folder = directory or default_directory()
    saved = DevCluster.saved(folder)
    if saved is None or not saved.stop():
        sys.stderr.write(f'no cluster runs in {folder}\n')
    return 0


@cluster.command(
    **described(
        'Shows each node: process, memory, whether it answers CQL, log. Exit code 0 if all answer, otherwise 1.',
        'cluster status',
    )
)
@_directory
@format_option
def status(directory: Path | None, output_format: str) -> int:
    if use_external():
        return 0
    folder = directory or default_directory()
    saved = DevCluster.saved(folder)
    nodes = saved.status() if saved is not None else []
    if output_format == 'json':
        print_json([_fields(node) for node in nodes])
    elif saved is None:
        click.echo(f'no cluster in {folder}')
    else:
        for node in nodes:
            click.echo(_line(node))
    return 0 if nodes and all(node.answers for node in nodes) else 1


def _fields(status: NodeStatus) -> dict[str, Any]:
    node = status.node
    address = f'{node.address}:{node.port}'
    return {'node': address, 'answers': status.answers, 'pid': status.pid, 'memory': status.memory, 'log': node.log}


def _line(status: NodeStatus) -> str:
    node = status.node
    state = 'not running'
    if status.pid is not None:
        answers = 'answers CQL' if status.answers else 'does not answer CQL yet'
        state = f'{answers}, pid {status.pid}, {status.memory / 1e9:.1f} GB'
    return f'node {node.address}:{node.port} {state}, log {node.log}'


@cluster.command(
    context_settings={'ignore_unknown_options': True},
    **described(
        "Runs Cassandra's nodetool against one node, with nodetool's own exit code.", 'cluster nodetool -- status'
    ),
)
@_directory
@click.option('--node', default='1', show_default=True, help='Which node to ask: its number from 1, or its address')
@click.argument('words', nargs=-1, type=click.UNPROCESSED, metavar='-- COMMAND...')
def nodetool(directory: Path | None, node: str, words: tuple[str, ...]) -> int:
    folder = directory or default_directory()
    saved = DevCluster.saved(folder)
    if saved is None:
        raise DevClusterError(f'directory: got {folder}, rule: a folder that a cluster was started in')
    numbers = {address: number for number, address in enumerate(saved.contact_points, 1)}
    if node not in numbers and not node.isdecimal():
        raise invalid('node', node, f'a number from 1, or one of {", ".join(numbers)}')
    return saved.nodetool(list(words) or ['help'], numbers.get(node) or int(node))
