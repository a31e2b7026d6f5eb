"""Reads of the feature store: the newest values, and values of a window."""

from __future__ import annotations

import contextlib
import datetime
import functools
import heapq
import itertools
import logging
from collections.abc import AsyncGenerator, Iterable, Sequence
from typing import Any

from tfx_cassandra.components import metrics, tracing
from tfx_cassandra.components.driver.buckets import milliseconds as milliseconds_of
from tfx_cassandra.components.driver.errors import DRIVER_ERRORS, one_line
from tfx_cassandra.components.driver.exchange import Page
from tfx_cassandra.components.errors import ReadError, invalid
from tfx_cassandra.components.feature_store import frames
from tfx_cassandra.components.feature_store.core import Core
from tfx_cassandra.components.feature_store.placing import Place
from tfx_cassandra.components.feature_store.tables import FeatureTable, Owner, Row
from tfx_cassandra.components.feature_store.value import FeatureValue, checked_key
from tfx_cassandra.components.window import TimeWindow, milliseconds

_IN_FLIGHT = 128  # requests of one call
_AHEAD = 4  # first pages of buckets, of a series that is consumed
_WIDEST = 32  # buckets in which a feature is looked for at once

logger = logging.getLogger(__name__)


class Reads:
    """The reads of a store, for both of its faces; `client.FeatureStore` describes them.

    Args:
      core: The store.
    """

    def __init__(self, core: Core) -> None:
        self._core = core

    async def latest(
        self, model_id: str, feature_names: Iterable[str], entity_id: str | None, before: datetime.datetime | None,
        consistency: str | None,
    ) -> dict[str, FeatureValue | None]:  # fmt: skip
        owner, names = owner_of(model_id, entity_id), _names(feature_names)
        found = await self._newest([owner], names, before, consistency)
        return {name: found.get((owner, name)) for name in names}

    async def latest_frame(
        self, model_ids: str | Iterable[str], feature_names: Iterable[str], entity_ids: Iterable[str] | None,
        before: datetime.datetime | None, timestamps: bool, as_: str, consistency: str | None,
    ) -> Any:  # fmt: skip
        owners, names = _owners(model_ids, entity_ids), _names(feature_names)
        keys = ('model_id',) if entity_ids is None else ('entity_id', 'model_id')
        frames.check(names, keys, timestamps, as_)
        found = await self._newest(list(dict.fromkeys(owners)), names, before, consistency)
        return frames.latest(keys, owners, names, found, timestamps, as_)

    def series(
        self, model_id: str, feature_name: str, window: TimeWindow, entity_id: str | None, consistency: str | None
    ) -> AsyncGenerator[FeatureValue, None]:
        owner, name = owner_of(model_id, entity_id), checked_key('feature_name', feature_name)
        table, level = self._core.table(len(owner) > 1), self._core.level(consistency)
        return self._series(table, owner, name, window_of(window).bounds, level)

    async def series_frame(
        self, model_id: str, feature_names: Iterable[str], window: TimeWindow, entity_id: str | None, as_: str,
        consistency: str | None,
    ) -> Any:  # fmt: skip
        owner, names = owner_of(model_id, entity_id), _names(feature_names)
        frames.check(names, ('timestamp',), False, as_)
        table, level = self._core.table(len(owner) > 1), self._core.level(consistency)
        bounds, buckets = window_of(window).bounds, await self._buckets(table, level)
        values: dict[str, list[FeatureValue]] = {name: [] for name in names}
        inputs = (
            (name, statement)
            for name in names
            for group in table.series(owner, name, bounds, buckets, level)
            for statement in group
        )
        pages = self._core.opened.reads.outcomes(inputs, lambda each: (each, each[1]), _IN_FLIGHT)
        async with contextlib.aclosing(pages):
            async for (name, statement), page in pages:
                values[name] += [value async for value in self._values(table, owner, name, statement, page)]
        metrics.LOOKUP_KEYS.add(len(names), table.name)
        for found in values.values():
            found.sort(key=_timestamp)  # they are in order unless there are salts
        return frames.series(names, values, as_)

    async def _series(
        self, table: FeatureTable, owner: Owner, name: str, bounds: tuple[int, int], level: int
    ) -> AsyncGenerator[FeatureValue, None]:
        """Yields the values of a window, oldest first: bucket by bucket, those of its salts merged."""
        groups = table.series(owner, name, bounds, await self._buckets(table, level), level)
        inputs = ((group, statement) for group in groups for statement in group)
        ahead = max(_AHEAD, *map(len, groups), 0)
        pages = self._core.opened.reads.outcomes(inputs, lambda each: (each, each[1]), ahead)
        parts: list[AsyncGenerator[FeatureValue, None]] = []
        metrics.LOOKUP_KEYS.add(1, table.name)
        async with contextlib.aclosing(pages):
            async for (group, statement), page in pages:
                parts.append(self._values(table, owner, name, statement, page))
                if len(parts) == len(group):
                    merging, parts = _merged(parts), []
                    async with contextlib.aclosing(merging):
                        async for value in merging:
                            yield value

    async def _buckets(self, table: FeatureTable, level: int) -> list[int]:
        """Returns the known buckets of a table, newest first."""
        if table.placing.buckets is None:
            return []
        found: list[int] = []
        pages = self._core.opened.reads.pages(table.placing.buckets.selection(level))
        try:
            async with contextlib.aclosing(pages):
                async for page in pages:
                    found += [milliseconds_of(row[0]) for row in page]
        except DRIVER_ERRORS as error:
            raise ReadError(f'{table.name}: cannot read its buckets ({one_line(error)})') from error
        return found

    async def _newest_placed(
        self, table: FeatureTable, owners: Sequence[Owner], names: Sequence[str], end: int | None, level: int
    ) -> dict[tuple[Owner, str], FeatureValue]:
        """Returns the newest values from a table with a layout: newest buckets first, more of them each time."""
        found: dict[tuple[Owner, str], FeatureValue] = {}
        buckets = table.placing.known(await self._buckets(table, level), None, end)
        left, done, width = [(owner, name) for owner in owners for name in names], 0, 1
        while left and done < len(buckets):
            requests = (
                ((owner, name, place), table.latest_in(owner, name, place, end, level))
                for owner, name in left
                for place in itertools.chain(*table.placing.places((*owner, name), buckets[done : done + width]))
            )
            pages = self._core.opened.reads.outcomes(requests, lambda request: request, _IN_FLIGHT)
            async with contextlib.aclosing(pages):
                async for (owner, name, place), page in pages:
                    if isinstance(page, Exception):
                        raise table.read_error(owner, [name], page) from page
                    for key, value in (await self._first_values(table, owner, page, end, level, place)).items():
                        found[key] = max(value, found.get(key, value), key=_timestamp)
                    metrics.LOOKUP_PAGES.add(1, table.name)
            left, done, width = [key for key in left if key not in found], done + width, min(2 * width, _WIDEST)
        return found

    async def _newest(
        self, owners: Sequence[Owner], names: Sequence[str], before: datetime.datetime | None, consistency: str | None
    ) -> dict[tuple[Owner, str], FeatureValue]:
        """Returns the newest value of each owner's features, where there is one."""
        table = self._core.table(len(owners[0]) > 1 if owners else False)
        end = None if before is None else milliseconds('before', before)
        level = self._core.level(consistency)
        newest = self._newest_placed if table.placing.columns else self._newest_grouped
        with tracing.span('lookup', table.name) as span:
            found = await newest(table, owners, names, end, level)
            span.set(keys=len(owners) * len(names), rows=len(found))
        metrics.LOOKUP_KEYS.add(len(owners) * len(names), table.name)
        metrics.LOOKUP_ROWS.add(len(found), table.name)
        return found

    async def _newest_grouped(
        self, table: FeatureTable, owners: Sequence[Owner], names: Sequence[str], end: int | None, level: int
    ) -> dict[tuple[Owner, str], FeatureValue]:
        """Returns the newest values from a table without a layout: those of one replica by one request."""
        found: dict[tuple[Owner, str], FeatureValue] = {}
        requests = (
            ((owner, group), read) for owner in owners for group, read in table.latest(owner, names, end, level)
        )
        pages = self._core.opened.reads.outcomes(requests, lambda request: request, _IN_FLIGHT)
        async with contextlib.aclosing(pages):
            async for (owner, group), page in pages:
                if isinstance(page, Exception):
                    raise table.read_error(owner, group, page) from page
                found.update(await self._first_values(table, owner, page, end, level))
                metrics.LOOKUP_PAGES.add(1, table.name)
        return found

    async def _first_values(
        self, table: FeatureTable, owner: Owner, page: Page, end: int | None, level: int, place: Place = ()
    ) -> dict[tuple[Owner, str], FeatureValue]:
        """Returns the values of the newest rows; where none can hold a row, the newest value of an older one."""
        found = {}
        for row in page.rows:
            value = _value(table, owner, row)
            if value is None:
                name = str(row.feature_name)
                statement = table.latest_of_many(owner, name, place, end, level)
                older = self._values(table, owner, name, statement)
                async with contextlib.aclosing(older):
                    value = await anext(older, None)
            if value is not None:
                found[owner, value.feature_name] = value
        return found

    async def _values(
        self,
        table: FeatureTable,
        owner: Owner,
        name: str,
        statement: Any,
        first: Page | Exception | None = None,
    ) -> AsyncGenerator[FeatureValue, None]:
        """Yields the values of a partition; `first` is its first page, if that has been requested already."""
        if isinstance(first, Exception):
            raise table.read_error(owner, [name], first) from first
        rows = 0 if first is None else len(first.rows)
        try:
            if first is not None:
                for value in self._readable(table, owner, name, first.rows):
                    yield value
                if first.next is None:
                    return
            pages = self._core.opened.reads.pages(statement, first and first.next)
            async with contextlib.aclosing(pages):
                async for page in pages:
                    rows += len(page)
                    for value in self._readable(table, owner, name, page):
                        yield value
        except DRIVER_ERRORS as error:
            raise table.read_error(owner, [name], error) from error
        finally:
            metrics.LOOKUP_ROWS.add(rows, table.name)

    def _readable(self, table: FeatureTable, owner: Owner, name: str, rows: Iterable[Row]) -> Iterable[FeatureValue]:
        return filter(None, (_value(table, owner, row) for row in rows))


