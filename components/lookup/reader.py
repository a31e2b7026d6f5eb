"""Runs lookups: few requests at a time, each asked once, what was found kept for the next batch."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence

import pyarrow as pa
from cassandra import OperationTimedOut, ReadTimeout, Unavailable
from cassandra.cluster import EXEC_PROFILE_DEFAULT, NoHostAvailable, Session
from cassandra.query import PreparedStatement, tuple_factory

from tfx_cassandra.components.cql import types
from tfx_cassandra.components.driver.concurrent import outcomes
from tfx_cassandra.components.driver.connection import consistency_level
from tfx_cassandra.components.driver.errors import DRIVER_ERRORS, one_line
from tfx_cassandra.components.errors import ReadError, SchemaError
from tfx_cassandra.components.lookup.latest import Key, Lookup, Request

IN_FLIGHT = 128
KEPT = 200_000  # rows kept of one lookup; when it has more, it starts anew
_TRIES, _PAUSE = 4, 0.5  # seconds, doubled each time
_PASSING = (OperationTimedOut, ReadTimeout, Unavailable, NoHostAvailable)


class Reader:
    """Reads the features of keys of one lookup through a session.

    What was read once is not read again, so that all examples of a worker see one value of one key.

    Args:
      session: An open session of the lookup's cluster.
      lookup: What is read.
      consistency: Consistency level of the reads.

    Raises:
      SchemaError: The cluster refuses the statement.
    """

    def __init__(self, session: Session, lookup: Lookup, consistency: str = 'LOCAL_QUORUM') -> None:
        self._session, self.lookup = session, lookup
        self._profile = session.execution_profile_clone_update(
            EXEC_PROFILE_DEFAULT, row_factory=tuple_factory, consistency_level=consistency_level(consistency)
        )
        try:
            self._newest = self._prepared(f'{lookup.cql} LIMIT 1')
            self._all = self._prepared(lookup.cql)
        except DRIVER_ERRORS as error:
            raise SchemaError(f'view {lookup.view.name}: {one_line(error)}') from error
        kinds = [column[3] for column in self._newest.result_metadata]
        self._converters = [types.converter(kind) for kind in kinds]
        self.types: dict[str, pa.DataType] = dict(zip(lookup.selected, map(types.arrow_type, kinds), strict=True))
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
        self._fetch(list(wanted - self._kept.keys()))
        return self.lookup.columns(keys, self._kept, self.types)

    def _fetch(self, missing: Sequence[Request]) -> None:
        for attempt in range(_TRIES):
            failed = []
            self.requests += len(missing)
            bound = ((request, self._newest.bind(self.lookup.bound(request))) for request in missing)
            for request, outcome in outcomes(self._session, bound, IN_FLIGHT, self._profile):
                if isinstance(outcome, Exception):
                    if attempt == _TRIES - 1 or not isinstance(outcome, _PASSING):
                        raise self._error(request, outcome) from outcome
                    failed.append(request)
                else:
                    self._kept[request] = self._row(request, outcome)
            if not failed:
                return
            missing = failed
            time.sleep(_PAUSE * 2**attempt)

    def _row(self, request: Request, rows: Sequence[tuple]) -> tuple | None:
        """Fills what is null in the newest row from older ones: each feature has its own newest value."""
        if not rows:
            return None
        values = list(rows[0])
        if None in values and self.lookup.view.timestamp_column:
            try:
                bound = self._all.bind(self.lookup.bound(request))
                for row in self._session.execute(bound, execution_profile=self._profile):
                    values = [old if new is None else new for new, old in zip(values, row, strict=True)]
                    if None not in values:
                        break
            except DRIVER_ERRORS as error:
                raise self._error(request, error) from error
        return tuple(
            value if value is None or convert is None else convert(value)
            for value, convert in zip(values, self._converters, strict=True)
        )

    def _prepared(self, cql: str) -> PreparedStatement:
        statement = self._session.prepare(cql)
        statement.is_idempotent = True
        statement.fetch_size = 100
        return statement

    def _error(self, request: Request, error: Exception) -> ReadError:
        (*entity, moment), feature = request
        where = f'view {self.lookup.view.name}: {dict(zip(self.lookup.view.entity_columns, entity, strict=True))}'
        return ReadError(f'{where}, {feature or "its features"} at {moment}: not read ({one_line(error)})')
