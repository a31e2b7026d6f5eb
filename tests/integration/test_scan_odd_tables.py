"""Scans of tables that are not as tables mostly are; the oracle is what the driver reads."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from cassandra.cluster import Session
from cassandra.concurrent import execute_concurrent_with_args

from tfx_cassandra.components.scan import ledger
from tfx_cassandra.components.scan.area import ALL_TIMES
from tfx_cassandra.components.scan.fetch import Fetcher
from tfx_cassandra.components.scan.ledger import RangeRead
from tfx_cassandra.components.scan.options import ReadOptions, filtered, plan_splits
from tfx_cassandra.components.scan.page import RawHandler
from tfx_cassandra.components.store import connection as connections
from tfx_cassandra.components.store.connection import CassandraConnection

pytestmark = pytest.mark.integration


def fill(session: Session, statement: str, rows: Sequence[tuple]) -> None:
    execute_concurrent_with_args(session, session.prepare(statement), rows, concurrency=64)


def scan(options: ReadOptions) -> tuple[list[dict], ledger.Coverage]:
    """Reads a table in this process; returns its rows and the ledger, once verified."""
    planned = plan_splits(options)
    rows, reads = [], []
    with connections.session(options.connection, RawHandler) as raw:
        fetcher = Fetcher(raw, planned.scan, options.fetch_options(planned.page_rows))
        for found in fetcher.fetch(planned.splits):
            if isinstance(found, RangeRead):
                reads.append(found)
            else:
                rows += filtered(found, planned.scan).to_pylist()
    return rows, ledger.verified(reads, planned.wanted)


@pytest.mark.parametrize('order', ['ASC', 'DESC'])
def test_rows_without_a_time_in_a_partition_that_is_cut_by_time(
    connection: CassandraConnection, session: Session, order: str
) -> None:
    name = f'empty_{order.lower()}'
    table = f'{connection.keyspace}.{name}'
    session.execute(
        f'CREATE TABLE {table} (k int, at timestamp, n int, v text, PRIMARY KEY (k, at, n)) '
        f'WITH CLUSTERING ORDER BY (at {order}, n ASC)'
    )
    count = 12_000
    fill(
        session,
        f'INSERT INTO {table} (k, at, n, v) VALUES (1, ?, ?, ?)',
        [(n * 1000, n, 'x' * 1000) for n in range(count)],
    )
    for n in range(3):
        session.execute(f"INSERT INTO {table} (k, at, n, v) VALUES (1, blobAsTimestamp(0x), {n}, 'empty')")
    for k in (2, 3):  # partitions without any time
        session.execute(f"INSERT INTO {table} (k, at, n, v) VALUES ({k}, blobAsTimestamp(0x), 0, 'empty')")
    rows, coverage = scan(ReadOptions(connection, name))
    assert any(entry.area.times != ALL_TIMES for entry in coverage.reads)
    assert (len(rows), coverage.rows) == (count + 5, count + 5)
    assert sum(row['at'] is None for row in rows) == 5
