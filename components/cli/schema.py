"""The commands `tfx-cassandra schema apply|check|print|history`; layouts.py has `plan` and `copy`."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import click

from tfx_cassandra.components import schema as schemas
from tfx_cassandra.components.cli import layouts
from tfx_cassandra.components.cli.options import Group, connection_options, described, format_option
from tfx_cassandra.components.cli.tables import print_json, print_rows
from tfx_cassandra.components.driver import connection as connections
from tfx_cassandra.components.driver.connection import CassandraConnection
from tfx_cassandra.components.progress import step

_COPIES = 3
_DIGEST_SHOWN = 12  # characters of it, in a table
_DEFAULT_COPIES = f'{_COPIES} in the local data center, fewer if it has fewer nodes'


@click.group(
    cls=Group,
    **described(
        'Creates the keyspace and its tables, compares a live keyspace with them, prints their CQL, and plans '
        'layouts of large tables.',
        'schema apply --replication dc1:3',
    ),
)
def schema() -> None:
    """Holds the commands."""


schema.add_command(layouts.plan)
schema.add_command(layouts.copy)


def _options(default_replication: str) -> Callable[[Callable[..., int]], Callable[..., int]]:
    """Returns the decorator that adds the options of all three commands."""
    replication = f'As dc1:3,dc2:2 by data center, or simple:1  [default: {default_replication}]'
    options = (
        click.option('--replication', metavar='COPIES', help=replication),
        click.option('--no-views', 'views', flag_value=False, default=True, help='Leave out the materialized views'),
        click.option('--sai', is_flag=True, help='Include the storage-attached indexes of Cassandra 5'),
        connection_options,
    )

    def add(command: Callable[..., int]) -> Callable[..., int]:
        for option in reversed(options):
            command = option(command)
        return command

    return add


@schema.command(
    **described(
        'Creates what the keyspace lacks, and records the version. It only adds: tables, views, indexes and columns. '
        'What it may not change is refused, with the steps to take instead; then the exit code is 1. Several at once '
        'wait for each other, and running it again changes nothing.',
        'schema apply --replication dc1:3,dc2:2 --sai',
    )
)
@click.option('--dry-run', is_flag=True, help='Print the statements and refusals, and execute nothing')
@_options(_DEFAULT_COPIES)
def apply(connection: CassandraConnection, replication: str | None, views: bool, sai: bool, dry_run: bool) -> int:
    given = _replication(replication)  # refused before anything is connected to
    with connections.session(connection):
        wanted = given or _default_replication(connection)
        if not dry_run:
            with step(f'apply the schema to {connection.keyspace}') as progress:
                applied = schemas.apply(connection, wanted, views=views, sai=sai)
                progress.update(f'{len(applied)} statements were needed')
        migration = schemas.migration(connection, wanted, views=views, sai=sai)
    lines = [f'left as it is: {left}' for left in migration.left]
    lines += [f'refused: {refusal}' for refusal in migration.refused]
    if dry_run:  # CQL, with the rest as comments
        lines = [f'{statement};\n' for statement in migration.statements] + [
            f'-- {line}' for text in lines for line in text.splitlines()
        ]
    for line in lines:
        click.echo(line)
    return 1 if migration.refused else 0


@schema.command(
    **described(
        'Lists the versions of the declaration that the keyspace has had, newest first: when, by whom.',
        'schema history --keyspace ml_features',
    )
)
@connection_options
@format_option
def history(connection: CassandraConnection, output_format: str) -> int:
    versions = [dataclasses.asdict(version) for version in schemas.history(connection)]
    if output_format == 'table':
        versions = [{**version, 'digest': version['digest'][:_DIGEST_SHOWN]} for version in versions]
    print_rows(versions, ('number', 'applied_at', 'applied_by', 'package', 'statements', 'digest'), output_format)
    return 0


@schema.command(
    **described(
        'Names each difference between a live keyspace and the declared one, one a line. Exit code 1 if there is a '
        'difference, otherwise 0. tfx-cassandra doctor judges the options.',
        'schema check --replication dc1:3',
    )
)
@_options('any')
@format_option
def check(connection: CassandraConnection, replication: str | None, views: bool, sai: bool, output_format: str) -> int:
    wanted = _replication(replication)
    with connections.session(connection):
        differences = schemas.check(connection, wanted, views=views, sai=sai)
    if output_format == 'json':
        print_json({'differences': list(map(str, differences))})
    else:
        for difference in differences:
            click.echo(difference)
        if not differences:
            click.echo(f'{connection.keyspace} is as declared')
    return 1 if differences else 0


@schema.command(
    'print',
    **described(
        'Prints the CQL that declares the keyspace. It connects to nothing.',
        'schema print --replication simple:1 | cqlsh',
    ),
)
@_options(f'{_COPIES} in the local data center')
def print_(connection: CassandraConnection, replication: str | None, views: bool, sai: bool) -> int:
    wanted = _replication(replication) or schemas.NetworkReplication({connection.local_datacenter: _COPIES})
    for statement in schemas.statements(connection.keyspace, wanted, views=views, sai=sai):
        click.echo(f'{statement};\n')
    return 0


def _replication(text: str | None) -> schemas.Replication | None:
    return schemas.parse_replication(text) if text else None


def _default_replication(connection: CassandraConnection) -> schemas.Replication:
    with connections.session(connection) as session:
        datacenters = [host.datacenter for host in session.cluster.metadata.all_hosts()]
    nodes = datacenters.count(connection.local_datacenter)
    return schemas.NetworkReplication({connection.local_datacenter: min(_COPIES, nodes)})
