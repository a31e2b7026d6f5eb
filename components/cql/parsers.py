"""Parses values of scalar CQL types, as a user or an example gives them, into a form in which equal values are equal.

| CQL | accepted | parsed |
|---|---|---|
| ascii, text | str | str |
| blob | bytes, or text such as 0xcafe | bytes |
| boolean | bool, or text: true, false | bool |
| tinyint, smallint, int, bigint, counter, varint | an integer, or its text | int |
| float, double | a number, or its text | float, rounded to the type |
| decimal | a number, or its text | Decimal; 1.5 and 1.50 are equal |
| timestamp | an aware datetime, ISO 8601 with an offset, or milliseconds since 1970 | int: milliseconds since 1970 |
| date | datetime.date, ISO 8601, or days since 1970 | int: days since 1970 |
| time | datetime.time, 12:30:00.123456789, or nanoseconds since midnight | int: nanoseconds since midnight |
| uuid, timeuuid | uuid.UUID, or its text in any case, in braces or without dashes | str, canonical |
| inet | an ipaddress object, or its text | str, canonical |
| duration | cassandra.util.Duration | (months, days, nanoseconds) |

A parser raises ValueError with a reason that does not contain the value; OutOfRangeError if the type is too narrow.
"""

from __future__ import annotations

import datetime
import decimal
import functools
import ipaddress
import math
import re
import socket
import uuid
from collections.abc import Callable
from typing import Any

import numpy as np
from cassandra.util import Date, Duration, Time, inet_ntop

from tfx_cassandra.components.window import whole_milliseconds

_EPOCH = datetime.date(1970, 1, 1).toordinal()
_DAY = 86_400 * 10**9  # nanoseconds
_MAX_DIGITS = 4000  # of an integer; Python itself refuses text of more than 4,300
_WHOLE = re.compile(r'[+-]?[0-9]+')
_REAL = re.compile(
    r'[+-]?(?:(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:e[+-]?[0-9]+)?|inf(?:inity)?|nan)', re.IGNORECASE | re.ASCII
)
_TIME = re.compile(r'([01]\d|2[0-3]):([0-5]\d)(?::([0-5]\d)(?:\.(\d{1,9}))?)?', re.ASCII)


class OutOfRangeError(ValueError):
    """A value of the right Python type that no column of the CQL type can hold."""


def _text(value: object, ascii_only: bool = False) -> str:
    if not isinstance(value, str):
        raise ValueError('not text')
    value.encode()  # raises a ValueError for a lone surrogate
    if ascii_only and not value.isascii():
        raise OutOfRangeError('not ASCII')
    return value


def _blob(value: object) -> bytes:
    if isinstance(value, (bytes, bytearray, memoryview)):
        return bytes(value)
    if isinstance(value, str) and value[:2] in ('0x', '0X'):
        return bytes.fromhex(value[2:])
    raise ValueError('neither bytes nor text such as 0xcafe')


def _boolean(value: object) -> bool:
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and value.lower() in ('true', 'false'):
        return value.lower() == 'true'
    raise ValueError('neither true nor false')


def _number(value: object) -> int | float | decimal.Decimal:
    if isinstance(value, str) and len(value) <= _MAX_DIGITS and _REAL.fullmatch(value):
        value = int(value) if _WHOLE.fullmatch(value) else decimal.Decimal(value)
    if isinstance(value, bool) or not isinstance(value, (int, float, decimal.Decimal)):
        raise ValueError('not a number')
    return value


def _integer(value: object, bits: int | None = None) -> int:
    number = _number(value)
    if isinstance(value, str):
        whole = isinstance(number, int)
    elif isinstance(number, decimal.Decimal):
        whole = number.is_finite() and number.adjusted() < _MAX_DIGITS and number == int(number)
    else:
        whole = isinstance(number, int) or number.is_integer()
    if not whole:
        raise ValueError('not an integer')
    parsed = int(number)
    if bits is not None and not -(2 ** (bits - 1)) <= parsed < 2 ** (bits - 1):
        raise OutOfRangeError(f'beyond {bits} bits')
    return parsed


