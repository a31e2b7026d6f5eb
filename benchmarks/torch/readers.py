"""One epoch of the wide table as batches of tensors, by one reader; prints what it took as JSON.

ours          CassandraIterableDataset, in the order of the ranges
shuffled      the same with a buffer of 100,000 rows
workers       the same as `ours` in a DataLoader with 2 workers
scan          not a dataset: the scan's own record batches, the limit of what is above
loop          a driver loop in an IterableDataset, rows put together by the DataLoader's collate
list          the tutorial's dataset: all rows in a list, a tensor made of each, put together by collate
parquet       a copy of the table in Parquet, by pyarrow, into tensors by the same function as ours

Clocks begin when everything is imported, before anything connects; `cpu` is the client's processor seconds per million
rows, which other work on the machine changes less than the rates.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch.utils.data import DataLoader, Dataset, IterableDataset

from tfx_cassandra.components.driver import connection as connections
from tfx_cassandra.components.driver.connection import CassandraConnection
from tfx_cassandra.components.scan import probe
from tfx_cassandra.components.scan.options import ReadRequest, filtered
from tfx_cassandra.components.scan.source import plan_splits
from tfx_cassandra.components.torch.tensors import TensorOptions, tensors
from tfx_cassandra.components.torch_dataset import CassandraIterableDataset

BATCH_ROWS = 1024
COLUMNS = [f'f{i:02d}' for i in range(18)]  # 15 doubles and 3 bigints
FILL = dict.fromkeys(COLUMNS, 0)


def dataset(connection: CassandraConnection, table: str, **options: Any) -> CassandraIterableDataset:
    return CassandraIterableDataset(connection, table, COLUMNS, batch_rows=BATCH_ROWS, fill=FILL, **options)


def ours(connection: CassandraConnection, table: str, file: str) -> Iterator[Any]:
    yield from DataLoader(dataset(connection, table), batch_size=None)


def shuffled(connection: CassandraConnection, table: str, file: str) -> Iterator[Any]:
    yield from DataLoader(dataset(connection, table, shuffle_rows=100_000), batch_size=None)


def workers(connection: CassandraConnection, table: str, file: str) -> Iterator[Any]:
    yield from DataLoader(dataset(connection, table), batch_size=None, num_workers=2)


def scan(connection: CassandraConnection, table: str, file: str) -> Iterator[Any]:
    request = ReadRequest(connection, table, tuple(COLUMNS))
    plan = plan_splits(request)
    for found in probe._scan(request, plan):
        if isinstance(found, pa.RecordBatch):
            batch = filtered(found, plan.scan)
            yield {name: batch.column(i) for i, name in enumerate(COLUMNS)}


class Loop(IterableDataset):
    def __init__(self, connection: CassandraConnection, table: str) -> None:
        self.connection, self.table = connection, table

    def __iter__(self) -> Iterator[dict[str, float]]:
        with connections.session(self.connection) as session:
            session.default_fetch_size = 5000
            for row in session.execute(f'SELECT {", ".join(COLUMNS)} FROM {self.connection.keyspace}.{self.table}'):
                yield {name: value or 0 for name, value in zip(COLUMNS, row, strict=True)}


def loop(connection: CassandraConnection, table: str, file: str) -> Iterator[Any]:
    yield from DataLoader(Loop(connection, table), batch_size=BATCH_ROWS)


class Rows(Dataset):
    """As tutorials have it."""

    def __init__(self, connection: CassandraConnection, table: str) -> None:
        with connections.session(connection) as session:
            self.rows = list(session.execute(f'SELECT {", ".join(COLUMNS)} FROM {connection.keyspace}.{table}'))

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        return {name: torch.tensor(value or 0) for name, value in zip(COLUMNS, self.rows[index], strict=True)}


def rows_in_a_list(connection: CassandraConnection, table: str, file: str) -> Iterator[Any]:
    yield from DataLoader(Rows(connection, table), batch_size=BATCH_ROWS)


def parquet(connection: CassandraConnection, table: str, file: str) -> Iterator[Any]:
    options = TensorOptions(fill=FILL)
    for batch in pq.ParquetFile(file).iter_batches(BATCH_ROWS, columns=COLUMNS):
        yield tensors(batch, options)


def write_parquet(connection: CassandraConnection, table: str, file: str) -> None:
    """Copies the table, compressed as pyarrow does by default."""
    batches = scan(connection, table, file)
    first = next(batches)
    schema = pa.schema([(name, array.type) for name, array in first.items()])
    with pq.ParquetWriter(file, schema) as writer:
        writer.write_batch(pa.RecordBatch.from_arrays(list(first.values()), schema=schema))
        for batch in batches:
            writer.write_batch(pa.RecordBatch.from_arrays(list(batch.values()), schema=schema))


READERS = {
    'ours': ours, 'shuffled': shuffled, 'workers': workers, 'scan': scan, 'loop': loop, 'list': rows_in_a_list,
    'parquet': parquet,
}  # fmt: skip


def cpu() -> float:
    """Seconds of processor time of this process and of children that have ended."""
    parts = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(part.ru_utime + part.ru_stime for part in parts)


def main() -> None:
    name, keyspace, table, file = sys.argv[1:]
    connection = CassandraConnection.from_env()
    connection = CassandraConnection(connection.contact_points, connection.port, keyspace=keyspace)
    if name == 'write-parquet':
        write_parquet(connection, table, file)
        return
    cpu_before = cpu()
    began, rows, total, first = time.perf_counter(), 0, 0.0, None
    for batch in READERS[name](connection, table, file):
        rows += len(batch['f00'])
        if first is None:
            first = time.perf_counter() - began
        if name != 'scan':
            total += float(batch['f00'].double().sum())
    seconds = time.perf_counter() - began
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # without workers; imports fork a child that is as large
    assert first is not None
    print(json.dumps({
        'reader': name, 'rows': rows, 'seconds': seconds, 'first': first, 'peak_mb': peak // 1024,
        'rate': rows / seconds, 'sum': total,
        'cpu': (cpu() - cpu_before) / rows * 1e6,
    }))  # fmt: skip


if __name__ == '__main__':
    main()
