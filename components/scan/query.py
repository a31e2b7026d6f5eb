"""What a scan asks for, checked against the table, and the CQL that asks for it."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from tfx_cassandra.components.cql import values
from tfx_cassandra.components.cql.table import Table, quoted, ttl_name, writetime_name
from tfx_cassandra.components.cql.types import SCALARS
from tfx_cassandra.components.errors import SchemaError
from tfx_cassandra.components.scan.area import ALL_TIMES, Area, Slice
from tfx_cassandra.components.window import TimeWindow


@dataclasses.dataclass(frozen=True)
class Scan:
    """A full scan of a table, by areas, of some columns and perhaps of a window.

    Attributes:
      table: The table.
      columns: The columns wanted, in this order.
      window: Event times wanted, `[start, end)`, or None for all.
      time_column: The column the window is about.
      filters: (column, values parsed into its type) that a row must have one of; applied after decoding.
      writetimes: The columns whose write times are wanted: each an int64 column `writetime(column)` behind `columns`,
        in microseconds since 1970.
      ttls: The columns whose times to live are wanted: each a column `ttl(column)` behind those, in seconds that
        remain; of a collection a list, of its elements.
      slices: Whether the server takes slices of the first clustering column; if not, a window is filtered after
        decoding.
    """

    table: Table
    columns: tuple[str, ...]
    window: TimeWindow | None = None
    time_column: str | None = None
    filters: tuple[tuple[str, tuple[Any, ...]], ...] = ()
    writetimes: tuple[str, ...] = ()
    slices: bool = True
    ttls: tuple[str, ...] = ()

    @property
    def pushed_down(self) -> bool:
        """Whether the server takes the window as a clustering slice; if not, it is filtered after decoding."""
        return self.slices and self.window is not None and self.table.clustering[:1] == (self.time_column,)

    @property
    def sliced_column(self) -> str | None:
        """The column by which a partition may be read in slices: the first clustering column, if a timestamp."""
        first = self.table.clustering[:1]
        if not self.slices or not first or dict(self.table.types)[first[0]] != 'timestamp':
            return None
        # A partition that has static columns and no rows comes as a row without a time: no slice would hold it.
        return first[0] if self.pushed_down or not self.table.has_static else None

    @property
    def times(self) -> Slice:
        """The slice of the first clustering column that is read in all."""
        return Slice(*self.window.bounds) if self.window is not None and self.pushed_down else ALL_TIMES

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the columns a batch has: those wanted, then the write times and the times to live."""
        return (*self.columns, *map(writetime_name, self.writetimes), *map(ttl_name, self.ttls))

    @property
    def selected(self) -> tuple[str, ...]:
        """The columns read behind `names` for the scan's own use: filtered on, or telling how far a read has come."""
        extra = [self.time_column] if self.window is not None and not self.pushed_down else []
        extra += [column for column, _ in self.filters]
        extra += [*self.table.partition_key, self.sliced_column]
        return tuple(dict.fromkeys(column for column in extra if column is not None and column not in self.columns))

    def index(self, column: str) -> int:
        """Returns the place of a column that is read in the result."""
        # A column may be called as the write time of another is.
        if column in self.columns:
            return self.columns.index(column)
        return len(self.names) + self.selected.index(column)

    @property
    def select(self) -> str:
        """The statement's beginning: what is selected, and from which table."""
        cells = [*map(self._writetime, self.writetimes), *map(_ttl, self.ttls)]
        columns = [*map(quoted, self.columns), *cells, *map(quoted, self.selected)]
        return f'SELECT {", ".join(columns)} FROM {quoted(self.table.keyspace)}.{quoted(self.table.name)}'

    def cql(self, times: Slice = ALL_TIMES) -> str:
        """The statement for the areas of a slice; its values are `values` of the area."""
        return f'{self.select} WHERE {self.condition(times)}'

    def condition(self, times: Slice = ALL_TIMES) -> str:
        """What `cql(times)` has behind WHERE."""
        partition = ', '.join(map(quoted, self.table.partition_key))
        where = f'token({partition}) > ? AND token({partition}) <= ?'
        # A timestamp may be empty, which is no moment: an open end carries no condition, or no slice would hold it.
        conditions = [sign for sign, bounded in zip(('>=', '<='), times.bounded, strict=True) if bounded]
        where += ''.join(f' AND {quoted(str(self.sliced_column))} {sign} ?' for sign in conditions)
        if conditions:
            # A slice of the first clustering column reaches the storage engine as a slice, so filtering costs nothing.
            where += ' ALLOW FILTERING'
        return where

    def values(self, area: Area) -> tuple[int, ...]:
        """The values of `cql(area.times)` for an area; the last moment of a slice is bound as an inclusive end."""
        ends = zip((area.times.start, area.times.end - 1), area.times.bounded, strict=True)
        return (area.tokens.start, area.tokens.end, *(end for end, bounded in ends if bounded))

    def _writetime(self, column: str) -> str:
        # A collection or user-defined type that is not frozen has a write time for each of its parts.
        cql_type = self.table.type_of('writetimes', column)
        one_cell = cql_type in SCALARS or cql_type.startswith(('frozen<', 'tuple<', 'vector<'))
        function = 'WRITETIME' if one_cell else 'MAXWRITETIME'
        return f'{function}({quoted(column)}) AS {quoted(writetime_name(column))}'


def plan_scan(
    table: Table,
    columns: Sequence[str] | None = None,
    window: TimeWindow | None = None,
    time_column: str | None = None,
    filters: Sequence[tuple[str, tuple[Any, ...]]] = (),
    writetimes: Sequence[str] = (),
    ttls: Sequence[str] = (),
) -> Scan:
    """Checks what is asked for against a table.

    Args:
      table: The live table.
      columns: Names of the columns wanted; None for all but those of the table's layout, keys first.
      window: Event times wanted, `[start, end)`; None for all.
      time_column: The column of type timestamp the window is about; None for the first clustering column.
      filters: (column, values as given): rows whose value is none of these are left out.
      writetimes, ttls: Names of columns, outside of the primary key, whose write times or times to live are wanted.

    Raises:
      SchemaError: The table lacks a column, a filter's value is none of its column's type, the window's column is not a
        timestamp, or a key's write time is asked for.
    """
    keys = (*table.partition_key, *table.clustering)
    for column in columns or ():
        table.type_of('columns', column)
    parsed = [(column, values.parse_all(column, table.type_of('where', column), given)) for column, given in filters]
    for column in (*writetimes, *ttls):
        if table.type_of('writetimes', column) == 'counter' or column in keys:
            raise SchemaError(f'writetimes: got {column!r}, rule: a column with a write time, no key and no counter')
    if window is not None:
        time_column = time_column or next(iter(table.clustering), None)
        kind = table.type_of('time_column', time_column) if time_column else 'no clustering column'
        if kind != 'timestamp':
            rule = f'a column of type timestamp; in {table} it is {kind}'
            raise SchemaError(f'time_column: got {time_column!r}, rule: {rule}')
    wanted = tuple(columns or table.own_columns)
    return Scan(table, wanted, window, time_column, tuple(parsed), tuple(writetimes), ttls=tuple(ttls))


def _ttl(column: str) -> str:
    return f'TTL({quoted(column)}) AS {quoted(ttl_name(column))}'
