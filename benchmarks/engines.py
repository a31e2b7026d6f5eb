"""The A/B reduction and the point-in-time join on a Spark of two workers, beside the DirectRunner in one process.

    make test-engines TESTS="-k laptop"                 # once: fetches Spark
    .venv/bin/python benchmarks/engines.py              # 1 M inferences with outcomes; 1 M feature rows, 250 k events
    .venv/bin/python benchmarks/engines.py --rows 100000 --engines spark --ways join scan-join

Beside each of the two, the same columns are only scanned, which is the limit of its speed; and `start` is a pipeline of
one element, which is what an engine costs by itself. The table has medians: rows read, seconds of the pipeline as the
process sees it that submits it, and CPU seconds of all processes that were started for it: JVMs and workers too. The
last two columns are the scan's seconds over the way's, and its CPU seconds over the way's, `start` taken from each.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import datetime
import json
import pathlib
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from typing import NamedTuple

import apache_beam as beam
import numpy as np
import pyarrow as pa
from apache_beam.options.pipeline_options import PipelineOptions

HERE = pathlib.Path(__file__).resolve().parent
sys.path += [str(HERE), str(HERE.parent / 'tests' / 'engines')]

import ab  # noqa: E402
import engine_processes  # noqa: E402

from tfx_cassandra.components import CassandraConnection, FeatureView, LabelSource, TimeWindow  # noqa: E402
from tfx_cassandra.components.dataset.files.spool import spooling  # noqa: E402
from tfx_cassandra.components.driver import connection as connections  # noqa: E402
from tfx_cassandra.components.driver import tables  # noqa: E402
from tfx_cassandra.components.experiment.evaluate import EvaluateAb  # noqa: E402
from tfx_cassandra.components.experiment.options import EvaluationOptions  # noqa: E402
from tfx_cassandra.components.scan.fetch import ReadOptions  # noqa: E402
from tfx_cassandra.components.scan.read import ScanTable  # noqa: E402
from tfx_cassandra.components.training_set import sources  # noqa: E402
from tfx_cassandra.components.training_set.options import TrainingSetOptions  # noqa: E402
from tfx_cassandra.components.training_set.read import ReadTrainingSet  # noqa: E402
from tfx_cassandra.components.write.statement import WriteOptions  # noqa: E402
from tfx_cassandra.components.write.writer import TableWriter  # noqa: E402

WAYS = ('start', 'scan-ab', 'ab', 'scan-join', 'join')
WINDOW = TimeWindow.parse('2026-01-01T00:00Z/2026-01-31T00:00Z')
READ = ReadOptions(splits=128)  # four groups a worker
START = int(WINDOW.start.timestamp() * 1000)
STAMP = pa.timestamp('ms', 'UTC')
CHUNK = 50_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--rows', type=int, default=1_000_000, help='inferences, and feature rows (%(default)s)')
    parser.add_argument('--rounds', type=int, default=1, help='each way on each engine (%(default)s)')
    parser.add_argument('--engines', nargs='+', default=['direct', 'spark'], choices=['direct', 'spark'])
    parser.add_argument('--ways', nargs='+', default=list(WAYS), choices=WAYS)
    parser.add_argument('--keyspace', default='bench_engines', help='keyspace to fill (%(default)s)')
    parser.add_argument('--one', help=argparse.SUPPRESS)
    options, given = parser.parse_known_args()
    connection = dataclasses.replace(CassandraConnection.from_env(), keyspace=options.keyspace, request_timeout=120.0)
    if options.one:
        print(json.dumps(measured(connection, options.one, given)))
        return
    ab.fill(connection, options.rows, 1)
    fill(connection, options.rows)
    runs: dict[tuple[str, str], list[Run]] = {}
    for number in range(options.rounds):
        for engine in options.engines:
            for way in ['start', *(way for way in options.ways if way != 'start')]:
                found = run(engine, way, options.keyspace)
                runs.setdefault((engine, way), []).append(found)
                print(f'round {number + 1}: {engine}, {way}, {found}', flush=True)
    print(table({of: median(found) for of, found in runs.items()}))


class Run(NamedTuple):
    """Rows that a pipeline read, its seconds, and the CPU seconds of all processes that were started for it."""

    rows: int
    seconds: float
    cpu: float

    def __str__(self) -> str:
        return f'{self.rows:,} rows, {self.seconds:.1f} s, {self.cpu:.1f} CPU s'


def median(runs: list[Run]) -> Run:
    seconds, cpu = (statistics.median(getattr(each, name) for each in runs) for name in ('seconds', 'cpu'))
    return Run(runs[0].rows, seconds, cpu)


def table(found: dict[tuple[str, str], Run]) -> str:
    lines = ['| engine | way | rows | s | CPU s | of the scan | of its CPU |', '|---|---|---:|---:|---:|---:|---:|']
    for (engine, way), own in found.items():
        start, scan = found[engine, 'start'], found.get((engine, f'scan-{way}'))
        seconds = cpu = ''
        if scan:
            seconds = f'{(scan.seconds - start.seconds) / (own.seconds - start.seconds):.2f}'
            cpu = f'{(scan.cpu - start.cpu) / (own.cpu - start.cpu):.2f}'
        lines.append(f'| {engine} | {way} | {own.rows:,} | {own.seconds:.1f} | {own.cpu:.1f} | {seconds} | {cpu} |')
    return '\n'.join(lines)


def run(name: str, way: str, keyspace: str) -> Run:
    """Runs one way in processes of its own."""
    before = processor()
    with tempfile.TemporaryDirectory() as folder, started(name, pathlib.Path(folder)) as arguments:
        command = [sys.executable, __file__, '--keyspace', keyspace, '--one', way, *arguments]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    result = json.loads(done.stdout.splitlines()[-1])
    return Run(result['rows'], result['seconds'], processor() - before)


def processor() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


@contextlib.contextmanager
def started(name: str, folder: pathlib.Path) -> Iterator[list[str]]:
    if name == 'direct':
        yield []
        return
    with engine_processes.spark(folder) as engine:
        environ = {'PYTHONPATH': str(HERE), 'TF_CPP_MIN_LOG_LEVEL': '3'}
        with engine.ready(pathlib.Path(sys.executable), None, environ) as arguments:
            yield arguments


def measured(connection: CassandraConnection, way: str, given: list[str]) -> dict[str, float]:
    """Runs one pipeline; returns the rows that it read, and its seconds."""
    options = PipelineOptions([*given, '--pickle_library=cloudpickle'])
    with tempfile.TemporaryDirectory() as folder:
        file, spool = str(pathlib.Path(folder) / 'rows'), str(pathlib.Path(folder) / 'spool')
        began = time.monotonic()
        with spooling(lambda: beam.Pipeline(options=options), spool) as pipeline:
            if way == 'start':
                _ = pipeline | beam.Create([1]) | beam.Map(ab._save_sum, file)
            elif way == 'ab':
                _ = pipeline | evaluation(connection, spool) | beam.Map(ab._save, file)
            elif way == 'scan-ab':
                _ = pipeline | ab._Scan(evaluation(connection, spool)) | beam.Map(ab._save_sum, file)
            else:
                rows = joined(pipeline, connection, spool) if way == 'join' else scanned(pipeline, connection)
                total = rows | beam.Map(lambda batch: batch.num_rows) | beam.CombineGlobally(sum)
                _ = total | 'Save' >> beam.Map(ab._save_sum, file)
        seconds = time.monotonic() - began
        rows_out = int(pathlib.Path(file).read_text())
    # A join gives a row for each event, four times as many facts were read for it.
    return {'rows': rows_out * 5 if way == 'join' else rows_out, 'seconds': seconds}


def evaluation(connection: CassandraConnection, spool: str) -> EvaluateAb:
    return EvaluateAb(EvaluationOptions(connection, ab.DESIGN, 'inference_results_bucketed', read=READ), spool)


def settings(connection: CassandraConnection) -> TrainingSetOptions:
    view = FeatureView('facts', 'facts', ('user',), 'ts', ('a', 'b'))
    labels = LabelSource('events', ('user',), 'at', ('late',))
    return TrainingSetOptions(connection, (view,), WINDOW, labels, READ, join_plan='scan')


def joined(pipeline: beam.Pipeline, connection: CassandraConnection, spool: str) -> beam.PCollection:
    options = settings(connection)
    now = datetime.datetime.now(datetime.timezone.utc)
    return (pipeline | ReadTrainingSet(options, sources.describe(options), (), now, spool)).rows


def scanned(pipeline: beam.Pipeline, connection: CassandraConnection) -> beam.PCollection:
    reads = sources.describe(settings(connection)).reads
    return [
        (pipeline | f'Scan {name}' >> ScanTable(found.request)).batches for name, found in reads.items()
    ] | beam.Flatten()


def fill(connection: CassandraConnection, rows: int) -> None:
    """Writes the facts and a quarter as many events, of 40 facts an entity, unless there are as many already."""
    with connections.session(connection) as session:
        for table in (
            'facts (user text, ts timestamp, a double, b double, PRIMARY KEY (user, ts))',
            'events (user text, at timestamp, late boolean, PRIMARY KEY (user, at))',
            'filled (k int PRIMARY KEY, rows int)',
        ):
            session.execute(f'CREATE TABLE IF NOT EXISTS "{connection.keyspace}".{table}', timeout=60)
        mark = session.execute(f'SELECT rows FROM "{connection.keyspace}".filled WHERE k = 0').one()
        if mark is not None and mark.rows == rows:
            return
        for name, count in (('facts', rows), ('events', rows // 4)):
            session.execute(f'TRUNCATE "{connection.keyspace}".{name}', timeout=300)
            time_column = 'ts' if name == 'facts' else 'at'
            # Each was known at its own time; and of one key and time there is one.
            table, options = (
                tables.describe(session, connection.keyspace, name),
                WriteOptions(timestamp_column=time_column),
            )
            writer = TableWriter(session, table, options)
            for start in range(0, count, CHUNK):
                if writer.write(batch(name, np.arange(start, min(start + CHUNK, count)), rows // 40)):
                    raise SystemExit(f'{name}: some rows were not written')
        session.execute(f'INSERT INTO "{connection.keyspace}".filled (k, rows) VALUES (0, {rows})')


def batch(name: str, numbers: np.ndarray, entities: int) -> pa.RecordBatch:
    users = pa.array([f'user-{number % entities}' for number in numbers])
    turn = numbers // entities  # of the entity's rows
    times = START + (turn * 64_800_000 if name == 'facts' else 3_600_000 + turn * 259_200_000) + numbers % 1000
    if name == 'events':
        columns = {'user': users, 'at': pa.array(times).cast(STAMP), 'late': pa.array(numbers % 3 == 0)}
    else:
        values = pa.array(numbers % 97 / 4)
        columns = {'user': users, 'ts': pa.array(times).cast(STAMP), 'a': values, 'b': values}
    return pa.RecordBatch.from_pydict(columns)


if __name__ == '__main__':
    main()
