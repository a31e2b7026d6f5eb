"""Measures how fast Cassandra is read, by this package and by others: load -> rounds -> medians -> verdicts.

Each reader runs in a process of its own, one after the other, all of them once a round; the rounds go through them to
and fro, so that what changes on the machine meets all alike.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import load
import measure
from environments import AbsentError
from figures import Figures, rates, summarize, table, verdicts
from load import FEATURE_STORE, WIDE, Table
from readers import BY_KEY, READERS, Reader

from tfx_cassandra.components.driver import connection as connections
from tfx_cassandra.components.driver.connection import CassandraConnection
from tfx_cassandra.components.errors import TfxCassandraError
from tfx_cassandra.components.progress import step

HOME = Path('.tfx-cassandra/bench')
HERE = Path(__file__).parent
HEADER = ['reader', 'k rows/s', 'of (a)', 'CPU s/M', 'peak MB', 'process s', 'runs', 'rows returned']
MEMORY = 'examples'  # the reader whose memory is compared


def main() -> int:
    options = parse()
    connection = dataclasses.replace(CassandraConnection.from_env(), keyspace=options.keyspace, request_timeout=60.0)
    bench = Bench(connection, options.timeout)
    chosen = [reader for reader in READERS if options.only is None or reader.key in options.only]
    commands, absent = fetch(chosen)
    main_table, small = Table(FEATURE_STORE, options.rows), Table(FEATURE_STORE, min(options.chain_rows, options.rows))
    large, wide = Table(FEATURE_STORE, 4 * options.rows), Table(WIDE, options.rows // 4)
    plan = [
        (reader, small if reader.scaled else main_table if layout == FEATURE_STORE.name else wide)
        for layout in options.layouts
        for reader in READERS
        if reader.key in commands and layout in reader.layouts
    ]
    with_memory = options.memory and MEMORY in commands and FEATURE_STORE.name in options.layouts
    tables = [*dict.fromkeys(table for _, table in plan), *([large] if with_memory else [])]
    with connections.session(connection) as session:
        nodes = len(session.cluster.metadata.all_hosts())
        for each in tables:
            load.load(session, options.keyspace, each, bench.count)
    runs = []
    for number in range(1, options.rounds + 1):
        order = plan if number % 2 else plan[::-1]
        runs += bench.round(f'round {number} of {options.rounds}', order, commands)
    if with_memory:
        runs += bench.round('memory', [(BY_KEY[MEMORY], large)] * options.rounds, commands)
    same = bench.same_examples(small, commands)
    report(options, nodes, runs, absent | bench.failed, same)
    if options.json:
        content = {'rows': options.rows, 'rounds': options.rounds, 'nodes': nodes, 'cores': os.cpu_count()}
        options.json.write_text(
            json.dumps({**content, 'runs': runs, 'absent': absent | bench.failed, 'same_examples': same}, indent=1)
        )
    return 0


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog='make bench-read', description=(__doc__ or '').splitlines()[0])
    keys = [reader.key for reader in READERS]
    parser.add_argument('--rows', type=int, default=2_000_000, help='of feature_store; the wide table has a quarter')
    parser.add_argument('--chain-rows', type=int, default=200_000, help="of the table that TFX's own chain reads")
    parser.add_argument('--rounds', type=int, default=3, help='(default: %(default)s)')
    parser.add_argument('--only', nargs='+', choices=keys, metavar='READER', help=f'some of: {", ".join(keys)}')
    parser.add_argument(
        '--layouts', nargs='+', choices=list(load.LAYOUTS), default=list(load.LAYOUTS), metavar='LAYOUT'
    )
    parser.add_argument('--no-memory', dest='memory', action='store_false', help='without the table of 4 x the rows')
    parser.add_argument('--keyspace', default='bench', help='holds the tables (default: %(default)s)')
    parser.add_argument('--timeout', type=float, default=600, help='seconds of one run of a reader')
    parser.add_argument('--json', type=Path, metavar='FILE', help='where every run is written')
    return parser.parse_args()


def fetch(readers: Sequence[Reader]) -> tuple[dict[str, list[str]], dict[str, str]]:
    """Fetches what readers need; returns the start of the commands of those that are there, and why others are not."""
    commands, absent = {}, {}
    for reader in readers:
        try:
            commands[reader.key] = reader.command(HOME.resolve())
        except AbsentError as reason:
            absent[reader.key] = str(reason)
            print(f'left out: {reader.title} ({reason})', file=sys.stderr)
    return commands, absent


class Bench:
    """Runs readers against one cluster.

    Args:
      connection: How to reach it.
      timeout: Seconds of one run.
    """

    def __init__(self, connection: CassandraConnection, timeout: float) -> None:
        self._connection, self._timeout = connection, timeout
        self.failed: dict[str, str] = {}
        self._environ = {**os.environ, 'PYTHONPATH': str(HERE), 'TF_CPP_MIN_LOG_LEVEL': '3'}

    def count(self, name: str) -> int:
        """Counts a table's rows; the pages are read and dropped, which warms the server too."""
        reader = BY_KEY['raw']
        return self._run(reader, name, reader.command(HOME)).rows

    def round(self, label: str, plan: Sequence[tuple[Reader, Table]], commands: dict) -> list[dict[str, Any]]:
        """Runs each reader on its table once; one that fails is left out from then on."""
        runs = []
        with step(label) as progress:
            for reader, target in plan:
                if reader.key in self.failed:
                    continue
                progress.update(f'{reader.key} {target.name}')
                try:
                    run = self._run(reader, target.name, commands[reader.key])
                except measure.ReaderError as error:
                    self.failed[reader.key] = str(error)
                    print(f'failed: {reader.title} ({error})', file=sys.stderr)
                    continue
                names = {'reader': reader.key, 'layout': target.layout.name, 'table_rows': target.rows}
                runs.append({**names, **dataclasses.asdict(run)})
            progress.update(f'{len(runs)} runs')
        return runs

    def same_examples(self, small: Table, commands: dict) -> dict[str, Any] | None:
        """Compares the examples of CassandraExampleGen and of TFX's chain from one table; None without both."""
        pair = [key for key in ('example_gen', 'tfx_chain') if key in commands and key not in self.failed]
        if len(pair) < 2:
            return None
        with step(f'examples of {small.name}, by both') as progress:
            try:
                runs = [self._run(BY_KEY[key], small.name, commands[key]) for key in pair]
                command = [sys.executable, str(HERE / 'digest.py'), *(run.details['examples'] for run in runs)]
                found = subprocess.run(command, env=self._environ, stdout=subprocess.PIPE, text=True, check=True)
            except (measure.ReaderError, subprocess.CalledProcessError) as error:
                progress.update(f'not compared ({error})')
                return None
            ours, theirs = json.loads(found.stdout)
            progress.update('the same' if ours == theirs else 'NOT the same')
        return {'equal': ours == theirs, 'rows': small.rows, **dict(zip(pair, (ours, theirs), strict=True))}

    def _run(self, reader: Reader, name: str, command: list[str]) -> measure.Run:
        out = HOME.resolve() / 'out' / reader.key
        shutil.rmtree(out, ignore_errors=True)
        out.mkdir(parents=True)
        connection = self._connection
        where = ['--host', connection.contact_points[0], '--port', str(connection.port)]
        where += ['--datacenter', connection.local_datacenter, '--keyspace', connection.keyspace]
        log = HOME / 'logs' / f'{reader.key}.log'
        log.parent.mkdir(exist_ok=True)
        return measure.run([*command, *where, '--table', name, '--out', str(out)], log, self._environ, self._timeout)