def _timestamp(value: FeatureValue) -> datetime.datetime:
    return value.timestamp


async def _merged(parts: Sequence[AsyncGenerator[FeatureValue, None]]) -> AsyncGenerator[FeatureValue, None]:
    """Yields the values of several series, each oldest first, oldest first."""
    async with contextlib.AsyncExitStack() as stack:
        heads: list[tuple[datetime.datetime, int, FeatureValue]] = []
        for number, part in enumerate(parts):
            await stack.enter_async_context(contextlib.aclosing(part))
            if (value := await anext(part, None)) is not None:
                heads.append((value.timestamp, number, value))
        heapq.heapify(heads)
        while heads:
            _, number, value = heads[0]
            yield value
            following = await anext(parts[number], None)
            if following is None:
                heapq.heappop(heads)
            else:
                heapq.heapreplace(heads, (following.timestamp, number, following))


def _value(table: FeatureTable, owner: Owner, row: Row) -> FeatureValue | None:
    """Returns the value of a row, or None if no FeatureValue can hold it."""
    try:
        return FeatureValue.from_row(row, owner[0] if len(owner) > 1 else None)
    except ValueError as error:  # other clients write the table, too: an invalid row must not hide the rest
        key = table.described(owner, [str(row.feature_name)])
        _warn_once(f'{table.name}: a row of {key} is skipped: {error}')
        return None


