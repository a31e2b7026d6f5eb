"""Tables, views and indexes as values: parsed from the declared CQL, or read from a live keyspace."""

from __future__ import annotations

import ast
import dataclasses
import importlib.resources
import re
import time
from collections.abc import Iterable, Mapping
from typing import Any

from cassandra.cluster import Session
from cassandra.pool import Host

from tfx_cassandra.components.errors import SchemaError, invalid

# A table option that is not declared has this value; an undeclared compaction is the server's choice.
DEFAULT_OPTIONS = {'default_time_to_live': 0, 'gc_grace_seconds': 864000}
OPTIONS = (*DEFAULT_OPTIONS, 'compaction')

_COORDINATOR_TRIES, _COORDINATOR_PAUSE = 300, 0.1  # seconds


@dataclasses.dataclass(frozen=True)
class Column:
    """One column of a table or view.

    Attributes:
      type: CQL type, such as 'map<text, text>'.
      kind: 'partition_key', 'clustering', 'static' or 'regular'.
      position: Place within the partition key or the clustering columns, from 0; -1 for other columns.
      order: 'asc' or 'desc' for a clustering column, else 'none'.
    """

    type: str
    kind: str = 'regular'
    position: int = -1
    order: str = 'none'

    @property
    def role(self) -> str:
        """Where the column stands in the primary key, such as 'clustering column 0, desc'."""
        if self.kind == 'partition_key':
            return f'partition key column {self.position}'
        if self.kind == 'clustering':
            return f'clustering column {self.position}, {self.order}'
        return f'{self.kind} column'


@dataclasses.dataclass(frozen=True)
class Relation:
    """One table, view or index.

    Attributes:
      kind: 'table', 'view' or 'index'.
      name: Its name in the keyspace.
      columns: Columns by name; empty for an index.
      options: default_time_to_live, gc_grace_seconds and compaction (a mapping); empty for views and indexes.
      source: What a view or index is made from; empty for a table.
      cql: The declaring statement with '{keyspace}' in it; empty for a relation read from a live keyspace.
    """

    kind: str
    name: str
    columns: Mapping[str, Column] = dataclasses.field(default_factory=dict)
    options: Mapping[str, object] = dataclasses.field(default_factory=dict)
    source: str = ''
    cql: str = ''


def declared(*, views: bool = True, sai: bool = False) -> list[Relation]:
    """Returns what schema/*.cql declares, in an order that can be applied.

    Args:
      views: Whether to include the materialized views.
      sai: Whether to include the storage-attached indexes.
    """
    files = ['tables.cql'] + ['views.cql'] * views + ['indexes.cql'] * sai
    folder = importlib.resources.files('tfx_cassandra.components.schema')
    relations: list[Relation] = []
    for file in files:
        text = (folder / file).read_text(encoding='utf-8')
        relations += [parse(cql, relations) for cql in split(text)]
    return relations


def split(text: str) -> list[str]:
    """Parts a file into its statements, without their semicolons; a comment stays with the statement after it."""
    # A comment line is taken whole, for there may be a semicolon in it.
    return [cql.strip() for cql in re.findall(r'(?:--[^\n]*\n|[^;])+', text) if cql.strip()]


_TABLE = re.compile(
    r'CREATE TABLE IF NOT EXISTS {keyspace}\.(?P<name>\w+) \(\n'
    r'(?P<columns>.*),\n\s*(?P<key>PRIMARY KEY [^\n]*)\n\)(?: WITH (?P<options>.*))?',
    re.DOTALL,
)
_VIEW = re.compile(
    r'CREATE MATERIALIZED VIEW IF NOT EXISTS {keyspace}\.(?P<name>\w+) AS\s+SELECT (?P<columns>.*?)\s+'
    r'FROM {keyspace}\.(?P<base>\w+)\s+WHERE (?P<where>.*?)\s+(?P<key>PRIMARY KEY [^\n]*)\s+WITH (?P<options>.*)',
    re.DOTALL,
)
_INDEX = re.compile(
    r"CREATE INDEX IF NOT EXISTS (?P<name>\w+) ON {keyspace}\.(?P<table>\w+) \((?P<target>.*)\) USING '(?P<using>\w+)'"
)
_KEY = re.compile(r'PRIMARY KEY \(\((?P<partition>[^()]*)\)(?:, (?P<clustering>[^()]*))?\)')
_ORDER = re.compile(r'CLUSTERING ORDER BY \(([^()]*)\)')