def report(options: argparse.Namespace, nodes: int, runs: list, absent: dict, same: dict | None) -> None:
    """Prints the tables."""
    summaries = summarize(runs)
    titles = {reader.key: reader.title for reader in READERS}
    limits = {s.layout: s.rate for s in reversed(summaries) if s.key == 'raw'}
    large = 4 * options.rows
    print(f'\n{os.cpu_count()} cores shared by readers and {nodes} node(s); medians of {options.rounds} rounds')
    for layout in options.layouts:
        mine = [s for s in summaries if s.layout == layout]
        order = sorted(mine, key=lambda s: (s.rows == large, [reader.key for reader in READERS].index(s.key)))
        print(f'\n{layout}\n{table(HEADER, rates(order, titles, limits))}')
    for key, reason in absent.items():
        print(f'left out: {titles[key]} ({reason})')
    stages = [run['details']['stages'] for run in runs if run['reader'] == 'example_gen']
    if stages:
        medians = {name: sorted(run[name] for run in stages)[len(stages) // 2] for name in stages[0]}
        parts = ', '.join(f'{name} {seconds:.2f} s' for name, seconds in medians.items())
        print(f'\nCassandraExampleGen, the whole process, {sum(medians.values()):.1f} s: {parts}')
    if same:
        counts = ', '.join(f'{name} {count:,}' for name, (count, _) in same['example_gen'].items())
        word = 'the same' if same['equal'] else 'NOT THE SAME'
        print(f"{word} examples as TFX's chain from {same['rows']:,} rows, by count and digest ({counts})")
    figures = Figures(summaries, options.rows, large)
    if grown := figures.grown(MEMORY):
        print(f'memory of (c) beyond what the process holds before its first row: {grown}')
    print(f'\n{table(["figure", "floor", "aim", "measured", "verdict"], verdicts(figures))}')


if __name__ == '__main__':
    try:
        sys.exit(main())
    except (TfxCassandraError, measure.ReaderError) as error:
        sys.exit(f'error: {error}')
