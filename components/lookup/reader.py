"""Runs lookups: each key is read once, and what was found is kept for the next batch."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import pyarrow as pa
from cassandra.cluster import Session

from tfx_cassandra.components.cql import types, values
from tfx_cassandra.components.dataset.join.facts import cell
from tfx_cassandra.components.dataset.spec.view import Source
from tfx_cassandra.components.driver.errors import DRIVER_ERRORS, one_line
from tfx_cassandra.components.errors import SchemaError, shown
from tfx_cassandra.components.lookup.key_reads import KeyReads, Read
from tfx_cassandra.components.lookup.latest import Key, Lookup, Request

KEPT = 200_000  # rows kept of one lookup; when it has more, it starts anew


class Reader:
    """Reads the features of keys of one lookup through a session.

    What was read once is not read again, so that all examples of a worker see one value of one key.

    Args:
      session: An open session of the lookup's cluster, with page.RawHandler.
      lookup: What is read.
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
        self._reads = KeyReads(session, statement, self._named, consistency)
        columns = statement.result_metadata
        schema = types.schema_of([column[2] for column in columns], [column[3] for column in columns])
        empty = pa.RecordBatch.from_arrays([pa.array([], field.type) for field in schema], schema=schema)
        self.types: dict[Source, pa.DataType] = {source: cell(empty, source).type for source in lookup.sources}
        self._kept: dict[Request, tuple | None] = {}
        self.requests = 0  # sent so far

    def read(self, keys: Iterable[Key | None], kept: bool = True) -> dict[str, pa.Array]:
        """Returns the features of each key, as `Lookup.columns` does.

        Args:
          keys: The keys; None for one that has no features.
          kept: Whether what was read for earlier calls is used.

        Raises:
          ReadError: A key could not be read; the message names it.
        """
        keys = list(keys)
        wanted = {request for key in dict.fromkeys(keys) if key is not None for request in self.lookup.requests(key)}
        if not kept:
            self._kept = {}
        elif len(self._kept) + len(wanted) > KEPT:
            self._kept = {request: self._kept[request] for request in wanted & self._kept.keys()}
        self._fetch(wanted - self._kept.keys())
        return self.lookup.columns(keys, self._kept, self.types)

    def _fetch(self, missing: Iterable[Request]) -> None:
        found: dict[Request, list | None] = {}
        self._reads.run(self._requests(missing, found), lambda request, batch: self._take(request, batch, found))
        self._kept |= {request: row if row is None else tuple(row) for request, row in found.items()}

    def _requests(self, missing: Iterable[Request], found: dict[Request, list | None]) -> Iterator[Read]:
        for request in missing:
            found[request] = None
            key = self.lookup.bound(request)
            read = None if key is None else self._reads.read(key, request)
            if read is not None:
                self.requests += 1
                yield read

    def _take(self, request: Request, batch: pa.RecordBatch, found: dict[Request, list | None]) -> bool:
        """Fills what is null in newer rows: each feature has its own newest value."""
        if not batch.num_rows:
            return True
        row = found[request] or [None] * len(self.lookup.sources)
        for i, source in enumerate(self.lookup.sources):
            if row[i] is None:
                known = values.plain(cell(batch, source)).drop_null()
                row[i] = known[0].as_py() if len(known) else None
        found[request] = row
        return None in row and self.lookup.view.timestamp_column is not None

    def _named(self, request: Request) -> str:
        (*entity, moment), feature = request
        view = self.lookup.view
        key = dict(zip(view.entity_columns, map(shown, entity), strict=True))
        return f'view {view.name}: {key}, {feature or "its features"} at {moment}'
