"""Columns of text -> columns of a CQL type's Arrow type, whole columns at once: what Arrow casts exactly.

Patterns say what that is. What matches none may still be a value, which `values.value_of` decides value by value;
both give the same values.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tfx_cassandra.components.cql.parsers import INTEGERS
from tfx_cassandra.components.ingest.values import FIRST_TIME, LAST_TIME

DAY = 86_400 * 10**9  # nanoseconds
_ISO = r'^\d{4}-\d{2}-\d{2}[T ]\d{2}:\d{2}(:\d{2}(\.\d{1,3})?)?(Z|[+-]\d{2}:\d{2})$'
_UUID = r'^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$'
_TIMEUUID = r'^[0-9a-f]{8}-[0-9a-f]{4}-1[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}$'
_BYTE = r'(25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])'


class UnfitError(ValueError):
    """Values that cannot be converted as a whole."""


def unfit(reason: str) -> pa.Array:
    """Raises UnfitError."""
    raise UnfitError(reason)


def in_years(array: pa.Array) -> pa.Array:
    """Returns timestamps that all lie in the years 1 to 9999; raises UnfitError for others."""
    within(array.cast(pa.int64()), FIRST_TIME, LAST_TIME, 'not in the years 1 to 9999')
    return array


def within(array: pa.Array, low: int, high: int, reason: str) -> pa.Array:
    """Returns integers that all lie between two, both included; raises UnfitError for others."""
    if pc.all(pc.and_(pc.greater_equal(array, low), pc.less_equal(array, high))).as_py() is False:
        raise UnfitError(reason)
    return array


def _is_like(array: pa.Array, pattern: str) -> bool:
    return pc.all(pc.match_substring_regex(array, pattern)).as_py() is not False


def _like(array: pa.Array, pattern: str) -> pa.Array:
    return array if _is_like(array, pattern) else unfit('of another form')


def _real(array: pa.Array, target: pa.DataType) -> pa.Array:
    numbers = _like(array, r'^-?[0-9]+(\.[0-9]+)?([eE][-+]?[0-9]{1,4})?$').cast(pa.float64())
    held = numbers.cast(target)
    return unfit('too large') if pc.any(pc.is_inf(held)).as_py() else held


def _time(array: pa.Array, target: pa.DataType) -> pa.Array:
    if _is_like(array, r'^-?[0-9]{1,15}$'):
        return within(array.cast(pa.int64()), FIRST_TIME, LAST_TIME, 'not in the years 1 to 9999').cast(target)
    return in_years(_like(array, _ISO).cast(target))


def _clock(array: pa.Array, target: pa.DataType) -> pa.Array:
    if _is_like(array, r'^[0-9]{1,15}$'):
        return within(array.cast(pa.int64()), 0, DAY - 1, 'not within a day').cast(target)
    texts = _like(array, r'^\d{2}:\d{2}(:\d{2}(\.\d{1,9})?)?$')
    moments = pc.binary_join_element_wise('1970-01-01T', texts, 'Z', '').cast(pa.timestamp('ns', 'UTC'))
    return within(moments.cast(pa.int64()), 0, DAY - 1, 'not within a day').cast(target)


def _day(array: pa.Array, target: pa.DataType) -> pa.Array:
    texts = _like(array, r'^\d{4}-\d{2}-\d{2}$')
    moments = pc.binary_join_element_wise(texts, 'T00:00Z', '').cast(pa.timestamp('s', 'UTC'))
    within(moments.cast(pa.int64()), FIRST_TIME // 1000, LAST_TIME // 1000, 'not in the years 1 to 9999')
    return moments.cast(target)


def _bytes(array: pa.Array, target: pa.DataType) -> pa.Array:
    digits = pc.utf8_slice_codeunits(_like(array, r'^0x([0-9a-fA-F]{2})*$'), 2, 2**31 - 1)
    if not len(digits):
        return pa.array([], target)
    valid, offsets, data = digits.buffers()
    offsets = np.frombuffer(offsets, np.int32)[: len(digits) + 1]
    nibbles = _NIBBLES[np.frombuffer(data or b'', np.uint8)[: offsets[-1]]]
    packed = (nibbles[0::2] << 4 | nibbles[1::2]).astype(np.uint8)
    halves = (offsets // 2).astype(np.int32)
    return pa.Array.from_buffers(target, len(digits), [valid, pa.py_buffer(halves), pa.py_buffer(packed)])


_NIBBLES = np.zeros(256, np.uint8)
for _i, _digit in enumerate('0123456789abcdef'):
    _NIBBLES[[ord(_digit), ord(_digit.upper())]] = _i

_FromText = Callable[[pa.Array, pa.DataType], pa.Array]


def _same(pattern: str) -> _FromText:
    return lambda array, _: _like(array, pattern)


def _as_is(array: pa.Array, _: pa.DataType) -> pa.Array:
    return array


def _integers(array: pa.Array, target: pa.DataType) -> pa.Array:
    return _like(array, r'^-?[0-9]{1,18}$').cast(pa.int64()).cast(target)


FROM_TEXT: dict[str, _FromText] = {
    'text': _as_is, 'varchar': _as_is, 'ascii': _same(r'^[\x00-\x7f]*$'), 'blob': _bytes,
    'boolean': lambda array, _: pc.equal(_like(array, '^(true|false)$'), 'true'),
    **dict.fromkeys(INTEGERS, _integers), 'float': _real, 'double': _real, 'decimal': _same(r'^-?[0-9]+(\.[0-9]+)?$'),
    'timestamp': _time, 'date': _day, 'time': _clock, 'uuid': _same(_UUID), 'timeuuid': _same(_TIMEUUID),
    'inet': _same(rf'^{_BYTE}(\.{_BYTE}){{3}}$'),
}  # fmt: skip
