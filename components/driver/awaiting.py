"""An exchange for asyncio: requests are waited for by the callbacks of the driver, and without threads."""

from __future__ import annotations

import asyncio
import collections
import contextlib
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Callable, Iterable
from typing import Any

from cassandra.cluster import EXEC_PROFILE_DEFAULT, Session
from cassandra.query import Statement

from tfx_cassandra.components.driver.exchange import Exchange, Input, Key, Page, Profile, Sent, T
from tfx_cassandra.components.metrics import Requests


class InFlight:
    """What an event loop waits for: requests without an answer, and calls that have not returned."""

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self._open: set[object] = set()  # changed in the loop only
        self._idle = asyncio.Event()
        self._idle.set()

    def add(self, what: object) -> None:
        """Takes what is waited for."""
        self._open.add(what)
        self._idle.clear()

    def remove(self, what: object) -> None:
        """Takes that something is no longer waited for."""
        self._open.discard(what)
        if not self._open:
            self._idle.set()

    async def drained(self) -> None:
        """Waits until everything is answered, also what cancelled tasks have left."""
        await self._idle.wait()


class _Awaited(Sent):
    def __init__(
        self, exchange: Exchange, in_flight: InFlight, statement: Statement, start: bytes | None = None
    ) -> None:
        self._in_flight = in_flight
        self._arrival: asyncio.Future[None] = in_flight.loop.create_future()
        in_flight.add(self)
        try:
            super().__init__(exchange, statement, start)
        except BaseException:
            in_flight.remove(self)
            raise

    def told(self) -> None:
        with contextlib.suppress(RuntimeError):  # the loop was closed before the answer came, and nobody waits for it
            self._in_flight.loop.call_soon_threadsafe(self._arrive)

    def _arrive(self) -> None:
        self._in_flight.remove(self)
        if not self._arrival.done():  # as after a cancellation
            self._arrival.set_result(None)

    async def outcome(self) -> Page | Exception:
        """Waits for the page or the driver's error."""
        await self._arrival
        return self._outcome()


class Asyncio(Exchange):
    """Waits in an event loop.

    A task that is cancelled waits for nothing: what it has sent is answered later, and `InFlight.drained` waits for it.
    """

    def __init__(
        self, session: Session, metrics: Requests, profile: Profile = EXEC_PROFILE_DEFAULT,
        in_flight: InFlight | None = None,
    ) -> None:  # fmt: skip
        super().__init__(session, metrics, profile)
        self._in_flight = in_flight or InFlight()

    async def outcomes(
        self, inputs: Iterable[Input] | AsyncIterable[Input], request: Callable[[Input], tuple[Key, Statement]],
        concurrency: int,
    ) -> AsyncGenerator[tuple[Key, Page | Exception], None]:  # fmt: skip
        waiting: collections.deque[tuple[Key, _Awaited]] = collections.deque()
        try:
            async for item in _each(inputs):
                key, statement = request(item)
                if len(waiting) == concurrency:
                    oldest, sent = waiting.popleft()
                    yield oldest, await sent.outcome()
                waiting.append((key, _Awaited(self, self._in_flight, statement)))
        except Exception:
            for _, sent in waiting:
                await sent.outcome()
            raise
        for key, sent in waiting:
            yield key, await sent.outcome()

    async def pages(self, statement: Statement, start: bytes | None = None) -> AsyncGenerator[list[Any], None]:
        while True:
            page = await _Awaited(self, self._in_flight, statement, start).outcome()
            if isinstance(page, Exception):
                raise page
            yield page.rows
            if (start := page.next) is None:
                return

    async def call(self, function: Callable[[], T]) -> T:
        future = self._in_flight.loop.run_in_executor(None, function)
        self._in_flight.add(future)
        future.add_done_callback(self._in_flight.remove)
        # Cancelling the task must not cancel a call that has not begun: `drained` waits for it.
        return await asyncio.shield(future)


async def _each(inputs: Iterable[Input] | AsyncIterable[Input]) -> AsyncIterator[Input]:
    if isinstance(inputs, AsyncIterable):
        async for item in inputs:
            yield item
        return
    for item in inputs:
        yield item
