"""CQL types: the Arrow type of each, and how to decode its values.

| CQL | Arrow |
|---|---|
| ascii, text | string |
| blob | binary |
| boolean | bool |
| tinyint, smallint, int, bigint, counter | int8, int16, int32, int64, int64 |
| varint | int64, or an error naming the value; string (decimal text) with wide_varints='text' |
| float, double | float, double |
| decimal | string (canonical text: an Arrow column of decimals has one scale, in CQL each value has its own) |
| timestamp | timestamp[ms, UTC] |
| date, time | date32, time64[ns] |
| duration | struct<months: int32, days: int32, nanoseconds: int64> (Parquet has no interval of nanoseconds) |
| uuid, timeuuid, inet | string (canonical text) |
| list, set | list |
| map | map |
| tuple, user-defined type | struct (a tuple's fields are named 0, 1, ...) |
| vector<float, n> | fixed_size_list<float>[n] |

Text that is not in its type's encoding is an error, or U+FFFD replaces the invalid bytes (`Decoding`). An empty value
of a type other than text or blob is null. A field's metadata holds the CQL type under b'cql', because several CQL types
have the same Arrow type (uuid, decimal).
"""

from __future__ import annotations

import dataclasses
import decimal
import functools
import re
from collections.abc import Callable, Sequence
from typing import Any, Literal

import pyarrow as pa
from cassandra import cqltypes

from tfx_cassandra.components.checks import check_fields
from tfx_cassandra.components.cql.rows import LARGEST_VARINT, Kind
from tfx_cassandra.components.errors import ReadError, SchemaError

_DURATION = pa.struct([('months', pa.int32()), ('days', pa.int32()), ('nanoseconds', pa.int64())])
_SCALARS = {
    'ascii': pa.string(), 'text': pa.string(), 'varchar': pa.string(), 'blob': pa.binary(), 'boolean': pa.bool_(),
    'tinyint': pa.int8(), 'smallint': pa.int16(), 'int': pa.int32(), 'bigint': pa.int64(), 'counter': pa.int64(),
    'varint': pa.int64(), 'float': pa.float32(), 'double': pa.float64(), 'decimal': pa.string(),
    'timestamp': pa.timestamp('ms', 'UTC'), 'date': pa.date32(), 'time': pa.time64('ns'),
    'duration': _DURATION, 'uuid': pa.string(), 'timeuuid': pa.string(), 'inet': pa.string(),
}  # fmt: skip

SCALARS = frozenset(_SCALARS)  # names of the CQL types without type parameters

_FIXED = ('tinyint', 'smallint', 'int', 'bigint', 'counter', 'float', 'double', 'timestamp', 'date', 'time')
_LAYOUTS = {
    **dict.fromkeys(_FIXED, 'fixed'),
    **dict.fromkeys(['ascii', 'text', 'varchar'], 'text'),
    **dict.fromkeys(['uuid', 'timeuuid'], 'uuid'),
    **dict.fromkeys(['list', 'set'], 'list'),
    **{name: name for name in ('blob', 'boolean', 'varint', 'duration', 'map')},
}

# Scaling in this context is exact, whatever the digits and the exponent.
_EXACT = decimal.Context(prec=decimal.MAX_PREC, Emin=decimal.MIN_EMIN, Emax=decimal.MAX_EMAX)
_MAX_DECIMAL_BYTES = 4 + LARGEST_VARINT  # four bytes are the scale
_PROTOCOL = 4  # protocol version of the serialization of values, which is the same in version 5

_CONVERTERS: dict[str, Callable[[Any], Any]] = {
    'decimal': str,
    'uuid': str,
    'timeuuid': str,
    'inet': str,
    'date': lambda date: date.days_from_epoch,
    'time': lambda time: time.nanosecond_time,
    'duration': lambda d: (d.months, d.days, d.nanoseconds),
}


@dataclasses.dataclass(frozen=True)
class Decoding:
    """How to decode values that Arrow or tf.Examples cannot represent.

    Attributes:
      invalid_text: For text that is not UTF-8 (ascii: not ASCII): 'error', or 'replace' to read U+FFFD instead.
      wide_varints: For varints beyond 64 bits: 'error', or 'text' to read every varint as decimal text.
    """

    invalid_text: Literal['error', 'replace'] = 'error'
    wide_varints: Literal['error', 'text'] = 'error'

    def __post_init__(self) -> None:
        check_fields(self)


DEFAULT = Decoding()


class _NoArrowFormError(SchemaError):
    def __init__(self, message: str, typename: str) -> None:
        super().__init__(message, typename)

    def __str__(self) -> str:
        return str(self.args[0])


def arrow_type(cql_type: Any, decoding: Decoding = DEFAULT) -> pa.DataType:
    """Returns the Arrow type of a driver CQL type (a class of `cassandra.cqltypes`).

    Raises:
      SchemaError: The type cannot be represented in Arrow.
    """
    name, parts = cql_type.typename, [arrow_type(part, decoding) for part in cql_type.subtypes]
    if issubclass(cql_type, cqltypes.TupleType):  # first, since a user-defined type may have the name of a scalar type
        return pa.struct([pa.field(n, part) for n, part in zip(_fields(cql_type), parts, strict=True)])
    if name == 'varint' and decoding.wide_varints == 'text':
        return pa.string()
    if name in _SCALARS:
        return _SCALARS[name]
    if name in ('list', 'set'):
        return pa.list_(parts[0])
    if name == 'map':
        return pa.map_(*parts)
    if name == 'frozen':
        return parts[0]
    if issubclass(cql_type, cqltypes.VectorType):
        return pa.list_(arrow_type(cql_type.subtype, decoding), cql_type.vector_size)
    raise _NoArrowFormError(f'columns: got type {name}, rule: a CQL type with an Arrow form', name)


