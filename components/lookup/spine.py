"""The lookup plan: the facts that each row of a spine needs, read by key, a bounded number of reads at once.

A read starts at the row's time and goes back, in small pages that grow, until every feature has its value or cannot
have one any more. What is read goes through the same join as what is scanned: so the two plans give the same.
"""

from __future__ import annotations

import collections
import dataclasses
import itertools
import queue
import time
import uuid
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import apache_beam as beam
import pyarrow as pa
import pyarrow.compute as pc
from cassandra.cluster import EXEC_PROFILE_DEFAULT
from cassandra.query import BoundStatement

from tfx_cassandra.components.cql.table import Table, quoted
from tfx_cassandra.components.dataset.join.audit import Audit
from tfx_cassandra.components.dataset.join.facts import created_name, entity_arrays, facts, microseconds, value_name
from tfx_cassandra.components.dataset.join.join import join
from tfx_cassandra.components.dataset.spec.view import Feature, FeatureView
from tfx_cassandra.components.driver import connection as connections
from tfx_cassandra.components.driver.connection import CassandraConnection
from tfx_cassandra.components.driver.errors import DRIVER_ERRORS, one_line
from tfx_cassandra.components.errors import ReadError
from tfx_cassandra.components.scan.page import RawHandler, decode, raw_rows
from tfx_cassandra.components.training_set.sources import TableRead

IN_FLIGHT = 64  # reads at once, by one worker thread
_ATTEMPTS = 5
_FIRST_PAGE, _LARGEST_PAGE = 16, 5000  # rows


@dataclasses.dataclass(frozen=True)
class KeyRead:
    """How a view's rows of one entity are read: by statements that differ in `fixed` values only.

    Attributes:
      columns: The columns of the key that are restricted, in order.
      timed: Whether the read is limited to times, latest first.
    """

    columns: tuple[str, ...]
    timed: bool


def key_read(view: FeatureView, table: Table) -> KeyRead | str:
    """Returns how a view can be read by key, or the reason why it cannot."""
    known = {source.column for source in view.entity if source.key is None}
    known |= {column for column, _ in view.filters}
    if lacking := [column for column in table.partition_key if column not in known]:
        return f'the partition key of {table} has {", ".join(lacking)}, which neither entity nor where gives'
    before = list(itertools.takewhile(lambda column: column != view.timestamp_column, table.clustering))
    restricted = table.partition_key if view.timestamp_column is None else (*table.partition_key, *before)
    if lacking := [name for name in view.entity_columns if name not in restricted]:
        return f'{", ".join(lacking)} is not in the part of the key of {table} that a read can name'
    if view.timestamp_column is None:
        return KeyRead(table.partition_key, timed=False)
    if view.timestamp_column not in table.clustering or not known.issuperset(before):
        return f'{view.timestamp_column} is no clustering column of {table} that follows on known ones'
    return KeyRead(restricted, timed=True)


class LookUp(beam.DoFn):
    """Batches of a spine -> the same rows with the views' features; what became of these on 'audit'."""

    def __init__(
        self, connection: CassandraConnection, consistency: str, views: Sequence[tuple[FeatureView, TableRead]],
        timestamp_column: str, cut_off: bool,
    ) -> None:  # fmt: skip
        self._connection, self._consistency = connection, consistency
        self._views, self._time, self._cut_off = views, timestamp_column, cut_off

    def setup(self) -> None:
        self._session = connections.acquire(self._connection, RawHandler)
        self._reads = [
            _ViewReads(self._session, self._consistency, view, found, self._cut_off) for view, found in self._views
        ]

    def teardown(self) -> None:
        connections.release(self._connection, RawHandler)

    def process(self, batch: pa.RecordBatch) -> Iterator[Any]:
        spine, audit = pa.Table.from_batches([batch]), Audit()
        for reads in self._reads:
            held = reads.facts(spine, self._time)
            spine, looked = join(spine, self._time, held, reads.view, self._cut_off)
            audit.add(looked)
        yield spine.combine_chunks().to_batches()[0]
        yield beam.pvalue.TaggedOutput('audit', audit)


@dataclasses.dataclass
class _Asked:
    """One read: its statement, the time it is for (us), the features still without an answer."""

    statement: BoundStatement
    now: int
    open: dict[Feature, int | None]  # -> event time of the value found, None as long as there is none
    paging_state: bytes | None = None
    failures: int = 0


