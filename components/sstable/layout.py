"""How the rows of SSTables are laid out in memory: what data.pyx needs to know of a table and of each SSTable."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from tfx_cassandra.components.cql.types import SCALARS
from tfx_cassandra.components.cql.values import type_parts
from tfx_cassandra.components.errors import SchemaError
from tfx_cassandra.components.sstable.index import Place
from tfx_cassandra.components.sstable.schema_file import SchemaFile
from tfx_cassandra.components.sstable.statistics import Header
from tfx_cassandra.components.sstable.types import Order, fixed_size, order_of, parse_type, path_order, shape_of

RING = (-(2**63), 2**63 - 1)  # (start, end] that holds every token
_SHAPES = ('list', 'set', 'map')


@dataclasses.dataclass(frozen=True)
class Target:
    """A static or regular column of the table.

    Attributes:
      shape: How its cells become a value: 'simple', or one of several, as a 'list', 'set', 'map' or 'fields'.
      place: Its place among the columns that are read; -1: it is not read.
      time_place: Its place among the write times that are read; -1: they are not.
      ttl_place: Its place among the write times and times to live that are read; -1: they are not.
      fields: Number of the fields of a user-defined type.
      asked: Whether the server takes it for a column that was asked for: where only keys were, it takes all for it.
      path_order: How its cells are ordered; None for one cell.
    """

    shape: str
    place: int
    time_place: int
    ttl_place: int
    fields: int
    asked: bool
    path_order: Order | None


@dataclasses.dataclass(frozen=True)
class Plan:
    """What is read of a table.

    Attributes:
      places: Number of columns that are read.
      time_places: Number of write times and times to live that are read.
      keys: Places of the partition key's columns, -1 where one is not read.
      clustering: The same of the clustering columns.
      clustering_orders: How the clustering columns are ordered.
      statics, regulars: The other columns.
    """

    places: int
    time_places: int
    keys: tuple[int, ...]
    clustering: tuple[int, ...]
    clustering_orders: tuple[Order, ...]
    statics: tuple[Target, ...]
    regulars: tuple[Target, ...]


@dataclasses.dataclass(frozen=True)
class Column:
    """A column as an SSTable has it: `target` is its index in the plan, -1 for none.

    `fixed` is the number of bytes of each value, -1 if each has a length. Cells of the time `dropped` (microseconds
    since 1970) and before are gone.
    """

    target: int
    shape: str
    fixed: int
    dropped: int | None


@dataclasses.dataclass(frozen=True)
class Part:
    """What is read of an SSTable.

    Attributes:
      first_key: The serialized key of the first partition in its bytes; None if not known, or not the one to begin at.
      tokens: Partitions whose tokens are in this range `(start, end]`.
      owned: Of those the ones in ranges `(start, end]`, in order and apart; None for all.
      place: The partition at or below the start of `tokens` at which its bytes begin; None for the first one.
    """

    first_key: bytes | None = None
    tokens: tuple[int, int] = RING
    owned: tuple[tuple[int, int], ...] | None = None
    place: Place | None = None


@dataclasses.dataclass(frozen=True)
class Stream:
    """How an SSTable is serialized; see statistics.Header. `clustering` are the sizes of values, -1 if they vary.

    `part` is what is read of it; None for nothing.
    """

    name: str
    wide_times: bool
    min_time: int
    min_ends: int
    min_ttl: int
    clustering: tuple[int, ...]
    statics: tuple[Column, ...]
    regulars: tuple[Column, ...]
    part: Part | None


def plan_of(
    schema: SchemaFile,
    headers: Sequence[Header],
    columns: Sequence[str],
    writetimes: Sequence[str] = (),
    ttls: Sequence[str] = (),
) -> Plan:
    """Returns the plan for reading columns, and the write times and times to live of some.

    Args:
      schema: The table.
      headers: Those of all SSTables.
      columns: Names of the columns, in this order.
      writetimes, ttls: Names of columns, in this order.
    """
    table = schema.table

    def place(names: Sequence[str], column: str) -> int:
        return names.index(column) if column in names else -1

    def target(column: str) -> Target:
        shape, fields = _shape(schema, table.type_of('columns', column))
        orders = [
            path_order(parse_type(text))
            for header in headers
            for name, text in (*header.statics, *header.regulars)
            if name == column and shape_of(parse_type(text)) == shape
        ]
        ttl = place(ttls, column)
        ttl += len(writetimes) if ttl >= 0 else 0
        asked = not wanted or column in wanted
        return Target(shape, place(columns, column), place(writetimes, column), ttl, fields, asked, _widest(orders))

    keys = (*table.partition_key, *table.clustering)
    others = [column for column, _ in table.types if column not in keys]
    wanted = {*columns, *writetimes, *ttls}.difference(keys)
    return Plan(
        len(columns),
        len(writetimes) + len(ttls),
        tuple(place(columns, column) for column in table.partition_key),
        tuple(place(columns, column) for column in table.clustering),
        _clustering_orders(headers, len(table.clustering)),
        tuple(target(column) for column in others if column in table.static),
        tuple(target(column) for column in others if column not in table.static),
    )


def stream_of(schema: SchemaFile, header: Header, version: str, name: str, part: Part | None) -> Stream:
    """Returns how an SSTable is serialized.

    Raises:
      SchemaError: It has a column that the table neither has nor has dropped, or one that is laid out otherwise.
    """
    table = schema.table
    keys = (*table.partition_key, *table.clustering)
    if len(header.clustering) != len(table.clustering):
        raise SchemaError(f'{name}: got {len(header.clustering)} clustering columns, rule: those of {table}')
    others = [column for column, _ in table.types if column not in keys]
    statics = [column for column in others if column in table.static]
    regulars = [column for column in others if column not in table.static]

    def column_of(column: str, text: str, targets: Sequence[str]) -> Column:
        kind = parse_type(text)
        shape, dropped = shape_of(kind), schema.dropped.get(column)
        if column not in targets and dropped is None:
            raise SchemaError(f'{name}: got column {column!r}, rule: a column of {table}, or one that it has dropped')
        wanted = _shape(schema, table.type_of('columns', column))[0] if column in targets else shape
        if shape != wanted:
            raise SchemaError(f'{name}: got column {column!r} as {text}, rule: as {table} has it')
        fixed = fixed_size(kind) if shape == 'simple' else -1
        return Column(targets.index(column) if column in targets else -1, shape, fixed, dropped)

    return Stream(
        name,
        version != 'nb',
        header.min_time,
        header.min_ends,
        header.min_ttl,
        tuple(fixed_size(parse_type(text)) for text in header.clustering),
        tuple(column_of(column, text, statics) for column, text in header.statics),
        tuple(column_of(column, text, regulars) for column, text in header.regulars),
        part,
    )


def shape_of_column(schema: SchemaFile, cql_type: str) -> str:
    """Returns how the cells of a column of a CQL type become a value; see Target."""
    return _shape(schema, cql_type)[0]


def _shape(schema: SchemaFile, cql_type: str) -> tuple[str, int]:
    """Returns how the cells of a column of a CQL type become a value, and how many fields its type has."""
    name, _ = type_parts(cql_type)
    if name in _SHAPES:
        return name, 0
    if name in SCALARS:
        return 'simple', 0
    unquoted = name[1:-1].replace('""', '"') if name.startswith('"') else name
    fields = schema.user_types.get(unquoted)
    return ('simple', 0) if fields is None else ('fields', len(fields))


def _clustering_orders(headers: Sequence[Header], count: int) -> tuple[Order, ...]:
    orders: list[Order] = []
    for i in range(count):
        widest = _widest(
            [order_of(parse_type(header.clustering[i])) for header in headers if i < len(header.clustering)]
        )
        orders.append(widest or Order('raw'))
    return tuple(orders)


def _widest(orders: Sequence[Order | None]) -> Order | None:
    """Returns the order with the most parts: a user-defined type may have got fields since an SSTable was written."""
    return max((order for order in orders if order is not None), key=_parts, default=None)


def _parts(order: Order) -> int:
    return 1 + sum(map(_parts, order.parts))
