"""The session of a ModelRegistry: its prepared statements, and retries until the outcome of a request is known."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any, ClassVar, Protocol, TypeVar

import tenacity
from cassandra import ConsistencyLevel, InvalidRequest, RequestValidationException
from cassandra.query import BatchStatement, PreparedStatement

from tfx_cassandra.components import metrics
from tfx_cassandra.components.cql.table import quoted
from tfx_cassandra.components.driver import connection as connections
from tfx_cassandra.components.driver.connection import CassandraConnection
from tfx_cassandra.components.driver.errors import DRIVER_ERRORS, one_line
from tfx_cassandra.components.errors import RegistryError, SchemaError

T = TypeVar('T')

SETTLE_SECONDS = 120.0  # how long a request is retried while its outcome is unknown
_MIN_TIMEOUT = 0.1  # seconds, of the last request
_FIRST_PAUSE = 0.02  # seconds
_MAX_PAUSE = 2.0  # seconds


class Statements(Protocol):
    """The statements of one part of the registry: name -> CQL with '{keyspace}' in it.

    SERIAL_READS are the reads that a write is based on. They run with SERIAL consistency, which also completes a
    transaction that a timed-out writer left open.
    """

    STATEMENTS: ClassVar[dict[str, str]]
    SERIAL_READS: ClassVar[dict[str, str]]


class RegistrySession:
    """The process's session with the registry's statements prepared.

    Args:
      connection: The cluster and keyspace that hold the registry's tables.
      parts: The classes whose statements are prepared.
    """

    def __init__(self, connection: CassandraConnection, parts: Iterable[type[Statements]]) -> None:
        self._connection = connection
        self._parts = tuple(parts)
        self._settling = threading.local()  # each thread has a deadline of its own

    def open(self) -> None:
        """Opens the session and prepares the statements.

        Raises:
          SchemaError: The keyspace lacks the registry's tables.
          RegistryError, UnavailableError: The cluster does not answer.
        """
        with contextlib.ExitStack() as stack:
            self.driver = stack.enter_context(connections.session(self._connection))
            self.prepared = self._prepare()
            self._open = stack.pop_all()

    def close(self) -> None:
        """Releases the session."""
        self._open.close()

    def _prepare(self) -> dict[str, PreparedStatement]:
        try:
            statements = {name: self.driver.prepare(cql) for name, cql in self._cql().items()}
        except InvalidRequest as error:
            rule = f'a keyspace with the schema applied ({one_line(error)})'
            raise SchemaError(f'keyspace: got {self._connection.keyspace!r}, rule: {rule}') from error
        except DRIVER_ERRORS as error:
            raise RegistryError(f'connection: got {self._connection}, rule: it answers ({one_line(error)})') from error
        serial = {name for part in self._parts for name in part.SERIAL_READS}
        # SERIAL, not LOCAL_SERIAL: pushers in two data centers must agree, and a push can wait for the round trip.
        for name, statement in statements.items():
            statement.serial_consistency_level = ConsistencyLevel.SERIAL
            if name in serial:
                statement.consistency_level = ConsistencyLevel.SERIAL
        return statements

    def execute(self, name: str, *values: object) -> Any:
        """Runs a statement; within `settle`, for no longer than the time that is left."""
        return self.driver.execute(self.prepared[name], values, timeout=self._timeout())

    def execute_batch(self, *requests: tuple[str, tuple[object, ...]]) -> Any:
        """Runs conditional statements of one partition, (name, values) each, as one transaction: all apply or none."""
        batch = BatchStatement(serial_consistency_level=ConsistencyLevel.SERIAL)
        for name, values in requests:
            batch.add(self.prepared[name], values)
        return self.driver.execute(batch, timeout=self._timeout())

    def settle(self, attempt: Callable[[], T | None], message: str) -> T:
        """Repeats an attempt until its outcome is known, for SETTLE_SECONDS at most.

        A transaction that timed out may or may not have been applied, so the attempt is repeated. That is safe: every
        attempt reads first, or is conditional on what it read.

        Args:
          attempt: Returns the outcome, or None if another pusher came first.
          message: The start of the error message: field, value and rule.

        Raises:
          RegistryError: The server rejects the request, or the outcome is still unknown after SETTLE_SECONDS.
        """
        began = time.monotonic()
        self._settling.deadline = began + SETTLE_SECONDS
        retrying = tenacity.Retrying(
            stop=tenacity.stop_before_delay(SETTLE_SECONDS),
            wait=tenacity.wait_random_exponential(multiplier=_FIRST_PAUSE, max=_MAX_PAUSE),
            retry=tenacity.retry_if_exception(_is_transient)
            | tenacity.retry_if_result(lambda outcome: outcome is None),
            before_sleep=lambda _: metrics.REGISTRY_RETRIES.add(1),
        )
        try:
            return retrying(attempt)  # type: ignore[return-value]
        except tenacity.RetryError as error:
            last = error.last_attempt
            cause = last.exception()
            reason = one_line(cause) if isinstance(cause, Exception) else 'other pushers came first every time'
            tried = f'within {time.monotonic() - began:.3g} s, {last.attempt_number} attempts'
            raise RegistryError(f'{message} {tried} ({reason})') from cause
        except RequestValidationException as error:
            raise RegistryError(f'{message} ({one_line(error)})') from error
        finally:
            del self._settling.deadline

    def _cql(self) -> dict[str, str]:
        keyspace = quoted(self._connection.keyspace)
        texts = [part.STATEMENTS | part.SERIAL_READS for part in self._parts]
        return {name: cql.format(keyspace=keyspace) for part in texts for name, cql in part.items()}

    def _timeout(self) -> float:
        """Returns the seconds that a request may take."""
        deadline: float = getattr(self._settling, 'deadline', float('inf'))
        return max(_MIN_TIMEOUT, min(self._connection.request_timeout, deadline - time.monotonic()))


def _is_transient(error: BaseException) -> bool:
    """Returns whether an attempt that failed with this error may succeed when it is repeated."""
    return isinstance(error, DRIVER_ERRORS) and not isinstance(error, RequestValidationException)