def parse(cql: str, known: Iterable[Relation] = ()) -> Relation:
    """Parses one CREATE statement written as those in schema/*.cql are: a column a line, names unquoted.

    Args:
      cql: The statement, without the semicolon.
      known: The relations a view may be made from.

    Raises:
      ValueError: The statement is written in another manner.
    """
    text = re.sub(r'--[^\n]*\n', '', cql)
    if match := _TABLE.fullmatch(text):
        lines = [line.strip().split(' ', 1) for line in match['columns'].split(',\n')]
        columns = {name: Column(type_) for name, type_ in lines}
        options = match['options'] or ''
        return Relation('table', match['name'], _keyed(columns, match['key'], options), _options(options), cql=cql)
    if match := _VIEW.fullmatch(text):
        base = {relation.name: relation for relation in known}[match['base']]
        columns = {name: Column(base.columns[name].type) for name in match['columns'].split(', ')}
        source = f'{match["base"]} where {match["where"]}'
        return Relation('view', match['name'], _keyed(columns, match['key'], match['options']), source=source, cql=cql)
    if match := _INDEX.fullmatch(text):
        source = f'{match["table"]} ({match["target"]}) using {match["using"]}'
        return Relation('index', match['name'], source=source, cql=cql)
    raise invalid('schema', text[:80], 'a CREATE statement in the manner of schema/*.cql')


def _keyed(columns: Mapping[str, Column], key: str, options: str) -> dict[str, Column]:
    """Returns the columns with their places in the primary key and their static marks."""
    match = _KEY.fullmatch(key)
    if not match:
        raise invalid('schema', key, 'PRIMARY KEY ((...), ...)')
    order_by = _ORDER.search(options)
    orders = dict(term.split(' ') for term in order_by[1].lower().split(', ')) if order_by else {}
    keyed = {
        name: Column(column.type.removesuffix(' static'), 'static' if column.type.endswith(' static') else 'regular')
        for name, column in columns.items()
    }
    for position, name in enumerate(match['partition'].split(', ')):
        keyed[name] = Column(keyed[name].type, 'partition_key', position)
    for position, name in enumerate((match['clustering'] or '').split(', ') if match['clustering'] else ()):
        keyed[name] = Column(keyed[name].type, 'clustering', position, orders.get(name, 'asc'))
    return keyed


def _options(text: str) -> dict[str, object]:
    # CQL's literals for numbers, texts and maps are Python's too.
    terms = [term.split('=', 1) for term in re.split(r'\s+AND\s+', text) if '=' in term]
    return DEFAULT_OPTIONS | {name.strip(): ast.literal_eval(value.strip()) for name, value in terms}


def coordinator(session: Session) -> Host:
    """Returns the node that schema statements go to: the same for every client of a data center.

    A node runs schema statements one after another, so that two clients that create a table at once get one table; on
    two nodes they would get two with different ids, and the nodes would never agree again.

    Raises:
      SchemaError: The node does not accept connections, and is not known to be down; or no node does.
    """
    for _ in range(_COORDINATOR_TRIES):
        connected = session.get_pool_state()
        centers = {host.datacenter for host in connected}
        hosts = [host for host in session.cluster.metadata.all_hosts() if host.datacenter in centers]
        first = min((host for host in hosts if host.is_up is not False), key=lambda host: host.host_id, default=None)
        if first is not None and first in connected:
            return first
        # A new session has connected to one node, and goes on to the others in the background.
        time.sleep(_COORDINATOR_PAUSE)
    raise SchemaError(f'{first or "any node"}: no connection to the node that runs schema statements')


def live(session: Session, keyspace: str) -> dict[str, Relation]:
    """Returns the tables, views and indexes a keyspace has, by name; none if there is no such keyspace."""
    # Columns come last: a table that another client creates meanwhile must not be seen without them.
    indexes, views, plain = (list(_rows(session, table, keyspace)) for table in ('indexes', 'views', 'tables'))
    columns: dict[str, dict[str, Column]] = {}
    for row in _rows(session, 'columns', keyspace):
        column = Column(row.type, row.kind, row.position, row.clustering_order)
        columns.setdefault(row.table_name, {})[row.column_name] = column
    relations = []
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
    """Returns a keyspace's replication with the class's short name, or None if there is no such keyspace."""
    rows = list(_rows(session, 'keyspaces', keyspace))
    return {key: value.rpartition('.')[2] for key, value in rows[0].replication.items()} if rows else None


def _rows(session: Session, table: str, keyspace: str) -> Iterable[Any]:
    # The table's name is one of this module's own.
    statement = session.prepare(f'SELECT * FROM system_schema.{table} WHERE keyspace_name = ?')
    return session.execute(statement, (keyspace,), host=coordinator(session))
