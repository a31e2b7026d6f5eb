"""The command `tfx-cassandra doctor`."""

from __future__ import annotations

import dataclasses

import click

from tfx_cassandra.components import doctor as doctors
from tfx_cassandra.components.cli.options import Command, connection_options, described
from tfx_cassandra.components.cli.tables import print_json
from tfx_cassandra.components.driver.connection import CassandraConnection, consistency_level
from tfx_cassandra.components.errors import invalid
from tfx_cassandra.components.progress import step


@click.command(
    'doctor',
    cls=Command,
    **described(
        'Examines a live cluster and says what is wrong with it, with the number seen and the change proposed: sizes '
        'of partitions, tombstones, table options, replication and consistency, nodes, clocks, settings, releases. It '
        'changes nothing.',
        'doctor --keyspace ml_features --tables feature_store,model_metrics --fail-on error',
        'exit codes: 0 nothing at or above --fail-on, 1 findings at or above it, 2 the cluster could not be examined',
    ),
)
@click.option('--tables', metavar='TABLE[,TABLE]', help='Tables to examine  [default: all of the keyspace]')
@click.option(
    '--fail-on',
    type=click.Choice((*doctors.SEVERITIES, 'never')),
    default='warning',
    show_default=True,
    help='Least severe finding with which the exit code is 1',
)
@click.option(
    '--partition-limit',
    type=click.FloatRange(min=0, min_open=True),
    default=doctors.PARTITION_LIMIT / 1e6,
    show_default=True,
    metavar='MB',
    help='Size that a partition may have',
)
@click.option(
    '--sample',
    type=click.IntRange(min=0),
    default=doctors.RANGES,
    show_default=True,
    metavar='N',
    help='Token ranges of each table in which partitions are sampled; 0 for none',
)
@click.option(
    '--nodetool',
    metavar='COMMAND',
    help='Command that runs nodetool against a node, with {address} where its address belongs  [default: none]',
)
@click.option('--write-consistency', metavar='LEVEL', help="Level of your writes  [default: each as this package's]")
@click.option('--read-consistency', metavar='LEVEL', help="Level of your reads  [default: each as this package's]")
@click.option(
    '--format',
    'output_format',
    type=click.Choice(('text', 'json')),
    default='text',
    show_default=True,
    help='Form of the output',
)
@connection_options
def doctor(
    connection: CassandraConnection,
    tables: str | None,
    fail_on: str,
    partition_limit: float,
    sample: int,
    nodetool: str | None,
    write_consistency: str | None,
    read_consistency: str | None,
    output_format: str,
) -> int:
    uses = _uses(write_consistency, read_consistency)
    names = tuple(filter(None, (tables or '').split(',')))
    if tables is not None and not names:
        raise invalid('tables', tables, 'names of tables, with commas')
    with step(f'examine {connection}') as progress:
        facts = doctors.gather(connection, names, ranges=sample, nodetool=nodetool)
        findings = doctors.examine(facts, partition_limit=round(partition_limit * 1e6), uses=uses)
        progress.update(f'{len(facts.nodes)} nodes, {len(facts.tables)} tables, {len(findings)} findings')
    if output_format == 'json':
        print_json(_document(facts, findings))
    else:
        _print_text(facts, findings)
    return int(fail_on != 'never' and any(finding.is_at_least(fail_on) for finding in findings))


def _uses(write: str | None, read: str | None) -> tuple[doctors.Use, ...]:
    for level in (write, read):
        if level is not None:
            consistency_level(level)  # raises ValueError for a name that is none
    if write and read:
        return (doctors.Use('your clients', (), write.upper(), read.upper()),)
    return tuple(
        dataclasses.replace(use, write=(write or use.write).upper(), read=(read or use.read).upper())
        for use in doctors.USES
    )


def _document(facts: doctors.Facts, findings: list[doctors.Finding]) -> dict[str, object]:
    return {
        'keyspace': facts.keyspace.name,
        'examined_at': facts.now,
        'nodes': [node.name for node in facts.nodes],
        'tables': [table.name for table in facts.tables],
        'findings': [dataclasses.asdict(finding) for finding in findings],
        'partitions': [dataclasses.asdict(partition) for partition in facts.partitions],
        'not_read': [dataclasses.asdict(unread) for unread in facts.unread],
    }


def _print_text(facts: doctors.Facts, findings: list[doctors.Finding]) -> None:
    for finding in findings:
        click.echo(f'{finding.severity}: {finding.check}: {finding.where}: {finding.seen}')
        for change in finding.changes:
            click.echo(f'    {change}')
    for unread in facts.unread:
        click.echo(f'not read: {unread.what}: {unread.reason}' + (f'; needs {unread.needs}' if unread.needs else ''))
    if not findings:
        click.echo(f'{facts.keyspace.name}: nothing found on {len(facts.nodes)} nodes, {len(facts.tables)} tables')
