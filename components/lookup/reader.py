"""Runs lookups: reads each key once, and caches its features for the next batches."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import pyarrow as pa
from cassandra.cluster import Session

from tfx_cassandra.components.cql import types, values
from tfx_cassandra.components.dataset.join.facts import cell
from tfx_cassandra.components.dataset.spec.view import Source
from tfx_cassandra.components.driver.errors import DRIVER_ERRORS, one_line
from tfx_cassandra.components.errors import SchemaError, shown
from tfx_cassandra.components.lookup.key_reads import KeyReads, Read
from tfx_cassandra.components.lookup.latest import Key, Lookup, Request, Row

MAX_CACHED_ROWS = 200_000  # of one lookup; beyond that, only the rows that the current batch needs stay


class Reader:
    """Reads the features of keys of one lookup through a session.

    A key that has been read is cached, so that all examples of a worker see the same value of a key.

    Args:
      session: An open session of the lookup's cluster, with page.RawHandler.
      lookup: The lookup.
      consistency: Consistency level of the reads.

    Raises:
      SchemaError: The cluster refuses the statement.
    """

    def __init__(self, session: Session, lookup: Lookup, consistency: str = 'LOCAL_QUORUM') -> None:
        self.lookup = lookup
        try:
            statement = session.prepare(lookup.cql)
        except DRIVER_ERRORS as error:
            raise SchemaError(f'view {lookup.view.name}: {one_line(error)}') from error
        self._reads = KeyReads(session, statement, str(lookup.table), self._describe, consistency)
        columns = statement.result_metadata
        schema = types.schema_of([column[2] for column in columns], [column[3] for column in columns])
        empty = pa.RecordBatch.from_arrays([pa.array([], field.type) for field in schema], schema=schema)
        self.types: dict[Source, pa.DataType] = {source: cell(empty, source).type for source in lookup.sources}
        self._cache: dict[Request, Row | None] = {}
        self.requests = 0  # sent so far

    def read(self, keys: Iterable[Key | None], use_cache: bool = True) -> dict[str, pa.Array]:
        """Returns the features of each key, as `Lookup.columns` does.

        Args:
          keys: The keys; None for an example without one.
          use_cache: Whether to use what earlier calls have read.

        Raises:
          ReadError: A key could not be read; the message names it.
        """
        keys = list(keys)
        wanted = {request for key in dict.fromkeys(keys) if key is not None for request in self.lookup.requests(key)}
        if not use_cache:
            self._cache = {}
        elif len(self._cache) + len(wanted) > MAX_CACHED_ROWS:
            self._cache = {request: self._cache[request] for request in wanted & self._cache.keys()}
        self._fetch(wanted - self._cache.keys())
        return self.lookup.columns(keys, self._cache, self.types)

    def _fetch(self, missing: Iterable[Request]) -> None:
        rows: dict[Request, list[Any] | None] = {}
        self._reads.run(self._requests(missing, rows), lambda request, batch: self._add_page(request, batch, rows))
        self._cache |= {request: row if row is None else tuple(row) for request, row in rows.items()}

    def _requests(self, missing: Iterable[Request], rows: dict[Request, list[Any] | None]) -> Iterator[Read]:
        for request in missing:
            rows[request] = None
            key = self.lookup.bind(request)
            read = None if key is None else self._reads.read(key, request)
            if read is not None:
                self.requests += 1
                yield read

    def _add_page(self, request: Request, batch: pa.RecordBatch, rows: dict[Request, list[Any] | None]) -> bool:
        """Fills features that are null in newer rows: each feature has its own newest value."""
        if not batch.num_rows:
            return True
        row = rows[request] or [None] * len(self.lookup.sources)
        for i, source in enumerate(self.lookup.sources):
            if row[i] is None:
                present = values.plain(cell(batch, source)).drop_null()
                row[i] = present[0].as_py() if len(present) else None
        rows[request] = row
        return None in row and self.lookup.view.timestamp_column is not None

    def _describe(self, request: Request) -> str:
        (*entity, moment), feature = request
        view = self.lookup.view
        key = dict(zip(view.entity_columns, map(shown, entity), strict=True))
        return f'view {view.name}: {key}, {feature or "its features"} at {moment}'
