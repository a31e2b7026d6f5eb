"""Speed and memory of ABEvaluator's scan, join and reduce: `python benchmarks/ab.py --rows 5000000`.

Fills a keyspace of its own with inferences and one outcome each (kept for the next run with the same number of rows),
evaluates them `--rounds` times in processes of their own, and prints, of each round, rows a second (requests and
outcomes), the processor time, and the peak resident memory of the process and its children. Beside each evaluation
the same columns are only scanned, which is the limit of its speed. Other options go to Beam.
"""

from __future__ import annotations

import argparse
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
import uuid

import apache_beam as beam
import numpy as np
import pyarrow as pa

from tfx_cassandra.components import schema
from tfx_cassandra.components.dataset.files.spool import spooling
from tfx_cassandra.components.driver import connection as connections
from tfx_cassandra.components.driver.connection import CassandraConnection
from tfx_cassandra.components.experiment.assignment import assign, bucket_of
from tfx_cassandra.components.experiment.design import Arm, Design, Metric
from tfx_cassandra.components.experiment.evaluate import EvaluateAb
from tfx_cassandra.components.experiment.options import EvaluationOptions
from tfx_cassandra.components.experiment.results import Verdict
from tfx_cassandra.components.window import TimeWindow
from tfx_cassandra.components.write.transform import WriteToCassandra

WINDOW = TimeWindow.parse('2026-01-01T00:00Z/2026-01-08T00:00Z')
DESIGN = Design(
    'bench',
    Arm('control', 'm', '1', 0.5),
    (Arm('treatment', 'm', '2', 0.5),),
    WINDOW,
    (Metric('brier', 'squared_error:late', better='lower'), Metric('late', 'outcome:late', 'proportion', margin=0.01)),
)
WAYS = ['evaluate', 'scan']
_CHUNK = 5000


