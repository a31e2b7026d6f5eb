"""Tables -> record batches with one row per example.

    one view, no labels    scan -> (wide: rename | long: shard -> pivot)
    labels and views       scan of the labels -> the spine; then, for the views of each entity in turn:
        scan plan          scan of each view -> facts; spine and facts -> count -> plan shards -> route -> join
        lookup plan        each batch of the spine -> reads of its entities -> join

The spine carries all its columns from join to join, so that its rows need no later join by key: each row enters one
shard of each join, and leaves it once. Rows that wait for a plan or are shuffled are spooled, so that memory does not
grow with the tables on any runner.
"""

from __future__ import annotations

import collections
import contextlib
import datetime
import functools
import itertools
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import apache_beam as beam
import numpy as np
import polars as pl
import pyarrow as pa

from tfx_cassandra.components.dataset.files.gather import gathered
from tfx_cassandra.components.dataset.files.spool import (
    CoGroupBatches,
    Gather,
    Place,
    SpoolBatches,
    Spooled,
    SpoolFile,
    serialized,
)
from tfx_cassandra.components.dataset.join import pivot, shards
from tfx_cassandra.components.dataset.join.audit import Audit
from tfx_cassandra.components.dataset.join.facts import facts
from tfx_cassandra.components.dataset.join.join import join
from tfx_cassandra.components.dataset.spec import label
from tfx_cassandra.components.dataset.spec.view import FeatureView
from tfx_cassandra.components.driver.connection import CassandraConnection
from tfx_cassandra.components.lookup.spine import LookUp
from tfx_cassandra.components.scan import read
from tfx_cassandra.components.scan.fetch import PAGE_ROWS
from tfx_cassandra.components.training_set.options import TrainingSetOptions
from tfx_cassandra.components.training_set.sources import LABELS, Sources
from tfx_cassandra.components.window import TimeWindow

_PIVOT_SHARDS = 64  # of a table, and of a shard too large to pivot at once
_PIVOT_CELLS = 10_000_000  # rows x features that a worker pivots at once; also at most shards.SHARD_ROWS rows
_PIVOT_BYTES = 64 << 20  # that a worker pivots at once
_PIVOT_LEVELS = 5  # of partitioning by hash; rows that are still together have one key
_MIN_SHARD_ROWS = 10_000  # of a join, for any length of history


class TrainingSet(NamedTuple):
    """The output of `ReadTrainingSet`.

    Attributes:
      rows: Record batches with one row per example; columns are named as the examples' features.
      coverage: A single mapping from each scanned table's key in `Sources.reads` to its `ledger.Coverage`.
      audit: A single `Audit`; empty if nothing is joined.
    """

    rows: beam.PCollection
    coverage: beam.PCollection
    audit: beam.PCollection


class ReadTrainingSet(beam.PTransform):
    """Reads the configured tables and joins them to the rows of the training set."""

    def __init__(
        self,
        settings: TrainingSetOptions,
        sources: Sources,
        lookups: Iterable[str],
        reference: datetime.datetime,
        folder: str,
    ) -> None:
        """Declares the reads.

        Args:
          settings: The options.
          sources: The tables.
          lookups: Names of the views that are looked up by key; the others are scanned.
          reference: Labels that are not known before this time are missing.
          folder: Where rows are spooled; the caller removes it after the pipeline.
        """
        super().__init__()
        self._settings, self._sources, self._lookups = settings, sources, frozenset(lookups)
        self._reference, self._folder = reference, folder

    def expand(self, pbegin: beam.pvalue.PBegin) -> TrainingSet:
        labels, views = self._settings.labels, self._settings.views
        scanned = {
            name: pbegin | f'Scan[{name}]' >> read.ScanTable(table_read.request)
            for name, table_read in self._sources.reads.items()
            if name not in self._lookups
        }
        coverages = [
            result.coverage | f'Name[{name}]' >> beam.Map(lambda coverage, name=name: (name, coverage))
            for name, result in scanned.items()
        ]
        coverage = coverages | 'AllCoverage' >> beam.Flatten() | 'Coverage' >> beam.combiners.ToDict()
        audits: list[beam.PCollection] = []
        if labels is None:
            rows = scanned[views[0].name].batches | 'RowPerExample' >> RowPerExample(views[0], self._folder)
        else:
            rows = scanned[LABELS].batches | 'Spine' >> beam.Map(label.spine, labels, self._reference)
            for number, group in enumerate(self._groups()):
                rows, audit = self._join(f'{number}', rows, group, scanned)
                audits.append(audit)
        audit = (
            (audits | 'AllAudits' >> beam.Flatten() if audits else pbegin | 'NoAudit' >> beam.Create([Audit()]))
            | 'Audit' >> beam.CombineGlobally(_merged)
        )  # fmt: skip
        return TrainingSet(rows, coverage, audit)

    def _join(
        self, number: str, rows: beam.PCollection, group: list[FeatureView], scanned: Mapping[str, read.ReadResult]
    ) -> tuple[beam.PCollection, beam.PCollection]:
        settings = self._settings
        time, cut_off = settings.labels.timestamp_column, settings.availability_cut_off  # type: ignore[union-attr]
        if group[0].name in self._lookups:
            views = [(view, self._sources.reads[view.name]) for view in group]
            connection: CassandraConnection = settings.connection  # type: ignore[assignment]  # lookups have one
            look_up = LookUp(connection, settings.read, views, time, cut_off)
            joined = (
                rows
                | f'Share[{number}]' >> beam.Reshuffle()
                | f'LookUp[{number}]' >> beam.ParDo(look_up).with_outputs('audit', main='rows')
            )
            return joined.rows, joined.audit
        tables = {
            view.name: (
                scanned[view.name].batches
                | f'Gather[{view.name}]' >> beam.ParDo(Gather())
                | f'Facts[{view.name}]' >> beam.Map(facts, view)
            )
            for view in group
        }
        empty = {view.name: facts(_empty(self._sources.reads[view.name].schema), view).schema for view in group}
        joining = JoinViews(group, empty, time, settings.event_times, cut_off, self._folder, history=settings.history)
        spine = rows | f'GatherSpine[{number}]' >> beam.ParDo(Gather())
        joined = {LABELS: spine, **tables} | f'Join[{number}]' >> joining
        return joined.rows, joined.audit

    def _groups(self) -> list[list[FeatureView]]:
        """Returns the views, grouped by entity and plan."""
        groups: dict[tuple, list[FeatureView]] = {}
        for view in self._settings.views:
            groups.setdefault((view.spine_columns, view.name in self._lookups), []).append(view)
        return list(groups.values())


