"""Writes and deletions of the feature store."""

from __future__ import annotations

import collections
import contextlib
import datetime
from collections.abc import AsyncIterable, Iterable, Mapping
from typing import Any

from cassandra.query import BoundStatement

from tfx_cassandra.components import metrics, tracing
from tfx_cassandra.components.driver.concurrent import size
from tfx_cassandra.components.errors import WriteError, invalid
from tfx_cassandra.components.feature_store import bulk
from tfx_cassandra.components.feature_store.core import Core
from tfx_cassandra.components.feature_store.reads import owner_of, window_of
from tfx_cassandra.components.feature_store.results import WriteResults
from tfx_cassandra.components.feature_store.tables import FeatureTable, microseconds
from tfx_cassandra.components.feature_store.value import FeatureValue, checked_key
from tfx_cassandra.components.window import TimeWindow, aware, milliseconds

_DELETIONS = 32  # in flight
MAX_TTL = 20 * 365 * 86400  # seconds, the limit of Cassandra

_Written = tuple[FeatureTable, FeatureValue, BoundStatement]


class Writes:
    """The writes of a store, for both of its faces; `client.FeatureStore` describes them.

    Args:
      core: The store.
    """

    def __init__(self, core: Core) -> None:
        self._core = core

    async def write(
        self, model_id: str, feature_name: str, value: float | None, timestamp: datetime.datetime,
        metadata: Mapping[str, str] | None, entity_id: str | None, consistency: str | None, ttl: int | None,
        written_at: datetime.datetime | None,
    ) -> None:  # fmt: skip
        row = FeatureValue(model_id, feature_name, timestamp, value, metadata, entity_id, written_at)
        for error in (await self.write_all([row], 1, consistency, ttl, None)).errors.values():
            raise error

    async def write_all(
        self, rows: Any, concurrency: int, consistency: str | None, ttl: int | None,
        written_at: datetime.datetime | None,
    ) -> WriteResults:  # fmt: skip
        if isinstance(concurrency, bool) or not isinstance(concurrency, int) or concurrency < 1:
            raise invalid('concurrency', concurrency, 'an integer from 1')
        if ttl is not None and (isinstance(ttl, bool) or not isinstance(ttl, int) or not 0 < ttl <= MAX_TTL):
            raise invalid('ttl', ttl, f'seconds from 1 to {MAX_TTL}')
        moment = _write_time(written_at)
        if bulk.is_frame(rows):
            frame = bulk.arrow(rows)
            table = self._core.table('entity_id' in frame.schema.names)
            exchange = self._core.opened.writes
            level = self._core.level_name(consistency)
            self._core.level(consistency)
            return WriteResults(*await bulk.Bulk(exchange, table, level, ttl, moment).write(frame))
        with tracing.span('write_batch', self._core.name) as span:
            results = await self._each(rows, concurrency, self._core.level(consistency), ttl, moment)
            span.set(rows=len(results), failed=len(results.failed))
        return results

    async def _each(
        self, rows: Iterable[FeatureValue] | AsyncIterable[FeatureValue], concurrency: int, level: int,
        ttl: int | None, written_at: int | None,
    ) -> WriteResults:  # fmt: skip
        def request(row: FeatureValue) -> tuple[_Written, BoundStatement]:
            if not isinstance(row, FeatureValue):
                raise invalid('rows', row, 'every row is a FeatureValue')
            table = self._core.table(row.entity_id is not None)
            insert = table.write(row, ttl, written_at, level)
            return (table, row, insert), insert

        count, errors, counts = 0, {}, collections.Counter[tuple[Any, str]]()
        found = self._core.opened.writes.outcomes(rows, request, concurrency)
        async with contextlib.aclosing(found):
            async for (table, row, insert), outcome in found:
                failed = outcome if isinstance(outcome, Exception) else await self._with_bucket(table, row, level)
                if failed is not None:
                    errors[count] = table.write_error(row, failed)
                    counts[metrics.WRITE_DEAD_LETTERS, table.name] += 1
                else:
                    counts[metrics.WRITE_ROWS, table.name] += 1
                    counts[metrics.WRITE_BYTES, table.name] += size(insert)
                count += 1
        for (metric, name), amount in counts.items():
            metric.add(amount, name, *['rejected'] * (metric is metrics.WRITE_DEAD_LETTERS))
        return WriteResults(count, errors)

    async def _with_bucket(self, table: FeatureTable, row: FeatureValue, level: int) -> Exception | None:
        """Adds the bucket of a row to those of its table; returns the driver's error if it cannot."""
        if (buckets := table.placing.buckets) is None:
            return None
        bucket = table.placing.bucket(milliseconds('timestamp', row.timestamp))
        if bucket is None or bucket in buckets.known:
            return None
        found = self._core.opened.writes.outcomes([bucket], lambda each: (each, buckets.addition(each, level)), 1)
        async with contextlib.aclosing(found):
            async for _, outcome in found:
                if isinstance(outcome, Exception):
                    return outcome
        buckets.known.add(bucket)
        return None

    async def delete(
        self, model_id: str, feature_name: str, window: TimeWindow, entity_id: str | None, consistency: str | None,
        written_at: datetime.datetime | None,
    ) -> None:  # fmt: skip
        owner, name = owner_of(model_id, entity_id), checked_key('feature_name', feature_name)
        bounds, moment, level = window_of(window).bounds, _write_time(written_at), self._core.level(consistency)
        table = self._core.table(entity_id is not None)
        statements = table.delete(owner, name, bounds, moment, level)
        found = self._core.opened.writes.outcomes(statements, lambda one: (None, one), _DELETIONS)
        async with contextlib.aclosing(found):
            async for _, outcome in found:
                if isinstance(outcome, Exception):
                    failed: WriteError = table.delete_error(owner, name, outcome)
                    raise failed


def _write_time(written_at: datetime.datetime | None) -> int | None:
    return None if written_at is None else microseconds(aware('written_at', written_at))
