"""Measures how fast a table is read from its SSTables, beside the server and other tools: tables -> rounds -> medians.

Each reader runs in a process of its own, one after the other; the rounds go through them to and fro, so that what
changes on the machine meets all alike. Readers that take long run in the first round only.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import os
import shutil
import statistics
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
READ = HERE.parent / 'read'
sys.path.append(str(READ))

import measure  # noqa: E402
import object_store  # noqa: E402
from environments import AbsentError, Packages, python_of  # noqa: E402
from figures import table as aligned  # noqa: E402
from load import FEATURE_STORE, WIDE  # noqa: E402
from readers import BY_KEY  # noqa: E402
from tables import MakeError, Table, make  # noqa: E402

from tfx_cassandra.components.cli.cluster import default_directory  # noqa: E402
from tfx_cassandra.components.devcluster.cluster import DevCluster  # noqa: E402
from tfx_cassandra.components.driver import connection as connections  # noqa: E402
from tfx_cassandra.components.driver.connection import CassandraConnection  # noqa: E402
from tfx_cassandra.components.errors import TfxCassandraError  # noqa: E402
from tfx_cassandra.components.progress import step  # noqa: E402

HOME = Path('.tfx-cassandra/bench').resolve()
TITLES = {
    'arrow': 'SSTables to Arrow',
    'cold': 'SSTables to Arrow, files not in memory',
    'parquet': 'SSTables to Parquet',
    'tfrecord': 'SSTables to gzipped TFRecord',
    's3': 'SSTables in S3 to Arrow, 20 ms a request',
    's3_asked': 'the same without reading ahead',
    'raw': 'raw CQL pages, undecoded',
    'batches': 'CQL scan to Arrow',
    'cqlite': 'cqlite-py 0.17 to Parquet',
    'dsbulk': 'DSBulk 1.10 unload to CSV',
    'spark_parquet': 'Spark 3.5 connector to Parquet',
}
ONCE = ('cqlite', 'dsbulk', 'spark_parquet')
OF_FILES = ('arrow', 'cold', 'parquet', 'tfrecord', 'cqlite')
OF_S3 = ('s3', 's3_asked')
LATENCY = 0.02  # seconds of each request to the store, which answers faster than one far away
CQLITE = Packages('cqlite', ('cqlite-py==0.17.0',))
# figure, floor, aim, (reader, table) and what it is compared with
TARGETS = (
    ('one SSTable to Arrow / raw CQL pages', 10, 20, ('arrow', 'one'), ('raw', 'one')),
    ('four overlapping to Arrow / raw CQL pages', 4, 6, ('arrow', 'four'), ('raw', 'four')),
    ("to Parquet / cqlite-py's Parquet", 15, 30, ('parquet', 'one'), ('cqlite', 'one')),
)


@dataclasses.dataclass(frozen=True)
class Command:
    """A reader on a table: its key, the table's, and the start of its command."""

    reader: str
    table: str
    words: tuple[str, ...]


