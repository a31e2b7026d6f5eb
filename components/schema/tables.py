"""Tables, views and indexes as values, declared (declaration.py) or read from a live keyspace."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterable, Mapping
from typing import Any

from cassandra.cluster import Session
from cassandra.pool import Host

from tfx_cassandra.components.errors import SchemaError

# Values of table options that are not declared; the server chooses an undeclared compaction.
DEFAULT_OPTIONS = {'default_time_to_live': 0, 'gc_grace_seconds': 864000}
OPTIONS = (*DEFAULT_OPTIONS, 'compaction', 'comment')

_COORDINATOR_ATTEMPTS, _COORDINATOR_PAUSE = 300, 0.1  # seconds


@dataclasses.dataclass(frozen=True)
class Column:
    """One column of a table or view.

    Attributes:
      type: CQL type, such as 'map<text, text>'.
      kind: 'partition_key', 'clustering', 'static' or 'regular'; 'field' for a field of a user-defined type.
      position: Index within the partition key or the clustering columns, from 0; -1 for other columns.
      order: 'asc' or 'desc' for a clustering column, else 'none'.
    """

    type: str
    kind: str = 'regular'
    position: int = -1
    order: str = 'none'

    @property
    def role(self) -> str:
        """The role of the column in the primary key, such as 'clustering column 0, desc'."""
        if self.kind == 'partition_key':
            return f'partition key column {self.position}'
        if self.kind == 'clustering':
            return f'clustering column {self.position}, {self.order}'
        return 'field' if self.kind == 'field' else f'{self.kind} column'


@dataclasses.dataclass(frozen=True)
class Relation:
    """One table, view, index or user-defined type.

    Attributes:
      kind: 'table', 'view', 'index' or 'type'.
      name: Name in the keyspace.
      columns: Columns by name, or the fields of a type; empty for an index.
      options: default_time_to_live, gc_grace_seconds, compaction (a mapping) and comment of a table; empty for others.
      source: What a view or index is built on; empty for others.
      cql: The CREATE statement, with '{keyspace}' for its keyspace; empty for a relation of a live keyspace.
    """

    kind: str
    name: str
    columns: Mapping[str, Column] = dataclasses.field(default_factory=dict)
    options: Mapping[str, object] = dataclasses.field(default_factory=dict)
    source: str = ''
    cql: str = ''


def coordinator(session: Session) -> Host:
    """Returns the node to which schema statements are sent: the same one for every client of a data center.

    A node runs schema statements one after another, so two clients that create a table at the same time get one table.
    On two nodes they would create two tables with different ids, and the nodes would never agree again.

    Raises:
      SchemaError: The node accepts no connections although it is not known to be down, or no node accepts any.
    """
    for _ in range(_COORDINATOR_ATTEMPTS):
        connected = session.get_pool_state()
        centers = {host.datacenter for host in connected}
        hosts = [host for host in session.cluster.metadata.all_hosts() if host.datacenter in centers]
        first = min((host for host in hosts if host.is_up is not False), key=lambda host: host.host_id, default=None)
        if first is not None and first in connected:
            return first
        # A new session is connected to one node, and connects to the others in the background.
        time.sleep(_COORDINATOR_PAUSE)
    raise SchemaError(f'{first or "any node"}: no connection to the node that runs schema statements')


def live(session: Session, keyspace: str) -> dict[str, Relation]:
    """Returns the tables, views, indexes and types of a keyspace by name; none if the keyspace does not exist.

    A type may have the name of a table, which then hides it.
    """
    # Columns are read last, so that a table that another client creates meanwhile is not seen without its columns.
    types, indexes, views, plain = (
        list(_rows(session, table, keyspace)) for table in ('types', 'indexes', 'views', 'tables')
    )
    columns: dict[str, dict[str, Column]] = {}
    for row in _rows(session, 'columns', keyspace):
        column = Column(row.type, row.kind, row.position, row.clustering_order)
        columns.setdefault(row.table_name, {})[row.column_name] = column
    relations = []
    for row in types:
        fields = zip(row.field_names, row.field_types, strict=True)
        relations.append(Relation('type', row.type_name, {name: Column(kind, 'field') for name, kind in fields}))
    for row in indexes:
        using = row.options.get('class_name', row.kind).replace('StorageAttachedIndex', 'sai')
        source = f'{row.table_name} ({row.options["target"]}) using {using}'
        relations.append(Relation('index', row.index_name, source=source))
    for row in views:
        source = f'{row.base_table_name} where {row.where_clause}'
        relations.append(Relation('view', row.view_name, columns.get(row.view_name, {}), source=source))
    for row in plain:
        options = {name: getattr(row, name) for name in OPTIONS}
        relations.append(Relation('table', row.table_name, columns.get(row.table_name, {}), options))
    return {relation.name: relation for relation in relations}


def replication(session: Session, keyspace: str) -> dict[str, str] | None:
    """Returns a keyspace's replication with the short class name, or None if the keyspace does not exist."""
    rows = list(_rows(session, 'keyspaces', keyspace))
    return {key: value.rpartition('.')[2] for key, value in rows[0].replication.items()} if rows else None


def _rows(session: Session, table: str, keyspace: str) -> Iterable[Any]:
    # The table name is a constant of this module.
    statement = session.prepare(f'SELECT * FROM system_schema.{table} WHERE keyspace_name = ?')
    rows: Iterable[Any] = session.execute(statement, (keyspace,), host=coordinator(session))
    return rows
