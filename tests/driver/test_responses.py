"""What a session makes of values: what is in order stays as the driver has it, and what is not fails nobody."""

from __future__ import annotations

import collections
import datetime
import decimal
import struct
from typing import Any

import pytest
from cassandra import DriverException, cqltypes
from cassandra.protocol import ProtocolHandler, ResultMessage
from cassandra.util import Date, Duration, Time
from hypothesis import given
from hypothesis import strategies as st

from tfx_cassandra.components.driver.responses import (
    Milliseconds,
    Nanoseconds,
    ReadableHandler,
    Unreadable,
    checked_row,
    utc,
)

UTC = datetime.timezone.utc
CODES = {
    'ascii': 0x01, 'bigint': 0x02, 'blob': 0x03, 'boolean': 0x04, 'counter': 0x05, 'decimal': 0x06, 'double': 0x07,
    'float': 0x08, 'int': 0x09, 'timestamp': 0x0B, 'uuid': 0x0C, 'text': 0x0D, 'varint': 0x0E, 'timeuuid': 0x0F,
    'inet': 0x10, 'date': 0x11, 'time': 0x12, 'smallint': 0x13, 'tinyint': 0x14, 'duration': 0x15,
}  # fmt: skip


def _kind(kind: str | tuple) -> bytes:
    """Returns a type as a result's metadata have it: a name, ('list', of), ('map', from, to), ('tuple', each...)."""
    if isinstance(kind, str):
        return struct.pack('>H', CODES[kind])
    name, *parts = kind
    code = {'list': 0x20, 'map': 0x21, 'set': 0x22, 'tuple': 0x31}[name]
    count = struct.pack('>H', len(parts)) if name == 'tuple' else b''
    return struct.pack('>H', code) + count + b''.join(map(_kind, parts))


def _value(value: bytes | None) -> bytes:
    return struct.pack('>i', -1) if value is None else struct.pack('>i', len(value)) + value


def _read(kinds: list, rows: list[list[bytes | None]], handler: Any = ReadableHandler) -> Any:
    text = [struct.pack('>H', 1) + name for name in (b'k', b't')]
    columns = b''.join(struct.pack('>H', 2) + b'c%d' % i + _kind(kind) for i, kind in enumerate(kinds))
    body = struct.pack('>iii', 2, 1, len(kinds)) + b''.join(text) + columns
    body += struct.pack('>i', len(rows)) + b''.join(_value(value) for row in rows for value in row)
    return handler.decode_message(5, {}, 1, 0, ResultMessage.opcode, body, None, None)


def _one(kind: str | tuple, value: bytes | None) -> Any:
    ((got,),) = _read([kind], [[value]]).parsed_rows
    return got


def _long(value: int) -> bytes:
    return struct.pack('>q', value)


def _list(*items: bytes | None) -> bytes:
    return struct.pack('>i', len(items)) + b''.join(map(_value, items))


EDGE = 253_402_300_799_999  # the last millisecond of the year 9999


@pytest.mark.parametrize(
    ('since', 'expected'),
    [
        (0, datetime.datetime(1970, 1, 1)),
        (-1, datetime.datetime(1969, 12, 31, 23, 59, 59, 999_000)),
        (EDGE, datetime.datetime(9999, 12, 31, 23, 59, 59, 999_000)),
        (EDGE + 1, Milliseconds(EDGE + 1)),
        (-62_135_596_800_000, datetime.datetime(1, 1, 1)),
        (-62_135_596_800_001, Milliseconds(-62_135_596_800_001)),
        (2**63 - 1, Milliseconds(2**63 - 1)),
        (-(2**63), Milliseconds(-(2**63))),
    ],
)
def test_a_timestamp_is_a_datetime_or_a_number(since: int, expected: object) -> None:
    got = _one('timestamp', _long(since))
    assert (got, type(got)) == (expected, type(expected))
    nested = _one(('list', 'timestamp'), _list(_long(since), _long(0)))
    assert nested == [expected, datetime.datetime(1970, 1, 1)]
    assert _one(('tuple', 'timestamp', 'int'), _value(_long(since)) + _value(b'\0\0\0\1')) == (expected, 1)


@given(st.integers(-62_135_596_800_000, EDGE))
def test_a_timestamp_is_exact(since: int) -> None:
    got = utc('t', _one('timestamp', _long(since)))
    assert (got - datetime.datetime(1970, 1, 1, tzinfo=UTC)) // datetime.timedelta(milliseconds=1) == since
    assert got.microsecond % 1000 == 0


@pytest.mark.parametrize('since', [-1, 86_400 * 10**9, 2**63 - 1, -(2**63)])
def test_a_time_that_is_none_of_a_day_has_its_nanoseconds(since: int) -> None:
    got = _one('time', _long(since))
    assert got.nanosecond_time == since
    assert isinstance(got, Nanoseconds) == (since >= 86_400 * 10**9)
    assert _one('time', _long(1)) == Time(1)


