"""EvaluateAb: the logged requests and outcomes of an experiment -> its verdict, as a Beam transform.

    requests: scan of the window           -> shards by request id --+
    outcomes: scan of the window and delay -> shards by request id --+-> tally of each shard -> one tally -> verdict

The tallies are merged in the order of the shards, and a shard sorts its rows, so that a rerun gives the same bits.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import apache_beam as beam
import polars as pl
import pyarrow as pa
from apache_beam.utils.windowed_value import WindowedValue

from tfx_cassandra.components.ab_evaluator.design import Design
from tfx_cassandra.components.ab_evaluator.tally import (
    OUTCOME_COLUMNS,
    REQUEST_COLUMNS,
    Tally,
    tally,
    with_features,
)
from tfx_cassandra.components.ab_evaluator.verdict import decide
from tfx_cassandra.components.config import ABEvaluatorConfig
from tfx_cassandra.components.dataset.window import TimeWindow
from tfx_cassandra.components.scan.read import ReadFromCassandra

_GATHER_ROWS = 100_000  # rows that are sharded together, so that the parts of a shard are not tiny
_OUTCOME_KINDS = ('outcome', 'squared_error', 'absolute_error', 'log_loss', 'correct')


class EvaluateAb(beam.PTransform):
    """Reads, joins and reduces what `settings` name; gives a PCollection of one Verdict."""

    def __init__(self, settings: ABEvaluatorConfig) -> None:
        super().__init__()
        self._settings = settings

    def expand(self, pbegin: beam.pvalue.PBegin) -> beam.PCollection:
        design, shards = self._settings.design, self._settings.shards
        features, outcomes = design.names_of('feature'), design.names_of(*_OUTCOME_KINDS)
        columns = (*REQUEST_COLUMNS, *(['features'] if features else []))
        requests = (
            pbegin
            | 'Requests' >> self._read(self._settings.requests_table, columns, design.window)
            | 'Features' >> beam.Map(with_features, features)
            | 'ShardRequests' >> beam.ParDo(_Shard(shards))
        )
        sides = {'requests': requests}
        if outcomes:
            until = TimeWindow(design.window.start, design.window.end + design.outcome_delay)
            sides['outcomes'] = (
                pbegin
                | 'Outcomes' >> self._read('inference_outcomes', OUTCOME_COLUMNS, until, outcome=outcomes)
                | 'ShardOutcomes' >> beam.ParDo(_Shard(shards))
            )
        return (
            sides
            | 'Join' >> beam.CoGroupByKey()
            | 'Tally' >> beam.Map(_tally, design)
            | 'Merge' >> beam.CombineGlobally(_Merge(design))
            | 'Decide' >> beam.Map(lambda merged, design=design: decide(design, merged))
        )

    def _read(self, table: str, columns: Iterable[str], window: TimeWindow, **where: Iterable[str]) -> beam.PTransform:
        settings = self._settings
        models = dict.fromkeys(arm.model_id for arm in settings.design.arms)
        return ReadFromCassandra(
            settings.connection,
            table,
            tuple(columns),
            window,
            where={'model_id': tuple(models), **where},
            consistency=settings.consistency,
            splits=settings.splits,
            page_rows=settings.page_rows,
        )


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
        # Polars promises the same hash within one version, and all workers of a pipeline run the same one.
        shard = (pl.col('request_id').hash(seed=0) % self._shards).cast(pl.Int64).alias('_shard')
        parts = rows.with_columns(shard).partition_by('_shard', as_dict=True, include_key=False)
        for (number,), part in parts.items():
            arrow = part.to_arrow(compat_level=pl.CompatLevel.oldest())
            yield number, arrow.combine_chunks().to_batches()[0]


def _tally(joined: tuple[int, dict[str, Iterable[pa.RecordBatch]]], design: Design) -> tuple[int, Tally]:
    shard, sides = joined
    return shard, tally(list(sides['requests']), list(sides.get('outcomes', ())), design)


class _Merge(beam.CombineFn):
    """(shard, tally) -> the tally of all shards."""

    def __init__(self, design: Design) -> None:
        self._design = design

    def create_accumulator(self, *args: Any, **kwargs: Any) -> dict[int, Tally]:
        return {}

    def add_input(
        self, mutable_accumulator: dict[int, Tally], element: tuple[int, Tally], *args: Any, **kwargs: Any
    ) -> dict[int, Tally]:
        return mutable_accumulator | dict([element])

    def merge_accumulators(
        self, accumulators: Iterable[dict[int, Tally]], *args: Any, **kwargs: Any
    ) -> dict[int, Tally]:
        merged: dict[int, Tally] = {}
        for part in accumulators:
            merged |= part
        return merged

    def extract_output(self, accumulator: dict[int, Tally], *args: Any, **kwargs: Any) -> Tally:
        merged = tally([], [], self._design)
        # Floating-point sums depend on their order; this one is the same in every run.
        for shard in sorted(accumulator):
            merged = merged + accumulator[shard]
        return merged
