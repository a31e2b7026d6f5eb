"""CassandraDataset: rows by number, each read by its key when it is asked for, or those of a query."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

import pyarrow as pa
from cassandra.cluster import Session
from torch.utils.data import Dataset

from tfx_cassandra.components.checks import TableName, checked
from tfx_cassandra.components.cql import types, values
from tfx_cassandra.components.cql.parsers import OutOfRangeError
from tfx_cassandra.components.cql.table import Table, quoted
from tfx_cassandra.components.driver import connection as connections
from tfx_cassandra.components.driver import tables
from tfx_cassandra.components.driver.connection import CassandraConnection
from tfx_cassandra.components.errors import DatasetError, invalid, shown
from tfx_cassandra.components.lookup.key_reads import KeyReads, Read
from tfx_cassandra.components.scan.options import Columns
from tfx_cassandra.components.scan.page import RawHandler
from tfx_cassandra.components.torch.queried import QueriedRows
from tfx_cassandra.components.torch.rows import RowOptions, Rows, collate, empty, rows_of


class CassandraDataset(Dataset):
    """The rows of a table by their keys, in the order of a list.

    Rows are read when they are asked for: those of a batch at once, each from a node that holds it, with a bounded
    number in flight. With `collate_fn=CassandraDataset.collate` batches are dicts as those of CassandraIterableDataset;
    with the DataLoader's own, rows are taken apart and put together again.

        keys = [('weather:JFK', 'temp', moment) for moment in moments]
        dataset = CassandraDataset(connection, 'feature_store', keys, columns=['timestamp', 'value'])
        loader = DataLoader(dataset, batch_size=256, shuffle=True, collate_fn=dataset.collate)

    A session is opened by the process that reads, not by the constructor, so workers may be forked or spawned.
    """

    collate = staticmethod(collate)

    @checked
    def __init__(
        self,
        connection: CassandraConnection,
        table: TableName,
        keys: Any,
        columns: Columns | None = None,
        missing: Literal['error', 'null'] = 'error',
        **options: Any,
    ) -> None:
        """Declares what is read; nothing connects before a row is asked for.

        Args:
          connection: How to reach the cluster.
          table: Name of a table or materialized view; `keyspace.table` for one of another keyspace.
          keys: The primary keys: each a tuple of values, partition key first; or plain values where it has one column.
            Those of a table with a layout (docs/layouts.md) lack its columns.
          columns: Names of the columns wanted; None for all.
          missing: What a key without a row is: 'error', or 'null' for a row of nulls (see `nulls`).
          options: `consistency` to `wide_varints` of `RowOptions`.

        Raises:
          ValueError: An argument breaks its rule; the message names field, value and rule.
        """
        self._connection, self._options = connection, RowOptions(**options)
        if isinstance(keys, (str, bytes, Mapping)):
            raise invalid('keys', keys, 'a list of keys')
        self._keys = [tuple(key) if isinstance(key, (tuple, list)) else (key,) for key in keys]
        self._table, self._missing = table, missing
        self._columns = None if columns is None else tuple(columns)
        self._reader: tuple[int, _Reader] | None = None

    @staticmethod
    def query(
        connection: CassandraConnection, cql: str, parameters: Sequence[Sequence[Any]] = ((),), **options: Any
    ) -> QueriedRows:
        """Returns the dataset of the rows of a query, which are read once, at first use, and held in memory.

        Args:
          connection: How to reach the cluster.
          cql: A SELECT, with `?` for each value; tables without a keyspace are of the connection's.
          parameters: The values of each execution of the query; its rows follow each other in this order.
          options: `consistency` to `wide_varints` of `RowOptions`.

        Raises:
          ValueError: An argument breaks its rule; the message names field, value and rule.
        """
        return QueriedRows(connection, cql, parameters, RowOptions(**options))

    def __len__(self) -> int:
        return len(self._keys)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Returns one row: column name -> value.

        Raises:
          DatasetError: There is no such row, or a value has no form as a tensor.
          ReadError: It could not be read.
        """
        row: dict[str, Any] = self.__getitems__([index])[0]
        return row

    def __getitems__(self, indexes: Sequence[int]) -> Rows:
        """Returns several rows, read at once; see `__getitem__`."""
        reader = self._opened()
        batch = reader.read([self._keys[index] for index in indexes])
        return rows_of(batch, self._options, reader.required, reader.decimals)

    def close(self) -> None:
        """Releases this process's session; the next read opens one again."""
        if self._reader is not None and self._reader[0] == os.getpid():
            connections.release(self._connection, RawHandler)
        self._reader = None

    def _opened(self) -> _Reader:
        """Returns this process's reader; a forked worker does not use that of its parent."""
        if self._reader is None or self._reader[0] != os.getpid():
            session = connections.acquire(self._connection, RawHandler)
            try:
                table = tables.describe(session, self._connection.keyspace, self._table)
                reader = _Reader(session, table, self._columns, self._missing, self._options)
            except BaseException:
                connections.release(self._connection, RawHandler)
                raise
            self._reader = os.getpid(), reader
        return self._reader[1]

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {'_reader': None}


