"""The commands `tfx-cassandra schema apply|check|print`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable

from tfx_cassandra.components import schema
from tfx_cassandra.components.cli.options import add_command, add_connection_arguments, connection_from
from tfx_cassandra.components.driver import connection as connections
from tfx_cassandra.components.driver.connection import CassandraConnection
from tfx_cassandra.components.progress import step

_COPIES = 3


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Registers `schema` and its commands; each sets `run` to a function from namespace to exit code."""
    about = 'Creates the keyspace and its tables, compares a live keyspace with them, or prints their CQL.'
    commands = add_command(subparsers, 'schema', about, 'schema apply --replication dc1:3').add_subparsers(
        required=True, metavar='command'
    )
    about = (
        'Creates what the keyspace lacks. What exists stays as it is, its replication included, except that missing '
        'columns are added. Running it again does no harm.'
    )
    _add_command(commands, 'apply', _apply, about, 'schema apply --replication dc1:3,dc2:2 --sai')
    about = (
        'Names each difference between a live keyspace and the declared one. Differences go to standard output, one a '
        'line, warnings to standard error. Exit code 1 if there is a difference, otherwise 0.'
    )
    _add_command(commands, 'check', _check, about, 'schema check --replication dc1:3')
    about = 'Prints the CQL that declares the keyspace. It connects to nothing.'
    _add_command(commands, 'print', _print, about, 'schema print --replication simple:1 | cqlsh')


def _add_command(
    commands: argparse._SubParsersAction,
    name: str,
    run: Callable[[argparse.Namespace], int],
    description: str,
    example: str,
) -> None:
    parser = add_command(commands, name, description, example)
    default = 'any' if run is _check else f'{_COPIES} in the local data center, fewer if it has fewer nodes'
    parser.add_argument(
        '--replication', metavar='COPIES', help=f'as dc1:3,dc2:2 by data center, or simple:1 (default: {default})'
    )
    parser.add_argument('--no-views', dest='views', action='store_false', help='leave out the materialized views')
    parser.add_argument('--sai', action='store_true', help='include the storage-attached indexes of Cassandra 5')
    add_connection_arguments(parser)
    parser.set_defaults(run=run)


def _apply(options: argparse.Namespace) -> int:
    connection = connection_from(options)
    parts = {'views': options.views, 'sai': options.sai}
    with connections.session(connection):
        replication = _replication(options) or _default_replication(connection)
        with step(f'apply the schema to {connection.keyspace}') as progress:
            applied = schema.apply(connection, replication, **parts)
            progress.update(f'{len(applied)} statements were needed')
        for difference in schema.check(connection, replication, **parts):
            sys.stdout.write(f'left as it is: {difference}\n')
    return 0


def _check(options: argparse.Namespace) -> int:
    connection = connection_from(options)
    with connections.session(connection):
        differences = schema.check(connection, _replication(options), views=options.views, sai=options.sai)
        for warning in schema.warnings(connection):
            sys.stderr.write(f'warning: {warning}\n')
    for difference in differences:
        sys.stdout.write(f'{difference}\n')
    if not differences:
        sys.stdout.write(f'{connection.keyspace} is as declared\n')
    return 1 if differences else 0


def _print(options: argparse.Namespace) -> int:
    connection = connection_from(options)
    replication = _replication(options) or schema.NetworkReplication({connection.local_datacenter: _COPIES})
    for statement in schema.statements(connection.keyspace, replication, views=options.views, sai=options.sai):
        sys.stdout.write(f'{statement};\n\n')
    return 0


def _replication(options: argparse.Namespace) -> schema.Replication | None:
    return schema.parse_replication(options.replication) if options.replication else None


def _default_replication(connection: CassandraConnection) -> schema.Replication:
    with connections.session(connection) as session:
        datacenters = [host.datacenter for host in session.cluster.metadata.all_hosts()]
    nodes = datacenters.count(connection.local_datacenter)
    return schema.NetworkReplication({connection.local_datacenter: min(_COPIES, nodes)})
