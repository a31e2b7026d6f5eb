"""The session of a ModelRegistry, and the one way its requests are repeated until their outcome is known."""

from __future__ import annotations

import contextlib
import random
import time
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, ClassVar, TypeVar

from cassandra import ConsistencyLevel, InvalidRequest, RequestValidationException
from cassandra.query import PreparedStatement

from tfx_cassandra.components.checks import checked
from tfx_cassandra.components.cql.table import quoted
from tfx_cassandra.components.driver import connection as connections
from tfx_cassandra.components.driver.connection import CassandraConnection
from tfx_cassandra.components.driver.errors import DRIVER_ERRORS, one_line
from tfx_cassandra.components.errors import RegistryError, SchemaError

T = TypeVar('T')
_Self = TypeVar('_Self', bound='RegistrySession')

_ATTEMPTS = 30
_FIRST_PAUSE = 0.02  # seconds
_LONGEST_PAUSE = 2.0  # seconds


class RegistrySession:
    """Holds the process's session and the prepared statements while a `with` block runs.

    Args:
      connection: The cluster and keyspace that hold the registry's tables.
    """

    # Name -> CQL with '{keyspace}' in it. What a write is decided by is read with SERIAL consistency, which also
    # settles a transaction that a timed-out writer left open.
    STATEMENTS: ClassVar[Mapping[str, str]] = {}
    SERIAL_READS: ClassVar[Mapping[str, str]] = {}

    @checked
    def __init__(self, connection: CassandraConnection) -> None:
        self._connection = connection

    def __enter__(self: _Self) -> _Self:
        with contextlib.ExitStack() as stack:
            self._session = stack.enter_context(connections.session(self._connection))
            self._statements = self._prepared()
            self._session_held = stack.pop_all()
        return self

    def _prepared(self) -> dict[str, PreparedStatement]:
        keyspace = quoted(self._connection.keyspace)
        try:
            statements = {
                name: self._session.prepare(cql.format(keyspace=keyspace))
                for name, cql in {**self.STATEMENTS, **self.SERIAL_READS}.items()
            }
        except InvalidRequest as error:
            rule = f'a keyspace with the schema applied ({one_line(error)})'
            raise SchemaError(f'keyspace: got {self._connection.keyspace!r}, rule: {rule}') from error
        except DRIVER_ERRORS as error:
            raise RegistryError(f'connection: got {self._connection}, rule: it answers ({one_line(error)})') from error
        # SERIAL, not LOCAL_SERIAL: pushers in two data centers must agree, and a push can wait for the round trip.
        for name, statement in statements.items():
            statement.serial_consistency_level = ConsistencyLevel.SERIAL
            if name in self.SERIAL_READS:
                statement.consistency_level = ConsistencyLevel.SERIAL
        return statements

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._session_held.close()

    def _execute(self, name: str, *values: object) -> Any:
        return self._session.execute(self._statements[name], values)

    def _settled(self, attempt: Callable[[], T | None], what: str) -> T:
        """Repeats an attempt until its outcome is known; every attempt is safe to repeat.

        A transaction that timed out may have been applied or not, so the attempt is made anew: it reads first, or
        is conditional on what it found.
        """
        reason = 'other pushers came first each time'
        for number in range(_ATTEMPTS):
            try:
                outcome = attempt()
            except RequestValidationException as error:
                raise RegistryError(f'{what} ({one_line(error)})') from error
            except DRIVER_ERRORS as error:
                reason = one_line(error)
            else:
                if outcome is not None:
                    return outcome
            time.sleep(random.uniform(0, longest_pause(number)))
        raise RegistryError(f'{what} within {_ATTEMPTS} attempts ({reason})')


def longest_pause(attempt: int) -> float:
    """Returns the seconds below which the random pause after an attempt (from 0) stays."""
    return min(_LONGEST_PAUSE, _FIRST_PAUSE * 2**attempt)