def main() -> int:
    options = parse()
    cluster = DevCluster.saved(default_directory())
    connection = dataclasses.replace(CassandraConnection.from_env(), keyspace=options.keyspace, request_timeout=60.0)
    if cluster is None or cluster.nodes != 1 or cluster.contact_points != connection.contact_points:
        raise MakeError('cluster: got another one, rule: one node of this checkout (make cluster)')
    tables = {
        'one': Table(FEATURE_STORE, options.rows),
        'four': Table(FEATURE_STORE, options.rows // 4, copies=4),
        'columns': Table(WIDE, options.rows // 4),
        **({'large': Table(FEATURE_STORE, 4 * options.rows)} if options.memory else {}),
    }
    HOME.mkdir(parents=True, exist_ok=True)
    with connections.session(connection) as session, tempfile.TemporaryDirectory(dir=HOME) as scratch:
        folders = {key: make(cluster, session, options.keyspace, table, Path(scratch)) for key, table in tables.items()}
    readers = options.only or list(TITLES)
    bench = Bench(connection, tables, options.timeout)
    with contextlib.ExitStack() as servers:
        uri = None
        if set(readers) & set(OF_S3):
            with contextlib.suppress(AbsentError):
                endpoint = servers.enter_context(object_store.serving(HOME, connection.contact_points[0]))
                uri = object_store.upload(endpoint, folders['one'], 'one')
        commands, absent = fetch(readers, tables, folders, uri)
        for number in range(options.rounds):
            order = [one for one in commands if not number or one.reader not in ONCE]
            bench.round(f'round {number + 1} of {options.rounds}', order[:: -1 if number % 2 else 1])
    report(bench, tables, {**absent, **bench.failed}, options.rounds)
    if options.json:
        content = {'rows': options.rows, 'rounds': options.rounds, 'cores': os.cpu_count(), 'runs': bench.runs}
        options.json.write_text(json.dumps({**content, 'absent': {**absent, **bench.failed}}, indent=1))
    return 0


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog='make bench-sstable', description=(__doc__ or '').splitlines()[0])
    parser.add_argument(
        '--rows', type=int, default=2_000_000, help='of one SSTable; the others have a quarter, and 4 x'
    )
    parser.add_argument('--rounds', type=int, default=3, help='(default: %(default)s)')
    parser.add_argument(
        '--only', nargs='+', choices=list(TITLES), metavar='READER', help=f'some of: {", ".join(TITLES)}'
    )
    parser.add_argument('--no-memory', dest='memory', action='store_false', help='without the table of 4 x the rows')
    parser.add_argument('--keyspace', default='bench_sstable', help='holds the tables (default: %(default)s)')
    parser.add_argument('--timeout', type=float, default=300, help='seconds of one run of a reader')
    parser.add_argument('--json', type=Path, metavar='FILE', help='where every run is written')
    return parser.parse_args()


def fetch(
    readers: list[str], tables: Mapping[str, Table], folders: Mapping[str, Path], uri: str | None
) -> tuple[list[Command], dict[str, str]]:
    """Returns the commands of all readers on their tables, and why some are absent.

    Args:
      readers: Their keys.
      tables, folders: The tables, and the snapshot of each.
      uri: Where table 'one' is in an object store; None where there is none.
    """
    found, absent = [], {}
    for reader in readers:
        try:
            start = _start(reader)
        except AbsentError as reason:
            absent[reader] = str(reason)
            continue
        if reader in OF_S3 and uri is None:
            absent[reader] = 'no moto, which serves S3'
            continue
        for key in tables:
            if (key == 'large' and reader != 'arrow') or (reader in (*ONCE, *OF_S3) and key != 'one'):
                continue
            where = ('--folder', str(folders[key])) if reader in OF_FILES else ()
            where = ('--uri', str(uri)) if reader in OF_S3 else where
            found.append(Command(reader, key, (*start, *where)))
    return found, absent


def _start(reader: str) -> tuple[str, ...]:
    if reader == 'cqlite':
        return str(python_of(CQLITE, HOME)), str(HERE / 'cqlite_reader.py')
    if reader in OF_S3:
        asked = ('--no-ahead',) if reader == 's3_asked' else ()
        return sys.executable, str(HERE / 'files_reader.py'), '--sink', 'arrow', '--latency', str(LATENCY), *asked
    if reader in OF_FILES:
        sink = reader if reader in ('parquet', 'tfrecord') else 'arrow'
        cold = ('--cold',) if reader == 'cold' else ()
        return sys.executable, str(HERE / 'files_reader.py'), '--sink', sink, *cold
    return tuple(BY_KEY[reader].command(HOME))


class Bench:
    """Runs readers and keeps what they took.

    Attributes:
      runs: Of each run `reader`, `table`, and the fields of measure.Run.
      failed: Readers that failed, and why.
    """

    def __init__(self, connection: CassandraConnection, tables: Mapping[str, Table], timeout: float) -> None:
        self._connection, self._tables, self._timeout = connection, tables, timeout
        self._environ = {**os.environ, 'PYTHONPATH': f'{READ}', 'TF_CPP_MIN_LOG_LEVEL': '3'}
        self.runs: list[dict[str, Any]] = []
        self.failed: dict[str, str] = {}

    def round(self, label: str, commands: list[Command]) -> None:
        """Runs each command once; a reader that fails is left out from then on."""
        with step(label) as progress:
            for command in commands:
                if command.reader in self.failed:
                    continue
                progress.update(f'{command.reader} {command.table}')
                try:
                    run = self._run(command)
                except measure.ReaderError as error:
                    self.failed[command.reader] = str(error)
                    continue
                names = {'reader': command.reader, 'table': command.table}
                self.runs.append({**names, **dataclasses.asdict(run)})

    def median(self, reader: str, table: str, value: Callable[[Mapping[str, Any]], float]) -> float | None:
        """Returns the median over the runs of a reader on a table; None without any."""
        runs = [run for run in self.runs if (run['reader'], run['table']) == (reader, table)]
        return statistics.median(map(value, runs)) if runs else None

    def rate(self, reader: str, table: str) -> float | None:
        """Returns rows of the table a second."""
        rows = self._tables[table].rows
        return self.median(reader, table, lambda run: rows / run['wall'])

    def right_rate(self, reader: str, table: str) -> float | None:
        """Returns `rate`, and None where not all rows came."""
        rows = self.median(reader, table, lambda run: run['rows'])
        return self.rate(reader, table) if rows == self._tables[table].rows else None

    def _run(self, command: Command) -> measure.Run:
        out = HOME / 'out' / command.reader
        shutil.rmtree(out, ignore_errors=True)
        out.mkdir(parents=True)
        log = HOME / 'logs' / f'{command.reader}.log'
        log.parent.mkdir(exist_ok=True)
        to = self._connection
        where = ['--host', to.contact_points[0], '--port', str(to.port), '--datacenter', to.local_datacenter]
        where += ['--keyspace', to.keyspace, '--table', self._tables[command.table].name, '--out', str(out)]
        return measure.run([*command.words, *where], log, self._environ, self._timeout)


def report(bench: Bench, tables: Mapping[str, Table], absent: Mapping[str, str], rounds: int) -> None:
    """Prints a table of readers for each table, and the figures beside their floors and aims."""
    once = ', '.join(ONCE)
    print(f'\n{os.cpu_count()} cores shared by readers and the node; medians of {rounds} rounds, of one: {once}')
    header = ['reader', 'k rows/s', 'of raw', 'CPU s/M', 'peak MB', 'rows returned']
    for key, table in tables.items():
        lines = [line for reader in TITLES if (line := _line(bench, reader, key, table.rows))]
        print(f'\n{key}: {table.name}, {table.copies} SSTable(s)\n{aligned(header, lines)}')
    for reader, reason in absent.items():
        print(f'left out: {TITLES[reader]} ({reason})')
    lines = [
        [
            name,
            f'{floor} x',
            f'{aim} x',
            *_verdict(_ratio(bench.right_rate(*one), bench.right_rate(*other)), floor, aim),
        ]
        for name, floor, aim, one, other in TARGETS
    ]
    peaks = [bench.median('arrow', key, lambda run: run['peak']) for key in ('large', 'one')]
    lines.append(['memory, 4 x the rows', '<= 1.1 x', '<= 1 x', *_verdict(_ratio(*peaks), -1.1, -1)])
    print(f'\n{aligned(["figure", "floor", "aim", "measured", "verdict"], lines)}')


def _line(bench: Bench, reader: str, key: str, rows: int) -> list[str] | None:
    rate, limit = bench.rate(reader, key), bench.rate('raw', key)
    if rate is None:
        return None
    cpu = bench.median(reader, key, lambda run: run['cpu'] / rows * 1e6)
    peak = bench.median(reader, key, lambda run: run['peak'] / 1e6)
    returned = bench.median(reader, key, lambda run: run['rows'])
    wrong = '' if returned == rows else ': WRONG'
    share = f'{rate / limit:.2f}' if limit else '-'
    return [TITLES[reader], f'{rate / 1e3:,.0f}', share, f'{cpu:.3f}', f'{peak:,.0f}', f'{returned:,.0f}{wrong}']


def _ratio(one: float | None, other: float | None) -> float | None:
    return one / other if one and other else None


def _verdict(measured: float | None, floor: float, aim: float) -> list[str]:
    """Returns what was measured and what it reaches; bounds below zero are those that it must not exceed."""
    if measured is None:
        return ['-', 'not measured']
    found = measured if floor > 0 else -measured
    return [f'{measured:.2f} x', 'aim' if found >= aim else 'floor' if found >= floor else 'BELOW']


if __name__ == '__main__':
    try:
        sys.exit(main())
    except (TfxCassandraError, measure.ReaderError, MakeError) as error:
        sys.exit(f'error: {error}')