class RowPerExample(beam.PTransform):
    """Record batches of a view as read -> record batches with one row per example and the features' names."""

    def __init__(self, view: FeatureView, folder: str) -> None:
        super().__init__()
        self._view, self._folder = view, folder

    def expand(self, batches: beam.PCollection) -> beam.PCollection:
        if self._view.layout == 'wide':
            return batches | beam.Map(pivot.renamed, self._view)
        sharded = batches | 'Shard' >> beam.FlatMap(pivot.shard, self._view, _PIVOT_SHARDS)
        return (
            {LABELS: sharded}
            | 'Gather' >> CoGroupBatches(self._folder)
            | 'Pivot' >> beam.FlatMapTuple(lambda _, parts: _pivot(parts[LABELS], self._view, self._folder))
        )


def _pivot(
    batches: Iterable[pa.RecordBatch], view: FeatureView, folder: str, level: int = 1
) -> Iterator[pa.RecordBatch]:
    """Pivots the rows of a shard; a shard that is too large for memory is partitioned by another hash into files."""
    rows = min(shards.SHARD_ROWS, max(1, _PIVOT_CELLS // len(view.features)))
    pieces = gathered(batches, rows, _PIVOT_BYTES)
    first = next(pieces, None)
    if first is None:
        return
    second = next(pieces, None)
    if second is None or level == _PIVOT_LEVELS:
        whole = pa.Table.from_batches([first, *([] if second is None else [second]), *pieces])
        yield pivot.pivot(whole.to_batches(), view)
        return
    for places in _partitioned(itertools.chain([first, second], pieces), view, folder, level):
        yield from _pivot(Spooled(places), view, folder, level + 1)


def _partitioned(
    pieces: Iterable[pa.RecordBatch], view: FeatureView, folder: str, seed: int
) -> Iterator[tuple[Place, ...]]:
    """Spools rows in parts by a hash of their key; yields the places of each part."""
    places: dict[int, list[Place]] = collections.defaultdict(list)
    with contextlib.closing(SpoolFile(folder)) as file:
        for piece in pieces:
            for number, part in pivot.shard(piece, view, _PIVOT_SHARDS, seed):
                places[number].append(file.append(serialized(part)))
    yield from (tuple(places[number]) for number in sorted(places))


class JoinViews(beam.PTransform):
    """Joins views of one entity to a spine: {LABELS: spine, name of view: its facts, ...} -> rows and audit.

    No worker holds more than a shard, however many rows an entity has; see dataset/join/shards.py.
    """

    def __init__(
        self, views: list[FeatureView], schemas: Mapping[str, pa.Schema], timestamp_column: str, window: TimeWindow,
        cut_off: bool, folder: str, shard_rows: int | None = None, history: int | None = None,
    ) -> None:  # fmt: skip
        """Declares the join.

        Args:
          views: Views with the same `spine_columns`.
          schemas: Schema of each view's facts, by its name.
          timestamp_column: The spine's event time.
          window: Window of the spine's event times.
          cut_off: Whether values that were written after a row's time are hidden from it.
          folder: Where rows are spooled.
          shard_rows: Approximate rows of spine and facts that a worker joins at once; None for shards.SHARD_ROWS, and
            for fewer with a history.
          history: Number of each feature's last values that a row gets, as a list; None for the newest one alone.
        """
        super().__init__()
        self._views, self._schemas, self._time, self._window = views, dict(schemas), timestamp_column, window
        self._cut_off, self._folder, self._history = cut_off, folder, history
        self._shard_rows = shard_rows or max(_MIN_SHARD_ROWS, shards.SHARD_ROWS // (history or 1))

    def expand(self, tables: Mapping[str, beam.PCollection]) -> Any:
        spine, first = tables[LABELS], self._views[0]
        added = 8 * sum(len(view.features) for view in self._views)  # minimum of bytes per row
        counts = [spine | 'CountSpine' >> beam.Map(shards.count_spine, first, self._time, self._window, added)]
        for view in self._views:
            counts.append(tables[view.name] | f'Count[{view.name}]' >> beam.Map(shards.count_facts, view, self._window))
        planned = (
            counts
            | 'AllCounts' >> beam.Flatten()
            | 'Sum' >> beam.CombineGlobally(_summed)
            | 'Plan' >> beam.Map(shards.plan, self._window, self._shard_rows)
        )
        plan = beam.pvalue.AsSingleton(planned)
        spooled = {name: table | f'Wait[{name}]' >> SpoolBatches(self._folder) for name, table in tables.items()}
        routed = {LABELS: spooled[LABELS] | 'RouteSpine' >> beam.FlatMap(_route_spine, first, self._time, plan)}
        for view in self._views:
            routed[view.name] = spooled[view.name] | f'Route[{view.name}]' >> beam.FlatMap(
                _route_facts, view, plan, self._cut_off, self._history
            )
        joining = _JoinShard(self._views, self._schemas, self._time, self._cut_off, self._history)
        return (
            routed
            | 'Gather' >> CoGroupBatches(self._folder)
            | 'Join' >> beam.ParDo(joining).with_outputs('audit', main='rows')
        )


# Spooled rows are read in the step that routes them: rows between two steps would be held by the runner.
def _route_spine(spooled: Iterable[pa.RecordBatch], *args: Any) -> Iterator[tuple[Any, pa.RecordBatch]]:
    return itertools.chain.from_iterable(shards.route_spine(batch, *args) for batch in spooled)


def _route_facts(spooled: Iterable[pa.RecordBatch], *args: Any) -> Iterator[tuple[Any, pa.RecordBatch]]:
    return itertools.chain.from_iterable(shards.route_facts(batch, *args) for batch in spooled)


class _JoinShard(beam.DoFn):
    """(shard, its batches by table) -> its rows with the views' features; output 'audit' counts their outcomes."""

    def __init__(
        self, views: list[FeatureView], schemas: dict[str, pa.Schema], time: str, cut_off: bool, history: int | None
    ) -> None:
        self._views, self._schemas, self._time = views, schemas, time
        self._cut_off, self._history = cut_off, history

    def process(self, element: tuple[Any, Mapping[str, Iterable[pa.RecordBatch]]]) -> Iterator[Any]:
        _, parts = element
        batches = list(parts[LABELS])
        if not batches:
            return
        spine, audit = pa.Table.from_batches(batches), Audit()
        for view in self._views:
            view_facts = pa.Table.from_batches(list(parts[view.name]), self._schemas[view.name])
            spine, outcomes = join(spine, self._time, view_facts, view, self._cut_off, self._history)
            audit.add(outcomes)
        yield from _shuffled(spine)
        yield beam.pvalue.TaggedOutput('audit', audit)


def _shuffled(rows: pa.Table) -> Iterator[pa.RecordBatch]:
    """Yields the rows of a shard ordered by a hash of their content, in batches as large as pages.

    A trainer reads the examples of a batch in order, so they must not all be of one entity.
    """
    # Lists and vectors are not hashed; their types have child fields.
    scalars = [i for i, field in enumerate(rows.schema) if field.type.num_fields == 0]
    content: pl.DataFrame = pl.from_arrow(rows.select(scalars))  # type: ignore[assignment]
    order = pa.array(content.hash_rows(seed=0).arg_sort().to_numpy().astype(np.int64))
    for start in range(0, len(order), PAGE_ROWS):
        # `take` copies; a slice would be pickled with the buffers of all rows.
        yield rows.take(order[start : start + PAGE_ROWS]).combine_chunks().to_batches()[0]


def _empty(schema: pa.Schema) -> pa.RecordBatch:
    return pa.RecordBatch.from_arrays([pa.array([], field.type) for field in schema], schema=schema)


def _summed(counts: Iterable[np.ndarray]) -> np.ndarray:
    return sum(counts, np.zeros((shards.BUCKETS, shards.BINS), np.int64))


def _merged(audits: Iterable[Audit]) -> Audit:
    return functools.reduce(Audit.merge, audits, Audit())
