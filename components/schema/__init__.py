"""Creates the declared keyspace, adds to a live one what it lacks, and lists how it differs.

The tables are declared in `declaration.py`. `apply` creates missing tables, views, indexes and types and adds missing
columns and fields; it changes nothing else. It records the version that it has applied in the keyspace. `migration`
says what `apply` would do, `check` lists the differences, `statements` returns the CQL for an empty cluster.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from cassandra.cluster import Session

from tfx_cassandra.components.cql.layout import Bucket, Layout, Salt
from tfx_cassandra.components.driver.connection import CassandraConnection, session
from tfx_cassandra.components.schema import declaration, tables
from tfx_cassandra.components.schema.applied import Applied, AppliedVersion, Lease
from tfx_cassandra.components.schema.compare import Difference, differences
from tfx_cassandra.components.schema.cql import create_keyspace, errors_named, with_keyspace
from tfx_cassandra.components.schema.migrations import (
    Addition,
    Migration,
    Refusal,
    additions,
    digest,
    refusals,
    replication_refusal,
)
from tfx_cassandra.components.schema.quorum import check_quorum
from tfx_cassandra.components.schema.relations import index, table, user_type, view
from tfx_cassandra.components.schema.replication import (
    NetworkReplication,
    Replication,
    SimpleReplication,
    parse_replication,
)
from tfx_cassandra.components.schema.tables import Relation

__all__ = [
    'AppliedVersion',
    'Bucket',
    'Difference',
    'Layout',
    'Migration',
    'NetworkReplication',
    'Refusal',
    'Relation',
    'Replication',
    'Salt',
    'SimpleReplication',
    'apply',
    'check',
    'history',
    'index',
    'migration',
    'parse_replication',
    'statements',
    'table',
    'user_type',
    'view',
]

# A statement returns when every node has created the table, which takes much longer than a read on a busy cluster.
_STATEMENT_SECONDS = 120
_AGREEMENT_SECONDS = 60

_HINTS = {
    'view': 'set materialized_views_enabled: true in cassandra.yaml, or apply with --no-views',
    'index': 'storage-attached indexes need Cassandra 5.0; apply without --sai',
}


def statements(keyspace: str, replication: Replication, *, views: bool = True, sai: bool = False) -> list[str]:
    """Returns the CQL that declares the whole keyspace, in order.

    Args:
      keyspace: Name of the keyspace.
      replication: Replication of the keyspace.
      views: Whether to include the materialized views.
      sai: Whether to include the storage-attached indexes (Cassandra 5).

    Raises:
      ValueError: The name is not valid for a keyspace.
    """
    declared = declaration.declared(views=views, sai=sai)
    return [create_keyspace(keyspace, replication), *(with_keyspace(relation.cql, keyspace) for relation in declared)]


def apply(
    connection: CassandraConnection,
    replication: Replication,
    *,
    views: bool = True,
    sai: bool = False,
    relations: Sequence[Relation] | None = None,
) -> list[str]:
    """Creates what the connection's keyspace lacks and adds missing columns; changes nothing that exists.

    It is idempotent, also when several clients run it at once: the one that holds the lease in `schema_migrations`
    works, and the others wait for it. An existing keyspace keeps its replication. If nothing of the declaration is
    refused (see `migration`), the version is recorded.

    Args:
      connection: The cluster and the keyspace.
      replication: Replication of the keyspace, if it has to be created.
      views: Whether to create the materialized views.
      sai: Whether to create the storage-attached indexes (Cassandra 5).
      relations: Tables, views, indexes and types of your own, each before what is built on it, instead of the
        package's.

    Returns:
      The statements that were executed, in order.

    Raises:
      SchemaError: The server refuses a statement. Earlier ones stay applied, and applying again continues from there.
        Or the lease cannot be had, or is lost. Or a majority of the replicas cannot be live: then nothing is created.
      UnavailableError: No contact point answers.
    """
    create_keyspace(connection.keyspace, replication)  # refuses a wrong name before anything is connected to
    declared = _declared(views, sai, relations)
    with session(connection) as live_session, errors_named(connection.keyspace):
        return _Applier(live_session, connection.keyspace).apply(replication, declared)


def migration(
    connection: CassandraConnection,
    replication: Replication,
    *,
    views: bool = True,
    sai: bool = False,
    relations: Sequence[Relation] | None = None,
) -> Migration:
    """Returns what `apply` would do with the same arguments, and what it would refuse; changes nothing.

    Raises:
      UnavailableError: No contact point answers.
    """
    keyspace, declared = connection.keyspace, _declared(views, sai, relations)
    create = create_keyspace(keyspace, replication)
    with session(connection) as live_session, errors_named(keyspace):
        copies = tables.replication(live_session, keyspace)
        live = tables.live(live_session, keyspace)
    found = list(refusals(declared, live, keyspace))
    left = [refusal for refusal in found if refusal.difference.kind == 'option']
    if copies is not None and (difference := _replication_difference(keyspace, copies, replication)):
        left.insert(0, replication_refusal(difference, keyspace, replication.options()))
    added = [addition.cql for addition in additions(_with_record(declared), live, keyspace)]
    refused = [refusal for refusal in found if refusal.difference.kind != 'option']
    return Migration(tuple([create] * (copies is None) + added), tuple(refused), tuple(left))


def history(connection: CassandraConnection) -> list[AppliedVersion]:
    """Returns the versions of the declaration that were applied to the connection's keyspace, newest first.

    Raises:
      SchemaError: The keyspace may not be read.
      UnavailableError: No contact point answers.
    """
    with session(connection) as live_session, errors_named(connection.keyspace):
        if declaration.MIGRATIONS.name not in tables.live(live_session, connection.keyspace):
            return []
        return Applied(live_session, connection.keyspace).versions()


def check(
    connection: CassandraConnection, replication: Replication | None = None, *, views: bool = True, sai: bool = False
) -> list[Difference]:
    """Compares the connection's keyspace with the declared one, column by column.

    Undeclared tables and columns are not reported.

    Args:
      connection: The cluster and the keyspace.
      replication: Expected replication, or None to accept any.
      views: Whether the materialized views should be there.
      sai: Whether the storage-attached indexes should be there.

    Returns:
      Every difference, in the order of the declaration.

    Raises:
      UnavailableError: No contact point answers.
    """
    keyspace = connection.keyspace
    with session(connection) as live_session, errors_named(keyspace):
        copies = tables.replication(live_session, keyspace)
        live = tables.live(live_session, keyspace)
    if copies is None:
        return [Difference(keyspace, 'no such keyspace', 'a keyspace', 'missing')]
    found = [_replication_difference(keyspace, copies, replication)] if replication is not None else []
    for relation in declaration.declared(views=views, sai=sai):
        found += differences(relation, live.get(relation.name))
    return [difference for difference in found if difference is not None]


class _Applier:
    """Applies a declaration to one keyspace."""

    def __init__(self, live_session: Session, keyspace: str) -> None:
        self._session, self._keyspace = live_session, keyspace
        self._host = tables.coordinator(live_session)
        self._applied: list[str] = []

    def apply(self, wanted: Replication, declared: list[Relation]) -> list[str]:
        copies = tables.replication(self._session, self._keyspace)
        check_quorum(self._session, self._keyspace, copies or wanted.options(), exists=copies is not None)
        if copies is None:
            self._run(create_keyspace(self._keyspace, wanted))
        if self._is_done(declared):
            return self._applied
        # Before the lease, which is a row of it; the coordinator runs the statements of all appliers one by one.
        self._add(self._missing([declaration.MIGRATIONS]))
        applied = Applied(self._session, self._keyspace)
        with Lease(applied) as lease:
            missing = self._missing(declared)  # read again: another applier may have been here meanwhile
            self._add(missing, lease)
            live = tables.live(self._session, self._keyspace)
            if not any(refusal.difference.kind != 'option' for refusal in refusals(declared, live, self._keyspace)):
                lease.check()
                applied.record(lease.owner, digest(declared), len(missing))
        return self._applied

    def _is_done(self, declared: list[Relation]) -> bool:
        """Returns whether nothing is missing, and the version is recorded; then there is no need of a lease."""
        if self._missing(_with_record(declared)):
            return False
        self._agree()
        versions = Applied(self._session, self._keyspace).versions()
        return any(version.digest == digest(declared) for version in versions)

    def _missing(self, declared: list[Relation]) -> list[Addition]:
        return list(additions(declared, tables.live(self._session, self._keyspace), self._keyspace))

    def _add(self, missing: list[Addition], lease: Lease | None = None) -> None:
        for addition in missing:
            if lease is not None:
                lease.check()
            with errors_named(addition.relation.name, _HINTS.get(addition.relation.kind, '')):
                self._run(addition.cql)
        self._agree()

    def _agree(self) -> None:
        """Waits until every node has the tables that one has, so that statements can be prepared anywhere."""
        self._session.cluster.refresh_keyspace_metadata(self._keyspace, max_schema_agreement_wait=_AGREEMENT_SECONDS)

    def _run(self, cql: str) -> None:
        self._session.execute(cql, timeout=_STATEMENT_SECONDS, host=self._host)
        self._applied.append(cql)


def _declared(views: bool, sai: bool, relations: Sequence[Relation] | None) -> list[Relation]:
    return declaration.declared(views=views, sai=sai) if relations is None else list(relations)


def _with_record(declared: list[Relation]) -> list[Relation]:
    """Returns the declaration with the table that records its version."""
    return declared if declaration.MIGRATIONS in declared else [declaration.MIGRATIONS, *declared]


def _replication_difference(keyspace: str, got: Mapping[str, str], wanted: Replication) -> Difference | None:
    if got == wanted.options():
        return None
    return Difference(f'{keyspace}.replication', str(got), str(wanted.options()), 'option')
