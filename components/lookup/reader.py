"""Runs lookups: reads each key once, and caches its features for the next batches."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from cassandra.cluster import Session

from tfx_cassandra.components.cql import types, values
from tfx_cassandra.components.dataset.join.facts import cell
from tfx_cassandra.components.dataset.spec.view import Source
from tfx_cassandra.components.driver.errors import DRIVER_ERRORS, one_line
from tfx_cassandra.components.errors import SchemaError, shown
from tfx_cassandra.components.lookup.key_reads import KeyReads, Read
from tfx_cassandra.components.lookup.latest import Bound, Key, Lookup, Request, Row
from tfx_cassandra.components.lookup.partitions import Partitions, Place

MAX_CACHED_ROWS = 200_000  # of one lookup; beyond that, only the rows that the current batch needs stay
_NEWEST = 2**63  # milliseconds since 1970; after every time


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
        self._partitions = Partitions(session, lookup.table, consistency)
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
        rows: dict[Request, _Newest | None] = {}
        if missing := list(missing):
            self._partitions.refresh()
        self._reads.run(
            self._requests(missing, rows), lambda read, batch: self._add_page(read[0], read[1], batch, rows)
        )
        self._cache |= {request: row if row is None else row.values for request, row in rows.items()}

    def _requests(self, missing: Iterable[Request], rows: dict[Request, _Newest | None]) -> Iterator[Read]:
        for request in missing:
            rows[request] = None
            bound = self.lookup.bind(request)
            if bound is None:
                continue
            # A read for each salt: whatever one of them finds ends the others where they are older.
            for salt, places in enumerate(self._partitions.of(bound.given, bound.start, bound.end)):
                keys = self._keys(bound, salt, places, request, rows)
                if (read := self._reads.read(keys, (request, salt))) is not None:
                    yield read

    def _keys(
        self, bound: Bound, salt: int, places: Iterable[tuple[int, Place]], request: Request,
        rows: dict[Request, _Newest | None],
    ) -> Iterator[tuple[Any, ...]]:  # fmt: skip
        for end, place in places:
            row = rows[request]
            if row is not None and not row.needs(salt, end - 1):
                return
            self.requests += 1
            yield (*bound.key, *place, *bound.times)

    def _add_page(
        self, request: Request, salt: int, batch: pa.RecordBatch, rows: dict[Request, _Newest | None]
    ) -> bool:
        """Fills features that are null in newer rows: each feature has its own newest value."""
        if not batch.num_rows:
            return True
        row = rows[request]
        if row is None:
            row = rows[request] = _Newest(len(self.lookup.sources))
        times = None
        if self.lookup.is_spread and self.lookup.view.timestamp_column is not None:
            times = batch.column(batch.num_columns - 1).cast(pa.int64())
        for i, source in enumerate(self.lookup.sources):
            row.add(i, values.plain(cell(batch, source)), times, salt)
        if self.lookup.view.timestamp_column is None:
            return False
        return row.needs(salt, _NEWEST if times is None else times[len(times) - 1].as_py())

    def _describe(self, read: tuple[Request, int]) -> str:
        ((*entity, moment), feature), _ = read
        view = self.lookup.view
        key = dict(zip(view.entity_columns, map(shown, entity), strict=True))
        return f'view {view.name}: {key}, {feature or "its features"} at {moment}'


class _Newest:
    """The newest value of each source of a request that was found so far.

    Of rows of one time with several salts, that of the lowest salt counts.

    Args:
      count: Number of sources.

    Attributes:
      values: The values; None for one that was not found.
    """

    def __init__(self, count: int) -> None:
        self._found: list[Any] = [None] * count
        self._ranks: list[tuple[int, int] | None] = [None] * count  # (time, -salt) of each

    @property
    def values(self) -> tuple[Any, ...]:
        return tuple(self._found)

    def add(self, source: int, cells: pa.Array, times: pa.Array | None, salt: int) -> None:
        """Takes rows of a salt, newest first; without times, where there is one salt, older than all before."""
        first = pc.index(cells.is_valid(), True).as_py()
        if first < 0:
            return
        rank = (_NEWEST if times is None else times[first].as_py(), -salt)
        found = self._ranks[source]
        if found is None or rank > found:
            self._found[source], self._ranks[source] = cells[first].as_py(), rank

    def needs(self, salt: int, latest: int) -> bool:
        """Says whether rows of a salt that are not later than a time can change a value."""
        return any(found is None or found < (latest, -salt) for found in self._ranks)
