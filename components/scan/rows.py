"""A page of rows as the driver decodes it -> one `pyarrow.RecordBatch`.

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

from collections.abc import Callable, Sequence
from typing import Any

import pyarrow as pa
from cassandra import cqltypes

from tfx_cassandra.components.errors import DatasetError, SchemaError

_DURATION = pa.struct([('months', pa.int32()), ('days', pa.int32()), ('nanoseconds', pa.int64())])
_SCALARS = {
    'ascii': pa.string(), 'text': pa.string(), 'varchar': pa.string(), 'blob': pa.binary(), 'boolean': pa.bool_(),
    'tinyint': pa.int8(), 'smallint': pa.int16(), 'int': pa.int32(), 'bigint': pa.int64(), 'counter': pa.int64(),
    'varint': pa.int64(), 'float': pa.float32(), 'double': pa.float64(), 'decimal': pa.string(),
    'timestamp': pa.timestamp('ms', 'UTC'), 'date': pa.date32(), 'time': pa.time64('ns'),
    'duration': _DURATION, 'uuid': pa.string(), 'timeuuid': pa.string(), 'inet': pa.string(),
}  # fmt: skip

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
    if name in _SCALARS:
        return _SCALARS[name]
    if name in ('list', 'set'):
        return pa.list_(arrow_type(parts[0]))
    if name == 'map':
        return pa.map_(arrow_type(parts[0]), arrow_type(parts[1]))
    if name == 'frozen':
        return arrow_type(parts[0])
    if issubclass(cql_type, cqltypes.TupleType):
        names = getattr(cql_type, 'fieldnames', None) or map(str, range(len(parts)))
        return pa.struct([pa.field(n, arrow_type(part)) for n, part in zip(names, parts, strict=True)])
    if issubclass(cql_type, cqltypes.VectorType):
        return pa.list_(arrow_type(cql_type.subtype), cql_type.vector_size)
    raise SchemaError(f'columns: got type {cql_type.cql_parameterized_type()}, rule: a CQL type with an Arrow form')


def schema_of(names: Sequence[str], types: Sequence[Any]) -> pa.Schema:
    """Returns the Arrow schema of a result's columns, given their names and driver CQL types."""
    return pa.schema(
        [
            pa.field(name, arrow_type(kind), metadata={b'cql': kind.cql_parameterized_type().encode()})
            for name, kind in zip(names, types, strict=True)
        ]
    )


def decode_page(names: Sequence[str], types: Sequence[Any], rows: Sequence[tuple]) -> pa.RecordBatch:
    """Turns a page into a record batch of shape (rows, columns).

    Args:
      names: Column names.
      types: Driver CQL types, one a column.
      rows: The driver's rows, tuples in column order.

    Raises:
      DatasetError: A value does not fit its Arrow type; the message names column and cause.
    """
    schema = schema_of(names, types)
    columns = zip(*rows, strict=True) if rows else [()] * len(schema)
    arrays = [_array(field, kind, column) for field, kind, column in zip(schema, types, columns, strict=True)]
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def _array(field: pa.Field, kind: Any, values: Sequence) -> pa.Array:
    convert = _converter(kind)
    plain = list(values) if convert is None else [None if value is None else convert(value) for value in values]
    try:
        return pa.array(plain, type=field.type)
    except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError) as error:
        raise DatasetError(f'column {field.name}: got a value that {field.type} cannot hold ({error})') from error


def _converter(kind: Any) -> Callable[[Any], Any] | None:
    """Returns what turns the driver's value into one pyarrow takes, or None where pyarrow takes it as it is."""
    name, parts = kind.typename, kind.subtypes
    if name in _SCALARS:
        return _CONVERTERS.get(name)
    if name == 'frozen':
        return _converter(parts[0])
    inner = [_converter(part) or _same for part in parts]
    if name in ('list', 'set'):
        return lambda items: [_maybe(inner[0], item) for item in items]
    if name == 'map':
        return lambda entries: [(_maybe(inner[0], k), _maybe(inner[1], v)) for k, v in entries.items()]
    if issubclass(kind, cqltypes.TupleType):
        names = getattr(kind, 'fieldnames', None) or [str(i) for i in range(len(parts))]
        return lambda items: {n: _maybe(c, item) for n, c, item in zip(names, inner, items, strict=False)}
    return None


def _same(value: Any) -> Any:
    return value


def _maybe(convert: Callable[[Any], Any], value: Any) -> Any:
    return None if value is None else convert(value)
