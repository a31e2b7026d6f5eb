"""The command `tfx-cassandra scan`: a table to files, or a count, with proof that every row was read once."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from tfx_cassandra.components.cli import export
from tfx_cassandra.components.cli.options import add_command, add_connection_arguments, connection_from
from tfx_cassandra.components.cql.types import Decoding
from tfx_cassandra.components.driver import connection as connections
from tfx_cassandra.components.driver.connection import CassandraConnection
from tfx_cassandra.components.errors import invalid
from tfx_cassandra.components.progress import Step, step
from tfx_cassandra.components.scan import survey
from tfx_cassandra.components.scan.fetch import PAGE_ROWS, Fetcher, ReadOptions
from tfx_cassandra.components.scan.ledger import Coverage, RangeRead
from tfx_cassandra.components.scan.options import ReadRequest, filtered, plan_splits, verified
from tfx_cassandra.components.scan.page import RawHandler
from tfx_cassandra.components.scan.plan import Plan
from tfx_cassandra.components.window import TimeWindow

_ABOUT = (
    'Reads a whole table, or a window of it, to files, or counts it. It fails unless every token range was read '
    'exactly once; the folder appears only when it is complete, with coverage.json beside the data.'
)
_EXAMPLE = """scan feature_store --window 2013-01-01T00:00Z/2013-02-01T00:00Z --out january
  tfx-cassandra scan inference_results --where model_id=flight-delay --to count --verify"""


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Registers `scan`; it sets `run` to a function from namespace to exit code."""
    parser = add_command(subparsers, 'scan', _ABOUT, _EXAMPLE)
    parser.add_argument('table', help='table or materialized view')
    parser.add_argument(
        '--to', choices=export.FORMATS, help='format (default: parquet with --out, count without)', metavar='FORMAT'
    )
    parser.add_argument('--out', type=Path, metavar='FOLDER', help='folder to make; it must not exist or be empty')
    parser.add_argument('--columns', metavar='NAME[,NAME]', help='columns wanted (default: all)')
    parser.add_argument('--window', metavar='START/END', help='event times wanted, [start, end), ISO-8601 with offsets')
    parser.add_argument('--time-column', metavar='NAME', help='column of the window (default: first clustering one)')
    parser.add_argument(
        '--where', action='append', default=[], metavar='COLUMN=VALUE', help='rows wanted; of one column any of several'
    )
    parser.add_argument('--consistency', default='LOCAL_QUORUM', help='consistency level (default: %(default)s)')
    parser.add_argument('--splits', type=int, help='token ranges read apart at least (default: by size)')
    parser.add_argument('--page-rows', type=int, default=PAGE_ROWS, help='rows of a page (default: %(default)s)')
    parser.add_argument('--rows-per-second', type=float, metavar='N', help='rows read a second at most')
    parser.add_argument('--bytes-per-second', type=float, metavar='N', help='bytes of results read a second at most')
    parser.add_argument(
        '--invalid-text', default='error', choices=('error', 'replace'), help='text that is not UTF-8: %(choices)s'
    )
    parser.add_argument(
        '--wide-varints', default='error', choices=('error', 'text'),
        help='varints beyond 64 bits: an error, or every varint as decimal text',
    )  # fmt: skip
    parser.add_argument('--verify', action='store_true', help='show the ledger: what was read of each token range')
    parser.add_argument('--recount', action='store_true', help='count all rows once more at the end, and compare')
    add_connection_arguments(parser)
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    kind = args.to or ('parquet' if args.out else 'count')
    if (args.out is None) != (kind == 'count'):
        raise invalid('out', args.out and str(args.out), 'given, unless --to is count')
    connection = connection_from(args)
    folder = nullcontext() if args.out is None else export.folder(args.out)
    with folder as target, connections.session(connection):  # one connection for all that follows
        request = _request(args, connection)
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
    _report(args, rows, coverage, summary)
    return 0


def _scanned(request: ReadRequest, planned: Plan, kind: str, target: Path | None) -> tuple[int, Coverage]:
    """Reads a plan into files; returns the rows that were kept, and what was read."""
    scan, rows, reads = planned.scan, 0, []
    with connections.session(request.connection, RawHandler) as session, step(f'scan {scan.table}') as running:
        schema = survey.arrow_schema(session, scan, request.options.decoding)
        files = None if target is None else export.Files(target, kind, schema)
        progress = _Progress(planned, running)
        fetcher = Fetcher(session, scan, request.planned(planned.page_rows))
        for found in fetcher.fetch(planned.splits):
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
    """Says on a step how much of what is wanted has been read, how fast, and how long it will take."""

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


def _request(args: argparse.Namespace, connection: CassandraConnection) -> ReadRequest:
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


def _report(args: argparse.Namespace, rows: int, coverage: Coverage, summary: dict[str, Any]) -> None:
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
