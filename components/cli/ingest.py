"""The command `tfx-cassandra ingest`: files of rows into a table."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from tfx_cassandra.components.cli.options import Command, connection_options, described, duration, format_option, pairs
from tfx_cassandra.components.cli.tables import print_json
from tfx_cassandra.components.driver.connection import CassandraConnection
from tfx_cassandra.components.errors import invalid
from tfx_cassandra.components.progress import step

# What needs Arrow is imported where it runs: the other commands should not wait for it.

_ABOUT = (
    'Loads files of rows into a table: CSV, JSON lines, Parquet, Arrow, or TFRecords of tf.Example, plain or '
    'compressed (gz, zst), local or remote, several of them by globs, or standard input (-). Fields and types are '
    'checked against the live table before the first write. A run with a checkpoint that was killed goes on from there.'
)
_EXAMPLE = """ingest feature_store 'weather/*.csv.gz' --column model_id=origin --column timestamp=time_hour \\
      --feature temp --feature wind_speed --timestamp-column timestamp --checkpoint weather.checkpoint
  tfx-cassandra ingest flights flights.parquet --dry-run
  zcat flights.csv.gz | tfx-cassandra ingest flights - --input-format csv --null NA"""
_MORE = """exit codes: 0 every row was written, 1 some records failed and are in the file of dead letters, or a dry run
found errors, 2 failed, 130 interrupted"""


@click.command(cls=Command, **described(_ABOUT, _EXAMPLE, _MORE))
@click.argument('table')
@click.argument('paths', nargs=-1, required=True, metavar='PATH...')
@click.option(
    '--input-format',
    type=click.Choice(('csv', 'jsonl', 'parquet', 'arrow', 'tfrecord')),
    help='Format of the input  [default: by the end of its name]',
)
@click.option(
    '--mapping', type=click.Path(path_type=Path), metavar='FILE', help='Mapping of fields to columns, YAML or JSON'
)
@click.option(
    '--column', 'columns', multiple=True, metavar='COLUMN=FIELD', help='Field of a column; others are left out'
)
@click.option('--constant', 'constants', multiple=True, metavar='COLUMN=VALUE', help='Value of a column in every row')
@click.option(
    '--feature',
    'features',
    multiple=True,
    metavar='NAME[=FIELD]',
    help='Field that becomes rows of the long layout, feature_name and value',
)
@click.option('--delimiter', default=',', show_default=True, help='Delimiter of CSV; \\t for a tab')
@click.option('--null', 'nulls', multiple=True, metavar='TEXT', help='Text of CSV that is no value, such as NA')
@click.option('--fields', metavar='NAME[,NAME]', help='Names of the fields of CSV without a line of them')
@click.option('--timestamp-column', metavar='NAME', help="Column or field with each row's write time  [default: now]")
@click.option('--ttl', metavar='TIME', help="How long rows live: 3600s, 12h, 30d  [default: the table's]")
@click.option('--consistency', default='LOCAL_QUORUM', show_default=True, help='Consistency level')
@click.option('--rate', type=float, metavar='N', help='Rows written a second at most')
@click.option('--max-errors', default='0', show_default=True, metavar='N|P%', help='Records that may fail')
@click.option(
    '--dead-letters',
    type=click.Path(path_type=Path),
    metavar='FILE',
    help='File of the records that failed, JSON lines that ingest reads again',
)
@click.option(
    '--checkpoint', type=click.Path(path_type=Path), metavar='FILE', help='File of what was acknowledged, to go on from'
)
@click.option('--dry-run', is_flag=True, help='Read and check everything, show the first errors, write nothing')
@format_option
@connection_options
def ingest(connection: CassandraConnection, **given: Any) -> int:
    from tfx_cassandra.components.ingest.inputs import find
    from tfx_cassandra.components.ingest.into import into
    from tfx_cassandra.components.ingest.options import ErrorLimit, LoadOptions

    ttl = None if given['ttl'] is None else duration('ttl', given['ttl'])
    options = LoadOptions(
        _mapping(given), _csv(given), given['timestamp_column'], given['rate'], ErrorLimit.parse(given['max_errors']),
        given['dead_letters'], given['checkpoint'], given['dry_run'],
    )  # fmt: skip
    inputs = find(given['paths'], given['input_format'])
    table, verb = given['table'], 'check for' if options.dry_run else 'ingest into'
    with step(f'{verb} {table}') as running:
        summary = into(connection, table, inputs, options, running, ttl=ttl, consistency=given['consistency'])
    return _report(summary, options, given['output_format'])


def _mapping(given: dict[str, Any]) -> Any:
    from tfx_cassandra.components.ingest import mapping

    parts: dict[str, Any] = {
        'columns': pairs('column', given['columns']),
        'constants': pairs('constant', given['constants']),
        'features': {name: field or name for name, _, field in (text.partition('=') for text in given['features'])},
    }
    parts = {part: values for part, values in parts.items() if values}
    if given['mapping'] is None:
        return mapping.of_parts(parts)
    if parts:
        raise invalid('mapping', str(given['mapping']), 'a file, or the options --column, --constant and --feature')
    return mapping.parse(given['mapping'])


def _csv(given: dict[str, Any]) -> Any:
    from tfx_cassandra.components.ingest.delimited import CsvFormat

    fields = tuple(given['fields'].split(',')) if given['fields'] else ()
    return CsvFormat('\t' if given['delimiter'] == '\\t' else given['delimiter'], given['nulls'], fields)


def _report(summary: Any, options: Any, output_format: str) -> int:
    for line in summary.errors:
        print(line, file=sys.stderr)
    if output_format == 'json':
        print_json(
            {'rows': summary.rows, 'records': summary.records, 'failed': summary.failed, 'errors': summary.errors}
        )
    else:
        kept = (
            f' (in {options.dead_letters})' if summary.failed and options.dead_letters and not options.dry_run else ''
        )
        done = f'{summary.rows:,} rows {"would be written" if options.dry_run else "written"}'
        print(f'{done}, {summary.records:,} records read, {summary.failed:,} failed{kept}')
    return 1 if summary.failed else 0
