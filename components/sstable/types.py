"""Cassandra's names of types, as an SSTable has them: how values are ordered, and how a column's cells are laid out.

| type | ordered as |
|---|---|
| ascii, text, blob, date, time, inet, duration | bytes |
| tinyint, smallint, int, bigint, timestamp | numbers |
| boolean, float, double, varint, decimal | numbers; NaN last, -0.0 before 0.0 |
| uuid, timeuuid | version 1 by time; else bytes |
| list, set, map, tuple, user-defined type, vector | element by element |

Authority: org.apache.cassandra.db.marshal.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator
from typing import NamedTuple

from tfx_cassandra.components.errors import ReadError

_TOKEN = re.compile(r'[(),]|[^(),\s]+')
_ORDERS = {
    **dict.fromkeys(['AsciiType', 'UTF8Type', 'BytesType', 'InetAddressType'], 'raw'),
    **dict.fromkeys(['SimpleDateType', 'TimeType', 'DurationType', 'EmptyType'], 'raw'),
    **dict.fromkeys(['ByteType', 'ShortType', 'Int32Type', 'LongType', 'TimestampType'], 'signed'),
    'BooleanType': 'boolean', 'FloatType': 'float', 'DoubleType': 'double', 'IntegerType': 'varint',
    'DecimalType': 'decimal', 'UUIDType': 'uuid', 'TimeUUIDType': 'timeuuid', 'ListType': 'listed', 'SetType': 'listed',
    'MapType': 'listed', 'TupleType': 'tuple', 'UserType': 'tuple', 'VectorType': 'vector',
}  # fmt: skip
_FIXED = {
    'BooleanType': 1, 'Int32Type': 4, 'FloatType': 4, 'LongType': 8, 'DoubleType': 8, 'TimestampType': 8,
    'UUIDType': 16, 'TimeUUIDType': 16, 'EmptyType': 0,
}  # fmt: skip
_SHAPES = {'ListType': 'list', 'SetType': 'set', 'MapType': 'map', 'UserType': 'fields'}
_WRAPPERS = ('FrozenType', 'ReversedType')


class Type(NamedTuple):
    """A type: its class's name without the package, its parameters, and as a field of another type the field's name."""

    name: str
    parts: tuple[Type, ...] = ()
    field: str = ''


@dataclasses.dataclass(frozen=True)
class Order:
    """How serialized values of a type are ordered.

    Attributes:
      code: A name of `_ORDERS` in data.pyx.
      parts: The orders of its parts.
      reversed: Whether the greatest comes first.
      dimension: Number of a vector's elements.
      fixed: Bytes of each element of a vector; -1 if each has a length.
    """

    code: str
    parts: tuple[Order, ...] = ()
    reversed: bool = False
    dimension: int = 0
    fixed: int = -1


def parse_type(text: str) -> Type:
    """Parses the name of a type, such as org.apache.cassandra.db.marshal.ListType(...Int32Type).

    Raises:
      ReadError: It is no name of a type.
    """
    tokens = iter([*_TOKEN.findall(text), ''])
    try:
        found, end = _parse(next(tokens), tokens)
    except StopIteration:
        end = None
    if end != '':
        raise ReadError(f'type: got {text!r}, rule: a name and parameters in brackets')
    return found


def _parse(name: str, tokens: Iterator[str]) -> tuple[Type, str]:
    """Returns a type whose name has been read, and the token behind it."""
    # The fields of a user-defined type have their names in front, in hexadecimal digits as that of the type.
    field, _, short = name.rpartition(':')
    short = short.rpartition('.')[2]
    token = next(tokens)
    if token != '(':
        return Type(short, (), field), token
    parts: list[Type] = []
    while token in ('(', ','):
        part, token = _parse(next(tokens), tokens)
        parts.append(part)
    if token != ')':
        raise StopIteration
    return Type(short, tuple(parts), field), next(tokens)


def fixed_size(kind: Type) -> int:
    """Returns the bytes of every value of a type; -1 if they vary."""
    if kind.name in _WRAPPERS:
        return fixed_size(kind.parts[0])
    if kind.name == 'VectorType':
        size = fixed_size(kind.parts[0])
        return -1 if size < 0 else size * int(kind.parts[1].name)
    return _FIXED.get(kind.name, -1)


def shape_of(kind: Type) -> str:
    """Returns how a column's cells are laid out: 'simple', or as a 'list', 'set', 'map' or 'fields' of a cell each."""
    return shape_of(kind.parts[0]) if kind.name == 'ReversedType' else _SHAPES.get(kind.name, 'simple')


