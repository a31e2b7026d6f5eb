"""Reads the definition of a table from the live schema."""

from __future__ import annotations

import contextlib
import re
from typing import Any

from cassandra import DriverException
from cassandra.cluster import Session
from cassandra.metadata import LocalStrategy

from tfx_cassandra.components.cql import layout
from tfx_cassandra.components.cql.layout import PLAIN, Layout
from tfx_cassandra.components.cql.table import Table
from tfx_cassandra.components.cql.values import has_one_form
from tfx_cassandra.components.errors import SchemaError

_EVENT_TIME = re.compile(r'\bevent_time=(\w+)')


def describe(session: Session, keyspace: str, name: str) -> Table:
    """Returns the definition of a table or materialized view; raises SchemaError if there is none.

    What the driver has not heard of yet, such as a table that another process has just created, is asked for once.

    Args:
      session: An open session.
      keyspace: The keyspace of a table that is named without one.
      name: TABLE, or KEYSPACE.TABLE.
    """
    first, dot, rest = name.partition('.')
    keyspace, name = (first, rest) if dot else (keyspace, name)
    metadata = session.cluster.metadata
    if not _knows(session, keyspace, name):
        with contextlib.suppress(DriverException):  # as for a table that there is not, which is said below
            if keyspace not in metadata.keyspaces:
                session.cluster.refresh_keyspace_metadata(keyspace)
            session.cluster.refresh_table_metadata(keyspace, name)
    if keyspace not in metadata.keyspaces:
        rule = f'a keyspace of the cluster ({", ".join(sorted(metadata.keyspaces))})'
        raise SchemaError(f'keyspace: got {keyspace!r}, rule: {rule}')
    known = metadata.keyspaces[keyspace]
    if known.virtual or isinstance(known.replication_strategy, LocalStrategy):
        rule = 'a keyspace that the nodes share; this one is local to each node'
        raise SchemaError(f'keyspace: got {keyspace!r}, rule: {rule}')
    table = known.tables.get(name) or known.views.get(name)
    if table is None:
        rule = f'a table of keyspace {keyspace} ({", ".join(sorted([*known.tables, *known.views]))})'
        raise SchemaError(f'table: got {name!r}, rule: {rule}')
    return Table(
        keyspace,
        name,
        tuple(column.name for column in table.partition_key),
        tuple(column.name for column in table.clustering_key),
        tuple((column.name, column.cql_type) for column in table.columns.values()),
        descending=any(column.is_reversed for column in table.clustering_key[:1]),
        has_static=any(column.is_static for column in table.columns.values()),
        static=tuple(column.name for column in table.columns.values() if column.is_static),
        event_time=_event_time(table),
        layout=_layout(name, table) if name in known.tables else PLAIN,
    )


def _knows(session: Session, keyspace: str, name: str) -> bool:
    known = session.cluster.metadata.keyspaces.get(keyspace)
    return known is not None and (name in known.tables or name in known.views)


def _layout(name: str, table: Any) -> Layout:
    """Returns the layout that a table's comment declares.

    Raises:
      SchemaError: It is not of the table's columns.
    """
    comment = (table.options or {}).get('comment') or ''
    partition, clustering = ([column.name for column in part] for part in (table.partition_key, table.clustering_key))
    types = {column.name: column.cql_type for column in table.columns.values()}
    return layout.declared(comment, name, partition, clustering, types, has_one_form)


def _event_time(table: Any) -> str | None:
    """Returns the column that a table's comment declares as the write time of its rows.

    Raises:
      SchemaError: There is no such column, or it is no timestamp.
    """
    found = _EVENT_TIME.search((table.options or {}).get('comment') or '')
    if found is None:
        return None
    column = table.columns.get(found[1])
    if column is None or column.cql_type != 'timestamp':
        raise SchemaError(
            f'comment of {table.name}: got {found[0]!r}, rule: event_time=COLUMN, a timestamp of the table'
        )
    return found[1]
