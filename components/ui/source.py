"""Reads for the page: one session, one read of each part however many people look, and errors as values."""

from __future__ import annotations

import contextlib
import dataclasses
import threading
import time
from collections.abc import Callable, Hashable, Iterator
from typing import Any, Generic, TypeVar

from cassandra.cluster import Session

from tfx_cassandra.components.driver import connection as connections
from tfx_cassandra.components.driver.connection import CassandraConnection
from tfx_cassandra.components.driver.errors import DRIVER_ERRORS, one_line
from tfx_cassandra.components.errors import TfxCassandraError
from tfx_cassandra.components.registry.registry import ModelRegistry

T = TypeVar('T')

_CONNECT_SECONDS, _REQUEST_SECONDS = 3.0, 8.0  # somebody waits for the page
_MAX_KEPT = 256  # answers


@dataclasses.dataclass(frozen=True)
class Part(Generic[T]):
    """A part of the page: its content, or the line that says why there is none."""

    content: T | None = None
    error: str = ''


class Kept:
    """Keeps answers for some seconds; while one is made, others who ask for it wait."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._lock = threading.Lock()
        self._answers: dict[Hashable, tuple[threading.Lock, list[tuple[float, Any]]]] = {}

    def get(self, key: Hashable, make: Callable[[], Part[T]]) -> Part[T]:
        """Returns the answer of a key, made anew if there is none of the last seconds."""
        with self._lock:
            if key not in self._answers and len(self._answers) >= _MAX_KEPT:
                del self._answers[next(iter(self._answers))]
            lock, kept = self._answers.setdefault(key, (threading.Lock(), []))
        with lock:
            # What failed is tried again sooner.
            if not kept or time.monotonic() - kept[0][0] > self._seconds * (0.2 if kept[0][1].error else 1):
                made = make()
                kept[:] = [(time.monotonic(), made)]
            part: Part[T] = kept[0][1]
            return part


class Source:
    """The cluster behind the page; a context manager.

    The session is held while the cluster answers. After a failure it is closed and the next read opens another: the
    driver itself waits longer and longer, up to ten minutes, before it looks whether a node is back.
    """

    def __init__(self, connection: CassandraConnection) -> None:
        self.connection = dataclasses.replace(
            connection,
            connect_timeout=min(connection.connect_timeout, _CONNECT_SECONDS),
            request_timeout=min(connection.request_timeout, _REQUEST_SECONDS),
        )
        self._lock = threading.Lock()
        self._held: contextlib.ExitStack | None = None
        self._registry: ModelRegistry | None = None

    def __enter__(self) -> Source:
        return self

    def __exit__(self, *_: object) -> None:
        self._drop()

    @contextlib.contextmanager
    def session(self) -> Iterator[Session]:
        """Opens the session, or uses the one that is open."""
        with connections.session(self.connection) as session:
            with self._lock:
                if self._held is None:
                    self._held = contextlib.ExitStack()
                    self._held.enter_context(connections.session(self.connection))
            yield session

    @contextlib.contextmanager
    def registry(self) -> Iterator[ModelRegistry]:
        """Opens the registry, or uses the one that is open; SchemaError if the keyspace has no tables of it."""
        with self.session():
            with self._lock:
                if self._registry is None and self._held is not None:
                    self._registry = self._held.enter_context(ModelRegistry(self.connection))
                registry = self._registry
            if registry is None:
                raise TfxCassandraError('connection: got one that was just closed, rule: try again')
            yield registry

    def part(self, read: Callable[[], T]) -> Part[T]:
        """Runs a read; what goes wrong becomes the part's error."""
        try:
            return Part(read())
        except DRIVER_ERRORS as error:
            self._drop()
            return Part(error=one_line(error))
        except (TfxCassandraError, ValueError, OSError) as error:
            if isinstance(error.__cause__, DRIVER_ERRORS):
                self._drop()
            return Part(error=' '.join(str(error).split()))

    def _drop(self) -> None:
        with self._lock:
            held, self._held, self._registry = self._held, None, None
        if held is not None:
            with contextlib.suppress(*DRIVER_ERRORS):
                held.close()
