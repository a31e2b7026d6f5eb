"""One value of JSON, of text or of Python -> what pyarrow takes for a CQL type: the exact, slow half of convert.py."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from cassandra import cqltypes

from tfx_cassandra.components.cql.parsers import PARSERS, OutOfRangeError
from tfx_cassandra.components.cql.types import SCALARS

# Milliseconds of the years 1 to 9999, which every reader of this package can represent.
FIRST_TIME, LAST_TIME = -62_135_596_800_000, 253_402_300_799_999
_DURATION = {'months': 'int', 'days': 'int', 'nanoseconds': 'bigint'}
_FRACTION = re.compile(r'(?<=\d)\.(\d{1,3})0*([1-9]\d*)?(?!\d)', re.ASCII)
_OTHER = {'inf': math.inf, '+inf': math.inf, '-inf': -math.inf}


def value_of(kind: Any, value: Any) -> Any:
    """Returns a value in the form that pyarrow takes for a driver CQL type (see convert.arrow_type).

    Args:
      kind: The CQL type, a class of `cassandra.cqltypes`.
      value: Text, or a value as JSON and pyarrow have them, not None. A collection may be the text of its JSON; a map
        is an object or a list of pairs, a tuple a list, a user-defined type and a duration an object.

    Raises:
      ValueError: It is none of that type; the message says why, without the value.
    """
    name, parts = kind.typename, kind.subtypes
    if issubclass(kind, cqltypes.TupleType):  # first, since a user-defined type may have the name of a scalar type
        return _struct(kind, _loaded(value))
    if name == 'frozen':
        return value_of(parts[0], value)
    if issubclass(kind, cqltypes.VectorType):
        return _vector(kind, _loaded(value))
    if name in ('list', 'set'):
        return [_item(parts[0], item) for item in _items(_loaded(value))]
    if name == 'map':
        return [(_item(parts[0], key), _item(parts[1], item)) for key, item in _pairs(_loaded(value))]
    if name == 'duration':
        return _duration(_loaded(value))
    return _scalar(name, value)


def scalar_name(kind: Any) -> str:
    """Returns the name of a scalar CQL type; '' for any other, also for a user-defined type of such a name."""
    return kind.typename if kind.typename in SCALARS and not issubclass(kind, cqltypes.TupleType) else ''


def _scalar(name: str, value: Any) -> Any:
    if name in ('float', 'double'):
        return _real(value, single=name == 'float')
    if name == 'timestamp':
        return _time(value)
    if name not in PARSERS:
        raise ValueError('values of this type cannot be loaded')
    if name == 'time' and isinstance(value, str) and value.isascii() and value.isdigit():
        value = int(value)
    try:
        parsed = PARSERS[name](value)
    except UnicodeEncodeError as error:
        raise ValueError('not UTF-8') from error
    return str(parsed) if name in ('decimal', 'varint') else parsed


def _real(value: Any, single: bool) -> float:
    """Returns the nearest number of the type, as every reader of text takes it."""
    if isinstance(value, str) and value.lower() in _OTHER:
        return _OTHER[value.lower()]
    try:
        if not isinstance(value, float):
            PARSERS['decimal'](value)
        parsed = float(value)
    except (ValueError, OverflowError) as error:
        if isinstance(value, str) and value.lower() == 'nan':
            return math.nan
        raise (
            OutOfRangeError('too large') if isinstance(error, OverflowError) else ValueError('not a number')
        ) from None
    with np.errstate(over='ignore'):
        held = float(np.float32(parsed)) if single else parsed
    if math.isinf(held) and not (isinstance(value, float) and math.isinf(value)):
        raise OutOfRangeError('too large')
    return held


def _time(value: Any) -> int:
    if isinstance(value, str) and value.lstrip('-').isdigit() and value.isascii():
        value = int(value)
    elif isinstance(value, str) and (match := _FRACTION.search(value)):
        # Before Python 3.11 fromisoformat takes three digits or six.
        if match[2]:
            raise ValueError('finer than a millisecond')
        value = f'{value[: match.start()]}.{match[1].ljust(3, "0")}{value[match.end() :]}'
    try:
        parsed = int(PARSERS['timestamp'](value))
    except OutOfRangeError:
        raise
    except ValueError as error:
        if 'time zone' in str(error):
            raise ValueError('a time without an offset') from error
        if 'whole milliseconds' in str(error):
            raise ValueError('finer than a millisecond') from error
        raise ValueError('neither ISO 8601 with an offset nor milliseconds since 1970') from error
    if not FIRST_TIME <= parsed <= LAST_TIME:
        raise OutOfRangeError('not in the years 1 to 9999')
    return parsed


def _loaded(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError) as error:
        raise ValueError('not JSON') from error


def _item(kind: Any, value: Any) -> Any:
    if value is None:
        raise ValueError('a null within a collection')
    return value_of(kind, value)


def _items(value: Any) -> list[Any]:
    if not isinstance(value, Iterable) or isinstance(value, (str, bytes, Mapping)):
        raise ValueError('not a list')
    return list(value)


def _pairs(value: Any) -> Iterable[Any]:
    if isinstance(value, Mapping):
        return value.items()
    pairs = _items(value)
    if not all(isinstance(pair, (list, tuple)) and len(pair) == 2 for pair in pairs):
        raise ValueError('neither an object nor a list of pairs')
    return pairs


def _vector(kind: Any, value: Any) -> list[Any]:
    items = _items(value)
    if len(items) != kind.vector_size:
        raise ValueError(f'not of {kind.vector_size} elements')
    return [_item(kind.subtype, item) for item in items]


def _struct(kind: Any, value: Any) -> dict[str, Any]:
    named = issubclass(kind, cqltypes.UserType)
    names = list(kind.fieldnames) if named else [str(i) for i in range(len(kind.subtypes))]
    if not isinstance(value, Mapping):
        items = _items(value)
        if named or len(items) != len(names):
            raise ValueError('not an object of its fields' if named else f'not of {len(names)} parts')
        value = dict(zip(names, items, strict=True))
    if unknown := sorted(set(value) - set(names)):
        raise ValueError(f'no field {unknown[0]}')
    return {
        name: None if value.get(name) is None else value_of(part, value[name])
        for name, part in zip(names, kind.subtypes, strict=True)
    }


def _duration(value: Any) -> dict[str, int]:
    if not isinstance(value, Mapping) or set(value) != set(_DURATION):
        raise ValueError('not an object of months, days and nanoseconds')
    parsed = {name: PARSERS[kind](value[name]) for name, kind in _DURATION.items()}
    if min(parsed.values()) < 0 < max(parsed.values()):
        raise ValueError('its parts have different signs')
    return parsed
