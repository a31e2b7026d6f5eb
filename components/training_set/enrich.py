"""Examples and scans of the views' tables -> the same examples with the views' features, where no key can be looked up.

    examples -> spine: the example as it is, and for each view its parsed entity and its moment
    then, for each view in turn: scan of its table -> facts; spine and facts -> point-in-time join
    rows -> the example with the features that were joined to it

A value counts that a lookup by key finds: the newest at or before the moment that is not older than the view's ttl.
"""

from __future__ import annotations

import dataclasses
import datetime
from collections.abc import Iterator, Sequence
from typing import Any

import apache_beam as beam
import pyarrow as pa
import pyarrow.compute as pc

from tfx_cassandra.components.dataset.files.decode import decode
from tfx_cassandra.components.dataset.files.spool import Gather
from tfx_cassandra.components.dataset.files.tfrecord import Chunk
from tfx_cassandra.components.dataset.join.facts import facts
from tfx_cassandra.components.dataset.spec.view import FeatureView
from tfx_cassandra.components.lookup.latest import Key, Lookup, plan_lookup
from tfx_cassandra.components.lookup.options import LATEST, RetrievalOptions
from tfx_cassandra.components.lookup.retrieve import Found, enriched, lacking, moments_of, results
from tfx_cassandra.components.scan import read
from tfx_cassandra.components.scan import source as scans
from tfx_cassandra.components.scan.options import ReadRequest, TableRead
from tfx_cassandra.components.training_set.read import JoinViews
from tfx_cassandra.components.training_set.sources import LABELS
from tfx_cassandra.components.window import TimeWindow, milliseconds

_SPLIT, _EXAMPLE = 'split', 'example'
_LAST = 2**62 // 1000  # milliseconds since 1970: after all values that can be joined
_USUAL = datetime.timedelta(days=5 * 365)  # before the backup's moment: times by which entities with many rows are cut


@dataclasses.dataclass(frozen=True)
class ScannedView:
    """A view whose features are joined to examples.

    Attributes:
      number: Its place among the views.
      lookup: Which entity and time an example has, and what its features are.
      read: The scan of its table.
    """

    number: int
    lookup: Lookup
    read: TableRead

    @property
    def joined(self) -> FeatureView:
        """The view with other names for its entity and features, which no feature of an example can have."""
        view = self.lookup.view
        entity = tuple(f'{self.number} entity {i}' for i in range(len(view.entity_columns)))
        return dataclasses.replace(view, join_columns=entity, prefix=f'{self.number}:{view.prefix}')

    @property
    def time(self) -> str:
        """The column of the spine with its moment."""
        return f'{self.number} time'

    @property
    def empty(self) -> pa.RecordBatch:
        """Facts of no rows."""
        schema = self.read.schema
        none = pa.RecordBatch.from_arrays([pa.array([], field.type) for field in schema], schema=schema)
        return facts(none, self.joined)

    def spine(self, batch: pa.RecordBatch, times: Sequence[int | None]) -> dict[str, pa.Array]:
        """Returns the columns that join the view to examples: what lacks an entity or a moment has a null entity."""
        view, by_time = self.lookup.view, self.lookup.by_time
        keys = self.lookup.keys(batch, times)
        parsed = {key: self._entity(key) for key in dict.fromkeys(keys) if key is not None}
        rows = [None if key is None else parsed[key] for key in keys]
        columns = {}
        for i, name in enumerate(self.joined.spine_columns):
            kind = self.empty.schema.field(f'entity {i}').type
            columns[name] = pa.array([None if row is None else row[i] for row in rows], kind)
        unlimited = _LAST if view.timestamp_column else 0
        at = [time if by_time and time is not None else unlimited for time in times]
        columns[self.time] = pa.array(at, pa.int64()).cast(pa.timestamp('ms'))
        return columns

    def _entity(self, key: Key) -> tuple[Any, ...] | None:
        parsed = self.lookup.entity(key)
        beyond = parsed is not None and any(isinstance(v, int) and not -(2**63) <= v < 2**63 for v in parsed)
        return None if beyond else parsed

    def found(self, rows: pa.Table) -> Found:
        """Returns the features of joined rows, by their names in the examples."""
        names = zip(self.lookup.view.example_names, self.joined.example_names, strict=True)
        columns = {name: rows.column(joined).combine_chunks() for name, joined in names}
        return Found(self.lookup.view, columns, self.lookup.kinds)


