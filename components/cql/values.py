"""Values that a user or an example gives for a column: parsed once into its CQL type, then compared and bound as such.

Scalars are parsed as parsers.py tells; a list or vector is a tuple of such, a set a frozenset, a map a frozenset of
pairs. What cannot be parsed is an error that names column, value and type.
"""

from __future__ import annotations

import decimal
import uuid
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from cassandra.util import Date, Time

from tfx_cassandra.components.cql.parsers import PARSERS
from tfx_cassandra.components.errors import SchemaError, shown

_LONGEST_KEY = 65_535  # bytes
_COLLECTIONS = ('list', 'set', 'map', 'tuple', 'vector')


def parse(cql_type: str, value: object) -> Any:
    """Returns a value in the one form in which equal values of a type are equal.

    Raises:
      parsers.OutOfRangeError: The value is of the right kind, but no column of the type can hold it.
      ValueError: It is no such value; the message says why, without the value.
    """
    name, parts = type_parts(cql_type)
    if name in PARSERS:
        return PARSERS[name](unboxed(value))
    if name == 'frozen':
        return parse(parts[0], value)
    if name in _COLLECTIONS:
        return _collection(name, parts, value)
    raise ValueError('values of this type cannot be compared')


def parse_all(column: str, cql_type: str, values: Iterable[object]) -> tuple[Any, ...]:
    """Parses the values that `where` gives for a column; each once.

    Raises:
      SchemaError: One of them is none of the type; the message names column, value and type.
    """
    parsed: dict[object, None] = {}
    for value in values:
        try:
            parsed[parse(cql_type, value)] = None
        except ValueError as error:
            raise SchemaError(f'where {column}: got {shown(value)}, rule: a {cql_type} ({error})') from error
    return tuple(parsed)


def alternatives(value: Any) -> tuple[Any, ...]:
    """Returns the values of a restriction to one value, or to any of several."""
    return tuple(value) if _is_collection(value) else (value,)


def unboxed(value: Any) -> Any:
    """Returns the Python value of a NumPy scalar, and everything else as it is."""
    # A datetime64 may become a plain number.
    if isinstance(value, np.generic) and not isinstance(value, (np.datetime64, np.timedelta64)):
        return value.item()
    return value


def matches(array: pa.Array, cql_type: str, values: Sequence[Any]) -> pa.Array:
    """Returns which cells of a column have one of some parsed values; shape (rows)."""
    name, _ = type_parts(cql_type)
    if name == 'varint':
        text = pa.types.is_string(array.type)  # where varints are read as decimal text
        values = [str(v) if text else v for v in values if text or -(2**63) <= v < 2**63]
    if name in PARSERS and name not in ('decimal', 'duration'):
        return pc.is_in(array, pa.array(values, array.type))
    wanted = set(values)
    return pa.array([_comparable(cql_type, cell) in wanted for cell in plain(array).to_pylist()], pa.bool_())


def bound(cql_type: str, value: Any) -> Any:
    """Returns a parsed value of a scalar type as the driver binds it."""
    if cql_type in ('uuid', 'timeuuid'):
        return uuid.UUID(value)
    if cql_type == 'date':
        return Date(value)
    return Time(value) if cql_type == 'time' else value


def has_one_form(cql_type: str) -> bool:
    """Says whether equal values are stored as equal bytes, so that a key can be found by its value.

    1.5 and 1.50 are two decimals, a varint may have leading zeros, and collections hold such.
    """
    return cql_type in PARSERS and cql_type not in ('decimal', 'varint', 'duration')


def is_key(parts: Sequence[bytes]) -> bool:
    """Says whether a partition can have a key, given its columns' values as they are stored.

    The server refuses a request for any other.
    """
    # The key of several columns has three bytes more for each.
    size = sum(map(len, parts)) + (3 * len(parts) if len(parts) > 1 else 0)
    return 0 < size <= _LONGEST_KEY


def plain(array: pa.Array) -> pa.Array:
    """Returns an array with times as whole numbers, for Python's own times do not reach as far as Cassandra's."""
    return array.view(_plain_type(array.type))


def type_parts(cql_type: str) -> tuple[str, tuple[str, ...]]:
    """Splits a CQL type into its name and its parameters: 'map<int, list<text>>' -> ('map', ('int', 'list<text>'))."""
    name, bracket, rest = cql_type.partition('<')
    if not bracket or name.startswith('"'):
        return cql_type, ()
    parts, depth, quoted, start = [], 0, False, 0
    inner = rest.removesuffix('>')
    for i, character in enumerate(inner):
        quoted ^= character == '"'
        depth += 0 if quoted else (character == '<') - (character == '>')
        if character == ',' and not depth and not quoted:
            parts.append(inner[start:i].strip())
            start = i + 1
    return name, (*parts, inner[start:].strip())


def _is_collection(value: object) -> bool:
    return isinstance(value, Collection) and not isinstance(value, (str, bytes, bytearray, memoryview, Mapping))


def _collection(name: str, parts: Sequence[str], value: Any) -> Any:
    if name == 'map':
        if not isinstance(value, Mapping):
            raise ValueError('not a mapping')
        return frozenset((parse(parts[0], key), parse(parts[1], item)) for key, item in value.items())
    if not _is_collection(value):
        raise ValueError('not a collection; one such value is given as {column: [value]}')
    items = list(value)
    if name == 'tuple':
        if len(items) != len(parts):
            raise ValueError(f'not of {len(parts)} parts')
        return tuple(None if item is None else parse(part, item) for part, item in zip(parts, items, strict=True))
    if name == 'vector' and len(items) != int(parts[1]):
        raise ValueError(f'not of {parts[1]} elements')
    parsed = (parse(parts[0], item) for item in items)
    return frozenset(parsed) if name == 'set' else tuple(parsed)


def _comparable(cql_type: str, value: Any) -> Any:
    """Returns a cell of a `plain` array as `parse` gives such a value."""
    name, parts = type_parts(cql_type)
    if value is None:
        return None
    if name == 'frozen':
        return _comparable(parts[0], value)
    if name == 'map':
        return frozenset((_comparable(parts[0], key), _comparable(parts[1], item)) for key, item in value)
    if name == 'tuple':
        return tuple(_comparable(part, item) for part, item in zip(parts, value.values(), strict=True))
    if name in _COLLECTIONS:
        items = (_comparable(parts[0], item) for item in value)
        return frozenset(items) if name == 'set' else tuple(items)
    if name == 'duration':
        return tuple(value.values())
    return {'decimal': decimal.Decimal, 'varint': int}.get(name, _same)(value)


def _same(value: Any) -> Any:
    return value


def _plain_type(of: pa.DataType) -> pa.DataType:
    if pa.types.is_map(of):
        return pa.map_(_plain_type(of.key_type), _plain_type(of.item_type))
    if pa.types.is_fixed_size_list(of):
        return pa.list_(_plain_type(of.value_type), of.list_size)
    if pa.types.is_list(of):
        return pa.list_(_plain_type(of.value_type))
    if pa.types.is_struct(of):
        return pa.struct([(of[i].name, _plain_type(of[i].type)) for i in range(of.num_fields)])
    if pa.types.is_temporal(of):
        return pa.int32() if pa.types.is_date32(of) else pa.int64()
    return of
