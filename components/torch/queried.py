"""The rows of a query by number, read once and held in memory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyarrow as pa
from cassandra.cluster import Session
from torch.utils.data import Dataset

from tfx_cassandra.components.checks import conform
from tfx_cassandra.components.cql import types
from tfx_cassandra.components.driver import connection as connections
from tfx_cassandra.components.driver.connection import CassandraConnection
from tfx_cassandra.components.driver.errors import DRIVER_ERRORS, one_line
from tfx_cassandra.components.errors import DatasetError, SchemaError, invalid, shown
from tfx_cassandra.components.lookup.key_reads import KeyReads, Read
from tfx_cassandra.components.scan.page import RawHandler
from tfx_cassandra.components.scan.page_size import PageSize
from tfx_cassandra.components.torch.rows import RowOptions, Rows, collate, empty, rows_of

_PAGE_ROWS, _FIRST_ROWS = 5000, 100  # of a page at most, and of the first one


class QueriedRows(Dataset):
    """The rows of a query; see `CassandraDataset.query`."""

    collate = staticmethod(collate)

    def __init__(
        self, connection: CassandraConnection, cql: str, parameters: Sequence[Sequence[Any]], options: RowOptions
    ) -> None:
        conform('connection', connection, CassandraConnection)
        if not isinstance(cql, str) or not cql.lstrip()[:6].upper() == 'SELECT':
            raise invalid('cql', cql, 'a SELECT')
        self._connection, self._cql, self._options = connection, cql, options
        self._parameters = [tuple(conform('parameters', each, tuple[Any, ...])) for each in parameters]
        self._table: pa.Table | None = None

    def __len__(self) -> int:
        return int(self._read().num_rows)

    def __getitem__(self, index: int) -> dict[str, Any]:
        row: dict[str, Any] = self.__getitems__([index])[0]
        return row

    def __getitems__(self, indexes: Sequence[int]) -> Rows:
        """Returns several rows."""
        table = self._read()
        count = table.num_rows
        if outside := [index for index in indexes if not -count <= index < count]:
            raise IndexError(outside[0])
        taken = table.take(pa.array([index % count for index in indexes], pa.int64())).combine_chunks().to_batches()
        batch = taken[0] if taken else empty(table.schema)
        decimals = [f.name for f in table.schema if (f.metadata or {}).get(b'cql') == b'decimal']
        return rows_of(batch, self._options, (), decimals)

    def _read(self) -> pa.Table:
        if self._table is None:
            with connections.session(self._connection, RawHandler) as session:
                self._table = self._queried(session)
        return self._table

    def _queried(self, session: Session) -> pa.Table:
        try:
            statement = session.prepare(self._cql, keyspace=self._connection.keyspace)
            requests = [statement.bind(values) for values in self._parameters]
        except DRIVER_ERRORS as error:
            raise SchemaError(
                f'cql: got {shown(self._cql)}, rule: a query of the keyspace ({one_line(error)})'
            ) from error
        except (AttributeError, TypeError, ValueError, KeyError) as error:  # of the driver's serializers
            raise DatasetError(
                f'parameters: got {shown(error)}, rule: a value of its type for each ? of the query'
            ) from error
        columns = statement.result_metadata
        schema = types.schema_of([c[2] for c in columns], [c[3] for c in columns], self._options.decoding)
        found: list[list[pa.RecordBatch]] = [[] for _ in requests]

        def consume(number: int, page: pa.RecordBatch) -> bool:
            found[number].append(page)
            return True

        reads = KeyReads(
            session, statement, 'query', lambda number: f'query {shown(self._cql)} {shown(self._parameters[number])}',
            self._options.consistency, _FIRST_ROWS, self._options.decoding,
        )  # fmt: skip
        reads.run((Read(bound, number, PageSize(_PAGE_ROWS)) for number, bound in enumerate(requests)), consume)
        return pa.Table.from_batches([page for pages in found for page in pages], schema).combine_chunks()
