"""Measures one epoch of a table as batches of tensors, here and by others: load -> rounds -> medians -> ratios.

Each reader runs in a process of its own, all of them once a round, to and fro, so that what changes on the machine
meets all alike. Rates are those of the whole epoch; ratios are medians over the rounds of ratios within a round.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import statistics
import subprocess
import sys
from pathlib import Path

import pyarrow as pa

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / 'read'))

import load  # noqa: E402
from load import WIDE, Table  # noqa: E402

from tfx_cassandra.components.driver import connection as connections  # noqa: E402
from tfx_cassandra.components.driver.connection import CassandraConnection  # noqa: E402
from tfx_cassandra.components.progress import step  # noqa: E402
from tfx_cassandra.components.scan import probe  # noqa: E402
from tfx_cassandra.components.scan.options import ReadRequest  # noqa: E402
from tfx_cassandra.components.scan.source import plan_splits  # noqa: E402

READERS = ['ours', 'shuffled', 'workers', 'scan', 'loop', 'list', 'parquet']
HOME = Path('.tfx-cassandra/bench')


def main() -> int:
    parser = argparse.ArgumentParser(prog='benchmarks/torch/run.py', description=(__doc__ or '').splitlines()[0])
    parser.add_argument('--rows', type=int, default=500_000, help='of the wide table (default: %(default)s)')
    parser.add_argument('--rounds', type=int, default=3, help='(default: %(default)s)')
    parser.add_argument('--only', nargs='+', choices=READERS, default=READERS, metavar='READER')
    parser.add_argument('--keyspace', default='bench_read')
    options = parser.parse_args()
    table = Table(WIDE, options.rows)
    connection = dataclasses.replace(CassandraConnection.from_env(), keyspace=options.keyspace, request_timeout=60.0)
    with connections.session(connection) as session:
        load.load(session, options.keyspace, table, lambda name: counted(connection, name))
    HOME.mkdir(parents=True, exist_ok=True)
    file = HOME / f'{table.name}.parquet'
    if not file.exists():
        measure('write-parquet', options.keyspace, table.name, file)
    runs: list[dict] = []
    for number in range(options.rounds):
        for reader in options.only if number % 2 == 0 else options.only[::-1]:
            with step(f'round {number + 1} of {options.rounds}: {reader}') as running:
                found = measure(reader, options.keyspace, table.name, file)
                running.update(f'{found["rate"] / 1000:,.0f} k rows/s')
            runs.append({'round': number, **found})
    report(runs)
    return 0


def counted(connection: CassandraConnection, table: str) -> int:
    request = ReadRequest(connection, table, ('f00',))
    plan = plan_splits(request)
    return sum(found.num_rows for found in probe._scan(request, plan) if isinstance(found, pa.RecordBatch))


def measure(reader: str, keyspace: str, table: str, file: Path) -> dict:
    command = [sys.executable, '-W', 'ignore', str(HERE / 'readers.py'), reader, keyspace, table, str(file)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout.splitlines()[-1]) if done.stdout.strip() else {}


def report(runs: list[dict]) -> None:
    sums = {round(run['sum'], 3) for run in runs if run['reader'] != 'scan'}
    assert len({run['rows'] for run in runs}) == 1, 'all readers read all rows'
    print(f'{runs[0]["rows"]:,} rows; sums of a column: {sums}')
    rows = []
    for reader in dict.fromkeys(run['reader'] for run in runs):
        own = [run for run in runs if run['reader'] == reader]
        row = {'reader': reader, 'k rows/s': round(statistics.median(run['rate'] for run in own) / 1000)}
        row |= {
            name: round(statistics.median(run[name] for run in own), 2)
            for name in ('first', 'seconds', 'peak_mb', 'cpu')
        }
        for other in ('scan', 'loop', 'parquet'):
            pairs = [
                run['rate'] / peer['rate']
                for run in own
                for peer in runs
                if (peer['reader'], peer['round']) == (other, run['round'])
            ]
            row[f'/ {other}'] = round(statistics.median(pairs), 2) if pairs else ''
        rows.append(row)
    widths = {
        key: max(len(str(row[key])) for row in [dict(zip(rows[0], rows[0], strict=True)), *rows]) for key in rows[0]
    }
    for row in [dict(zip(rows[0], rows[0], strict=True)), *rows]:
        print('  '.join(str(row[key]).rjust(widths[key]) for key in row))


if __name__ == '__main__':
    sys.exit(main())
