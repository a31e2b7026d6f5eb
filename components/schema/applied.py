"""The versions applied to a keyspace, and the lease that one applier at a time holds: rows of `schema_migrations`.

Both are written by lightweight transactions in one partition. The lease is a static column that the server expires, so
that an applier that is killed blocks the others for LEASE_SECONDS at most, whatever the clients' clocks say.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import getpass
import importlib.metadata
import os
import random
import socket
import threading
import time
import uuid
from types import TracebackType
from typing import Any

from cassandra import ConsistencyLevel, InvalidRequest, RequestValidationException
from cassandra.cluster import NoHostAvailable, Session
from cassandra.query import BatchStatement, PreparedStatement

from tfx_cassandra.components.driver.errors import DRIVER_ERRORS, one_line
from tfx_cassandra.components.driver.responses import utc
from tfx_cassandra.components.errors import SchemaError
from tfx_cassandra.components.schema.cql import with_keyspace
from tfx_cassandra.components.schema.declaration import MIGRATIONS

LEASE_SECONDS = 20  # how long an applier that has ended without a word blocks the others
WAIT_SECONDS = 180  # how long an applier waits for the lease
_RENEWALS = 4  # in the time of a lease
_PAUSE = 0.3  # seconds between two attempts, on average
_RECORD_ATTEMPTS = 10
_TABLE_SECONDS = 20  # until a new table can be used
_SCOPE = 'keyspace'  # the one partition

_STATEMENTS = {
    'holder': 'SELECT owner FROM {table} WHERE scope = ? LIMIT 1',
    'last': 'SELECT last_number FROM {table} WHERE scope = ? LIMIT 1',
    'versions': 'SELECT number, digest, applied_at, applied_by, package, statements FROM {table} WHERE scope = ?',
    'hold': 'UPDATE {table} USING TTL ? SET owner = ? WHERE scope = ? IF owner = ?',
    'release': 'UPDATE {table} SET owner = null WHERE scope = ? IF owner = ?',
    'insert': 'INSERT INTO {table} (scope, number, digest, applied_at, applied_by, package, statements)'
    ' VALUES (?, ?, ?, ?, ?, ?, ?) IF NOT EXISTS',
    'count': 'UPDATE {table} SET last_number = ? WHERE scope = ? IF owner = ? AND last_number = ?',
}


@dataclasses.dataclass(frozen=True)
class AppliedVersion:
    """One version of the declaration that a keyspace has, or had before a later one added to it.

    Attributes:
      number: Counts the versions of the keyspace, from 1.
      digest: SHA-256 over the declared statements.
      applied_at: When it was applied, by the applier's clock.
      applied_by: USER@HOST of the applier.
      package: Release of tfx-cassandra that declares it.
      statements: How many statements it took; 0 if the keyspace was as declared already.
    """

    number: int
    digest: str
    applied_at: datetime.datetime
    applied_by: str
    package: str
    statements: int


class Applied:
    """Reads and writes `schema_migrations`, which must be there, on every node."""

    def __init__(self, session: Session, keyspace: str) -> None:
        self.session, self.keyspace = session, keyspace
        table = with_keyspace(f'{{keyspace}}.{MIGRATIONS.name}', keyspace)
        self._prepared = {name: _prepared(session, cql.format(table=table)) for name, cql in _STATEMENTS.items()}
        for statement in self._prepared.values():
            # SERIAL, not LOCAL_SERIAL: appliers in two data centers must agree, too.
            statement.serial_consistency_level = ConsistencyLevel.SERIAL
        for name in ('holder', 'last', 'versions'):
            self._prepared[name].consistency_level = ConsistencyLevel.SERIAL

    def run(self, name: str, *values: object) -> Any:
        """Runs a statement of this module."""
        return self.session.execute(self._prepared[name], values)

    def holder(self) -> str | None:
        """Returns who holds the lease."""
        row = self.run('holder', _SCOPE).one()
        return None if row is None else row.owner

    def hold(self, owner: str, before: str | None) -> bool:
        """Takes or renews the lease; returns whether the owner has it."""
        return bool(self.run('hold', LEASE_SECONDS, owner, _SCOPE, before).was_applied)

    def release(self, owner: str) -> None:
        """Gives the lease back, if it is still the owner's."""
        self.run('release', _SCOPE, owner)

    def versions(self) -> list[AppliedVersion]:
        """Returns the applied versions, newest first."""
        # A partition with a lease and no version is one row without a number.
        rows = [row for row in self.run('versions', _SCOPE) if row.number is not None]
        return [AppliedVersion(**{**row._asdict(), 'applied_at': utc('applied_at', row.applied_at)}) for row in rows]

    def record(self, owner: str, digest: str, statements: int) -> None:
        """Records a version, unless it is recorded already.

        Raises:
          SchemaError: The owner has lost the lease.
        """
        for _ in range(_RECORD_ATTEMPTS):
            if any(version.digest == digest for version in self.versions()):
                return
            row = self.run('last', _SCOPE).one()
            last = None if row is None else row.last_number
            number, now = (last or 0) + 1, datetime.datetime.now(datetime.timezone.utc)
            batch = BatchStatement(serial_consistency_level=ConsistencyLevel.SERIAL)
            values = (_SCOPE, number, digest, now, owner.partition(' ')[0], _release(), statements)
            batch.add(self._prepared['insert'], values)
            batch.add(self._prepared['count'], (number, _SCOPE, owner, last))
            with contextlib.suppress(*DRIVER_ERRORS):  # it may have been applied: the versions tell
                if not self.session.execute(batch).was_applied and (holder := self.holder()) != owner:
                    raise _lost(self.keyspace, holder)
        rule = f'its outcome is known after {_RECORD_ATTEMPTS} attempts; apply again'
        raise SchemaError(f'{self.keyspace}.{MIGRATIONS.name}: got no answer to the record of a version, rule: {rule}')


