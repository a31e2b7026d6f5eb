"""Measures how fast Cassandra is written, by this package and by others: rows -> rounds -> read back -> medians.

Each writer runs in a process of its own, one after the other, all of them once a round, on rows in the order of their
partitions and on shuffled ones. After each run the table is read back and compared with the rows, value by value.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import dataclasses
import json
import multiprocessing
import os
import shutil
import statistics
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / 'read'))

import measure  # noqa: E402
import rows  # noqa: E402
import server  # noqa: E402
from environments import AbsentError  # noqa: E402
from figures import table  # noqa: E402
from writers import WRITERS, Writer  # noqa: E402

from tfx_cassandra.components.driver import connection as connections  # noqa: E402
from tfx_cassandra.components.driver.connection import CassandraConnection  # noqa: E402
from tfx_cassandra.components.errors import TfxCassandraError  # noqa: E402
from tfx_cassandra.components.progress import step  # noqa: E402

HOME = Path('.tfx-cassandra/bench')
TABLE = 'written'
HEADER = ['writer', 'k rows/s', 'of DSBulk', 'client CPU s/M', 'server CPU s/M', 'peak MB', 'runs']


def main() -> int:
    options = parse()
    connection = dataclasses.replace(CassandraConnection.from_env(), keyspace=options.keyspace, request_timeout=60.0)
    chosen, absent = {}, {}
    for writer in WRITERS:
        if options.only is None or writer.key in options.only:
            try:
                chosen[writer.key] = (writer, writer.command(HOME.resolve()))
            except AbsentError as reason:
                absent[writer.title] = str(reason)
                print(f'left out: {writer.title} ({reason})', file=sys.stderr)
    inputs = {order: rows.make(HOME.resolve(), options.rows, order) for order in options.orders}
    runs: list[dict[str, Any]] = []
    plan = [(order, *pair) for order in options.orders for pair in chosen.values()]
    with connections.session(connection) as session:
        rows.make_table(session, options.keyspace, TABLE)
        for number in range(1, options.rounds + 1):
            with step(f'round {number} of {options.rounds}') as progress:
                for order, writer, command in plan if number % 2 else plan[::-1]:
                    if writer.title in absent:
                        continue
                    progress.update(f'{writer.key} {order}')
                    session.execute(f'TRUNCATE {options.keyspace}.{TABLE}', timeout=120)
                    try:
                        run = one_run(connection, writer, command, inputs[order], options)
                    except measure.ReaderError as error:
                        absent[writer.title] = str(error)
                        print(f'failed: {writer.title} ({error})', file=sys.stderr)
                        continue
                    right = as_written(connection, inputs[order])
                    runs.append({'writer': writer.key, 'order': order, 'right': right, **run})
                progress.update(f'{len(runs)} runs')
    report(options, runs, absent)
    if options.json:
        content = {'rows': options.rows, 'rounds': options.rounds, 'cores': os.cpu_count()}
        options.json.write_text(json.dumps({**content, 'runs': runs, 'absent': absent}, indent=1))
    return 0 if all(run['right'] for run in runs) else 1


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog='make bench-write', description=(__doc__ or '').splitlines()[0])
    keys = [writer.key for writer in WRITERS]
    parser.add_argument('--rows', type=int, default=1_000_000, help='(default: %(default)s)')
    parser.add_argument('--rounds', type=int, default=3, help='(default: %(default)s)')
    parser.add_argument('--only', nargs='+', choices=keys, metavar='WRITER', help=f'some of: {", ".join(keys)}')
    parser.add_argument('--orders', nargs='+', choices=rows.ORDERS, default=list(rows.ORDERS), metavar='ORDER')
    parser.add_argument('--keyspace', default='bench_write', help='holds the table (default: %(default)s)')
    parser.add_argument('--timeout', type=float, default=900, help='seconds of one run of a writer')
    parser.add_argument('--json', type=Path, metavar='FILE', help='where every run is written')
    return parser.parse_args()


def one_run(
    connection: CassandraConnection, writer: Writer, command: list[str], source: rows.Rows, options: argparse.Namespace
) -> dict[str, Any]:
    """Runs a writer once; returns the fields of measure.Run and the CPU seconds of the server."""
    out = HOME.resolve() / 'out' / writer.key
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    where = ['--host', connection.contact_points[0], '--port', str(connection.port), '--keyspace', connection.keyspace]
    where += ['--datacenter', connection.local_datacenter, '--table', TABLE, '--out', str(out)]
    log = HOME / 'logs' / f'write-{writer.key}.log'
    log.parent.mkdir(exist_ok=True)
    environ = {**os.environ, 'PYTHONPATH': f'{HERE.parent / "read"}:{HERE}', 'TF_CPP_MIN_LOG_LEVEL': '3'}
    before = server.cpu_seconds(connection.contact_points[0])
    source_file = str(source.file(writer.format))
    run = measure.run([*command, *where, '--rows', source_file], log, environ, options.timeout)
    after = server.cpu_seconds(connection.contact_points[0])
    server_cpu = None if before is None or after is None else after - before
    return {**dataclasses.asdict(run), 'server_cpu': server_cpu}


def as_written(connection: CassandraConnection, source: rows.Rows) -> bool:
    """Says whether the table holds exactly the rows, in a process of its own: a writer's peak of memory, which its
    process has from the one that starts it, would be that of the comparison."""
    fresh = multiprocessing.get_context('spawn')
    with concurrent.futures.ProcessPoolExecutor(1, fresh) as process:
        return process.submit(rows.same, connection, TABLE, source).result()


def report(options: argparse.Namespace, runs: list[dict[str, Any]], absent: dict[str, str]) -> None:
    """Prints the tables of medians."""
    cores = os.cpu_count()
    print(f'\n{cores} cores for writers and server; {options.rows:,} rows; medians of {options.rounds} rounds')
    for order in options.orders:
        rates = {
            writer.key: statistics.median(options.rows / run['wall'] for run in mine)
            for writer in WRITERS
            if (mine := of(runs, writer.key, order))
        }
        lines = [line(options, writer, of(runs, writer.key, order), rates) for writer in WRITERS if writer.key in rates]
        print(f'\n{order}\n{table(HEADER, lines)}')
    for title, reason in absent.items():
        print(f'left out: {title} ({reason})')
    wrong = sum(not run['right'] for run in runs)
    print(f'\nread back and compared value by value: {len(runs) - wrong} of {len(runs)} runs wrote exactly the rows')


def of(runs: list[dict[str, Any]], key: str, order: str) -> list[dict[str, Any]]:
    """Returns the runs of a writer on one order of the rows."""
    return [run for run in runs if run['writer'] == key and run['order'] == order]


def line(options: argparse.Namespace, writer: Writer, runs: list[dict[str, Any]], rates: dict[str, float]) -> list[str]:
    """Returns the table's line of a writer."""

    def a_million(name: str) -> str:
        if any(run[name] is None for run in runs):
            return '-'
        return f'{statistics.median(run[name] for run in runs) / options.rows * 1e6:.2f}'

    share = f'{rates[writer.key] / rates["dsbulk"]:.2f}' if 'dsbulk' in rates else '-'
    peak = statistics.median(run['peak'] for run in runs) / 1e6
    rate = f'{rates[writer.key] / 1000:,.1f}'
    return [writer.title, rate, share, a_million('cpu'), a_million('server_cpu'), f'{peak:,.0f}', str(len(runs))]


if __name__ == '__main__':
    try:
        sys.exit(main())
    except (TfxCassandraError, measure.ReaderError) as error:
        sys.exit(f'error: {error}')
