"""CQL types: the Arrow type of each, and how its values are decoded.

| CQL | Arrow |
|---|---|
| ascii, text | string |
| blob | binary |
| boolean | bool |
| tinyint, smallint, int, bigint, counter | int8, int16, int32, int64, int64 |
| varint | int64, or an error naming the value |
| float, double | float, double |
| decimal | string (canonical text: Arrow's decimals have one scale a column, CQL's one a value) |
| timestamp | timestamp[ms, UTC] |
| date, time | date32, time64[ns] |
| duration | struct<months: int32, days: int32, nanoseconds: int64> (Parquet has no such interval) |
| uuid, timeuuid, inet | string (canonical text) |
| list, set | list |
| map | map |
| tuple, user-defined type | struct (a tuple's fields are named 0, 1, ...) |
| vector<float, n> | fixed_size_list<float>[n] |

A field's metadata carries the CQL type under b'cql', for what Arrow's type alone does not tell (uuid, decimal).
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import pyarrow as pa
from cassandra import cqltypes

from tfx_cassandra.components.cql.rows import Kind
from tfx_cassandra.components.errors import ReadError, SchemaError

_DURATION = pa.struct([('months', pa.int32()), ('days', pa.int32()), ('nanoseconds', pa.int64())])
_SCALARS = {
    'ascii': pa.string(), 'text': pa.string(), 'varchar': pa.string(), 'blob': pa.binary(), 'boolean': pa.bool_(),
    'tinyint': pa.int8(), 'smallint': pa.int16(), 'int': pa.int32(), 'bigint': pa.int64(), 'counter': pa.int64(),
    'varint': pa.int64(), 'float': pa.float32(), 'double': pa.float64(), 'decimal': pa.string(),
    'timestamp': pa.timestamp('ms', 'UTC'), 'date': pa.date32(), 'time': pa.time64('ns'),
    'duration': _DURATION, 'uuid': pa.string(), 'timeuuid': pa.string(), 'inet': pa.string(),
}  # fmt: skip

_WIDTHS = {'tinyint': 1, 'smallint': 2, 'int': 4, 'bigint': 8, 'counter': 8, 'float': 4, 'double': 8, 'timestamp': 8,
           'date': 4, 'time': 8}  # bytes of a value  # fmt: skip

_LAYOUTS = {
    **dict.fromkeys(['ascii', 'text', 'varchar', 'blob'], 'text'),
    **dict.fromkeys(['uuid', 'timeuuid'], 'uuid'),
    **dict.fromkeys(['list', 'set'], 'list'),
    **{name: name for name in ('boolean', 'varint', 'duration', 'map')},
}

_PROTOCOL = 4  # of the values' encoding, which is the same in version 5

_CONVERTERS: dict[str, Callable[[Any], Any]] = {
    'decimal': str,
    'uuid': str,
    'timeuuid': str,
    'inet': str,
    'date': lambda date: date.days_from_epoch,
    'time': lambda time: time.nanosecond_time,
    'duration': lambda d: (d.months, d.days, d.nanoseconds),
}


def arrow_type(cql_type: Any) -> pa.DataType:
    """Returns the Arrow type of a driver CQL type (a class of `cassandra.cqltypes`).

    Raises:
      SchemaError: The type has no Arrow form here.
    """
    name, parts = cql_type.typename, cql_type.subtypes
    if issubclass(cql_type, cqltypes.TupleType):  # first, since a user-defined type may be named as a scalar is
        return pa.struct([pa.field(n, arrow_type(part)) for n, part in zip(_fields(cql_type), parts, strict=True)])
    if name in _SCALARS:
        return _SCALARS[name]
    if name in ('list', 'set'):
        return pa.list_(arrow_type(parts[0]))
    if name == 'map':
        return pa.map_(arrow_type(parts[0]), arrow_type(parts[1]))
    if name == 'frozen':
        return arrow_type(parts[0])
    if issubclass(cql_type, cqltypes.VectorType):
        return pa.list_(arrow_type(cql_type.subtype), cql_type.vector_size)
    raise SchemaError(f'columns: got type {cql_type.cql_parameterized_type()}, rule: a CQL type with an Arrow form')


def _fields(cql_type: Any) -> list[str]:
    # A tuple within a vector has field names too, but each is None.
    named = issubclass(cql_type, cqltypes.UserType)
    return list(cql_type.fieldnames) if named else [str(i) for i in range(len(cql_type.subtypes))]


def schema_of(names: Sequence[str], types: Sequence[Any]) -> pa.Schema:
    """Returns the Arrow schema of a result's columns, given their names and driver CQL types."""
    return pa.schema(
        [
            pa.field(name, arrow_type(kind), metadata={b'cql': kind.cql_parameterized_type().encode()})
            for name, kind in zip(names, types, strict=True)
        ]
    )


def kind_of(cql_type: Any) -> Kind:
    """Returns how rows.pyx decodes a driver CQL type; what it does not know goes through the driver, value by value."""
    name, parts = cql_type.typename, cql_type.subtypes
    arrow = arrow_type(cql_type)
    if issubclass(cql_type, cqltypes.TupleType):
        return Kind('tuple', arrow, parts=[kind_of(part) for part in parts])
    if name in _WIDTHS:
        return Kind('fixed', arrow, _WIDTHS[name], flip=name == 'date')
    if name in _LAYOUTS:
        return Kind(_LAYOUTS[name], arrow, parts=[kind_of(part) for part in parts])
    if name == 'frozen':
        return kind_of(parts[0])
    if issubclass(cql_type, cqltypes.VectorType) and _packed(cql_type.subtype):
        return Kind('vector', arrow, cql_type.vector_size, parts=[kind_of(cql_type.subtype)])
    return Kind('rare', arrow, rare=functools.partial(_plain, cql_type, converter(cql_type) or _same))


def _packed(element: Any) -> bool:
    """Says whether a vector's elements of this type stand one after the other; those of any other have lengths."""
    return element.typename in _WIDTHS and element.serial_size() == _WIDTHS[element.typename]


def _plain(cql_type: Any, convert: Callable[[Any], Any], value: bytes) -> Any:
    try:
        decoded = cql_type.from_binary(value, _PROTOCOL)
        return None if decoded is None else convert(decoded)
    except Exception as error:  # each of the driver's decoders has errors of its own
        rule = f'a {cql_type.cql_parameterized_type()} ({type(error).__name__}: {error})'
        raise ReadError(f'page: got {value[:40]!r}, rule: {rule}') from error


def converter(kind: Any) -> Callable[[Any], Any] | None:
    """Returns what turns the driver's value into one pyarrow takes, or None where pyarrow takes it as it is."""
    name, parts = kind.typename, kind.subtypes
    inner = [converter(part) or _same for part in parts]
    if issubclass(kind, cqltypes.TupleType):
        names = _fields(kind)
        return lambda items: {n: _maybe(c, item) for n, c, item in zip(names, inner, items, strict=False)}
    if name in _SCALARS:
        return _CONVERTERS.get(name)
    if name == 'frozen':
        return converter(parts[0])
    if issubclass(kind, cqltypes.VectorType):
        item = converter(kind.subtype) or _same
        return lambda items: [_maybe(item, one) for one in items]
    if name in ('list', 'set'):
        return lambda items: [_maybe(inner[0], item) for item in items]
    if name == 'map':
        return lambda entries: [(_maybe(inner[0], k), _maybe(inner[1], v)) for k, v in entries.items()]
    return None


def _same(value: Any) -> Any:
    return value


def _maybe(convert: Callable[[Any], Any], value: Any) -> Any:
    return None if value is None else convert(value)