def main() -> None:
    """Runs what the options ask for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--rows', type=int, default=5_000_000, help='inferences (default: %(default)s)')
    parser.add_argument(
        '--visits', type=int, default=1, help='requests of a unit; of one, no unit is logged (default: %(default)s)'
    )
    parser.add_argument('--rounds', type=int, default=3, help='evaluations (default: %(default)s)')
    parser.add_argument('--keyspace', default='bench_ab', help='keyspace to fill (default: %(default)s)')
    parser.add_argument('--one', choices=WAYS, help=argparse.SUPPRESS)
    options, given = parser.parse_known_args()
    connection = dataclasses.replace(CassandraConnection.from_env(), keyspace=options.keyspace, request_timeout=120.0)
    if options.one:
        sys.stdout.write(json.dumps(measured(connection, options.one, given)) + '\n')
        return
    fill(connection, options.rows, options.visits)
    command = [sys.executable, __file__, '--keyspace', options.keyspace, '--one']
    rounds: dict[str, list] = {way: [] for way in WAYS}
    for number in range(options.rounds):
        for way in WAYS[:: 1 if number % 2 else -1]:
            output = subprocess.run([*command, way, *given], check=True, stdout=subprocess.PIPE, text=True).stdout
            rounds[way].append(json.loads(output.splitlines()[-1]))
            sys.stdout.write(f'round {number + 1}: {way} {rounds[way][-1]}' + '\n')
    what = f'{options.rows:,} inferences, {options.visits} a unit, and as many outcomes'
    median = {way: statistics.median(each['rows_per_second'] for each in rounds[way]) for way in WAYS}
    cpu = {way: statistics.median(each['cpu'] for each in rounds[way]) for way in WAYS}
    memory = max(each['peak_mb'] for each in rounds['evaluate'])
    sys.stdout.write(f'{what}: median {median["evaluate"]:,.0f} rows/s, peak {memory:,.0f} MB' + '\n')
    ratio = median['evaluate'] / median['scan']
    sys.stdout.write(
        f'of the scan alone: {ratio:.2f} of its rows/s; {cpu["evaluate"]:.1f} and {cpu["scan"]:.1f} CPU s\n'
    )


def measured(connection: CassandraConnection, way: str, given: list[str]) -> dict[str, float]:
    """Evaluates or scans once, and returns the speed, processor time and memory."""
    settings = EvaluationOptions(connection, DESIGN, 'inference_results_bucketed')
    with tempfile.TemporaryDirectory() as folder:
        file, spool = pathlib.Path(folder) / 'rows', str(pathlib.Path(folder) / 'spool')
        began, cpu = time.monotonic(), time.process_time()
        with spooling(lambda: beam.Pipeline(argv=given), spool) as pipeline:
            if way == 'evaluate':
                _ = pipeline | EvaluateAb(settings, spool) | beam.Map(_save, str(file))
            else:
                _ = pipeline | _Scan(EvaluateAb(settings, spool)) | beam.Map(_save_sum, str(file))
        seconds, cpu = time.monotonic() - began, time.process_time() - cpu
        rows = int(file.read_text())
    peak = sum(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return {
        'rows': rows,
        'seconds': round(seconds, 1),
        'cpu': round(cpu, 1),
        'rows_per_second': round(rows / seconds),
        'peak_mb': round(peak / 1024),
    }


class _Scan(beam.PTransform):
    """The scans of an evaluation -> the number of their rows."""

    def __init__(self, evaluation: EvaluateAb) -> None:
        super().__init__()
        self._evaluation = evaluation

    def expand(self, pbegin: beam.pvalue.PBegin) -> beam.PCollection:
        requests, outcomes = self._evaluation.scans()
        scanned = [(pbegin | name >> scan).batches for name, scan in (('Requests', requests), ('Outcomes', outcomes))]
        return (
            scanned
            | beam.Flatten()
            | 'Rows' >> beam.Map(lambda batch: batch.num_rows)
            | 'Sum' >> beam.CombineGlobally(sum)
        )


def _save_sum(rows: int, file: str) -> None:
    pathlib.Path(file).write_text(str(rows))


def _save(verdict: Verdict, file: str) -> None:
    requests = sum(arm.requests for arm in verdict.arms)
    if verdict.verdict == 'invalid' or verdict.outcomes != requests:
        raise SystemExit(f'the logs are not as they were written: {verdict.reasons}')
    pathlib.Path(file).write_text(str(requests + verdict.outcomes))


def fill(connection: CassandraConnection, rows: int, visits: int) -> None:
    """Writes the inferences and their outcomes, unless the keyspace was filled with as many before."""
    schema.apply(connection, schema.SimpleReplication(1), views=False)
    name = f'"{connection.keyspace}".model_metrics'
    with connections.session(connection) as session:
        filled = ('bench', f'rows of {visits} visits')
        mark = session.execute(f'SELECT value FROM {name} WHERE model_id = %s AND metric_name = %s', filled)
        row = mark.one()
        if row is not None and row.value == rows:
            return
        session.execute(f'TRUNCATE {name}', timeout=300)
        for table in ('inference_results_bucketed', 'inference_outcomes'):
            session.execute(f'TRUNCATE "{connection.keyspace}".{table}', timeout=300)
        for part, table in enumerate(('inference_results_bucketed', 'inference_outcomes')):
            with beam.Pipeline() as pipeline:
                starts = pipeline | beam.Create(range(0, rows, _CHUNK)) | beam.Reshuffle()
                _ = (
                    starts
                    | beam.Map(lambda start, part=part: chunk(start, rows, visits)[part])
                    | WriteToCassandra(connection, table)
                )
        session.execute(
            f'INSERT INTO {name} (model_id, metric_name, timestamp, value) VALUES (%s, %s, %s, %s)',
            (*filled, WINDOW.start, float(rows)),
        )


def chunk(start: int, rows: int, visits: int) -> tuple[pa.RecordBatch, pa.RecordBatch]:
    """Makes inferences and outcomes from row `start` on, by time: rows of one bucket are written together."""
    count = min(_CHUNK, rows - start)
    draw = np.random.default_rng(start)
    span = (WINDOW.end - WINDOW.start) / rows
    times = [WINDOW.start + (start + i) * span for i in range(count)]
    times = [moment.replace(microsecond=moment.microsecond // 1000 * 1000) for moment in times]
    identities = [uuid.UUID(bytes=draw.bytes(16)) for _ in range(count)]
    late = draw.binomial(1, 0.3, count).astype(float)
    units = (start + np.arange(count)) // visits
    arms = {unit: assign('bench', str(unit), {'1': 0.5, '2': 0.5}) for unit in dict.fromkeys(units.tolist())}
    answers = {
        'model_id': ['m'] * count,
        'bucket': list(map(bucket_of, times, identities)),
        'request_id': list(map(str, identities)),
        'timestamp': pa.array(times, pa.timestamp('ms', 'UTC')),
        'prediction': np.clip(0.3 + 0.2 * (late - 0.3) + draw.normal(0, 0.1, count), 0, 1),
        'confidence': draw.uniform(0.5, 1, count),
        'version': [arms[unit] for unit in units.tolist()],
        'unit': [None if visits == 1 else str(unit) for unit in units.tolist()],
        'experiment_id': ['bench'] * count,
    }
    known = [moment + datetime.timedelta(hours=2) for moment in times]
    outcomes = {
        'model_id': ['m'] * count,
        'bucket': list(map(bucket_of, known, identities)),
        'timestamp': pa.array(known, pa.timestamp('ms', 'UTC')),
        'request_id': answers['request_id'],
        'outcome': ['late'] * count,
        'value': late,
    }
    return pa.RecordBatch.from_pydict(answers), pa.RecordBatch.from_pydict(outcomes)


if __name__ == '__main__':
    main()
