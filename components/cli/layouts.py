"""The commands `tfx-cassandra schema plan|copy`: a layout for a table, and a copy of the rows of another one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from tfx_cassandra.components.cli.options import Command, connection_options, described, duration, format_option, rate
from tfx_cassandra.components.cli.tables import print_json
from tfx_cassandra.components.driver import connection as connections
from tfx_cassandra.components.driver.connection import CassandraConnection
from tfx_cassandra.components.errors import SchemaError, invalid
from tfx_cassandra.components.progress import step

# What needs Arrow is imported where it runs: the other commands should not wait for it.

_MEGABYTE = 1_000_000


@click.command(
    cls=Command,
    **described(
        'Proposes a time bucket and a hash salt that keep the partitions of a table small. It estimates them from the '
        'size of a row, the rate of an entity and the retention, and prints the CQL of a table with that layout. '
        'It changes nothing.',
        'schema plan feature_store --rate 2/s --retention 365d --into feature_store_by_day',
    ),
)
@click.argument('table')
@click.option('--rate', 'rate_text', required=True, metavar='N/UNIT', help='Rows of one entity: 5/s, 0.5/m or 24/d')
@click.option('--retention', required=True, metavar='TIME', help='How long rows are kept: 12h, 90d')
@click.option('--row-bytes', type=float, metavar='N', help='Size of a row  [default: measured from rows of the table]')
@click.option('--limit', type=float, default=100.0, show_default=True, metavar='MB', help='Largest partition')
@click.option('--time-column', metavar='NAME', help="Column of the rows' times  [default: first clustering one]")
@click.option('--into', metavar='TABLE', help='Name of the new table  [default: TABLE_layout]')
@format_option
@connection_options
def plan(connection: CassandraConnection, **given: Any) -> int:
    from tfx_cassandra.components.driver import tables
    from tfx_cassandra.components.schema.cql import with_keyspace
    from tfx_cassandra.components.schema.plan import Workload, estimates, laid_out
    from tfx_cassandra.components.schema.tables import live

    a_second, retention = rate('rate', given['rate_text']), duration('retention', given['retention'])
    with connections.session(connection) as session:
        table = tables.describe(session, connection.keyspace, given['table'])
        relation = live(session, table.keyspace)[table.name]
    time_column = given['time_column'] or next(iter(table.clustering), '')
    measured = given['row_bytes'] is None
    row_bytes = _measured(connection, str(table)) if measured else given['row_bytes']
    found = estimates(relation, Workload(row_bytes, a_second, retention, time_column), given['limit'] * _MEGABYTE)
    keyspace, _, name = (given['into'] or f'{table.name}_layout').rpartition('.')
    new = laid_out(relation, name, found[-1].layout) if found[-1].layout.columns else None
    cql = None if new is None else with_keyspace(new.cql, keyspace or table.keyspace)
    if given['output_format'] == 'json':
        rows = [
            {
                'layout': str(each.layout), 'partition_bytes': each.partition_bytes, 'partitions': each.partitions,
                'salts': each.salts,
            }
            for each in found
        ]  # fmt: skip
        print_json({'table': str(table), 'row_bytes': row_bytes, 'measured': measured, 'estimates': rows, 'cql': cql})
        return 0
    size = f'{row_bytes:,.0f} bytes a row{" (measured)" if measured else ""}'
    click.echo(f'-- {table}: {size}, {given["rate_text"]} an entity, kept for {given["retention"]}')
    for each in found:
        spread = f', {each.salts} of them for a moment' if each.salts > 1 else ''
        mark = '' if each is not found[-1] else '  <- proposed'
        sizes = f'{each.partition_bytes / _MEGABYTE:,.1f} MB a partition, {each.partitions:,} an entity{spread}'
        click.echo(f'-- {str(each.layout) or "as it is"}: {sizes}{mark}')
    if cql is not None:
        click.echo(f'{cql};')
    return 0


def _measured(connection: CassandraConnection, table: str) -> float:
    """Returns the mean size of some rows of a table, as a node sends them."""
    from tfx_cassandra.components.scan.options import ReadRequest
    from tfx_cassandra.components.scan.page import RawHandler
    from tfx_cassandra.components.scan.sampling import sample

    with connections.session(connection) as session, connections.session(connection, RawHandler) as raw:
        found = sample(raw, ReadRequest(connection, table).scan(session))
    if not found.rows:
        raise SchemaError(f'{table}: got no rows to measure, rule: --row-bytes for a table without rows')
    return found.bytes / found.rows


@click.command(
    cls=Command,
    **described(
        'Copies the rows of a table into another one with the same columns, such as one with a layout, with the write '
        'time and the time to live of every cell. With a checkpoint, a copy that was killed goes on from there. At the '
        'end it counts the rows of both tables.',
        'schema copy feature_store feature_store_by_day --checkpoint copy.json',
        'exit codes: 0 both tables have as many rows, 1 they do not, 2 failed, 130 interrupted',
    ),
)
@click.argument('source')
@click.argument('target')
@click.option(
    '--checkpoint', type=click.Path(path_type=Path), metavar='FILE', help='File of what was copied, to go on from'
)
@click.option('--rate', 'rows_per_second', type=float, metavar='N', help='Rows written a second at most')
@click.option('--consistency', default='LOCAL_QUORUM', show_default=True, help='Consistency level')
@format_option
@connection_options
def copy(connection: CassandraConnection, source: str, target: str, output_format: str, **given: Any) -> int:
    from tfx_cassandra.components.table_copy.copy import CopyOptions
    from tfx_cassandra.components.table_copy.copy import copy as copy_table

    if given['rows_per_second'] is not None and not given['rows_per_second'] > 0:
        raise invalid('rate', given['rows_per_second'], 'above zero')
    options = CopyOptions(source, target, given['checkpoint'], given['rows_per_second'], given['consistency'])
    with step(f'copy {source} into {target}') as running:
        copied = copy_table(connection, options, running)
    if output_format == 'json':
        print_json({'copied': copied.copied, 'source': copied.source, 'target': copied.target})
    else:
        click.echo(f'{copied.copied:,} rows copied; {source} has {copied.source:,}, {target} has {copied.target:,}')
    return 0 if copied.is_equal else 1
