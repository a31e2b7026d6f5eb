"""Creates the declared keyspace, and lists how a live one differs from it.

The tables are declared in `declaration.py`. `apply` creates missing tables, views and indexes and adds missing columns;
it changes nothing else. `check` returns the remaining differences. `statements` returns the CQL for an empty cluster.
"""

from __future__ import annotations

import contextlib
import dataclasses
import re
from collections.abc import Iterator, Mapping

from tfx_cassandra.components.driver.connection import CassandraConnection, session
from tfx_cassandra.components.driver.errors import DRIVER_ERRORS, one_line
from tfx_cassandra.components.errors import SchemaError, invalid
from tfx_cassandra.components.schema import declaration, tables
from tfx_cassandra.components.schema.replication import (
    NetworkReplication,
    Replication,
    SimpleReplication,
    parse_replication,
)
from tfx_cassandra.components.schema.tables import Column, Relation

__all__ = [
    'Difference',
    'NetworkReplication',
    'Replication',
    'SimpleReplication',
    'apply',
    'check',
    'parse_replication',
    'statements',
    'warnings',
]

# A statement returns when every node has created the table, which takes much longer than a read on a busy cluster.
_STATEMENT_SECONDS = 120
_AGREEMENT_SECONDS = 60


@dataclasses.dataclass(frozen=True)
class Difference:
    """One difference between a live keyspace and the declared one.

    Attributes:
      where: The column, table or property that differs, such as 'feature_store.value'.
      got: Its value in the live keyspace.
      declared: Its declared value.
    """

    where: str
    got: str
    declared: str

    def __str__(self) -> str:
        return f'{self.where}: got {self.got}, declared {self.declared}'


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
    return [_create_keyspace(keyspace, replication), *(_with_keyspace(relation.cql, keyspace) for relation in declared)]


def apply(
    connection: CassandraConnection, replication: Replication, *, views: bool = True, sai: bool = False
) -> list[str]:
    """Creates what the connection's keyspace lacks and adds missing columns; changes nothing that exists.

    It is idempotent, also when several clients run it at once. An existing keyspace keeps its replication.

    Args:
      connection: The cluster and the keyspace.
      replication: Replication of the keyspace, if it has to be created.
      views: Whether to create the materialized views.
      sai: Whether to create the storage-attached indexes (Cassandra 5).

    Returns:
      The statements that were executed, in order.

    Raises:
      SchemaError: The server refuses a statement. Earlier ones stay applied, and applying again continues from there.
      UnavailableError: No contact point answers.
    """
    create = _create_keyspace(connection.keyspace, replication)
    declared = declaration.declared(views=views, sai=sai)
    applied: list[str] = []
    with session(connection) as live_session, _errors_named(connection.keyspace):
        host = tables.coordinator(live_session)

        def run(cql: str) -> None:
            live_session.execute(cql, timeout=_STATEMENT_SECONDS, host=host)
            applied.append(cql)

        if tables.replication(live_session, connection.keyspace) is None:
            run(create)
        live = tables.live(live_session, connection.keyspace)
        for relation in declared:
            with _errors_named(relation.name, _HINTS.get(relation.kind, '')):
                for cql in _missing(relation, live.get(relation.name)):
                    run(_with_keyspace(cql, connection.keyspace))
        live_session.cluster.refresh_keyspace_metadata(
            connection.keyspace, max_schema_agreement_wait=_AGREEMENT_SECONDS
        )
    return applied


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
    with session(connection) as live_session, _errors_named(connection.keyspace):
        copies = tables.replication(live_session, connection.keyspace)
        live = tables.live(live_session, connection.keyspace)
    if copies is None:
        return [Difference(connection.keyspace, 'no such keyspace', 'a keyspace')]
    differences: list[Difference] = []
    if replication is not None and copies != replication.options():
        differences.append(Difference(f'{connection.keyspace}.replication', str(copies), str(replication.options())))
    for relation in declaration.declared(views=views, sai=sai):
        differences += _differences(relation, live.get(relation.name))
    return differences


