"""The lookup plan: reads the facts that each row of a spine needs by key, with a bounded number of reads in flight.

A read starts at the row's time and goes back in time, in small pages that grow, until every feature has its value or
cannot have one any more. The facts go through the same join as scanned ones, so both plans give the same result.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import apache_beam as beam
import pyarrow as pa
import pyarrow.compute as pc

from tfx_cassandra.components.cql import values
from tfx_cassandra.components.cql.parsers import OutOfRangeError
from tfx_cassandra.components.cql.table import Table, quoted
from tfx_cassandra.components.dataset.join.audit import Audit
from tfx_cassandra.components.dataset.join.facts import (
    MAX_AGE,
    age_limit,
    created_name,
    entity_arrays,
    facts,
    microseconds,
    value_name,
)
from tfx_cassandra.components.dataset.join.join import join
from tfx_cassandra.components.dataset.spec.view import Feature, FeatureView
from tfx_cassandra.components.driver import connection as connections
from tfx_cassandra.components.driver.connection import CassandraConnection
from tfx_cassandra.components.driver.errors import DRIVER_ERRORS, one_line
from tfx_cassandra.components.errors import ReadError
from tfx_cassandra.components.lookup.key_reads import KeyReads, Read
from tfx_cassandra.components.lookup.partitions import Partitions
from tfx_cassandra.components.scan.fetch import ReadOptions
from tfx_cassandra.components.scan.options import TableRead
from tfx_cassandra.components.scan.page import RawHandler
from tfx_cassandra.components.scan.query import Scan

_FIRST_ROWS = 16  # of a read, where rows are small
_MILLISECOND = 1000  # microseconds


@dataclasses.dataclass(frozen=True)
class KeyRead:
    """How a view's rows of one entity are read.

    Attributes:
      columns: The key columns that are restricted to one value, in order; those of the table's layout come behind.
      timed: Whether the read is restricted to a range of times, latest first.
    """

    columns: tuple[str, ...]
    timed: bool


def key_read(view: FeatureView, table: Table) -> KeyRead | str:
    """Returns how a view can be read by key, or the reason why it cannot be."""
    restricted, types = {column for column, _ in view.filters}, dict(table.types)
    known = restricted | {source.column for source in view.entity if source.key is None}
    if missing := [column for column in table.own_partition_key if column not in known]:
        return f'the partition key of {table} has {", ".join(missing)}, which neither entity nor where gives'
    before = list(itertools.takewhile(lambda column: column != view.timestamp_column, table.clustering))
    named = table.own_partition_key if view.timestamp_column is None else (*table.own_partition_key, *before)
    if unusable := [name for name in view.entity_columns if name not in named]:
        return f'{", ".join(unusable)} is not in the part of the key of {table} that a read can restrict'
    if ambiguous := [name for name in named if name in restricted and not values.has_one_form(types[name])]:
        return f'equal values of {ambiguous[0]}, of type {types[ambiguous[0]]}, may be stored as different bytes'
    if view.timestamp_column is None:
        return KeyRead(table.own_partition_key, timed=False)
    bucket = table.layout.bucket
    if bucket is not None and bucket.time_column != view.timestamp_column:
        return f'{table} has buckets of {bucket.time_column}, not of {view.timestamp_column}'
    if view.timestamp_column not in table.clustering or not known.issuperset(before):
        return f'{view.timestamp_column} is not the clustering column of {table} after those that are given'
    return KeyRead(named, timed=True)


class LookUp(beam.DoFn):
    """Batches of a spine -> the same rows with the views' features; Audits of the features on output 'audit'."""

    def __init__(
        self, connection: CassandraConnection, options: ReadOptions, views: Sequence[tuple[FeatureView, TableRead]],
        timestamp_column: str, cut_off: bool,
    ) -> None:  # fmt: skip
        self._connection, self._options = connection, options
        self._views, self._time, self._cut_off = views, timestamp_column, cut_off

    def setup(self) -> None:
        session = connections.acquire(self._connection, RawHandler, keep=True)
        try:
            self._reads = [
                _ViewReads(session, self._options, view, found, self._cut_off) for view, found in self._views
            ]
        except BaseException:
            self.teardown()  # Beam does not call it after a failed setup
            raise

    def teardown(self) -> None:
        connections.release(self._connection, RawHandler)

    def process(self, batch: pa.RecordBatch) -> Iterator[Any]:
        spine, audit = pa.Table.from_batches([batch]), Audit()
        for reads in self._reads:
            view_facts = reads.facts(spine, self._time)
            spine, outcomes = join(spine, self._time, view_facts, reads.view, self._cut_off)
            audit.add(outcomes)
        yield spine.combine_chunks().to_batches()[0]
        yield beam.pvalue.TaggedOutput('audit', audit)


