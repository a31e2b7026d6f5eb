"""EvaluateAb: the logged requests and outcomes of an experiment -> its verdict, as a Beam transform.

    requests: scan of the window           -> shards by request id --+
    outcomes: scan of the window and delay -> shards by request id --+-> rows -> shards by unit -> tallies -> verdict

A request without a unit is its own, so that its row needs no second shuffle. The tallies are merged in the order of the
shards, and a shard sorts its rows, so that a rerun gives the same bits. Rows are spooled between the steps, so that
memory does not grow with them.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Iterator
from typing import Any

import apache_beam as beam
import polars as pl
import pyarrow as pa
from apache_beam.utils.windowed_value import WindowedValue

from tfx_cassandra.components.dataset.files.spool import CoGroupBatches
from tfx_cassandra.components.errors import invalid
from tfx_cassandra.components.experiment.design import CLOCK_SKEW, OUTCOME_KINDS, Design
from tfx_cassandra.components.experiment.observations import (
    OUTCOME_COLUMNS,
    Counts,
    arrow_of,
    join_outcomes,
    prepare_outcomes,
    prepare_requests,
    request_columns,
)
from tfx_cassandra.components.experiment.options import EvaluationOptions
from tfx_cassandra.components.experiment.tally import Tally, tally
from tfx_cassandra.components.experiment.verdict import decide
from tfx_cassandra.components.scan.options import ReadRequest
from tfx_cassandra.components.scan.read import ScanTable
from tfx_cassandra.components.window import TimeWindow, aware

_Place = tuple[str, int]  # what a shard is of, and its number

_GATHER_ROWS = 100_000  # rows that are sharded together, so that the parts of a shard are not tiny


class EvaluateAb(beam.PTransform):
    """Reads, joins and reduces what `settings` name; gives a PCollection of one Verdict."""

    def __init__(self, settings: EvaluationOptions, folder: str) -> None:
        """Declares the evaluation; rows are spooled into `folder`, to be removed when the pipeline has ended.

        Raises:
          ValueError: `settings.as_of` is in the future.
        """
        super().__init__()
        self._settings, self._folder = settings, folder
        self._as_of = time_of_look(settings.design, settings.as_of)

    def expand(self, pbegin: beam.pvalue.PBegin) -> beam.PCollection:
        design, shards = self._settings.design, self._settings.shards
        outcomes = design.names_of(*OUTCOME_KINDS)
        read = self._scan(self._settings.requests_table, request_columns(design), design.read_window)
        requests = (
            (pbegin | 'Requests' >> read).batches
            | 'PrepareRequests' >> beam.Map(prepare_requests, design)
            | 'ShardRequests' >> beam.ParDo(_Shard(shards))
        )
        sides = {'requests': requests}
        if outcomes:
            read = self._scan('inference_outcomes', OUTCOME_COLUMNS, design.outcome_window, outcome=outcomes)
            sides['outcomes'] = (
                (pbegin | 'Outcomes' >> read).batches
                | 'PrepareOutcomes' >> beam.Map(prepare_outcomes, design)
                | 'ShardOutcomes' >> beam.ParDo(_Shard(shards))
            )
        joined = sides | 'Join' >> CoGroupBatches(self._folder)
        as_of = self._as_of
        rows = joined | 'JoinOutcomes' >> beam.ParDo(_JoinOutcomes(design, shards, as_of)).with_outputs()
        units = {'rows': rows.of_units} | 'ByUnit' >> CoGroupBatches(self._folder)
        of_units = units | 'TallyUnits' >> beam.Map(_tally_units, design)
        return (
            (rows.tallied, of_units)
            | 'Tallies' >> beam.Flatten()
            | 'Merge' >> beam.CombineGlobally(_Merge(design))
            | 'Decide' >> beam.Map(lambda merged, design=design: decide(design, merged, as_of))
        )

    def _scan(self, table: str, columns: Iterable[str], window: TimeWindow, **where: Iterable[str]) -> ScanTable:
        settings = self._settings
        models = dict.fromkeys(arm.model_id for arm in settings.design.arms)
        filters = tuple((column, tuple(values)) for column, values in {'model_id': models, **where}.items())
        columns = tuple(columns)
        return ScanTable(
            ReadRequest(settings.connection, table, columns, window, filters=filters, options=settings.read)
        )


def time_of_look(design: Design, as_of: datetime.datetime | None) -> datetime.datetime:
    """Returns the time by which requests must be old enough: `as_of` or now, but at most `design.complete`.

    Looks after that moment see the same, so that they are recorded alike, and a rerun gives the same bits.

    Raises:
      ValueError: `as_of` is in the future: outcomes that are still to come would count as missing.
    """
    now = datetime.datetime.now(datetime.timezone.utc)
    look = now if as_of is None else aware('as_of', as_of)
    if look > now + CLOCK_SKEW:
        raise invalid('as_of', look.isoformat(), f'not after the time of the run ({now.isoformat()})')
    return min(look, design.complete)


class _Shard(beam.DoFn):
    """Record batches -> (shard, record batch), the shard being a hash of the request id."""

    def __init__(self, shards: int) -> None:
        self._shards = shards

    def start_bundle(self) -> None:
        self._waiting: list[pa.RecordBatch] = []

    def process(self, batch: pa.RecordBatch) -> Iterator[tuple[int, pa.RecordBatch]]:
        self._waiting.append(batch)
        if sum(waiting.num_rows for waiting in self._waiting) >= _GATHER_ROWS:
            yield from self._parts()

    def finish_bundle(self) -> Iterator[WindowedValue]:
        for part in self._parts():
            yield beam.transforms.window.GlobalWindows.windowed_value(part)

    def _parts(self) -> Iterator[tuple[int, pa.RecordBatch]]:
        if not self._waiting:
            return
        rows: pl.DataFrame = pl.from_arrow(pa.Table.from_batches(self._waiting))  # type: ignore[assignment]
        self._waiting = []
        yield from _sharded(rows, 'request_id', self._shards)


def _sharded(rows: pl.DataFrame, column: str, shards: int) -> Iterator[tuple[int, pa.RecordBatch]]:
    # Polars promises the same hash within one version, and all workers of a pipeline run the same one.
    shard = (pl.col(column).hash(seed=0) % shards).cast(pl.Int64).alias('_shard')
    parts = rows.with_columns(shard).partition_by('_shard', as_dict=True, include_key=False)
    for (number,), part in parts.items():
        yield number, arrow_of(part)


class _JoinOutcomes(beam.DoFn):
    """A shard of requests and outcomes -> the tally of those without a unit, and the rows of the others by unit."""

    def __init__(self, design: Design, shards: int, as_of: datetime.datetime | None) -> None:
        self._design, self._shards, self._as_of = design, shards, as_of

    def process(self, joined: tuple[int, dict[str, Iterable[pa.RecordBatch]]]) -> Iterator[beam.pvalue.TaggedOutput]:
        shard, sides = joined
        rows, counts = join_outcomes(
            list(sides['requests']), list(sides.get('outcomes', ())), self._design, self._as_of
        )
        unitless = tally(rows.filter(pl.col('unit').is_null()), counts, self._design)
        yield beam.pvalue.TaggedOutput('tallied', (('request', shard), unitless))
        for part in _sharded(rows.filter(pl.col('unit').is_not_null()), 'unit', self._shards):
            yield beam.pvalue.TaggedOutput('of_units', part)


def _tally_units(grouped: tuple[int, dict[str, Iterable[pa.RecordBatch]]], design: Design) -> tuple[_Place, Tally]:
    shard, parts = grouped
    rows: pl.DataFrame = pl.from_arrow(pa.Table.from_batches(parts['rows']))  # type: ignore[assignment]
    return ('unit', shard), tally(rows, Counts(), design)


class _Merge(beam.CombineFn):
    """(place, tally) -> the tally of all shards."""

    def __init__(self, design: Design) -> None:
        self._design = design

    def create_accumulator(self, *args: Any, **kwargs: Any) -> dict[_Place, Tally]:
        return {}

    def add_input(
        self, mutable_accumulator: dict[_Place, Tally], element: tuple[_Place, Tally], *args: Any, **kwargs: Any
    ) -> dict[_Place, Tally]:
        return mutable_accumulator | dict([element])

    def merge_accumulators(
        self, accumulators: Iterable[dict[_Place, Tally]], *args: Any, **kwargs: Any
    ) -> dict[_Place, Tally]:
        merged: dict[_Place, Tally] = {}
        for part in accumulators:
            merged |= part
        return merged

    def extract_output(self, accumulator: dict[_Place, Tally], *args: Any, **kwargs: Any) -> Tally:
        merged = tally(*join_outcomes([], [], self._design), self._design)
        # Floating-point sums depend on their order; this one is the same in every run.
        for shard in sorted(accumulator):
            merged = merged + accumulator[shard]
        return merged