def warnings(connection: CassandraConnection) -> list[str]:
    """Returns warnings of table options that will cause problems, declared or not: one line per table.

    Raises:
      UnavailableError: No contact point answers.
    """
    with session(connection) as live_session, _errors_named(connection.keyspace):
        live = tables.live(live_session, connection.keyspace)
    return [warning for relation in live.values() if (warning := _windows_warning(relation))]


def _create_keyspace(keyspace: str, replication: Replication) -> str:
    options = ', '.join(f'{_text(key)}: {_text(value)}' for key, value in replication.options().items())
    return _with_keyspace(
        f'CREATE KEYSPACE IF NOT EXISTS {{keyspace}} WITH replication = {{{options}}} AND durable_writes = true',
        keyspace,
    )


def _with_keyspace(cql: str, keyspace: str) -> str:
    # A name cannot be a bound value, so it must not contain anything that could end the quotes.
    if not re.fullmatch(r'[A-Za-z0-9_]{1,48}', keyspace):
        raise invalid('keyspace', keyspace, '1 to 48 letters, digits and underscores')
    return cql.replace('{keyspace}', f'"{keyspace}"')


def _text(value: str) -> str:
    escaped = value.replace("'", "''")
    return f"'{escaped}'"


_HINTS = {
    'view': 'set materialized_views_enabled: true in cassandra.yaml, or apply with --no-views',
    'index': 'storage-attached indexes need Cassandra 5.0; apply without --sai',
}


@contextlib.contextmanager
def _errors_named(name: str, hint: str = '') -> Iterator[None]:
    """Converts driver errors within a block to a SchemaError that names the relation and gives a hint."""
    try:
        yield
    except DRIVER_ERRORS as error:
        advice = f'; {hint}' if hint else ''
        raise SchemaError(f'{name}: {one_line(error)}{advice}') from error


def _missing(relation: Relation, live: Relation | None) -> Iterator[str]:
    if live is None:
        yield relation.cql
    elif relation.kind == live.kind == 'table':
        for name, column in relation.columns.items():
            # A key column cannot be added; `check` reports it.
            if name not in live.columns and column.kind in ('regular', 'static'):
                static = ' static' if column.kind == 'static' else ''
                yield f'ALTER TABLE {{keyspace}}.{relation.name} ADD IF NOT EXISTS {name} {column.type}{static}'


def _differences(declared: Relation, live: Relation | None) -> Iterator[Difference]:
    if live is None or live.kind != declared.kind:
        yield Difference(declared.name, live.kind if live else 'nothing', declared.kind)
        return
    for name, column in declared.columns.items():
        yield from _column_differences(f'{declared.name}.{name}', column, live.columns.get(name))
    if live.source != declared.source:
        yield Difference(declared.name, live.source, declared.source)
    for name, value in declared.options.items():
        got = live.options[name]
        if isinstance(value, Mapping) and isinstance(got, Mapping):
            # The server adds its own settings; only declared ones are compared.
            got = {key: got[key].rpartition('.')[2] for key in value if key in got}
        if got != value:
            yield Difference(f'{declared.name}.{name}', str(got), str(value))


def _column_differences(where: str, declared: Column, live: Column | None) -> Iterator[Difference]:
    if live is None:
        yield Difference(where, 'nothing', f'{declared.type}, {declared.role}')
        return
    if live.type != declared.type:
        yield Difference(where, live.type, declared.type)
    if live.role != declared.role:
        yield Difference(where, live.role, declared.role)


_WINDOW_SECONDS = {'MINUTES': 60, 'HOURS': 3600, 'DAYS': 86400}


def _windows_warning(relation: Relation) -> str:
    compaction = relation.options.get('compaction')
    if not isinstance(compaction, Mapping) or not compaction['class'].endswith('TimeWindowCompactionStrategy'):
        return ''
    size, unit = compaction.get('compaction_window_size', '1'), compaction.get('compaction_window_unit', 'DAYS')
    windows_per_day = 86400 // (int(size) * _WINDOW_SECONDS[unit])
    if relation.options['default_time_to_live'] or windows_per_day < 2:
        return ''
    return (
        f'{relation.name}: compaction windows of {size} {unit.lower()} without a default_time_to_live make '
        f'{windows_per_day} windows a day, {windows_per_day * 365} a year, and none is ever dropped; '
        'set a TTL or wider windows'
    )
