"""What a scan asks for, checked against the table, and the CQL that asks for it."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

from tfx_cassandra.components.dataset.window import TimeWindow
from tfx_cassandra.components.errors import SchemaError
from tfx_cassandra.components.scan.ring import TokenRange


@dataclasses.dataclass(frozen=True)
class Table:
    """A live table or view: its keys and its columns' CQL types.

    Attributes:
      keyspace: Name of the keyspace.
      name: Name of the table or materialized view.
      partition_key: Names of the partition key's columns, in order.
      clustering: Names of the clustering columns, in order.
      types: (column name, CQL type) of every column.
    """

    keyspace: str
    name: str
    partition_key: tuple[str, ...]
    clustering: tuple[str, ...]
    types: tuple[tuple[str, str], ...]

    def type_of(self, field: str, column: str) -> str:
        """Returns a column's CQL type; raises SchemaError naming `field` if the table has no such column."""
        types = dict(self.types)
        if column not in types:
            rule = f'a column of {self.keyspace}.{self.name} ({", ".join(sorted(types))})'
            raise SchemaError(f'{field}: got {column!r}, rule: {rule}')
        return types[column]


@dataclasses.dataclass(frozen=True)
class Scan:
    """A full scan of a table, by token ranges, of some columns and perhaps of a window.

    Attributes:
      table: The table.
      columns: The columns wanted, in this order.
      window: Event times wanted, `[start, end)`, or None for all.
      time_column: The column the window is about.
      filters: (column, values) that a row must have one of; applied after decoding.
    """

    table: Table
    columns: tuple[str, ...]
    window: TimeWindow | None = None
    time_column: str | None = None
    filters: tuple[tuple[str, tuple], ...] = ()

    @property
    def pushed_down(self) -> bool:
        """Whether the server takes the window as a clustering slice; if not, it is filtered after decoding."""
        return self.window is not None and self.table.clustering[:1] == (self.time_column,)

    @property
    def selected(self) -> tuple[str, ...]:
        """The columns read: those wanted, then those that are only filtered on."""
        extra = [self.time_column] if self.window is not None and not self.pushed_down else []
        extra += [column for column, _ in self.filters]
        return tuple(dict.fromkeys([*self.columns, *extra]))  # type: ignore[list-item]

    @property
    def cql(self) -> str:
        """The statement for one token range; its values are `bounds` of that range."""
        partition = ', '.join(map(quoted, self.table.partition_key))
        where = f'token({partition}) > ? AND token({partition}) <= ?'
        if self.pushed_down:
            time = quoted(str(self.time_column))
            # A slice of the first clustering column reaches the storage engine as a slice, so filtering costs nothing.
            where += f' AND {time} >= ? AND {time} < ? ALLOW FILTERING'
        columns = ', '.join(map(quoted, self.selected))
        return f'SELECT {columns} FROM {quoted(self.table.keyspace)}.{quoted(self.table.name)} WHERE {where}'

    @property
    def window_bounds(self) -> tuple[int, ...]:
        """The values that follow a range's start and end in `cql`: milliseconds since 1970."""
        return self.window.bounds if self.window is not None and self.pushed_down else ()


class Split(NamedTuple):
    """One token range of a scan."""

    scan: Scan
    token_range: TokenRange


def plan_scan(
    table: Table,
    columns: Sequence[str] | None = None,
    window: TimeWindow | None = None,
    time_column: str | None = None,
    filters: Sequence[tuple[str, tuple]] = (),
) -> Scan:
    """Checks what is asked for against a table.

    Args:
      table: The live table.
      columns: Names of the columns wanted; None for all, keys first.
      window: Event times wanted, `[start, end)`; None for all.
      time_column: The column of type timestamp the window is about; None for the first clustering column.
      filters: (column, values): rows whose value is none of these are left out.

    Raises:
      SchemaError: The table lacks a column, or the window's column is not a timestamp.
    """
    keys = (*table.partition_key, *table.clustering)
    everything = (*keys, *(name for name, _ in table.types if name not in keys))
    for column in columns or ():
        table.type_of('columns', column)
    for column, _ in filters:
        table.type_of('where', column)
    if window is not None:
        time_column = time_column or next(iter(table.clustering), None)
        kind = table.type_of('time_column', time_column) if time_column else 'no clustering column'
        if kind != 'timestamp':
            rule = f'a column of type timestamp; in {table.keyspace}.{table.name} it is {kind}'
            raise SchemaError(f'time_column: got {time_column!r}, rule: {rule}')
    return Scan(table, tuple(columns or everything), window, time_column, tuple(filters))


def quoted(identifier: str) -> str:
    """Quotes a CQL identifier."""
    return '"' + identifier.replace('"', '""') + '"'