FINE = [
    ('date', b'\xff' * 4, Date(2**31 - 1)),
    ('date', b'\0' * 4, Date(-(2**31))),
    ('decimal', b'\x80\0\0\0\x01', decimal.Decimal('1e2147483648')),
    ('decimal', b'\x7f\xff\xff\xff\x01', decimal.Decimal('1e-2147483647')),
    ('varint', b'\x7f' + b'\xff' * 300, 2 ** (8 * 301 - 1) - 1),
    ('varint', b'\0' * 9 + b'\1', 1),
    ('double', struct.pack('>d', float('-inf')), float('-inf')),
    ('duration', cqltypes.DurationType.serialize(Duration(-1, -2, -3), 5), Duration(-1, -2, -3)),
    ('inet', b'\x7f\0\0\1', '127.0.0.1'),
    ('text', 'ä'.encode(), 'ä'),
    (('map', 'text', 'int'), struct.pack('>i', 1) + _value(b'a') + _value(b'\0\0\0\1'), {'a': 1}),
]


@pytest.mark.parametrize(('kind', 'value', 'expected'), FINE)
def test_what_the_driver_can_decode_is_as_it_has_it(kind: Any, value: bytes, expected: object) -> None:
    assert _one(kind, value) == expected


@pytest.mark.parametrize('kind', [*CODES, ('list', 'int'), ('set', 'text'), ('map', 'int', 'text'), ('tuple', 'int')])
def test_what_is_null_or_empty_is_as_the_driver_has_it(kind: Any) -> None:
    empty = {'ascii': '', 'text': '', 'blob': b''}.get(kind)
    assert _read([kind, kind], [[None, b'']]).parsed_rows == [(None, empty)]


BAD = [
    ('text', b'\xff'),
    ('text', b'\xed\xa0\x80'),  # half of a surrogate pair
    ('ascii', b'\xc3\xa4'),
    ('inet', b'\x7f\0\1'),
    ('uuid', b'\0' * 15),
    ('decimal', b'\0\0\0\1'),
    ('decimal', b'\0\0\0\0\x7f' + b'\xff' * 4000),  # more digits than Python turns into text
    (('list', 'text'), _list(b'a', b'\xff')),
    (('list', 'text'), struct.pack('>i', 2**31 - 1)),
    (('map', 'text', 'int'), struct.pack('>i', 1) + _value(b'\xff') + _value(b'\0\0\0\1')),
    (('tuple', 'int', 'ascii'), _value(b'\0\0\0\1') + _value(b'\xff')),
]


@pytest.mark.parametrize(('kind', 'value'), BAD)
def test_what_the_driver_cannot_decode_says_so_and_hides_nothing_else(kind: Any, value: bytes) -> None:
    with pytest.raises(Exception):  # noqa: B017, PT011 - the driver's own handler lets anything out
        _read([kind], [[value]], ProtocolHandler)
    rows = [[b'\0\0\0\1', _long(1)], [b'\0\0\0\2', _long(EDGE + 1)], [None, b'']]
    got = _read(['int', kind, 'timestamp'], [[row[0], value, row[1]] for row in rows]).parsed_rows
    assert [(first, last) for first, _, last in got] == [
        (1, datetime.datetime(1970, 1, 1, 0, 0, 0, 1000)),
        (2, Milliseconds(EDGE + 1)),
        (None, None),
    ]
    for _, bad, _ in got:
        assert isinstance(bad, Unreadable)
        assert bad.value == value
        assert len(str(bad)) < 250
    row = collections.namedtuple('Row', 'fine spoilt')
    checked_row(row(1, None))
    with pytest.raises(ValueError, match=r'^spoilt: got b'):
        checked_row(row(1, got[0][1]))


@given(
    st.sampled_from([*CODES, ('list', 'text'), ('set', 'timestamp'), ('map', 'text', 'time'), ('tuple', 'date')]),
    st.binary(),
)
def test_no_bytes_fail_a_response(kind: Any, value: bytes) -> None:
    result = _read([kind, 'int'], [[value, b'\0\0\0\7']])
    assert result.parsed_rows[0][1] == 7


@pytest.mark.parametrize(
    'body', [b'', b'\0\0\0\2', b'\0\0\0\x09', struct.pack('>iii', 2, 1, 1) + b'\0\1k\0\1t\0\1c\0\x77']
)
def test_a_response_that_cannot_be_decoded_fails_its_request_alone(body: bytes) -> None:
    got = ReadableHandler.decode_message(5, {}, 1, 0, ResultMessage.opcode, body, None, None)
    assert isinstance(got, DriverException)  # the driver hands an exception that is returned to the caller
    assert str(got).startswith('a response that the driver cannot decode (')


@pytest.mark.parametrize(
    ('value', 'found'), [(None, 'nothing'), (Milliseconds(EDGE + 1), '253402300800000 ms since 1970')]
)
def test_a_moment_that_is_none_is_named(value: object, found: str) -> None:
    with pytest.raises(ValueError, match=f'^created_at: got {found}, rule: a moment of the years 1 to 9999$'):
        utc('created_at', value)
