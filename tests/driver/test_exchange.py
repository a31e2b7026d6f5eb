"""The exchange takes the first of several answers to a request, as speculative requests bring them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from tfx_cassandra.components import metrics
from tfx_cassandra.components.driver.awaiting import Asyncio, InFlight
from tfx_cassandra.components.driver.exchange import Blocking, Page, finished, iterated

PAGES: dict[bytes | None, tuple[list[int], bytes | None]] = {
    None: ([1, 2], b'a'), b'a': ([3], b'b'), b'b': ([], b'c'), b'c': ([4], None)
}  # fmt: skip


class _Future:
    """Answers twice, the second time with other rows; no real node can be made to do so in time."""

    attempted_hosts = ('one', 'two')

    def __init__(self, start: bytes | None) -> None:
        self._start, self._paging_state = start, None

    def add_callbacks(self, callback: Callable[[Any], None], errback: Callable[[Exception], None]) -> None:
        rows, self._paging_state = PAGES[self._start]
        callback(rows)
        self._paging_state = b'late'
        callback([0])


class _Session:
    def execute_async(self, statement: object, execution_profile: object, paging_state: bytes | None) -> _Future:
        return _Future(paging_state)


def test_the_first_answer_counts_for_callers_that_block() -> None:
    exchange = Blocking(_Session(), metrics.LOOKUP_REQUESTS)
    assert list(iterated(exchange.pages('statement'))) == [[1, 2], [3], [], [4]]
    assert list(iterated(exchange.pages('statement', b'b'))) == [[], [4]]
    found = exchange.outcomes('xyz', lambda key: (key, 'statement'), 2)
    assert list(iterated(found)) == [(key, Page([1, 2], b'a')) for key in 'xyz']


def test_the_first_answer_counts_in_a_loop() -> None:
    async def used() -> None:
        in_flight = InFlight()
        exchange = Asyncio(_Session(), metrics.LOOKUP_REQUESTS, in_flight=in_flight)
        assert [page async for page in exchange.pages('statement')] == [[1, 2], [3], [], [4]]
        found = exchange.outcomes('xyz', lambda key: (key, 'statement'), 2)
        assert [outcome async for outcome in found] == [(key, Page([1, 2], b'a')) for key in 'xyz']
        await asyncio.wait_for(in_flight.drained(), 10)

    asyncio.run(used())
    assert not metrics.LOOKUP_REQUESTS._open


def test_an_input_that_raises_is_heard_of_after_what_was_sent() -> None:
    async def failing() -> AsyncIterator[str]:
        yield 'x'
        raise OSError('the file ended')

    async def used() -> None:
        in_flight = InFlight()
        exchange = Asyncio(_Session(), metrics.LOOKUP_REQUESTS, in_flight=in_flight)
        with pytest.raises(OSError, match='the file ended'):
            [found async for found in exchange.outcomes(failing(), lambda key: (key, 'statement'), 2)]
        await asyncio.wait_for(in_flight.drained(), 10)

    asyncio.run(used())


def test_a_coroutine_that_waits_for_something_else_is_a_mistake() -> None:
    async def waiting() -> None:
        await asyncio.sleep(0)

    with pytest.raises(RuntimeError, match='a coroutine of a Blocking exchange was suspended'):
        finished(waiting())
