"""The command `tfx-cassandra tune`."""

from __future__ import annotations

import click

from tfx_cassandra.components.cli.options import Command, described
from tfx_cassandra.components.cql.table import quoted
from tfx_cassandra.components.devcluster import tuning

_PARTS = ('all', 'yaml', 'cql')


@click.command(
    'tune',
    cls=Command,
    **described(
        'Prints the settings of a node and its tables for a workload, each with its reason. They are a fragment of '
        'cassandra.yaml, by the names of the release, and CQL. Nothing is changed. '
        '`cluster start --tuning` starts the development cluster with them.',
        'tune --workload serve --version 5.0 --heap 16G --cores 16',
        'docs/tuning.md has the names of older releases, and what a benchmark showed: measure before you set anything.',
    ),
)
@click.option('--workload', type=click.Choice(tuning.WORKLOADS), required=True, help='What the cluster mostly does')
@click.option('--version', default='5.0', show_default=True, help='Cassandra release: 4.1, 5.0, or one such as 4.1.10')
@click.option('--heap', default='8G', show_default=True, help='Java heap of a node, as 512M or 8G')
@click.option('--cores', default=8, show_default=True, help='Processors of a node')
@click.option('--keyspace', default='ml_features', show_default=True, help='Keyspace of the tables')
@click.option(
    '--table', 'tables', multiple=True, default=('feature_store',), show_default=True, help='Table; may be repeated'
)
@click.option('--part', type=click.Choice(_PARTS), default='all', show_default=True, help='What is printed')
def tune(
    workload: str, version: str, heap: str, cores: int, keyspace: str, tables: tuple[str, ...], part: str
) -> int:  # fmt: skip
    wanted = tuning.Tuning(workload, tuning.family_of(version), heap, cores)
    if part != 'cql':
        click.echo(tuning.yaml_text(wanted), nl=part == 'all')
    if part != 'yaml':
        texts = [tuning.cql_text(wanted, f'{quoted(keyspace)}.{quoted(table)}') for table in tables]
        # A comment of YAML, so that the whole output is a fragment of cassandra.yaml that names the statements.
        lines = '\n'.join(texts).rstrip('\n').splitlines()
        prefix = '# ' if part == 'all' else ''
        head = ['# Table options, for cqlsh (alone: --part cql):'] if part == 'all' else []
        click.echo('\n'.join([*head, *(f'{prefix}{line}'.rstrip() for line in lines)]))
    return 0