class Lease:
    """The right to change a keyspace's schema, for the duration of a `with` block; a thread renews it.

    Args:
      applied: The table that holds it.

    Raises:
      SchemaError: Others held it for WAIT_SECONDS, or the server refuses to write the table.
    """

    def __init__(self, applied: Applied) -> None:
        self._applied = applied
        self.owner = f'{_who()} pid {os.getpid()} {uuid.uuid4().hex[:8]}'
        self._ended = threading.Event()
        self._renewed = 0.0
        self._taken_by: str | None = None
        self._thread = threading.Thread(target=self._renew, daemon=True)

    def __enter__(self) -> Lease:
        deadline, reason = time.monotonic() + WAIT_SECONDS, 'nobody'
        while True:
            self._renewed = time.monotonic()
            try:
                before = self._applied.holder()
                if before in (None, self.owner) and self._applied.hold(self.owner, before):
                    break
                reason = before or reason
            except RequestValidationException as error:
                raise SchemaError(f'{self._applied.keyspace}.{MIGRATIONS.name}: {one_line(error)}') from error
            except DRIVER_ERRORS as error:  # of a transaction whose outcome is unknown: reading tells
                reason = one_line(error)
            if time.monotonic() > deadline:
                rule = f'the lease is free within {WAIT_SECONDS} s'
                raise SchemaError(f'{self._applied.keyspace}.{MIGRATIONS.name}.owner: got {reason}, rule: {rule}')
            time.sleep(random.uniform(0, 2 * _PAUSE))
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()
        with contextlib.suppress(*DRIVER_ERRORS):  # it expires
            self._applied.release(self.owner)

    def check(self) -> None:
        """Raises SchemaError if the lease has been lost, or may have been."""
        if self._taken_by is not None or time.monotonic() - self._renewed > LEASE_SECONDS - 1:
            raise _lost(self._applied.keyspace, self._taken_by)

    def _renew(self) -> None:
        while not self._ended.wait(LEASE_SECONDS / _RENEWALS):
            began = time.monotonic()
            try:
                if self._applied.hold(self.owner, self.owner):
                    self._renewed = began
                elif (holder := self._applied.holder()) != self.owner:
                    self._taken_by = holder or 'nobody'
                    return
            except DRIVER_ERRORS:  # `check` sees how long ago the last renewal was
                continue


def _prepared(session: Session, cql: str) -> PreparedStatement:
    """Prepares a statement; a table that another applier is creating is in `system_schema` before it can be used."""
    end = time.monotonic() + _TABLE_SECONDS
    while True:
        try:
            return session.prepare(cql)
        except (InvalidRequest, NoHostAvailable) as error:
            unknown = isinstance(error, InvalidRequest) or 'Unknown CF' in one_line(error)  # of a table half made
            if not unknown or time.monotonic() > end:
                raise
        time.sleep(_PAUSE)


def _lost(keyspace: str, holder: str | None) -> SchemaError:
    rule = 'the applier holds the lease; apply again, which continues where this one stopped'
    return SchemaError(f'{keyspace}.{MIGRATIONS.name}.owner: got {holder or "no answer"}, rule: {rule}')


def _who() -> str:
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a user id without a name, as in many containers
        user = str(os.getuid())
    return f'{user}@{socket.gethostname()}'.replace(' ', '_')


def _release() -> str:
    try:
        return importlib.metadata.version('tfx-cassandra')
    except importlib.metadata.PackageNotFoundError:
        return 'unknown'
