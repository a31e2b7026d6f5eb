"""What the driver takes and what Arrow gives -> what pyarrow makes an array of, exactly or with an error."""

from __future__ import annotations

import decimal
import ipaddress
import operator
import uuid
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from cassandra import cqltypes
from cassandra.util import Date, Duration, Time

from tfx_cassandra.components.cql import types
from tfx_cassandra.components.driver.responses import Milliseconds
from tfx_cassandra.components.errors import invalid
from tfx_cassandra.components.window import whole_milliseconds

_LARGEST_FLOAT = (2 - 2**-23) * 2.0**127

Convert = Callable[[str, Any], Any]


def converter(kind: Any) -> Convert:
    """Returns the conversion of a value to one of which pyarrow makes that CQL type's array.

    It takes a field's name, for its errors, and a value: what the driver takes, and what Arrow gives.
    """
    name = kind.typename
    if issubclass(kind, cqltypes.TupleType):  # first, since a user-defined type may have the name of a scalar type
        return _structure(kind)
    if name in _SCALARS:
        return _SCALARS[name]
    if name == 'frozen':
        return converter(kind.subtypes[0])
    if issubclass(kind, cqltypes.VectorType):
        return _sequence(converter(kind.subtype))
    if name in ('list', 'set'):
        return _sequence(converter(kind.subtypes[0]))
    if name == 'map':
        key, value = map(converter, kind.subtypes)
        return lambda field, entries: [
            (key(field, k), _unless_none(value, field, v))
            for k, v in (entries.items() if isinstance(entries, Mapping) else entries)
        ]
    raise invalid('type', name, 'a CQL type with an Arrow form')


def _unless_none(convert: Convert, field: str, value: Any) -> Any:
    return None if value is None else convert(field, value)


def _sequence(convert: Convert) -> Convert:
    def of_items(field: str, items: Any) -> list[Any]:
        if isinstance(items, (str, bytes, Mapping)):
            raise invalid(field, items, 'a list of values')
        return [_unless_none(convert, field, item) for item in items]

    return of_items


def _structure(kind: Any) -> Convert:
    names = [field.name for field in types.arrow_type(kind)]
    parts = [*map(converter, kind.subtypes)]

    def of_fields(field: str, items: Any) -> dict[str, Any]:
        if isinstance(items, Mapping):
            if unknown := set(items) - set(names):
                raise invalid(field, items, f'the fields {", ".join(names)}, without {", ".join(map(str, unknown))}')
            items = [items.get(name) for name in names]
        elif not isinstance(items, (tuple, list)):
            items = [getattr(items, name) for name in names]
        if len(items) > len(names):
            raise invalid(field, items, f'at most {len(names)} values')
        values = zip(names, parts, items, strict=False)
        return {name: _unless_none(convert, field, item) for name, convert, item in values}

    return of_fields


def _milliseconds(field: str, value: Any) -> int:
    return int(value) if isinstance(value, Milliseconds) else whole_milliseconds(field, value)


def _nanoseconds(_: str, value: Any) -> int:
    if isinstance(value, int):
        return value
    nanoseconds: int = (value if hasattr(value, 'nanosecond_time') else Time(value)).nanosecond_time
    return nanoseconds


def _double(_: str, value: Any) -> float:
    if isinstance(value, (str, bytes, bool)):
        raise TypeError(f'{type(value).__name__} is no number')
    return float(value)


def _float(field: str, value: Any) -> float:
    number = _double(field, value)
    if _LARGEST_FLOAT < abs(number) < float('inf'):
        raise OverflowError('beyond the numbers of 32 bits')
    return number


def _integer(_: str, value: Any) -> int:
    return operator.index(value)  # of a float it raises TypeError, where pyarrow would cut it off


def _boolean(_: str, value: Any) -> bool:
    if not isinstance(value, (bool, np.bool_)):
        raise TypeError(f'{type(value).__name__} is neither True nor False')
    return bool(value)


def _blob(_: str, value: Any) -> bytes:
    if not isinstance(value, (bytes, bytearray, memoryview)):
        raise TypeError(f'{type(value).__name__} is no bytes')
    return bytes(value)


def _number_text(_: str, value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, (int, float, str, decimal.Decimal)):
        raise TypeError(f'{type(value).__name__} is no number')
    return str(value)


def _text(*kinds: type) -> Convert:
    def of_value(field: str, value: Any) -> str:
        if not isinstance(value, (str, *kinds)):
            raise invalid(field, value, ' or '.join(['a text', *(kind.__name__ for kind in kinds)]))
        return str(value)

    return of_value


def _duration(_: str, value: Any) -> tuple[int, int, int]:
    if isinstance(value, Duration):
        return value.months, value.days, value.nanoseconds
    return (value['months'], value['days'], value['nanoseconds']) if isinstance(value, Mapping) else tuple(value)


_UUID = _text(uuid.UUID)
_INTEGERS = ('tinyint', 'smallint', 'int', 'bigint', 'counter')
_SCALARS: dict[str, Convert] = {
    'timestamp': _milliseconds,
    'date': lambda _, value: (value if isinstance(value, Date) else Date(value)).days_from_epoch,
    'time': _nanoseconds,
    'float': _float,
    'duration': _duration,
    'uuid': _UUID,
    'timeuuid': _UUID,
    'inet': _text(ipaddress.IPv4Address, ipaddress.IPv6Address),
    'decimal': _number_text,
    'varint': _number_text,
    'blob': _blob,
    'boolean': _boolean,
    'double': _double,
    **dict.fromkeys(('ascii', 'text', 'varchar'), _text()),
    **dict.fromkeys(_INTEGERS, _integer),
}
# Values of these Python types need no conversion: pyarrow refuses those without a form, or has them as they are.
PLAIN: dict[str, type] = {
    'boolean': bool,
    'double': float,
    'blob': bytes,
    **dict.fromkeys(('ascii', 'text', 'varchar'), str),
    **dict.fromkeys(_INTEGERS, int),
}