def scanned_views(settings: RetrievalOptions) -> list[ScannedView]:
    """Plans the scan of each view's table.

    Raises:
      SchemaError: A view does not fit its table, as for a lookup by key.
    """
    found = []
    for number, view in enumerate(settings.views):
        table = scans.describe(ReadRequest(settings.origin, view.table)).table
        lookup = plan_lookup(view, table, settings.as_of != LATEST or view.ttl is not None)
        described = scans.describe(ReadRequest(settings.origin, view.table, view.columns, filters=view.filters))
        found.append(ScannedView(number, lookup, described))
    return found


class EnrichByScan(beam.PTransform):
    """(split, list of serialized examples) -> a Chunk of the split; on 'statistics' ((split, name), number)."""

    def __init__(
        self, settings: RetrievalOptions, views: Sequence[ScannedView], moment: datetime.datetime, folder: str
    ) -> None:
        """Declares the scans.

        Args:
          settings: What is looked up, and as of when.
          views: The scans.
          moment: The moment of what is read, that 'latest' counts a view's ttl back from.
          folder: Where rows are spooled; the caller removes it after the pipeline.
        """
        super().__init__()
        self._settings, self._views, self._moment, self._folder = settings, views, moment, folder

    def expand(self, examples: beam.PCollection) -> Any:
        present, window = milliseconds('moment', self._moment), TimeWindow(self._moment - _USUAL, self._moment)
        rows = examples | 'Spine' >> beam.Map(_spine, self._settings.as_of, self._views, present)
        for view in self._views:
            name, joined = view.lookup.view.name, view.joined
            table = (
                examples.pipeline
                | f'Scan[{name}]' >> read.ScanTable(view.read.request)
            ).batches  # fmt: skip
            view_facts = table | f'Gather[{name}]' >> beam.ParDo(Gather()) | f'Facts[{name}]' >> beam.Map(facts, joined)
            joining = JoinViews([joined], {name: view.empty.schema}, view.time, window, False, self._folder)
            rows = ({LABELS: rows, name: view_facts} | f'Join[{name}]' >> joining).rows
        encode = _Encode(self._settings, self._views, present)
        return rows | 'Encode' >> beam.ParDo(encode).with_outputs('statistics', main='chunks')


def _spine(
    element: tuple[str, Sequence[bytes]], as_of: str, views: Sequence[ScannedView], present: int
) -> pa.RecordBatch:
    split, examples = element
    batch, _ = decode(examples)
    times = moments_of(batch, as_of, present)
    columns = {
        _SPLIT: pa.array([split] * len(examples), pa.string()),
        _EXAMPLE: pa.array(examples, pa.large_binary()),
    }
    for view in views:
        columns |= view.spine(batch, times)
    return pa.RecordBatch.from_arrays(list(columns.values()), names=list(columns))


class _Encode(beam.DoFn):
    """Joined rows -> a Chunk of each split; on 'statistics' its numbers."""

    def __init__(self, settings: RetrievalOptions, views: Sequence[ScannedView], present: int) -> None:
        self._settings, self._views, self._present = settings, views, present

    def process(self, rows: pa.RecordBatch) -> Iterator[Chunk | beam.pvalue.TaggedOutput]:
        table = pa.Table.from_batches([rows])
        for split in table.column(_SPLIT).unique().to_pylist():
            part = table.filter(pc.equal(table.column(_SPLIT), split))
            examples = part.column(_EXAMPLE).to_pylist()
            found = [view.found(part) for view in self._views]
            framed, missing = enriched(examples, lambda *_, found=found: found, self._settings, self._present)
            yield from results(split, framed, lacking(missing))
