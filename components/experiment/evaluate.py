"""EvaluateAb: the logged requests and outcomes of an experiment -> its verdict, as a Beam transform.

    requests: scan of the window           -> shards by request id --+
    outcomes: scan of the window and delay -> shards by request id --+-> rows -> shards by unit -> tallies -> verdict

A request without a unit is a unit of its own and skips the second shuffle. Rows are sorted within a shard and tallies
are merged in the order of the shards, so that a rerun gives the same bits. Rows are spooled between the steps, so that
memory does not grow with them.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Iterator
from typing import Any

import apache_beam as beam
import polars as pl
import pyarrow as pa

from tfx_cassandra.components.dataset.files.spool import CoGroupBatches, Gather
from tfx_cassandra.components.errors import invalid
from tfx_cassandra.components.experiment.design import CLOCK_SKEW, OUTCOME_KINDS, Design
from tfx_cassandra.components.experiment.observations import Counts, join_outcomes
from tfx_cassandra.components.experiment.options import EvaluationOptions
from tfx_cassandra.components.experiment.reduced import (
    OUTCOME_COLUMNS,
    arrow_of,
    prepare_outcomes,
    prepare_requests,
    request_columns,
)
from tfx_cassandra.components.experiment.tally import Tally, tally
from tfx_cassandra.components.experiment.verdict import decide
from tfx_cassandra.components.scan.options import ReadRequest
from tfx_cassandra.components.scan.read import ScanTable
from tfx_cassandra.components.window import TimeWindow, aware

_ShardKey = tuple[str, int]  # key that shards are made by, number of the shard


class EvaluateAb(beam.PTransform):
    """Reads and joins requests and outcomes, and decides; returns a PCollection of one Verdict."""

    def __init__(self, settings: EvaluationOptions, folder: str) -> None:
        """Declares the evaluation; rows are spooled into `folder`, which the caller removes after the pipeline.

        Raises:
          ValueError: `settings.as_of` is in the future.
        """
        super().__init__()
        self._settings, self._folder = settings, folder
        self._as_of = evaluation_time(settings.design, settings.as_of)

    def expand(self, pbegin: beam.pvalue.PBegin) -> beam.PCollection:
        design, shards = self._settings.design, self._settings.shards
        read_requests, read_outcomes = self.scans()
        requests = (
            (pbegin | 'Requests' >> read_requests).batches
            | 'GatherRequests' >> beam.ParDo(Gather())
            | 'PrepareRequests' >> beam.Map(prepare_requests, design)
            | 'ShardRequests' >> beam.FlatMap(_by_request, shards)
        )
        sides = {'requests': requests}
        if read_outcomes is not None:
            sides['outcomes'] = (
                (pbegin | 'Outcomes' >> read_outcomes).batches
                | 'GatherOutcomes' >> beam.ParDo(Gather())
                | 'PrepareOutcomes' >> beam.Map(prepare_outcomes, design)
                | 'ShardOutcomes' >> beam.FlatMap(_by_request, shards)
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

    def scans(self) -> tuple[ScanTable, ScanTable | None]:
        """Returns the scan of the requests, and that of the outcomes if a metric needs any."""
        design, outcomes = self._settings.design, self._settings.design.names_of(*OUTCOME_KINDS)
        requests = self._scan(self._settings.requests_table, request_columns(design), design.read_window)
        if not outcomes:
            return requests, None
        return requests, self._scan('inference_outcomes', OUTCOME_COLUMNS, design.outcome_window, outcome=outcomes)

    def _scan(self, table: str, columns: Iterable[str], window: TimeWindow, **where: Iterable[str]) -> ScanTable:
        settings = self._settings
        models = dict.fromkeys(arm.model_id for arm in settings.design.arms)
        filters = tuple((column, tuple(values)) for column, values in {'model_id': models, **where}.items())
        columns = tuple(columns)
        return ScanTable(
            ReadRequest(settings.connection, table, columns, window, filters=filters, options=settings.read)
        )


def evaluation_time(design: Design, as_of: datetime.datetime | None) -> datetime.datetime:
    """Returns the time at which requests must be old enough: `as_of` or now, but at most `design.complete`.

    Every evaluation after `design.complete` gives the same, so that a rerun gives the same bits.

    Raises:
      ValueError: `as_of` is in the future: outcomes that are not logged yet would count as missing.
    """
    now = datetime.datetime.now(datetime.timezone.utc)
    time = now if as_of is None else aware('as_of', as_of)
    if time > now + CLOCK_SKEW:
        raise invalid('as_of', time.isoformat(), f'not after the time of the run ({now.isoformat()})')
    return min(time, design.complete)


def _by_request(batch: pa.RecordBatch, shards: int) -> Iterator[tuple[int, pa.RecordBatch]]:
    return _sharded(pl.from_arrow(batch), 'request_id', shards)  # type: ignore[arg-type]


def _sharded(rows: pl.DataFrame, column: str, shards: int) -> Iterator[tuple[int, pa.RecordBatch]]:
    """Yields (shard, its rows) by a hash of a column."""
    # Polars' hash is the same within one version, and all workers of a pipeline run the same version.
    shard = (pl.col(column).hash(seed=0) % shards).cast(pl.Int64).alias('_shard')
    parts = rows.with_columns(shard).partition_by('_shard', as_dict=True, include_key=False)
    for (number,), part in parts.items():
        yield number, arrow_of(part)


class _JoinOutcomes(beam.DoFn):
    """A shard of requests and outcomes -> the tally of requests without a unit, and the rows of the others by unit."""

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


def _tally_units(grouped: tuple[int, dict[str, Iterable[pa.RecordBatch]]], design: Design) -> tuple[_ShardKey, Tally]:
    shard, parts = grouped
    rows: pl.DataFrame = pl.from_arrow(pa.Table.from_batches(parts['rows']))  # type: ignore[assignment]
    return ('unit', shard), tally(rows, Counts(), design)


class _Merge(beam.CombineFn):
    """(key of a shard, its tally) -> the tally of all shards."""

    def __init__(self, design: Design) -> None:
        self._design = design

    def create_accumulator(self, *args: Any, **kwargs: Any) -> dict[_ShardKey, Tally]:
        return {}

    def add_input(
        self, mutable_accumulator: dict[_ShardKey, Tally], element: tuple[_ShardKey, Tally], *args: Any, **kwargs: Any
    ) -> dict[_ShardKey, Tally]:
        return mutable_accumulator | dict([element])

    def merge_accumulators(
        self, accumulators: Iterable[dict[_ShardKey, Tally]], *args: Any, **kwargs: Any
    ) -> dict[_ShardKey, Tally]:
        merged: dict[_ShardKey, Tally] = {}
        for part in accumulators:
            merged |= part
        return merged

    def extract_output(self, accumulator: dict[_ShardKey, Tally], *args: Any, **kwargs: Any) -> Tally:
        merged = tally(*join_outcomes([], [], self._design), self._design)
        # Floating-point sums depend on the order of their terms.
        for shard in sorted(accumulator):
            merged = merged + accumulator[shard]
        return merged
