"""Declares tables, views, indexes and user-defined types as values that render their CQL."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence

from tfx_cassandra.components.cql.layout import PLAIN, Layout
from tfx_cassandra.components.cql.values import has_one_form
from tfx_cassandra.components.schema.cql import literal
from tfx_cassandra.components.schema.tables import DEFAULT_OPTIONS, Column, Relation


def table(
    name: str,
    about: str,
    columns: Mapping[str, str],
    partition_key: Sequence[str],
    clustering: Mapping[str, str],
    options: Mapping[str, object] | None = None,
    layout: Layout = PLAIN,
    comment: str = '',
) -> Relation:
    """Declares a table.

    Args:
      name: Name of the table.
      about: Describes a row; becomes a comment before the statement.
      columns: CQL type of each column, followed by ` static` for a static column.
      partition_key: Columns of the partition key, in order.
      clustering: 'asc' or 'desc' of each clustering column, in order.
      options: Table options that differ from the server's defaults, as Python values.
      layout: A time bucket and a hash salt, whose columns are added to the partition key; see docs/layouts.md.
      comment: The table's comment in the cluster, such as `event_time=COLUMN`.

    Raises:
      SchemaError: The columns cannot be of the layout.
    """
    if layout.columns:
        added = {} if layout.bucket is None else {layout.bucket.column: 'timestamp'}
        added |= {} if layout.salt is None else {layout.salt.column: 'int'}
        columns, partition_key = {**columns, **added}, [*partition_key, *added]
        layout.check(name, partition_key, list(clustering), columns, has_one_form)
    if text := ' '.join(filter(None, [comment, str(layout)])):
        options = {**(options or {}), 'comment': text}
    lines = [f'{column} {cql_type}' for column, cql_type in columns.items()]
    body = ',\n    '.join([*lines, _primary_key(partition_key, clustering)])
    order = [] if set(clustering.values()) <= {'asc'} else [_order(clustering)]
    properties = order + [f'{option} = {literal(value)}' for option, value in (options or {}).items()]
    cql = f'{_comment(about)}CREATE TABLE IF NOT EXISTS {{keyspace}}.{name} (\n    {body}\n)'
    if properties:
        cql += ' WITH ' + '\n   AND '.join(properties)
    placed = _placed(columns, partition_key, clustering)
    return Relation('table', name, placed, DEFAULT_OPTIONS | dict(options or {}), cql=cql)


def view(
    name: str, about: str, base: Relation, columns: Sequence[str], partition_key: Sequence[str],
    clustering: Mapping[str, str],
) -> Relation:  # fmt: skip
    """Declares a materialized view of columns of a table; rows with a null in a key column are left out."""
    keys = [*partition_key, *clustering]
    where = ' AND '.join(f'{column} IS NOT NULL' for column in keys)
    cql = (
        f'{_comment(about)}CREATE MATERIALIZED VIEW IF NOT EXISTS {{keyspace}}.{name} AS\n'
        f'SELECT {", ".join(columns)} FROM {{keyspace}}.{base.name}\nWHERE {where}\n'
        f'{_primary_key(partition_key, clustering)}\nWITH {_order(clustering)}'
    )
    types = {column: base.columns[column].type for column in columns}
    source = f'{base.name} where {where}'
    return Relation('view', name, _placed(types, partition_key, clustering), source=source, cql=cql)


def index(name: str, about: str, table_name: str, target: str) -> Relation:
    """Declares a storage-attached index."""
    cql = f"{_comment(about)}CREATE INDEX IF NOT EXISTS {name} ON {{keyspace}}.{table_name} ({target}) USING 'sai'"
    return Relation('index', name, source=f'{table_name} ({target}) using sai', cql=cql)


def user_type(name: str, about: str, fields: Mapping[str, str]) -> Relation:
    """Declares a user-defined type; `fields` gives the CQL type of each field, new ones last, as CQL appends them."""
    body = ',\n    '.join(f'{field} {cql_type}' for field, cql_type in fields.items())
    cql = f'{_comment(about)}CREATE TYPE IF NOT EXISTS {{keyspace}}.{name} (\n    {body}\n)'
    return Relation('type', name, {field: Column(cql_type, 'field') for field, cql_type in fields.items()}, cql=cql)


def _placed(
    columns: Mapping[str, str], partition_key: Sequence[str], clustering: Mapping[str, str]
) -> dict[str, Column]:
    """Returns the columns with their positions in the primary key."""
    placed = {}
    for name, cql_type in columns.items():
        if name in partition_key:
            placed[name] = Column(cql_type, 'partition_key', list(partition_key).index(name))
        elif name in clustering:
            placed[name] = Column(cql_type, 'clustering', list(clustering).index(name), clustering[name])
        else:
            kind = 'static' if cql_type.endswith(' static') else 'regular'
            placed[name] = Column(cql_type.removesuffix(' static'), kind)
    return placed


def _primary_key(partition_key: Sequence[str], clustering: Mapping[str, str]) -> str:
    partition = ', '.join(partition_key)
    return f'PRIMARY KEY ({", ".join([f"({partition})", *clustering])})'


def _order(clustering: Mapping[str, str]) -> str:
    return f'CLUSTERING ORDER BY ({", ".join(f"{column} {order.upper()}" for column, order in clustering.items())})'


def _comment(text: str) -> str:
    return ''.join(f'-- {line}\n' for line in textwrap.wrap(' '.join(text.split()), 115))