class _Reader:
    """Reads rows by key through a session."""

    def __init__(
        self, session: Session, table: Table, columns: tuple[str, ...] | None, missing: str, options: RowOptions
    ) -> None:
        self._key = table.own_key
        self._kinds = {
            column: table.type_of('columns', column) for column in (*self._key, *(columns or table.own_columns))
        }
        wanted = tuple(columns or table.own_columns)
        where = ' AND '.join(f'{quoted(column)} = ?' for column in (*self._key, *table.layout.columns))
        cql = (
            f'SELECT {", ".join(map(quoted, wanted))} FROM {quoted(table.keyspace)}.{quoted(table.name)} WHERE {where}'
        )
        self._table, self._missing = table, missing
        statement = session.prepare(cql)
        columns_read = statement.result_metadata
        self._schema = types.schema_of(
            [column[2] for column in columns_read], [column[3] for column in columns_read], options.decoding
        )
        self._reads = KeyReads(
            session, statement, str(table), self._described, options.consistency, 1, options.decoding
        )
        self.required = self._key if missing == 'error' else ()
        self.decimals = [column for column in wanted if self._kinds[column] == 'decimal']

    def read(self, keys: Sequence[tuple[Any, ...]]) -> pa.RecordBatch:
        """Returns a batch with a row for each key."""
        places: dict[int, int] = {}  # number of the key -> its row
        batches: list[pa.RecordBatch] = []

        def consume(context: tuple[int, tuple[Any, ...]], page: pa.RecordBatch) -> bool:
            if page.num_rows:
                places[context[0]] = len(batches)
                batches.append(page.slice(0, 1))
            return False

        self._reads.run(self._requests(keys), consume)
        if self._missing == 'error':
            for number, key in enumerate(keys):
                if number not in places:
                    raise DatasetError(f'{self._described((number, key))}: got no row, rule: one for each key')
        found = pa.Table.from_batches(batches, self._schema).combine_chunks()
        indexes = pa.array([places.get(number) for number in range(len(keys))], pa.int64())
        return found.take(indexes).combine_chunks().to_batches()[0] if len(keys) else empty(self._schema)

    def _requests(self, keys: Sequence[tuple[Any, ...]]) -> Iterator[Read]:
        for number, key in enumerate(keys):
            bound = self._bound(key)
            read = None if bound is None else self._reads.read([bound], (number, key))
            if read is not None:
                yield read

    def _bound(self, key: tuple[Any, ...]) -> tuple[Any, ...] | None:
        """Returns the values of the statement; None for a key that the table cannot hold."""
        if len(key) != len(self._key):
            raise DatasetError(f'keys: got {shown(key)}, rule: values of ({", ".join(self._key)})')
        given = {}
        for column, value in zip(self._key, key, strict=True):
            kind = self._kinds[column]
            try:
                given[column] = values.parse(kind, value)
            except OutOfRangeError:
                return None
            except ValueError as error:
                raise DatasetError(f'keys: got {column} = {shown(value)}, rule: a {kind} ({error})') from error
        bucket, salts = self._table.layout.bucket, self._table.salts(given)
        place = [] if bucket is None else [bucket.start(given[bucket.time_column])]
        place += [salt for salt in salts if salt is not None]  # of the whole key there is one
        return (*(values.bound(self._kinds[column], value) for column, value in given.items()), *place)

    def _described(self, context: tuple[int, tuple[Any, ...]]) -> str:
        return f'{self._table} {dict(zip(self._key, map(shown, context[1]), strict=True))}'
