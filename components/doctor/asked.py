"""Queries to a live cluster that may fail: what could not be read is remembered, with what would allow it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from cassandra import InvalidRequest, Unauthorized
from cassandra.cluster import Session
from cassandra.pool import Host

from tfx_cassandra.components.doctor.facts import Unread
from tfx_cassandra.components.driver.errors import DRIVER_ERRORS, one_line


class Asked:
    """Runs queries, and remembers what could not be read: each table of the server once, with the nodes."""

    def __init__(self) -> None:
        self._failed: dict[tuple[str, str, str], list[str]] = {}

    @property
    def unread(self) -> tuple[Unread, ...]:
        """What could not be read."""
        return tuple(
            Unread(f'{what} on {", ".join(nodes)}', reason, needs)
            for (what, reason, needs), nodes in self._failed.items()
        )

    def rows(self, session: Session, cql: str, values: Sequence[object] = (), host: Host | None = None) -> list[Any]:
        """Returns the rows; none if they cannot be read."""
        return self.attempt(session, cql, values, host) or []

    def attempt(
        self, session: Session, cql: str, values: Sequence[object] = (), host: Host | None = None
    ) -> list[Any] | None:
        """Returns the rows, or None if they cannot be read."""
        table = cql.partition(' FROM ')[2].split()[0]
        try:
            # `all` would read further pages from other nodes; the limit is below a page for what one node has.
            return list(session.execute(session.prepare(cql), values, host=host))
        except DRIVER_ERRORS as error:
            self.failed(table, error, str(host.endpoint) if host else 'the cluster')
            return None

    def failed(self, what: str, error: Exception, where: str, needs: str = '') -> None:
        """Remembers a failure, with what would help."""
        reason = one_line(error)
        if isinstance(error, Unauthorized):
            reason = reason.partition(' or any of its parents')[0]
            needs = f'GRANT SELECT ON {what} TO the role of the doctor'
        elif isinstance(error, InvalidRequest):
            needs = 'a release that has this table'
        nodes = self._failed.setdefault((what, reason, needs), [])
        if where not in nodes:
            nodes.append(where)
