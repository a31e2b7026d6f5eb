"""Runs many requests with a bounded number in flight."""

from __future__ import annotations

import collections
from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

from cassandra.cluster import EXEC_PROFILE_DEFAULT, ExecutionProfile, ResponseFuture, Session
from cassandra.query import BoundStatement, Statement

from tfx_cassandra.components.driver.errors import DRIVER_ERRORS
from tfx_cassandra.components.metrics import Request, Requests

_Key = TypeVar('_Key')


def outcomes(
    session: Session,
    requests: Iterable[tuple[_Key, Statement]],
    concurrency: int,
    profile: ExecutionProfile | object = EXEC_PROFILE_DEFAULT,
    metrics: Requests | None = None,
) -> Iterator[tuple[_Key, list[Any] | Exception]]:
    """Runs requests while their outcomes are consumed, and waits for every request sent, however the loop ends.

    The driver's execute_concurrent consumes its input in the thread that reads the sockets, where an input that waits
    for Cassandra would deadlock, and an exception of the input would be lost.

    Args:
      session: The driver's session.
      requests: (key, statement) pairs, consumed in the caller's thread.
      concurrency: The maximum number of requests in flight.
      profile: The driver's execution profile, or the name of one of the session's.
      metrics: Where the requests are counted, or None.

    Yields:
      (key, rows) or (key, error) of each request, in order.
    """
    in_flight: collections.deque[tuple[_Key, ResponseFuture, Request | None]] = collections.deque()
    try:
        for key, statement in requests:
            if len(in_flight) == concurrency:
                yield _outcome(*in_flight.popleft())
            future = session.execute_async(statement, execution_profile=profile)
            in_flight.append((key, future, None if metrics is None else _measured(future, metrics)))
        while in_flight:
            yield _outcome(*in_flight.popleft())
    finally:
        for waiting in in_flight:
            _outcome(*waiting)


def size(statement: BoundStatement) -> int:
    """Returns the bytes of the values of a bound statement."""
    return sum(len(value) for value in statement.values if isinstance(value, bytes))


def _measured(future: ResponseFuture, metrics: Requests) -> Request:
    request = metrics.begin()
    future.add_callback(request.end)  # an error ends it where it is raised
    return request


def _outcome(key: _Key, future: ResponseFuture, request: Request | None) -> tuple[_Key, list[Any] | Exception]:
    try:
        return key, future.result().all()
    except DRIVER_ERRORS as error:
        if request is not None:
            request.end()
        return key, error
    finally:
        if request is not None:
            request.observe()