def _fields(cql_type: Any) -> list[str]:
    # A tuple within a vector has field names too, but each is None.
    named = issubclass(cql_type, cqltypes.UserType)
    return list(cql_type.fieldnames) if named else [str(i) for i in range(len(cql_type.subtypes))]


def schema_of(names: Sequence[str], types: Sequence[Any], decoding: Decoding = DEFAULT) -> pa.Schema:
    """Returns the Arrow schema of a result's columns, given their names and driver CQL types.

    Raises:
      SchemaError: A type cannot be represented in Arrow; the message names its column.
    """
    return pa.schema([_field(name, kind, decoding) for name, kind in zip(names, types, strict=True)])


def _field(name: str, kind: Any, decoding: Decoding) -> pa.Field:
    try:
        arrow = arrow_type(kind, decoding)
    except _NoArrowFormError as error:
        rule = 'columns of CQL types with an Arrow form; name those, and leave this one out'
        raise SchemaError(f'columns: got {name!r} of type {error.args[1]}, rule: {rule}') from error
    return pa.field(name, arrow, metadata={b'cql': _cql(kind).encode()})


def _cql(kind: Any) -> str:
    text: str = kind.cql_parameterized_type()
    return text.replace(cqltypes.VectorType.typename, 'vector')


def declared_name(kind: Any) -> str:
    """Returns a driver CQL type as a table declares it: the driver calls text varchar."""
    return re.sub(r'\bvarchar\b', 'text', _cql(kind))


def identity(cql_type: Any) -> Any:
    """Returns a value that is equal exactly for driver CQL types that are decoded alike.

    The classes themselves are not equal: the driver creates new ones of nested types for each result.
    """
    parts = [*cql_type.subtypes, *filter(None, [getattr(cql_type, 'subtype', None)])]
    if not parts:
        return cql_type
    names = tuple(_fields(cql_type)) if issubclass(cql_type, cqltypes.TupleType) else None
    return (cql_type.typename, names, getattr(cql_type, 'vector_size', None), *map(identity, parts))


def kind_of(cql_type: Any, decoding: Decoding = DEFAULT) -> Kind:
    """Returns how rows.pyx decodes a driver CQL type."""
    name, arrow = cql_type.typename, arrow_type(cql_type, decoding)
    parts = [kind_of(part, decoding) for part in cql_type.subtypes]
    if issubclass(cql_type, cqltypes.TupleType):
        return Kind('tuple', arrow, parts)
    if name == 'frozen':
        return parts[0]
    if issubclass(cql_type, cqltypes.VectorType):
        element = cql_type.subtype
        size = element.serial_size() or 0
        return Kind('vector', arrow, [kind_of(element, decoding)], length=cql_type.vector_size, size=size)
    if name == 'varint' and decoding.wide_varints == 'text':
        return Kind('digits', arrow)
    if name in _LAYOUTS:
        codec, replace = 'ascii' if name == 'ascii' else 'utf-8', decoding.invalid_text == 'replace'
        return Kind(_LAYOUTS[name], arrow, parts, flip=name == 'date', codec=codec, replace=replace)
    return Kind('python', arrow, decoder=functools.partial(_plain, cql_type))


def _plain(cql_type: Any, value: bytes) -> str | None:
    """Decodes a decimal or an inet as canonical text."""
    if not value:
        return None
    try:
        return _decimal(value) if cql_type.typename == 'decimal' else str(cql_type.from_binary(value, _PROTOCOL))
    except (ValueError, OSError, decimal.DecimalException) as error:
        name = cql_type.typename
        raise ReadError(f'{name}: got {len(value)} bytes, {value[:20]!r}, rule: a value of type {name}') from error


def _decimal(value: bytes) -> str:
    """Decodes a decimal: four bytes of scale, then the digits as a varint."""
    if not 4 < len(value) <= _MAX_DECIMAL_BYTES:
        raise ValueError(len(value))
    scale = int.from_bytes(value[:4], 'big', signed=True)
    digits = decimal.Decimal(int.from_bytes(value[4:], 'big', signed=True))
    return str(_EXACT.scaleb(digits, -scale))


def converter(kind: Any) -> Callable[[Any], Any] | None:
    """Returns a function that converts the driver's value to one that pyarrow accepts; None if none is needed."""
    name, parts = kind.typename, kind.subtypes
    inner = [converter(part) or _unchanged for part in parts]
    if issubclass(kind, cqltypes.TupleType):
        names = _fields(kind)
        return lambda items: {n: _maybe(c, item) for n, c, item in zip(names, inner, items, strict=False)}
    if name in _SCALARS:
        return _CONVERTERS.get(name)
    if name == 'frozen':
        return converter(parts[0])
    if issubclass(kind, cqltypes.VectorType):
        convert_element = converter(kind.subtype) or _unchanged
        return lambda items: [_maybe(convert_element, item) for item in items]
    if name in ('list', 'set'):
        return lambda items: [_maybe(inner[0], item) for item in items]
    if name == 'map':
        return lambda entries: [(_maybe(inner[0], k), _maybe(inner[1], v)) for k, v in entries.items()]
    return None


def _unchanged(value: Any) -> Any:
    return value


def _maybe(convert: Callable[[Any], Any], value: Any) -> Any:
    return None if value is None else convert(value)