class _ViewReads:
    """The reads of one view."""

    def __init__(self, session: Any, consistency: str, view: FeatureView, found: TableRead, cut_off: bool) -> None:
        self.view = view
        self._session, self._found, self._cut_off = session, found, cut_off
        key = key_read(view, found.table)
        if isinstance(key, str):
            raise ReadError(f'view {view.name}: {key}')
        self._key, self._types = key, dict(found.table.types)
        self._oldest = found.request.window.bounds[0] if key.timed and found.request.window else None
        self._statement = session.prepare(self._cql())
        self._statement.consistency_level = connections.consistency_level(consistency)
        self._statement.is_idempotent = True
        self._profile = session.execution_profile_clone_update(EXEC_PROFILE_DEFAULT, row_factory=raw_rows)
        empty = pa.RecordBatch.from_arrays([pa.array([], f.type) for f in found.schema], schema=found.schema)
        self._schema = facts(empty, view).schema

    def facts(self, spine: pa.Table, timestamp_column: str) -> pa.Table:
        """Reads what the rows of a spine need."""
        arrived: queue.SimpleQueue = queue.SimpleQueue()
        waiting, active, batches = collections.deque(self._requests(spine, timestamp_column)), 0, []
        while waiting or active:
            while waiting and active < IN_FLIGHT:
                self._ask(waiting.popleft(), arrived)
                active += 1
            asked, page, paging_state, error = arrived.get()
            if error is not None:
                self._again(asked, error)
                self._ask(asked, arrived)
                continue
            batch = self._wanted(decode(page).content)
            if batch.num_rows:
                batches.append(batch)
            asked.paging_state, asked.failures = paging_state, 0
            if paging_state is None or self._done(asked, batch):
                active -= 1
            else:
                asked.statement.fetch_size = min(4 * asked.statement.fetch_size, _LARGEST_PAGE)
                self._ask(asked, arrived)
        # Reads of one entity at different times overlap: a fact twice is a fact once.
        return pa.Table.from_batches(batches, self._schema)

    def _requests(self, spine: pa.Table, timestamp_column: str) -> Iterator[_Asked]:
        view = self.view
        entities = zip(*(array.to_pylist() for array in entity_arrays(spine, view.spine_columns)), strict=True)
        times = microseconds(spine.column(timestamp_column).combine_chunks()).to_pylist()
        # An entity without a time in its key is read once, for its earliest and its latest row alike.
        wanted = dict.fromkeys(
            (entity, now if self._key.timed else 0) for entity, now in zip(entities, times, strict=True)
        )
        of_entity = {source.column: i for i, source in enumerate(view.entity) if source.key is None}
        alternatives = dict(view.filters)
        for entity, now in wanted:
            choices = [
                (entity[of_entity[column]],) if column in of_entity else alternatives[column]
                for column in self._key.columns
            ]
            for values in itertools.product(*choices):
                bound = [self._bound(column, value) for column, value in zip(self._key.columns, values, strict=True)]
                statement = self._statement.bind(bound + ([now // 1000, self._oldest] if self._key.timed else []))
                statement.fetch_size = _FIRST_PAGE if self._key.timed else _LARGEST_PAGE
                yield _Asked(statement, now, dict.fromkeys(self._features(values)))

    def _features(self, values: tuple) -> list[Feature]:
        """Returns the features that a read of these key values can hold."""
        by_column = dict(zip(self._key.columns, values, strict=True))
        name = by_column.get(str(self.view.feature_name_column))
        return [feature for feature in self.view.full_features if name is None or feature.name == name]

    def _done(self, asked: _Asked, batch: pa.RecordBatch) -> bool:
        """Whether what is older than a page cannot matter any more."""
        if not self._key.timed or not batch.num_rows:
            return False
        event = batch.column(batch.schema.get_field_index('event'))
        last = event[len(event) - 1].as_py()
        ttl = None if self.view.ttl is None else asked.now - round(self.view.ttl.total_seconds() * 1e6)
        for feature in [feature for feature, found in asked.open.items() if found is None]:
            present = batch.column(batch.schema.get_field_index(value_name(self.view, feature))).is_valid()
            if self.view.feature_name_column is not None:
                name = batch.column(batch.schema.get_field_index('name'))
                present = pc.and_(present, pc.equal(name, feature.name))
            known = event
            if self._cut_off:
                created = batch.column(batch.schema.get_field_index(created_name(self.view, feature)))
                known = pc.max_element_wise(event, created)
            answers = pc.and_(present, pc.less_equal(known, asked.now))
            if ttl is not None:  # what is expired is an answer too: all older values are
                answers = pc.or_(answers, pc.and_(present, pc.less_equal(event, ttl)))
            asked.open[feature] = pc.max(event.filter(answers)).as_py()
        # Rows of the same time as the answer may stand on the next page.
        return all(found is not None and last < found for found in asked.open.values())

    def _wanted(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        for column, values in self.view.filters:
            if column not in self._key.columns:
                array = batch.column(batch.schema.get_field_index(column))
                batch = batch.filter(pc.is_in(array, pa.array(values, array.type)))
        return facts(batch, self.view)

    def _cql(self) -> str:
        scan = self._found.scan
        extra = [column for column, _ in self.view.filters if column not in scan.columns]
        # Everything up to the last WHERE is what the scan selects.
        select, _, _ = scan.cql().rpartition(' WHERE ')
        columns, _, table = select.rpartition(' FROM ')
        columns = ', '.join([columns, *map(quoted, extra)])
        where = ' AND '.join(f'{quoted(column)} = ?' for column in self._key.columns)
        if self._key.timed:
            moment = quoted(str(self.view.timestamp_column))
            where += f' AND {moment} <= ? AND {moment} >= ? ORDER BY {moment} DESC'
        return f'{columns} FROM {table} WHERE {where}'

    def _bound(self, column: str, value: Any) -> Any:
        return uuid.UUID(str(value)) if self._types[column] in ('uuid', 'timeuuid') else value

    def _ask(self, asked: _Asked, arrived: queue.SimpleQueue) -> None:
        try:
            future = self._session.execute_async(
                asked.statement, execution_profile=self._profile, paging_state=asked.paging_state
            )
        except DRIVER_ERRORS as error:
            arrived.put((asked, None, None, error))
            return
        future.add_callbacks(
            lambda pages: arrived.put((asked, pages[0], future._paging_state, None)),
            lambda error: arrived.put((asked, None, None, error)),
        )

    def _again(self, asked: _Asked, error: Exception) -> None:
        asked.failures += 1
        if asked.failures == _ATTEMPTS:
            rule = f'read in {_ATTEMPTS} attempts ({one_line(error)})'
            raise ReadError(f'view {self.view.name}: got no answer from {self._found.table}, rule: {rule}') from error
        time.sleep(0.1 * 2**asked.failures)


def unavailable(views: Iterable[tuple[FeatureView, Table]]) -> dict[str, str]:
    """Returns why views cannot be looked up by key, by name, for those that cannot."""
    reasons = {view.name: key_read(view, table) for view, table in views}
    return {name: reason for name, reason in reasons.items() if isinstance(reason, str)}