@dataclasses.dataclass
class _Request:
    """What a read is for.

    Attributes:
      time: The row's time, in microseconds.
      found: Of each feature the event time of the value that was found, or None so far.
    """

    time: int
    found: dict[Feature, int | None]


class _ViewReads:
    """The reads of one view."""

    def __init__(self, session: Any, options: ReadOptions, view: FeatureView, found: TableRead, cut_off: bool) -> None:
        self.view = view
        self._found, self._cut_off = found, cut_off
        key = key_read(view, found.table)
        if isinstance(key, str):
            raise ReadError(f'view {view.name}: {key}')
        self._key, self._types = key, dict(found.table.types)
        self._allowed: dict[str, tuple[Any, ...]] = {}
        for column, wanted in found.scan.filters:
            self._allowed[column] = tuple(value for value in wanted if value in self._allowed.get(column, wanted))
        self._oldest = found.request.window.bounds[0] if key.timed and found.request.window else None
        self._partitions = Partitions(session, found.table, options.consistency)
        try:
            prepared = session.prepare(statement(view, found.scan, key))
        except DRIVER_ERRORS as error:
            raise ReadError(f'view {view.name}: {one_line(error)}') from error
        self._reads = KeyReads(
            session, prepared, str(found.table),
            lambda _: f'view {view.name}: {found.table}', options.consistency, _FIRST_ROWS, options.decoding,
        )  # fmt: skip
        empty = pa.RecordBatch.from_arrays([pa.array([], f.type) for f in found.schema], schema=found.schema)
        self._schema = facts(empty, view).schema

    def facts(self, spine: pa.Table, timestamp_column: str) -> pa.Table:
        """Reads the facts that the rows of a spine need."""
        batches = []
        self._partitions.refresh()

        def consume(request: _Request, page: pa.RecordBatch) -> bool:
            batch = self._facts_of(page)
            if batch.num_rows:
                batches.append(batch)
            return not self._is_complete(request, batch)

        self._reads.run(self._requests(spine, timestamp_column), consume)
        # Reads of one entity at different times overlap; the join ignores repeated facts.
        return pa.Table.from_batches(batches, self._schema)

    def _requests(self, spine: pa.Table, timestamp_column: str) -> Iterator[Read]:
        view = self.view
        entities = zip(*(array.to_pylist() for array in entity_arrays(spine, view.spine_columns)), strict=True)
        times = microseconds(spine.column(timestamp_column).combine_chunks()).to_pylist()
        # An entity without a time in its key is read once for all of its rows.
        wanted = dict.fromkeys(
            (entity, time if self._key.timed else 0) for entity, time in zip(entities, times, strict=True)
        )
        part_of = {source.column: i for i, source in enumerate(view.entity) if source.key is None}
        for entity, time in wanted:
            choices = [
                self._choices(column, entity[part_of[column]] if column in part_of else None)
                for column in self._key.columns
            ]
            for key in itertools.product(*choices):
                yield from self._reads_of(dict(zip(self._key.columns, key, strict=True)), time)

    def _reads_of(self, given: Mapping[str, Any], time: int) -> Iterator[Read]:
        """Yields the reads of one key: one for each salt that its rows may have."""
        request = _Request(time, dict.fromkeys(self._features(given)))
        key = [values.bound(self._types[column], value) for column, value in given.items()]
        times = [time // 1000, self._oldest] if self._key.timed else []
        window = (self._oldest, time // 1000 + 1) if self._key.timed else (None, None)
        for places in self._partitions.of(given, *window):
            keys = ((*key, *place, *times) for end, place in places if not self._is_found(request, end * _MILLISECOND))
            read = self._reads.read(keys, request)
            if read is not None:
                yield read

    def _is_found(self, request: _Request, end: int) -> bool:
        """Says whether rows before a time, in microseconds, cannot change the result any more."""
        return self._key.timed and all(found is not None and end <= found for found in request.found.values())

    def _choices(self, column: str, value: Any) -> tuple[Any, ...]:
        """Returns the values to read of a key column; empty if the column cannot hold the entity's value."""
        allowed = self._allowed.get(column)
        if value is None:
            return allowed or ()
        try:
            value = values.parse(self._types[column], value)
        except OutOfRangeError:
            return ()
        return (value,) if allowed is None or value in allowed else ()

    def _features(self, given: Mapping[str, Any]) -> list[Feature]:
        """Returns the features that a read of a key may find."""
        name = given.get(str(self.view.feature_name_column))
        return [feature for feature in self.view.full_features if name is None or feature.name == name]

    def _is_complete(self, request: _Request, batch: pa.RecordBatch) -> bool:
        """Says whether rows older than a page cannot change the result any more."""
        if not self._key.timed or not batch.num_rows:
            return False
        event = batch.column(batch.schema.get_field_index('event'))
        last = event[len(event) - 1].as_py()
        # Bounded, since the difference may be beyond 64 bits.
        expired = None if self.view.ttl is None else max(request.time - age_limit(self.view.ttl), -MAX_AGE)
        for feature in [feature for feature, found in request.found.items() if found is None]:
            present = batch.column(batch.schema.get_field_index(value_name(self.view, feature))).is_valid()
            if self.view.feature_name_column is not None:
                name = batch.column(batch.schema.get_field_index('name'))
                present = pc.and_(present, pc.equal(name, feature.name))
            known = event
            if self._cut_off:
                created = batch.column(batch.schema.get_field_index(created_name(self.view, feature)))
                known = pc.max_element_wise(event, created)
            final = pc.and_(present, pc.less_equal(known, request.time))
            if expired is not None:  # an expired value ends the search too, since all older ones are expired
                final = pc.or_(final, pc.and_(present, pc.less_equal(event, expired)))
            request.found[feature] = pc.max(event.filter(final)).as_py()
        # Rows of the same event time may follow on the next page.
        return all(found is not None and last < found for found in request.found.values())

    def _facts_of(self, page: pa.RecordBatch) -> pa.RecordBatch:
        scan = self._found.scan
        for column, wanted in scan.filters:
            if column not in self._key.columns:
                page = page.filter(values.matches(page.column(scan.index(column)), self._types[column], wanted))
        return facts(page, self.view)


def statement(view: FeatureView, scan: Scan, key: KeyRead) -> str:
    """Returns the CQL that reads the rows of a scan of one entity, latest first."""
    where = ' AND '.join(f'{quoted(column)} = ?' for column in (*key.columns, *scan.table.layout.columns))
    if not key.timed:
        return f'{scan.select} WHERE {where}'
    time = quoted(str(view.timestamp_column))
    return f'{scan.select} WHERE {where} AND {time} <= ? AND {time} >= ? ORDER BY {time} DESC'


def unavailable(views: Iterable[tuple[FeatureView, Table]]) -> dict[str, str]:
    """Returns, for each view that cannot be looked up by key, the reason by the view's name."""
    reasons = {view.name: key_read(view, table) for view, table in views}
    return {name: reason for name, reason in reasons.items() if isinstance(reason, str)}