def _float(value: object, single: bool = False) -> float:
    number = _number(value)
    try:
        with np.errstate(over='ignore'):
            held = float(np.float32(float(number))) if single else float(number)
    except OverflowError as error:
        raise OutOfRangeError('too large') from error
    infinite = number.is_infinite() if isinstance(number, decimal.Decimal) else number in (math.inf, -math.inf)
    if math.isinf(held) and not infinite:
        raise OutOfRangeError('too large')
    if isinstance(number, int) and held != number:
        raise OutOfRangeError('an integer that the type cannot represent exactly')
    return held


def _decimal(value: object) -> decimal.Decimal:
    number = _number(value)
    parsed = decimal.Decimal(repr(number)) if isinstance(number, float) else decimal.Decimal(number)
    if not parsed.is_finite():
        raise ValueError('not finite')
    return parsed


def _timestamp(value: object) -> int:
    if isinstance(value, str):
        # Before Python 3.11 fromisoformat does not know 'Z'.
        value = datetime.datetime.fromisoformat(value.replace('Z', '+00:00'))
    if not isinstance(value, datetime.datetime):
        return _integer(value, 64)
    if value != value or getattr(value, 'nanosecond', False):  # pandas.NaT, and pandas timestamps with nanoseconds
        raise ValueError('not a time in whole milliseconds')
    return whole_milliseconds('the time', value)


def _date(value: object) -> int:
    if isinstance(value, Date):
        return int(value.days_from_epoch)
    if isinstance(value, str):
        value = datetime.date.fromisoformat(value)
    if isinstance(value, datetime.datetime):
        raise ValueError('a datetime, not a date')
    return value.toordinal() - _EPOCH if isinstance(value, datetime.date) else _integer(value, 32)


def _time(value: object) -> int:
    if isinstance(value, Time):
        return int(value.nanosecond_time)
    if isinstance(value, datetime.time):
        value = value.isoformat()  # with a time zone it does not match below
    if isinstance(value, str):
        match = _TIME.fullmatch(value)
        if match is None:
            raise ValueError('not a time of day')
        hours, minutes, seconds, fraction = (part or '0' for part in match.groups())
        value = ((int(hours) * 60 + int(minutes)) * 60 + int(seconds)) * 10**9 + int(fraction.ljust(9, '0'))
    parsed = _integer(value)
    if not 0 <= parsed < _DAY:
        raise OutOfRangeError('not within a day')
    return parsed


def _uuid(value: object, timed: bool = False) -> str:
    if not isinstance(value, (uuid.UUID, str)):
        raise ValueError('neither a uuid.UUID nor text')
    parsed = value if isinstance(value, uuid.UUID) else uuid.UUID(value)
    # The server checks the version by these four bits alone.
    if timed and parsed.bytes[6] >> 4 != 1:
        raise OutOfRangeError('not of version 1')
    return str(parsed)


def _inet(value: object) -> str:
    # A zone, as in fe80::1%eth0, is not stored.
    if not isinstance(value, (str, ipaddress.IPv4Address, ipaddress.IPv6Address)) or '%' in str(value):
        raise ValueError('not an IP address')
    packed = ipaddress.ip_address(str(value)).packed
    return str(inet_ntop(socket.AF_INET if len(packed) == 4 else socket.AF_INET6, packed))


def _duration(value: object) -> tuple[int, int, int]:
    if not isinstance(value, Duration):
        raise ValueError('not a cassandra.util.Duration')
    return value.months, value.days, value.nanoseconds


INTEGERS: dict[str, int | None] = {  # number of bits; None for any number
    'tinyint': 8, 'smallint': 16, 'int': 32, 'bigint': 64, 'counter': 64, 'varint': None,
}  # fmt: skip
PARSERS: dict[str, Callable[[Any], Any]] = {
    'ascii': functools.partial(_text, ascii_only=True), 'text': _text, 'varchar': _text, 'blob': _blob,
    'boolean': _boolean, **{name: functools.partial(_integer, bits=bits) for name, bits in INTEGERS.items()},
    'float': functools.partial(_float, single=True), 'double': _float, 'decimal': _decimal, 'timestamp': _timestamp,
    'date': _date, 'time': _time, 'uuid': _uuid, 'timeuuid': functools.partial(_uuid, timed=True), 'inet': _inet,
    'duration': _duration,
}  # fmt: skip
