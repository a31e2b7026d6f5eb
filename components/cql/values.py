"""Values that a user or an example gives for a column: parsed once into its CQL type, then compared and bound.

parsers.py parses scalars; a list or vector becomes a tuple of parsed values, a set a frozenset, a map a frozenset of
pairs. A value that cannot be parsed is an error that names column, value and type.
"""

from __future__ import annotations

import decimal
import uuid
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from cassandra import cqltypes
from cassandra.util import Date, Time

from tfx_cassandra.components.cql.parsers import PARSERS
from tfx_cassandra.components.errors import SchemaError, shown

_MAX_KEY_BYTES = 65_535
_PROTOCOL = 4  # protocol version of the serialization of values, which is the same in version 5
_HASHED = {
    kind.typename: kind
    for kind in (
        cqltypes.AsciiType, cqltypes.BooleanType, cqltypes.ByteType, cqltypes.BytesType, cqltypes.DateType,
        cqltypes.DoubleType, cqltypes.FloatType, cqltypes.InetAddressType, cqltypes.Int32Type, cqltypes.LongType,
        cqltypes.ShortType, cqltypes.SimpleDateType, cqltypes.TimeType, cqltypes.TimeUUIDType, cqltypes.UTF8Type,
        cqltypes.UUIDType, cqltypes.VarcharType,
    )
}  # the types whose equal values have one form  # fmt: skip
_COLLECTIONS = ('list', 'set', 'map', 'tuple', 'vector')


def parse(cql_type: str, value: object) -> Any:
    """Parses a value of a CQL type into a form in which equal values are equal.

    Raises:
      parsers.OutOfRangeError: The value is of the right Python type, but no column of the CQL type can hold it.
      ValueError: The value is not of the type; the message says why, without the value.
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
    """Parses the values that `where` gives for a column, without duplicates.

    Raises:
      SchemaError: A value is not of the type; the message names column, value and type.
    """
    parsed: dict[object, None] = {}
    for value in values:
        try:
            parsed[parse(cql_type, value)] = None
        except ValueError as error:
            raise SchemaError(f'where {column}: got {shown(value)}, rule: a {cql_type} ({error})') from error
    return tuple(parsed)


def alternatives(value: Any) -> tuple[Any, ...]:
    """Returns the values that a restriction allows, which is given as one value or as a collection."""
    return tuple(value) if _is_collection(value) else (value,)


def unboxed(value: Any) -> Any:
    """Returns the Python value of a NumPy scalar, and everything else as it is."""
    # A datetime64 may become an integer.
    if isinstance(value, np.generic) and not isinstance(value, (np.datetime64, np.timedelta64)):
        return value.item()
    return value


def matches(array: pa.Array, cql_type: str, values: Sequence[Any]) -> pa.Array:
    """Returns which cells of a column equal any of several parsed values; shape (rows)."""
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


def serialized(cql_type: str, value: Any) -> bytes:
    """Returns the bytes of a parsed value, as a partition key has them; `has_one_form` holds for its type."""
    found: bytes = _HASHED[cql_type].to_binary(bound(cql_type, value), _PROTOCOL)
    return found


def has_one_form(cql_type: str) -> bool:
    """Says whether equal values are always stored as equal bytes, so that a partition can be found by its key.

    The decimals 1.5 and 1.50 differ, a varint may have leading zeros, and collections may contain either.
    """
    return cql_type in PARSERS and cql_type not in ('decimal', 'varint', 'duration')


def is_key(parts: Sequence[bytes]) -> bool:
    """Says whether a partition can have a key, given the serialized values of its columns.

    The server refuses requests for other keys.
    """
    # A key of several columns takes three more bytes for each of them.
    size = sum(map(len, parts)) + (3 * len(parts) if len(parts) > 1 else 0)
    return 0 < size <= _MAX_KEY_BYTES


def plain(array: pa.Array) -> pa.Array:
    """Returns an array with temporal values as integers, since datetime cannot represent all of Cassandra's."""
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
        raise ValueError('not a collection; give a single value of this type as {column: [value]}')
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
    """Returns a cell of a `plain` array in the form that `parse` returns."""
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
    return {'decimal': decimal.Decimal, 'varint': int}.get(name, _unchanged)(value)


def _unchanged(value: Any) -> Any:
    return value


def _plain_type(arrow: pa.DataType) -> pa.DataType:
    if pa.types.is_map(arrow):
        return pa.map_(_plain_type(arrow.key_type), _plain_type(arrow.item_type))
    if pa.types.is_fixed_size_list(arrow):
        return pa.list_(_plain_type(arrow.value_type), arrow.list_size)
    if pa.types.is_list(arrow):
        return pa.list_(_plain_type(arrow.value_type))
    if pa.types.is_struct(arrow):
        return pa.struct([(arrow[i].name, _plain_type(arrow[i].type)) for i in range(arrow.num_fields)])
    if pa.types.is_temporal(arrow):
        return pa.int32() if pa.types.is_date32(arrow) else pa.int64()
    return arrow
