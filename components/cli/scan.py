"""The command `tfx-cassandra scan`: a table to files, or a count, with proof that every row was read once."""

from __future__ import annotations

import dataclasses
import json
import sys
import time
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any, Literal

import click

from tfx_cassandra.components.backup.backup import CassandraBackup
from tfx_cassandra.components.backup.tables import BackupTables
from tfx_cassandra.components.cli import export
from tfx_cassandra.components.cli.options import Command, connection_options, described, format_option
from tfx_cassandra.components.cli.tables import print_json
from tfx_cassandra.components.cql.types import Decoding
from tfx_cassandra.components.driver.connection import CassandraConnection
from tfx_cassandra.components.errors import invalid
from tfx_cassandra.components.progress import Step, step
from tfx_cassandra.components.scan.fetch import PAGE_ROWS, ReadOptions
from tfx_cassandra.components.scan.ledger import Coverage, RangeRead
from tfx_cassandra.components.scan.options import ReadRequest, filtered
from tfx_cassandra.components.scan.plan import Plan
from tfx_cassandra.components.scan.source import describe, opened, plan_splits, source_of, verified
from tfx_cassandra.components.window import TimeWindow

_ABOUT = (
    'Reads a whole table, or a window of it, of a cluster or a backup, to files, or counts it. It fails unless every '
    'token range was read exactly once; the folder appears only when it is complete, with coverage.json in it.'
)
_EXAMPLE = """scan feature_store --window 2013-01-01T00:00Z/2013-02-01T00:00Z --out january
  tfx-cassandra scan inference_results --where model_id=flight-delay --to count --verify
  tfx-cassandra scan feature_store --backup s3://backups/cluster --backup-name nightly --out january
  tfx-cassandra scan clicks --backup s3://backups/cluster --backup-name tuesday --since monday --out day"""


@click.command(cls=Command, **described(_ABOUT, _EXAMPLE))
@click.argument('table')
@click.option(
    '--to', 'kind', type=click.Choice(export.FORMATS), help='Format  [default: parquet with --out, count without]'
)
@click.option(
    '--out', type=click.Path(path_type=Path), metavar='FOLDER', help='Folder to make; it must not exist or be empty'
)
@click.option('--backup', 'uri', metavar='URI', help='Folder or prefix of a backup that is read instead of a cluster')
@click.option('--backup-name', metavar='NAME', help='Its name  [default: the only snapshot, the latest of Medusa]')
@click.option(
    '--backup-layout', type=click.Choice(['snapshot', 'medusa']), default='snapshot', show_default=True, help='Its form'
)
@click.option('--since', metavar='NAME', help='Only rows written since this earlier backup in the same place')
@click.option(
    '--replicas',
    type=click.Choice(['all', 'one']),
    default='all',
    show_default=True,
    help='Copies read of each row',
)
@click.option('--columns', metavar='NAME[,NAME]', help='Columns wanted  [default: all]')
@click.option('--window', metavar='START/END', help='Event times wanted, [start, end), ISO-8601 with offsets')
@click.option('--time-column', metavar='NAME', help='Column of the window  [default: first clustering one]')
@click.option('--where', multiple=True, metavar='COLUMN=VALUE', help='Rows wanted; of one column any of several')
@click.option('--consistency', default='LOCAL_QUORUM', show_default=True, help='Consistency level')
@click.option('--splits', type=int, help='Token ranges read apart at least  [default: by size]')
@click.option('--page-rows', type=int, default=PAGE_ROWS, show_default=True, help='Rows of a page')
@click.option('--rows-per-second', type=float, metavar='N', help='Rows read a second at most')
@click.option('--bytes-per-second', type=float, metavar='N', help='Bytes of results read a second at most')
@click.option(
    '--invalid-text',
    type=click.Choice(['error', 'replace']),
    default='error',
    show_default=True,
    help='What text that is not UTF-8 is: an error, or replaced by U+FFFD',
)
@click.option(
    '--wide-varints',
    type=click.Choice(['error', 'text']),
    default='error',
    show_default=True,
    help='What varints beyond 64 bits are: an error, or every varint is decimal text',
)
@click.option('--verify', is_flag=True, help='Show the ledger: what was read of each token range')
@click.option('--recount', is_flag=True, help='Count all rows once more at the end, and compare')
@format_option
@connection_options
def scan(connection: CassandraConnection, **given: Any) -> int:
    args = Arguments(**given)
    kind = args.kind or ('parquet' if args.out else 'count')
    if (args.out is None) != (kind == 'count'):
        raise invalid('out', args.out and str(args.out), 'given, unless --to is count')
    folder = nullcontext() if args.out is None else export.folder(args.out)
    source = _backup(args, connection) or connection
    with folder as target, source_of(source).held():  # one connection for all that follows
        request = _request(args, source)
        with step(f'plan {request.table}') as running:
            planned = plan_splits(request)
            running.update(f'{len(planned.splits)} splits, about {planned.bytes / 1e6:,.0f} MB')
        rows, coverage = _scanned(request, planned, kind, target)
        summary = {
            'table': str(planned.scan.table),
            'window': args.window,
            'rows_written': rows,
            'fingerprint': coverage.fingerprint(planned.scan.cql(planned.scan.times), str(args.window)),
            **coverage.as_json(),
        }
        if target is not None:
            export.write_json(target / 'coverage.json', summary)
    if args.output_format == 'json':
        print_json(summary)
    else:
        _report(args, rows, coverage, summary)
    return 0


