"""Requests of code that is written once, for callers that block and for asyncio.

Such code consists of coroutines and asynchronous iterators that wait for nothing but an exchange. With `Blocking` they
are never suspended, so `finished` and `iterated` run them in the caller's thread, without an event loop. With `Asyncio`
(awaiting.py) they wait for the driver's callbacks: no request has a thread of its own.
"""

from __future__ import annotations

import abc
import collections
import threading
from collections.abc import AsyncGenerator, AsyncIterable, Awaitable, Callable, Iterable, Iterator
from typing import Any, NamedTuple, TypeVar

from cassandra.cluster import EXEC_PROFILE_DEFAULT, ResponseFuture, Session
from cassandra.query import Statement

from tfx_cassandra.components.errors import invalid
from tfx_cassandra.components.metrics import REQUEST_ATTEMPTS, Requests

T = TypeVar('T')
Key = TypeVar('Key')
Input = TypeVar('Input')
Profile = Any  # the driver has no types


class Page(NamedTuple):
    """The rows of a page, and where the next one begins; None after the last."""

    rows: list[Any]
    next: bytes | None


class Exchange(abc.ABC):
    """Sends requests through a session.

    Args:
      session: The driver's session.
      metrics: Where the requests are counted.
      profile: The driver's execution profile.
    """

    def __init__(self, session: Session, metrics: Requests, profile: Profile = EXEC_PROFILE_DEFAULT) -> None:
        self.session, self.metrics, self.profile = session, metrics, profile

    @abc.abstractmethod
    def outcomes(
        self, inputs: Iterable[Input] | AsyncIterable[Input], request: Callable[[Input], tuple[Key, Statement]],
        concurrency: int,
    ) -> AsyncGenerator[tuple[Key, Page | Exception], None]:  # fmt: skip
        """Runs one request for each input, with a bounded number in flight, while the outcomes are consumed.

        If the inputs raise, all requests sent are waited for before the error is raised.

        Args:
          inputs: Taken as there is room for the next request.
          request: Returns the key and the statement for an input.
          concurrency: The maximum number of requests in flight.

        Yields:
          (key, first page) or (key, the driver's error), in the order of the inputs.
        """

    @abc.abstractmethod
    def pages(self, statement: Statement, start: bytes | None = None) -> AsyncGenerator[list[Any], None]:
        """Yields the rows of a request, page by page, from `Page.next` of an earlier one; raises the driver's error."""

    @abc.abstractmethod
    async def call(self, function: Callable[[], T]) -> T:
        """Calls a function that blocks."""


class Sent:
    """A request for one page.

    Each page has a request of its own, because the driver does not tell a late answer to an earlier page, as a
    speculative request brings, from the answer to the next one. Of several answers the first is kept.
    """

    def __init__(self, exchange: Exchange, statement: Statement, start: bytes | None = None) -> None:
        self._answer: Page | Exception | None = None
        self._request = exchange.metrics.begin()
        try:
            self._future: ResponseFuture = exchange.session.execute_async(
                statement, execution_profile=exchange.profile, paging_state=start
            )
        except BaseException:
            self._request.end()
            raise
        self._future.add_callbacks(self._take, lambda error: self._take(None, error))

    def _take(self, rows: list[Any] | None, error: Exception | None = None) -> None:
        """Takes an answer, in a thread of the driver."""
        if self._request.end():
            self._answer = Page(rows or [], self._future._paging_state) if error is None else error
            self.told()

    def told(self) -> None:
        raise NotImplementedError

    def _outcome(self) -> Page | Exception:
        self._request.observe()
        REQUEST_ATTEMPTS.add(max(0, len(self._future.attempted_hosts) - 1))
        return self._answer or Page([], None)


class _Waited(Sent):
    def __init__(self, exchange: Exchange, statement: Statement, start: bytes | None = None) -> None:
        self._lock = threading.Lock()
        self._lock.acquire()
        super().__init__(exchange, statement, start)

    def told(self) -> None:
        self._lock.release()

    def outcome(self) -> Page | Exception:
        """Waits for the page or the driver's error."""
        self._lock.acquire()
        return self._outcome()


class Blocking(Exchange):
    """Waits in the caller's thread."""

    async def outcomes(
        self, inputs: Iterable[Input] | AsyncIterable[Input], request: Callable[[Input], tuple[Key, Statement]],
        concurrency: int,
    ) -> AsyncGenerator[tuple[Key, Page | Exception], None]:  # fmt: skip
        if not isinstance(inputs, Iterable):
            raise invalid('rows', inputs, 'an iterable')
        waiting: collections.deque[tuple[Key, _Waited]] = collections.deque()
        try:
            for item in inputs:
                key, statement = request(item)
                if len(waiting) == concurrency:
                    oldest, sent = waiting.popleft()
                    yield oldest, sent.outcome()
                waiting.append((key, _Waited(self, statement)))
            while waiting:
                oldest, sent = waiting.popleft()
                yield oldest, sent.outcome()
        finally:
            for _, sent in waiting:
                sent.outcome()

    async def pages(self, statement: Statement, start: bytes | None = None) -> AsyncGenerator[list[Any], None]:
        while True:
            page = _Waited(self, statement, start).outcome()
            if isinstance(page, Exception):
                raise page
            yield page.rows
            if (start := page.next) is None:
                return

    async def call(self, function: Callable[[], T]) -> T:
        return function()


def finished(coroutine: Awaitable[T]) -> T:
    """Returns the result of a coroutine that uses a `Blocking` exchange."""
    steps: Any = coroutine
    try:
        steps.send(None)
    except StopIteration as end:
        result: T = end.value
        return result
    steps.close()
    raise RuntimeError('a coroutine of a Blocking exchange was suspended')


def iterated(generator: AsyncGenerator[T, None]) -> Iterator[T]:
    """Yields what an asynchronous generator that uses a `Blocking` exchange yields, and closes it."""
    try:
        while True:
            try:
                item = finished(generator.__anext__())
            except StopAsyncIteration:
                return
            yield item
    finally:
        finished(generator.aclose())
