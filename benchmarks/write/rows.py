"""The rows that are written, as files of each format that a writer takes, and the comparison of a table with them."""

from __future__ import annotations

import csv
import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from cassandra.cluster import Session

from tfx_cassandra.components.driver import connection as connections
from tfx_cassandra.components.driver.connection import CassandraConnection
from tfx_cassandra.components.progress import step
from tfx_cassandra.components.scan import source as scans
from tfx_cassandra.components.scan.fetch import Fetcher
from tfx_cassandra.components.scan.ledger import RangeRead
from tfx_cassandra.components.scan.options import ReadRequest
from tfx_cassandra.components.scan.page import RawHandler, decode

ORDERS = ('sorted', 'shuffled')
COLUMNS = ('model_id', 'feature_name', 'timestamp', 'value', 'metadata')
_PARTITION = 1000  # rows
_BATCH = 5000
_START = 1_704_067_200_000  # 2024, in milliseconds
_DDL = (
    'model_id text, feature_name text, timestamp timestamp, value double, metadata map<text, text>, user_id text, '
    'PRIMARY KEY ((model_id, feature_name), timestamp)) WITH CLUSTERING ORDER BY (timestamp DESC'
)


@dataclasses.dataclass(frozen=True)
class Rows:
    """Rows in files: `arrow` (IPC), `parquet`, `csv` with maps as JSON, and `cql.csv` with maps as in CQL."""

    folder: Path

    def file(self, name: str) -> Path:
        """Returns the file of a format."""
        return self.folder / f'rows.{name}'

    def read(self) -> pa.Table:
        """Returns the rows."""
        return pa.ipc.open_file(pa.memory_map(str(self.file('arrow')))).read_all()


def make(home: Path, count: int, order: str) -> Rows:
    """Makes the files of so many rows; does nothing where they are there."""
    made = Rows(home / f'rows-{count}-{order}')
    if made.file('done').exists():
        return made
    made.folder.mkdir(parents=True, exist_ok=True)
    with step(f'make {count:,} rows, {order}'):
        rows = _table(count, order)
        with pa.ipc.new_file(str(made.file('arrow')), rows.schema) as file:
            for batch in rows.to_batches(_BATCH):
                file.write_batch(batch)
        pq.write_table(rows, made.file('parquet'))
        _write_csv(rows, made)
        made.file('done').touch()
    return made


def _table(count: int, order: str) -> pa.Table:
    random = np.random.default_rng(7)
    number = np.arange(count) if order == 'sorted' else random.permutation(count)
    partition = number // _PARTITION
    values = np.random.default_rng(8).normal(size=count)[number]
    with_map = number % 2
    offsets = np.concatenate([[0], np.cumsum(with_map * 2)]).astype(np.int32)
    users = np.char.add('u', (number[with_map == 1] % 997).astype(str))
    keys = np.tile(['source', 'unit'], len(users))
    entries = np.stack([users, np.full(len(users), 'C')], axis=1).ravel()
    return pa.table({
        'model_id': np.char.add('m', (partition // 20).astype(str)),
        'feature_name': np.char.add('feature_', (partition % 20).astype(str)),
        'timestamp': pa.array(_START + number % _PARTITION * 60_000).cast(pa.timestamp('ms', 'UTC')),
        'value': values,
        'metadata': pa.MapArray.from_arrays(offsets, pa.array(keys.tolist()), pa.array(entries.tolist())),
    })  # fmt: skip


def _write_csv(rows: pa.Table, made: Rows) -> None:
    with made.file('csv').open('w', newline='') as of_json, made.file('cql.csv').open('w', newline='') as of_cql:
        writers = csv.writer(of_json, lineterminator='\n'), csv.writer(of_cql, lineterminator='\n')
        for writer in writers:
            writer.writerow(COLUMNS)
        for batch in rows.to_batches(_BATCH):
            columns = batch.to_pydict()
            for model, feature, moment, value, entries in zip(*(columns[name] for name in COLUMNS), strict=True):
                start = (model, feature, moment.strftime('%Y-%m-%dT%H:%M:%S.000Z'), repr(value))
                entries = dict(entries or ())
                writers[0].writerow((*start, json.dumps(entries) if entries else ''))
                cql = ', '.join(f"'{key}': '{entry}'" for key, entry in entries.items())
                writers[1].writerow((*start, f'{{{cql}}}' if entries else ''))


def make_table(session: Session, keyspace: str, name: str) -> None:
    """Makes the keyspace and the table."""
    replication = "{'class': 'SimpleStrategy', 'replication_factor': 1}"
    session.execute(f'CREATE KEYSPACE IF NOT EXISTS {keyspace} WITH replication = {replication}', timeout=60)
    session.execute(f'CREATE TABLE IF NOT EXISTS {keyspace}.{name} ({_DDL})', timeout=60)


def same(connection: CassandraConnection, table: str, rows: Rows) -> bool:
    """Says whether a table holds exactly the rows: as many, and equal in each column when sorted by their keys."""
    keys = [('model_id', 'ascending'), ('feature_name', 'ascending'), ('timestamp', 'ascending')]
    found, expected = (
        pa.table({name: each[name] for name in COLUMNS}) for each in (_read(connection, table), rows.read())
    )
    if found.num_rows != expected.num_rows:
        return False
    found, expected = (each.take(_order(each, keys)).combine_chunks() for each in (found, expected))
    return all(_plain(found[name]) == _plain(expected[name]) for name in COLUMNS)


def _order(table: pa.Table, keys: list) -> Any:
    return pa.compute.sort_indices(table.select([name for name, _ in keys]), keys)


def _plain(column: pa.ChunkedArray) -> Any:
    """Returns what two columns are compared by: of maps, the entries of each row, for which an empty one is none."""
    if not pa.types.is_map(column.type):
        return column.to_numpy().tolist()
    return [sorted(entries) if entries else None for entries in column.to_pylist()]


def _read(connection: CassandraConnection, table: str) -> pa.Table:
    with connections.session(connection), connections.session(connection, RawHandler) as session:
        request = ReadRequest(connection, table)
        planned = scans.plan_splits(request)
        found = Fetcher(session, planned.scan, request.planned(planned.page_rows), decode).fetch(planned.splits)
        return pa.Table.from_batches([page for page in found if not isinstance(page, RangeRead)])
