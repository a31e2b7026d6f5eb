"""What each setting of `tfx-cassandra tune` does to the latency of writes, reads by key and pages of a scan.

    .venv/bin/python benchmarks/tuning.py                            # every setting of every workload; half an hour
    .venv/bin/python benchmarks/tuning.py --workload serve --rounds 9
    .venv/bin/python benchmarks/tuning.py --setting concurrent_writes --setting sstable

Two nodes start together and are asked in turn, round by round, so that what else the machine does falls on both: one is
as `cluster start` starts it, the other has the setting besides. `nothing` is a second node without any setting: what
differs there is noise, and a setting that differs no more does nothing here. `all` has every setting of a workload. A
table's option is measured between two tables of one node. Each table has two SSTables and what the rounds write; all of
it is in memory. Latencies are those of the driver, with IN_FLIGHT requests at once, of all rounds together. The last
columns are p50 with over p50 without: that of the best rounds is the least disturbed by other work of the machine.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import contextlib
import dataclasses
import itertools
import json
import os
import pathlib
import random
import statistics
import sys
import tempfile
import threading
import time
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from cassandra.cluster import Session
from cassandra.query import BoundStatement

from tfx_cassandra.components.devcluster import tuning
from tfx_cassandra.components.devcluster.cluster import DevCluster
from tfx_cassandra.components.devcluster.node import Node
from tfx_cassandra.components.devcluster.tuning import WORKLOADS, Setting, Tuning
from tfx_cassandra.components.driver import connection as connections
from tfx_cassandra.components.driver.connection import CassandraConnection

IN_FLIGHT = 16
PARTITIONS, ROWS, BYTES, PAGE = 1000, 20, 200, 2000
WARM = 4  # rounds before those that count
KINDS = ('write', 'read', 'scan')
QUANTILES = (50, 95, 99)
_USUAL = Node.settings


@contextlib.contextmanager
def nodes(
    extras: Sequence[Mapping[str, object]], folder: str, options: argparse.Namespace
) -> Iterator[list[tuple[DevCluster, Session]]]:
    """Starts nodes together, so that none is warmer than another: each with settings besides the usual ones."""
    clusters = [
        DevCluster(
            pathlib.Path(folder, str(place)), subnet=f'127.0.{options.subnet + place}', heap=options.heap,
            jmx_port=options.jmx_port + place, version=options.version,
        )
        for place in range(len(extras))
    ]  # fmt: skip
    extra = {cluster.contact_points[0]: settings for cluster, settings in zip(clusters, extras, strict=True)}
    Node.settings = lambda node: {**_USUAL(node), **extra[node.address]}
    with contextlib.ExitStack() as stack:
        for cluster in clusters:
            stack.callback(cluster.stop)
        with concurrent.futures.ThreadPoolExecutor() as threads:
            list(threads.map(lambda cluster: cluster.start(progress=quiet), clusters))
        started = []
        for cluster in clusters:
            connection = CassandraConnection(cluster.contact_points, keyspace='bench')
            session = stack.enter_context(connections.session(connection))
            replication = "{'class': 'SimpleStrategy', 'replication_factor': 1}"
            session.execute(f'CREATE KEYSPACE bench WITH replication = {replication}')
            started.append((cluster, session))
        yield started


@contextlib.contextmanager
def quiet(title: str) -> Iterator[Any]:
    """Shows no progress: two nodes start at once."""
    yield types.SimpleNamespace(update=lambda detail: None)


def load(cluster: DevCluster, session: Session, table: str, changes: tuple[Setting, ...] = ()) -> None:
    """Makes and fills a table, in two SSTables."""
    session.execute(f'CREATE TABLE bench.{table} (k int, t timestamp, v double, b blob, PRIMARY KEY (k, t)) '
                    'WITH CLUSTERING ORDER BY (t DESC)')  # fmt: skip
    for change in changes:
        session.execute(f'ALTER TABLE bench.{table} WITH {change.name} = {change.value}')
    insert = session.prepare(f'INSERT INTO bench.{table} (k, t, v, b) VALUES (?, ?, ?, ?)')
    rows = [(k, 1000 * t, 1.0, random.randbytes(BYTES)) for t in range(ROWS) for k in range(PARTITIONS)]
    for part in range(2):
        timed(session, [insert.bind(row) for row in rows[part::2]])
        cluster.nodetool(['flush', 'bench', table])


def timed(session: Session, requests: list[BoundStatement]) -> list[float]:
    """Returns the seconds of each request, IN_FLIGHT of them at once."""
    free, seconds, failed = threading.Semaphore(IN_FLIGHT), [], []
    for request in requests:
        free.acquire()
        began = time.perf_counter()

        def done(_: object, began: float = began) -> None:
            seconds.append(time.perf_counter() - began)
            free.release()

        def fails(error: Exception) -> None:
            failed.append(error)
            free.release()

        session.execute_async(request).add_callbacks(done, fails)
    for _ in range(IN_FLIGHT):
        free.acquire()
    if failed:
        raise failed[0]
    return seconds


def loads(session: Session, table: str, count: int) -> dict[str, Callable[[], list[float]]]:
    """Returns what is measured of a table: kind -> one round of it."""
    insert = session.prepare(f'INSERT INTO bench.{table} (k, t, v, b) VALUES (?, ?, ?, ?)')
    newest = session.prepare(f'SELECT t, v, b FROM bench.{table} WHERE k = ? LIMIT 1')
    whole = session.prepare(f'SELECT k, t, v, b FROM bench.{table}')
    draw = random.Random(1)

    def write() -> list[float]:
        now = int(time.time() * 1000)
        return timed(
            session,
            [insert.bind((draw.randrange(PARTITIONS), now + i, 1.0, draw.randbytes(BYTES))) for i in range(count)],
        )

    def read() -> list[float]:
        return timed(session, [newest.bind((draw.randrange(PARTITIONS),)) for _ in range(count)])

    def scan() -> list[float]:
        seconds, bound = [], whole.bind(())
        bound.fetch_size = PAGE
        began = time.perf_counter()
        result = session.execute(bound)
        while True:
            seconds.append(time.perf_counter() - began)
            if not result.has_more_pages:
                return seconds
            began = time.perf_counter()
            result.fetch_next_page()

    return {'write': write, 'read': read, 'scan': scan}


def compared(first: dict[str, Callable[[], list[float]]], second: Any, rounds: int) -> dict[str, Any]:
    """Asks two tables in turn; returns the quantiles of both in ms, and the ratio of the medians round by round."""
    found: dict[str, Any] = {}
    for kind in KINDS:
        pairs = []
        for number in range(-WARM, rounds):
            order = (first, second) if number % 2 else (second, first)
            measured = {id(one): one[kind]() for one in order}
            if number >= 0:
                pairs.append((measured[id(first)], measured[id(second)]))
        usual, tuned = (np.concatenate(part) * 1000 for part in zip(*pairs, strict=True))
        ratios = sorted(float(np.median(b) / np.median(a)) for a, b in pairs)
        found[kind] = {
            'usual': np.percentile(usual, QUANTILES).round(3).tolist(),
            'tuned': np.percentile(tuned, QUANTILES).round(3).tolist(),
            'ratio': round(statistics.median(ratios), 3),
            'lowest': round(ratios[0], 3),
            'highest': round(ratios[-1], 3),
            'best': round(float(min(np.median(b) for _, b in pairs) / min(np.median(a) for a, _ in pairs)), 3),
        }
    return found


def cases(options: argparse.Namespace) -> Iterator[tuple[str, str, Mapping[str, object], tuple[Setting, ...]]]:
    """Yields (workload, name, settings, table options) of each comparison; noise first."""
    yield '', 'nothing', {}, ()
    family, seen = tuning.family_of(options.version), set()
    for rank in range(3):  # first what needs few nodes and says most
        for workload in options.workload or WORKLOADS:
            for name, settings, changes in _ranked(Tuning(workload, family, options.heap, options.cores))[rank]:
                key = json.dumps([settings, [dataclasses.asdict(change) for change in changes]], sort_keys=True)
                if key not in seen and (not options.setting or name in options.setting):
                    seen.add(key)
                    yield workload, name, settings, changes


def _ranked(made: Tuning) -> tuple[list[tuple[str, Mapping[str, object], tuple[Setting, ...]]], ...]:
    mode = 'storage_compatibility_mode'  # without which the BTI format is refused: one case
    with_mode = {mode: made.yaml[mode]} if mode in made.yaml else {}
    alone = [
        (setting.name, {setting.name: setting.value} | (with_mode if setting.name == 'sstable' else {}), ())
        for setting in made.settings
        if setting.name != mode
    ]
    tables = [(f'table: {option.name}', {}, (option,)) for option in made.table_options]
    return [('all', made.yaml, made.table_options)], tables, alone


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--workload', action='append', choices=WORKLOADS)
    parser.add_argument('--setting', action='append', help='only this one, such as sstable or "table: caching"')
    parser.add_argument('--rounds', type=int, default=15)
    parser.add_argument('--requests', type=int, default=400, help='writes, and reads, of a round')
    parser.add_argument('--version', default='5.0.8')
    parser.add_argument('--heap', default='512M')
    parser.add_argument('--cores', type=int, default=2)
    parser.add_argument('--subnet', type=int, default=190, help='third number of the first loopback network')
    parser.add_argument('--jmx-port', type=int, default=7641)
    parser.add_argument('--json', type=pathlib.Path, help='file that gets a line of JSON a comparison')
    options = parser.parse_args()
    os.environ.pop('CASSANDRA_CONTACT_POINTS', None)  # whatever cluster it names, nodes are started here
    titles = ('workload', 'setting', 'kind', 'without, p50 / p95 / p99 ms', 'with', 'best rounds', 'median round (all)')
    print(f'| {" | ".join(titles)} |')
    print('|---|---|---|---|---|---|---|', flush=True)
    groups = itertools.groupby(cases(options), lambda case: (case[1] == 'nothing', json.dumps(case[2])))
    for (noise, _), group in groups:  # comparisons of table options share a node
        listed = list(group)
        extras = [{}, listed[0][2]] if noise or listed[0][2] else [{}]
        with tempfile.TemporaryDirectory() as folder, nodes(extras, folder, options) as started:
            for number, (workload, name, _, changes) in enumerate(listed):
                load(*started[0], f'usual{number}')
                load(*started[-1], f'tuned{number}', changes)
                sides = [(started[0][1], f'usual{number}'), (started[-1][1], f'tuned{number}')]
                found = compared(*(loads(session, table, options.requests) for session, table in sides), options.rounds)
                report(workload, name, found)
                if options.json:
                    with options.json.open('a') as file:
                        file.write(json.dumps({'workload': workload, 'setting': name, **found}) + '\n')


def report(workload: str, name: str, found: Mapping[str, Any]) -> None:
    for kind in KINDS:
        one = found[kind]
        without, tuned = (' / '.join(f'{ms:.3g}' for ms in one[side]) for side in ('usual', 'tuned'))
        ratio = f'{one["best"]:.2f} | {one["ratio"]:.2f} ({one["lowest"]:.2f} to {one["highest"]:.2f})'
        print(f'| {workload} | {name} | {kind} | {without} | {tuned} | {ratio} |', flush=True)


if __name__ == '__main__':
    sys.exit(main())
