"""Requests in flight, bounded for each node by what the node takes.

A node's window follows its latency: it shrinks while answers take clearly longer than they used to, and grows while
they do not. So a slow or busy node gets fewer requests at once, and no one waits a fixed time.
"""

from __future__ import annotations

import collections
from collections.abc import Iterable, Iterator
from typing import NamedTuple, TypeVar

from cassandra import OperationTimedOut, WriteTimeout
from cassandra.cluster import ResponseFuture, Session
from cassandra.pool import Host
from cassandra.protocol import OverloadedErrorMessage

from tfx_cassandra.components.driver.encoded import EncodedBatch
from tfx_cassandra.components.driver.errors import DRIVER_ERRORS
from tfx_cassandra.components.metrics import Request, Requests

_Key = TypeVar('_Key')

MOST_REQUESTS = 64  # in flight to one node
MOST_BYTES = 4 << 20  # in flight to one node
_OVERLOADED = (OverloadedErrorMessage, OperationTimedOut, WriteTimeout)


class Window:
    """How many requests a node is given at once: Gradient2 of Netflix's concurrency-limits (Apache-2.0).

    The gradient is the ratio of the latency over hundreds of requests to that of the last one, with a tolerance for
    the usual variation. The window is multiplied by it, and grows by a few requests otherwise.
    """

    _TOLERANCE, _GROWTH, _SMOOTHING, _FORGETTING = 1.5, 4.0, 0.2, 1 / 300

    def __init__(self) -> None:
        self._limit, self._usual = 16.0, 0.0

    @property
    def limit(self) -> int:
        """Requests in flight at most, from 1 to MOST_REQUESTS."""
        return int(self._limit)

    def answered(self, seconds: float, in_flight: int) -> None:
        """Takes the latency of a request, and how many were in flight with it."""
        self._usual += (seconds - self._usual) * (self._FORGETTING if self._usual else 1.0)
        if self._usual > 2 * seconds:  # the node has become faster for good
            self._usual *= 0.95
        if in_flight >= self._limit / 2:
            gradient = min(1.0, max(0.5, self._TOLERANCE * self._usual / max(seconds, 1e-6)))
            self._move(self._limit * gradient + self._GROWTH)

    def overloaded(self) -> None:
        """Takes a refusal or a time-out."""
        self._limit = max(1.0, self._limit / 2)

    def _move(self, target: float) -> None:
        self._limit = min(float(MOST_REQUESTS), max(1.0, self._limit + (target - self._limit) * self._SMOOTHING))


class _InFlight(NamedTuple):
    """A request that waits for its answer."""

    key: object
    future: ResponseFuture
    request: Request
    size: int


class Node:
    """The requests in flight to one node, in the order in which they were sent."""

    def __init__(self) -> None:
        self.window, self.size = Window(), 0
        self._waiting: collections.deque[_InFlight] = collections.deque()

    def add(self, request: _InFlight) -> None:
        """Takes a request that was sent."""
        self._waiting.append(request)
        self.size += request.size

    @property
    def full(self) -> bool:
        """Whether the next request has to wait."""
        return len(self._waiting) >= self.window.limit or (self.size >= MOST_BYTES and len(self._waiting) > 1)

    def __len__(self) -> int:
        return len(self._waiting)

    def settle(self) -> tuple[object, Exception | None]:
        """Waits for the oldest request; returns its key, and its error or None."""
        oldest, in_flight = self._waiting.popleft(), len(self._waiting) + 1
        self.size -= oldest.size
        error: Exception | None = None
        try:
            oldest.future.result()
        except DRIVER_ERRORS as raised:
            error = raised
        oldest.request.end()
        seconds = oldest.request.observe()
        if isinstance(error, _OVERLOADED):
            self.window.overloaded()
        elif error is None:
            self.window.answered(seconds, in_flight)
        return oldest.key, error


class Flow:
    """Sends requests to a cluster, and remembers what its nodes take at once.

    Args:
      session: The driver's session.
      metrics: Where the requests are counted.
    """

    def __init__(self, session: Session, metrics: Requests) -> None:
        self._session, self._metrics = session, metrics
        self._nodes: dict[Host | None, Node] = collections.defaultdict(Node)

    def outcomes(self, requests: Iterable[tuple[_Key, EncodedBatch]]) -> Iterator[tuple[_Key, Exception | None]]:
        """Sends requests while their outcomes are consumed; yields each key with its error, or None.

        It waits for every request sent, however the loop ends.
        """
        try:
            for key, statement in requests:
                node = self._send(key, statement)
                while node.full:
                    yield node.settle()  # type: ignore[misc]
            for node in list(self._nodes.values()):
                while len(node):
                    yield node.settle()  # type: ignore[misc]
        finally:
            for node in self._nodes.values():
                while len(node):
                    node.settle()

    def _send(self, key: object, statement: EncodedBatch) -> Node:
        request = self._metrics.begin()
        future = self._session.execute_async(statement)
        future.add_callbacks(request.end, request.end)
        # Without a node, the request has failed already.
        node = self._nodes[future.attempted_hosts[-1] if future.attempted_hosts else None]
        node.add(_InFlight(key, future, request, len(statement)))
        return node
