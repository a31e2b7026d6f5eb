"""Pages in flight are bounded when downstream is slow, and limits hold over all workers together."""

from __future__ import annotations

import pathlib
import time
from typing import Any

import apache_beam as beam
import pyarrow as pa
import pytest
from apache_beam.options.pipeline_options import PipelineOptions
from cassandra.cluster import Session
from cassandra.concurrent import execute_concurrent_with_args
from cql_proxy import CqlProxy

from tfx_cassandra.components import ReadFromCassandra
from tfx_cassandra.components.driver.connection import CassandraConnection
from tfx_cassandra.components.scan import schedule

pytestmark = pytest.mark.integration

PARTITIONS, ROWS, PAGE_ROWS = 200, 40, 50
MOST_PAGES = 2 * schedule.PER_NODE  # that a worker thread holds of one node


@pytest.fixture(scope='module', autouse=True)
def table(session: Session) -> str:
    session.execute('CREATE TABLE faults.many (k int, n int, v text, PRIMARY KEY (k, n))')
    insert = session.prepare('INSERT INTO faults.many (k, n, v) VALUES (?, ?, ?)')
    rows = [(k, n, f'{k} {n}' * 5) for k in range(PARTITIONS) for n in range(ROWS)]
    execute_concurrent_with_args(session, insert, rows, concurrency=200)
    return 'many'


class Slow(beam.DoFn):
    """Takes some seconds for each batch, and writes down when each was done."""

    def __init__(self, seconds: float, file: str) -> None:
        self._seconds, self._file = seconds, file

    def process(self, batch: pa.RecordBatch) -> None:
        time.sleep(self._seconds)
        with open(self._file, 'a') as file:
            file.write(f'{time.monotonic()}\n')


@pytest.mark.parametrize('splits', [1, 100])
def test_a_slow_consumer_stops_the_pages(
    proxy: CqlProxy, proxied: CassandraConnection, table: str, splits: int, tmp_path: pathlib.Path
) -> None:
    file = tmp_path / 'done'
    with beam.Pipeline() as pipeline:
        read = ReadFromCassandra(proxied, table, page_rows=PAGE_ROWS, splits=splits)
        _ = pipeline | read | beam.ParDo(Slow(0.02, str(file)))
    done = sorted(map(float, file.read_text().split()))
    asked = sorted(execute.asked for execute in proxy.scans() if execute.rows)
    assert len(done) == len(asked) >= PARTITIONS * ROWS / PAGE_ROWS
    waiting = [i + 1 - sum(time <= at for time in done) for i, at in enumerate(asked)]
    assert max(waiting) <= MOST_PAGES + 1, 'pages asked for beside the one in work'
    # Twice as far into the table there are no more of them.
    assert max(waiting[len(waiting) // 2 :]) <= max(waiting[: len(waiting) // 2]) + 1


@pytest.mark.parametrize(
    ('limit', 'unit', 'mode'),
    [
        ({'rows_per_second': 2000}, 'rows', 'multi_threading'),
        ({'bytes_per_second': 200_000}, 'size', 'multi_threading'),
        pytest.param({'rows_per_second': 2000}, 'rows', 'multi_processing', marks=pytest.mark.slow),  # its start is
    ],
)
def test_a_limit_holds_over_two_workers(
    proxy: CqlProxy, proxied: CassandraConnection, table: str, limit: dict[str, Any], unit: str, mode: str
) -> None:
    options = PipelineOptions(direct_num_workers=2, direct_running_mode=mode)
    with beam.Pipeline(options=options) as pipeline:
        _ = pipeline | ReadFromCassandra(proxied, table, page_rows=PAGE_ROWS, **limit)
    reads = [execute for execute in proxy.scans() if execute.rows]
    assert sum(execute.rows for execute in reads) == PARTITIONS * ROWS
    answered = sorted((execute.answered, getattr(execute, unit)) for execute in reads)
    seconds = answered[-1][0] - answered[0][0]
    (most,) = limit.values()
    total = sum(amount for _, amount in answered)
    assert total / seconds <= 1.2 * most
    assert total / seconds >= 0.3 * most, 'the limit is used'
    for i, (at, _) in enumerate(answered):
        assert sum(amount for later, amount in answered[i:] if later < at + 1) <= 2 * most