def order_of(kind: Type) -> Order:
    """Returns how values of a type are ordered; raises ReadError naming a type that is not known."""
    if kind.name == 'FrozenType':
        return order_of(kind.parts[0])
    if kind.name == 'ReversedType':
        found = order_of(kind.parts[0])
        return dataclasses.replace(found, reversed=not found.reversed)
    if kind.name not in _ORDERS:
        raise ReadError(f'type: got {kind.name}, rule: one of {", ".join(sorted(_ORDERS))}')
    if kind.name == 'VectorType':
        element, dimension = kind.parts
        return Order('vector', (order_of(element),), False, int(dimension.name), fixed_size(element))
    parts = kind.parts[2:] if kind.name == 'UserType' else kind.parts  # behind keyspace and name
    return Order(_ORDERS[kind.name], tuple(map(order_of, parts)))


def path_order(kind: Type) -> Order | None:
    """Returns how the cells of a column are ordered within it; None if it has one cell."""
    shape = shape_of(kind)
    if shape == 'simple':
        return None
    if shape in ('set', 'map'):
        return order_of(kind.parts[0])
    return Order('timeuuid' if shape == 'list' else 'signed')


_CQL = {
    'AsciiType': 'ascii', 'UTF8Type': 'text', 'BytesType': 'blob', 'InetAddressType': 'inet', 'SimpleDateType': 'date',
    'TimeType': 'time', 'DurationType': 'duration', 'ByteType': 'tinyint', 'ShortType': 'smallint', 'Int32Type': 'int',
    'LongType': 'bigint', 'TimestampType': 'timestamp', 'BooleanType': 'boolean', 'FloatType': 'float',
    'DoubleType': 'double', 'IntegerType': 'varint', 'DecimalType': 'decimal', 'UUIDType': 'uuid',
    'TimeUUIDType': 'timeuuid', 'ListType': 'list', 'SetType': 'set', 'MapType': 'map', 'TupleType': 'tuple',
    'FrozenType': 'frozen',
}  # fmt: skip


def _cql_of(kind: Type) -> str:
    """Returns a type as CQL writes it."""
    if kind.name == 'UserType':
        return '"' + _decoded(kind.parts[1].name).replace('"', '""') + '"'
    if kind.name == 'VectorType':
        return f'vector<{_cql_of(kind.parts[0])}, {kind.parts[1].name}>'
    if kind.name not in _CQL:
        raise ReadError(f'type: got {kind.name}, rule: one of {", ".join(sorted(_CQL))}')
    parts = ', '.join(map(_cql_of, kind.parts))
    return f'{_CQL[kind.name]}<{parts}>' if parts else _CQL[kind.name]


def _decoded(digits: str) -> str:
    try:
        return bytes.fromhex(digits).decode()
    except ValueError:
        raise ReadError(f'type: got the name {digits!r}, rule: hexadecimal digits of UTF-8') from None


def user_types(kind: Type) -> dict[str, tuple[tuple[str, str], ...]]:
    """Returns the user-defined types within a type by name: (field, CQL type) of each field."""
    found: dict[str, tuple[tuple[str, str], ...]] = {}
    for part in kind.parts:
        found |= user_types(part)
    if kind.name == 'UserType':
        fields = kind.parts[2:]
        found[_decoded(kind.parts[1].name)] = tuple((_decoded(part.field), _cql_of(part)) for part in fields)
    return found