@dataclasses.dataclass(frozen=True)
class Arguments:
    """The options of the command, by name."""

    table: str
    kind: str | None
    out: Path | None
    uri: str | None
    backup_name: str | None
    backup_layout: Literal['snapshot', 'medusa']
    since: str | None
    replicas: Literal['all', 'one']
    columns: str | None
    window: str | None
    time_column: str | None
    where: tuple[str, ...]
    consistency: str
    splits: int | None
    page_rows: int
    rows_per_second: float | None
    bytes_per_second: float | None
    invalid_text: Literal['error', 'replace']
    wide_varints: Literal['error', 'text']
    verify: bool
    recount: bool
    output_format: str


def _scanned(request: ReadRequest, planned: Plan, kind: str, target: Path | None) -> tuple[int, Coverage]:
    """Reads a plan into files; returns the rows that were kept, and what was read."""
    scan, rows, reads = planned.scan, 0, []
    with opened(request) as fetches, step(f'scan {scan.table}') as running:
        files = None if target is None else export.Files(target, kind, describe(request).schema)
        progress = _Progress(planned, running)
        for found in fetches(scan, planned.page_rows).fetch(planned.splits):
            if isinstance(found, RangeRead):
                reads.append(found)
                progress.read(found)
                continue
            batch = filtered(found, scan)
            rows += batch.num_rows
            progress.rows(batch.num_rows)
            if files is not None:
                files.write(batch)
        if files is not None:
            files.close()
        coverage = verified(request, planned, reads)
        running.update(f'{rows:,} rows, {rows / max(running.seconds, 1e-9):,.0f} rows/s')
    return rows, coverage


class _Progress:
    """Reports on a step the share that has been read, the speed and the time left."""

    def __init__(self, planned: Plan, running: Step) -> None:
        self._whole = sum(_extent(area) for area in planned.wanted)
        self._running, self._done, self._rows = running, 0, 0
        self._began = time.monotonic()

    def read(self, entry: RangeRead) -> None:
        self._done += _extent(entry.area)

    def rows(self, count: int) -> None:
        self._rows += count
        seconds = max(time.monotonic() - self._began, 1e-9)
        share = self._done / self._whole
        left = f', {seconds * (1 - share) / share:,.0f} s left' if share else ''
        self._running.update(f'{share:.0%} of the ring, {self._rows:,} rows, {self._rows / seconds:,.0f} rows/s{left}')


def _extent(area: Any) -> int:
    return area.tokens.width * (area.times.end - area.times.start)


def _backup(args: Arguments, connection: CassandraConnection) -> BackupTables | None:
    """Returns the backup that is read instead of a cluster."""
    if args.uri is None:
        for name in ('backup_name', 'since'):
            if (got := getattr(args, name)) is not None:
                raise invalid(name, got, 'given together with --backup')
        return None
    for name in ('rows_per_second', 'bytes_per_second'):
        if (got := getattr(args, name)) is not None:
            raise invalid(name, got, 'not with --backup, which loads no server')
    backup = CassandraBackup(args.uri, args.backup_name, args.backup_layout, connection.keyspace, args.replicas)
    since = None if args.since is None else dataclasses.replace(backup, backup=args.since)
    return BackupTables(backup, since)


def _request(args: Arguments, connection: CassandraConnection | BackupTables) -> ReadRequest:
    columns = tuple(filter(None, args.columns.split(','))) if args.columns else None
    window = TimeWindow.parse(args.window) if args.window else None
    where: dict[str, list[str]] = {}
    for condition in args.where:
        column, equals, text = condition.partition('=')
        if not equals:
            raise invalid('where', condition, 'COLUMN=VALUE')
        where.setdefault(column, []).append(text)
    options = ReadOptions(
        args.consistency, args.splits, args.page_rows, args.rows_per_second, args.bytes_per_second,
        Decoding(args.invalid_text, args.wide_varints),
    )  # fmt: skip
    filters = tuple((column, tuple(texts)) for column, texts in where.items())
    return ReadRequest(
        connection, args.table, columns, window, args.time_column, filters, options, recount=args.recount
    )


def _report(args: Arguments, rows: int, coverage: Coverage, summary: dict[str, Any]) -> None:
    if args.verify:
        for line in _ledger(coverage):
            sys.stdout.write(line + '\n')
        sys.stdout.write(
            f'{coverage.ranges:,} areas tile what was asked for exactly once: {coverage.rows:,} rows read, '
            f'{coverage.bytes:,} bytes, {coverage.pages:,} pages, {coverage.retries:,} retries\n'
            f'fingerprint {summary["fingerprint"]}\n'
        )
    sys.stdout.write(f'{rows}\n' if args.out is None else f'{rows:,} rows in {args.out}\n')


def _ledger(coverage: Coverage) -> Iterator[str]:
    line = '{:43} {:29} {:>10} {:>6} {:>7} {:16} {}'.format
    yield line('tokens (start, end]', 'times [start, end) ms', 'rows', 'pages', 'retries', 'checksum', 'node')
    for entry in coverage.reads:
        row = entry.as_json()
        tokens, times = (json.dumps(row[field]) if row[field] else 'all' for field in ('tokens', 'times'))
        yield line(tokens, times, entry.rows, entry.pages, entry.retries, row['checksum'], entry.coordinator)