@functools.lru_cache(maxsize=1000)
def _warn_once(message: str) -> None:
    logger.warning(message)


def window_of(window: object) -> TimeWindow:
    """Returns a window that is given as one, or as text."""
    if not isinstance(window, (TimeWindow, str)):
        raise invalid('window', window, 'a TimeWindow')
    return TimeWindow.parse(window)


def owner_of(model_id: str, entity_id: str | None) -> Owner:
    """Returns the owner of features; raises ValueError for a text that no key can have."""
    model = checked_key('model_id', model_id)
    return (model,) if entity_id is None else (checked_key('entity_id', entity_id), model)


def _owners(model_ids: str | Iterable[str], entity_ids: Iterable[str] | None) -> list[Owner]:
    models = [model_ids] if isinstance(model_ids, str) else list(model_ids)
    if entity_ids is None:
        return [owner_of(model, None) for model in models]
    if len(models) != 1:
        raise invalid('model_ids', models, 'one model, where entity_ids are given')
    return [owner_of(models[0], entity) for entity in _several('entity_ids', entity_ids)]


def _names(feature_names: Iterable[str]) -> list[str]:
    names = _several('feature_names', feature_names)
    return list(dict.fromkeys(checked_key('feature_name', name) for name in names))


def _several(field: str, names: Iterable[str]) -> Iterable[str]:
    if isinstance(names, str) or not isinstance(names, Iterable):
        raise invalid(field, names, 'several names, not one text')
    return names
