"""A live table's keys and types, and quoted names for CQL."""

from __future__ import annotations

import dataclasses
import datetime
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import pyarrow as pa

from tfx_cassandra.components.cql.layout import PLAIN, Layout
from tfx_cassandra.components.cql.values import serialized
from tfx_cassandra.components.errors import SchemaError

_EMPTY = ('empty', "'org.apache.cassandra.db.marshal.EmptyType'")


UserType = tuple[str, tuple[str, ...], tuple[str, ...]]  # name, field names, field types


class Identity(NamedTuple):
    """The properties of a table that must not change while it is read.

    Attributes:
      id: The table's id; None if there is no such table.
      user_types: The user-defined types of the table's columns.
      schema: Arrow schema of all columns that are read.
      dropped: Columns of the table that were dropped, and perhaps added again, with the time: `(name, time)`, in order.
    """

    id: str | None
    user_types: tuple[UserType, ...]
    schema: pa.Schema
    dropped: tuple[tuple[str, datetime.datetime], ...] = ()


@dataclasses.dataclass(frozen=True)
class Table:
    """A live table or view: its keys and its columns' CQL types.

    Attributes:
      keyspace: Name of the keyspace.
      name: Name of the table or materialized view.
      partition_key: Names of the partition key's columns, in order.
      clustering: Names of the clustering columns, in order.
      types: (column name, CQL type) of every column.
      descending: Whether the first clustering column is stored latest first.
      has_static: Whether some column is static.
      static: Names of the static columns.
      event_time: The column that the table's comment declares as the write time of its rows (`event_time=COLUMN`).
      layout: The time bucket and the hash salt that its comment declares.
      identity: What must not change while the table is read; None if it is not checked.
    """

    keyspace: str
    name: str
    partition_key: tuple[str, ...]
    clustering: tuple[str, ...]
    types: tuple[tuple[str, str], ...]
    descending: bool = False
    has_static: bool = False
    static: tuple[str, ...] = ()
    event_time: str | None = None
    layout: Layout = PLAIN
    identity: Identity | None = dataclasses.field(default=None, compare=False)

    @property
    def readable(self) -> tuple[str, ...]:
        """The names of all columns, keys first, except those of the empty type that COMPACT STORAGE leaves behind."""
        keys = (*self.partition_key, *self.clustering)
        others = [name for name, cql_type in self.types if name not in keys and cql_type not in _EMPTY]
        return (*keys, *others)

    @property
    def own_partition_key(self) -> tuple[str, ...]:
        """The columns of the partition key without those of the layout, which the package fills."""
        return tuple(column for column in self.partition_key if column not in self.layout.columns)

    @property
    def own_key(self) -> tuple[str, ...]:
        """The columns of the primary key without those of the layout."""
        return (*self.own_partition_key, *self.clustering)

    @property
    def own_columns(self) -> tuple[str, ...]:
        """`readable` without the columns of the layout."""
        return tuple(column for column in self.readable if column not in self.layout.columns)

    def salts(self, given: Mapping[str, Any]) -> Sequence[int | None]:
        """Returns the salts of rows with some values: one where all of its columns are given; None without a salt.

        Args:
          given: Values by column, as `values.parse` returns them.
        """
        salt = self.layout.salt
        if salt is None:
            return (None,)
        if not given.keys() >= {*salt.columns}:
            return range(salt.count)
        types = dict(self.types)
        return (salt.of([serialized(types[column], given[column]) for column in salt.columns]),)

    def type_of(self, field: str, column: str) -> str:
        """Returns a column's CQL type; raises SchemaError naming `field` if the table has no such column."""
        types = dict(self.types)
        if column not in types:
            rule = f'a column of {self.keyspace}.{self.name} ({", ".join(sorted(types))})'
            raise SchemaError(f'{field}: got {column!r}, rule: {rule}')
        return types[column]

    def __str__(self) -> str:
        return f'{self.keyspace}.{self.name}'


def writetime_name(column: str) -> str:
    """Returns the name of the batch column that holds a column's write time."""
    return f'writetime({column})'


def ttl_name(column: str) -> str:
    """Returns the name of the batch column that holds the seconds for which a column's value is still kept."""
    return f'ttl({column})'


def quoted(identifier: str) -> str:
    """Quotes a CQL identifier."""
    return '"' + identifier.replace('"', '""') + '"'
