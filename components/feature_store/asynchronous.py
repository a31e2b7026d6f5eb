"""The feature store for asyncio, with the methods of client.FeatureStore."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import functools
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Any

from tfx_cassandra.components.driver.awaiting import Asyncio, InFlight
from tfx_cassandra.components.driver.connection import CassandraConnection, Consistency
from tfx_cassandra.components.feature_store.core import Core
from tfx_cassandra.components.feature_store.frames import Form
from tfx_cassandra.components.feature_store.reads import Reads
from tfx_cassandra.components.feature_store.results import WriteResults
from tfx_cassandra.components.feature_store.value import FeatureValue
from tfx_cassandra.components.feature_store.writes import Writes
from tfx_cassandra.components.window import TimeWindow


class AsyncFeatureStore:
    """A client of the feature tables for one event loop; an asynchronous context manager.

        async with AsyncFeatureStore(connection) as store:
            await store.get_latest_features('weather', ['temp', 'wind_speed'])

    Its methods have the arguments, results and errors of FeatureStore's. Requests are waited for in the loop, without a
    thread for each; only opening, closing and the parts of a frame that is written block, in threads of the loop's
    executor. A task that is cancelled ends at once, and closing waits for what it has sent.

    Args:
      connection: The cluster and the keyspace.
      consistency: The consistency level of calls that give none.
      speculative_after: How long a read waits for an answer before the next replica is asked, too; None to wait.
    """

    def __init__(
        self,
        connection: CassandraConnection,
        *,
        consistency: Consistency = 'LOCAL_QUORUM',
        speculative_after: datetime.timedelta | None = None,
    ) -> None:
        self._core = Core(connection, consistency, speculative_after)
        self._reads, self._writes = Reads(self._core), Writes(self._core)
        self._in_flight: InFlight | None = None

    async def __aenter__(self) -> AsyncFeatureStore:
        """Opens the store; see `FeatureStore.__enter__`."""
        self._core.check_closed()
        self._in_flight = in_flight = InFlight()
        thread = ThreadPoolExecutor(1)
        opening = thread.submit(self._acquire)
        thread.shutdown(wait=False)
        try:
            session, tables, held = await asyncio.shield(asyncio.wrap_future(opening))
        except asyncio.CancelledError:
            opening.add_done_callback(_release)
            raise
        self._core.open(session, tables, held, functools.partial(Asyncio, in_flight=in_flight))
        return self

    def _acquire(self) -> Any:
        with self._core.acquired() as (session, tables, stack):
            return session, tables, stack.pop_all()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Waits for the requests in flight, and releases the session; closing again has no effect."""
        held = self._core.close()
        in_flight, self._in_flight = self._in_flight, None
        if in_flight is not None:
            # A cancellation of the closing task must not leave the session open.
            await asyncio.shield(asyncio.ensure_future(_closed(in_flight, held)))

    async def write_feature(
        self,
        model_id: str,
        feature_name: str,
        value: float | None,
        timestamp: datetime.datetime,
        metadata: Mapping[str, str] | None = None,
        *,
        entity_id: str | None = None,
        consistency: str | None = None,
        ttl: int | None = None,
        written_at: datetime.datetime | None = None,
    ) -> None:
        """See `FeatureStore.write_feature`."""
        await self._writes.write(
            model_id, feature_name, value, timestamp, metadata, entity_id, consistency, ttl, written_at
        )

    async def write_features(
        self,
        rows: Iterable[FeatureValue] | AsyncIterable[FeatureValue] | Any,
        *,
        concurrency: int = 128,
        consistency: str | None = None,
        ttl: int | None = None,
        written_at: datetime.datetime | None = None,
    ) -> WriteResults:
        """See `FeatureStore.write_features`."""
        return await self._writes.write_all(rows, concurrency, consistency, ttl, written_at)

    async def delete_features(
        self,
        model_id: str,
        feature_name: str,
        window: TimeWindow,
        *,
        entity_id: str | None = None,
        consistency: str | None = None,
        written_at: datetime.datetime | None = None,
    ) -> None:
        """See `FeatureStore.delete_features`."""
        await self._writes.delete(model_id, feature_name, window, entity_id, consistency, written_at)

    async def get_latest_feature(
        self,
        model_id: str,
        feature_name: str,
        *,
        entity_id: str | None = None,
        before: datetime.datetime | None = None,
        consistency: str | None = None,
    ) -> FeatureValue | None:
        """See `FeatureStore.get_latest_feature`."""
        return (await self._reads.latest(model_id, [feature_name], entity_id, before, consistency))[feature_name]

    async def get_latest_features(
        self,
        model_id: str,
        feature_names: Iterable[str],
        *,
        entity_id: str | None = None,
        before: datetime.datetime | None = None,
        consistency: str | None = None,
    ) -> dict[str, FeatureValue | None]:
        """See `FeatureStore.get_latest_features`."""
        return await self._reads.latest(model_id, feature_names, entity_id, before, consistency)

    async def get_latest_frame(
        self,
        model_ids: str | Iterable[str],
        feature_names: Iterable[str],
        *,
        entity_ids: Iterable[str] | None = None,
        before: datetime.datetime | None = None,
        timestamps: bool = False,
        as_: Form = 'arrow',
        consistency: str | None = None,
    ) -> Any:
        """See `FeatureStore.get_latest_frame`."""
        return await self._reads.latest_frame(
            model_ids, feature_names, entity_ids, before, timestamps, as_, consistency
        )

    def get_time_series(
        self,
        model_id: str,
        feature_name: str,
        window: TimeWindow,
        *,
        entity_id: str | None = None,
        consistency: str | None = None,
    ) -> AsyncIterator[FeatureValue]:
        """See `FeatureStore.get_time_series`."""
        return self._reads.series(model_id, feature_name, window, entity_id, consistency)

    async def get_time_series_frame(
        self,
        model_id: str,
        feature_names: Iterable[str],
        window: TimeWindow,
        *,
        entity_id: str | None = None,
        as_: Form = 'arrow',
        consistency: str | None = None,
    ) -> Any:
        """See `FeatureStore.get_time_series_frame`."""
        return await self._reads.series_frame(model_id, feature_names, window, entity_id, as_, consistency)


def _release(opening: Future[Any]) -> None:
    """Releases what was opened for a task that no longer waits for it, in the thread that opened it."""
    if opening.exception() is None:
        opening.result()[2].close()


async def _closed(in_flight: InFlight, held: contextlib.ExitStack) -> None:
    try:
        await in_flight.drained()
    finally:  # also where the loop ends before all is answered
        await in_flight.loop.run_in_executor(None, held.close)
