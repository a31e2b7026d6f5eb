"""What the two faces of the feature store share: its options, and what is there while it is open."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
from collections.abc import Callable, Iterator

from cassandra.cluster import EXEC_PROFILE_DEFAULT, Session
from cassandra.policies import ConstantSpeculativeExecutionPolicy

from tfx_cassandra.components import metrics
from tfx_cassandra.components.checks import checked
from tfx_cassandra.components.driver import connection as connections
from tfx_cassandra.components.driver.connection import CassandraConnection, Consistency, consistency_level
from tfx_cassandra.components.driver.exchange import Exchange, Profile
from tfx_cassandra.components.errors import SchemaError, TfxCassandraError, invalid
from tfx_cassandra.components.feature_store.tables import ENTITY_FEATURES, FEATURE_STORE, FeatureTable, rows
from tfx_cassandra.components.metrics import Requests

MakeExchange = Callable[[Session, Requests, Profile], Exchange]
_ZERO = datetime.timedelta(0)


@dataclasses.dataclass(frozen=True)
class Opened:
    """What an open store uses.

    Attributes:
      session: The process's session.
      tables: The tables that the keyspace has, by name.
      reads: Sends reads.
      writes: Sends writes.
    """

    session: Session
    tables: dict[str, FeatureTable]
    reads: Exchange
    writes: Exchange


class Core:
    """The options of a store, and what is there while it is open.

    Args:
      connection: The cluster and the keyspace.
      consistency: The consistency level of calls that give none.
      speculative_after: How long a read waits for an answer before another replica is asked, too; None for ever.
    """

    @checked
    def __init__(
        self,
        connection: CassandraConnection,
        consistency: Consistency,
        speculative_after: datetime.timedelta | None,
    ) -> None:
        if speculative_after is not None and speculative_after <= _ZERO:
            raise invalid('speculative_after', str(speculative_after), 'longer than zero, or None')
        self.connection, self._consistency, self._speculative_after = connection, consistency, speculative_after
        self.name = f'{connection.keyspace}.{FEATURE_STORE}'
        self._opened: Opened | None = None
        self._held = contextlib.ExitStack()

    def check_closed(self) -> None:
        """Raises TfxCassandraError if the store is open."""
        if self._opened is not None:
            raise TfxCassandraError(f'{self.name}: the store is already open, rule: one `with` block at a time')

    @contextlib.contextmanager
    def acquired(self) -> Iterator[tuple[Session, dict[str, FeatureTable], contextlib.ExitStack]]:
        """Acquires the session and prepares the statements; gives the session back unless its stack is taken over."""
        with contextlib.ExitStack() as stack:
            session = stack.enter_context(connections.session(self.connection))
            keyspace = self.connection.keyspace
            found = {FEATURE_STORE: FeatureTable(session, keyspace, FEATURE_STORE)}
            if ENTITY_FEATURES in session.cluster.metadata.keyspaces[keyspace].tables:
                found[ENTITY_FEATURES] = FeatureTable(session, keyspace, ENTITY_FEATURES)
            yield session, found, stack

    def open(
        self, session: Session, tables: dict[str, FeatureTable], held: contextlib.ExitStack, exchange: MakeExchange
    ) -> None:
        """Opens the store with what `acquired` gives."""
        # A profile of its own, not one of the session's, which others use.
        profile = session.execution_profile_clone_update(EXEC_PROFILE_DEFAULT, row_factory=rows)
        if self._speculative_after is not None:
            delay = self._speculative_after.total_seconds()
            profile.speculative_execution_policy = ConstantSpeculativeExecutionPolicy(delay, max_attempts=1)
        reads = exchange(session, metrics.LOOKUP_REQUESTS, profile)
        writes = exchange(session, metrics.WRITE_REQUESTS, EXEC_PROFILE_DEFAULT)
        self._opened, self._held = Opened(session, tables, reads, writes), held

    def close(self) -> contextlib.ExitStack:
        """Takes no more calls; returns what releases the session."""
        self._opened = None
        held, self._held = self._held, contextlib.ExitStack()
        return held

    @property
    def opened(self) -> Opened:
        """What the open store uses; raises TfxCassandraError if it is not open."""
        if self._opened is None:
            raise TfxCassandraError(f'{self.name}: the store is not open, rule: used inside its `with` block')
        return self._opened

    def table(self, with_entity: bool) -> FeatureTable:
        """Returns entity_features or feature_store; raises SchemaError if the keyspace has no such table."""
        name = ENTITY_FEATURES if with_entity else FEATURE_STORE
        table = self.opened.tables.get(name)
        if table is None:
            rule = 'a table when the store is opened; `tfx-cassandra schema apply` creates it'
            raise SchemaError(f'{self.connection.keyspace}.{name}: got no such table, rule: {rule}')
        return table

    def level_name(self, consistency: str | None) -> str:
        """Returns the consistency level of a call."""
        return self._consistency if consistency is None else consistency

    def level(self, consistency: str | None) -> int:
        """Returns the driver's number of the consistency level of a call."""
        return consistency_level(self.level_name(consistency))
