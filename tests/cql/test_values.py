"""What counts as a value of a CQL type, and that it is compared as such: literal tables, and every driver type."""

from __future__ import annotations

import datetime
import decimal
import ipaddress
import math
import uuid
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from cassandra.util import Date, Duration, Time
from hypothesis import given
from hypothesis import strategies as st

from tfx_cassandra.components.cql import values
from tfx_cassandra.components.cql.parsers import OutOfRangeError
from tfx_cassandra.components.errors import SchemaError

UTC = datetime.timezone.utc
ID = uuid.UUID('0011aabb-ccdd-1eff-8011-223344556677')
EAST = datetime.timezone(datetime.timedelta(hours=1))


@pytest.mark.parametrize(
    ('cql_type', 'given_values', 'parsed'),
    [
        ('uuid', [ID, str(ID), str(ID).upper(), f'{{{ID}}}', ID.hex, ID.urn], str(ID)),
        ('timeuuid', [ID, str(ID).upper()], str(ID)),
        ('inet', ['2001:DB8::1', '2001:db8:0:0:0:0:0:1', ipaddress.ip_address('2001:db8::1')], '2001:db8::1'),
        ('inet', ['10.0.0.1', ipaddress.IPv4Address('10.0.0.1')], '10.0.0.1'),
        ('inet', ['::FFFF:1.2.3.4', '::ffff:102:304'], '::ffff:1.2.3.4'),
        ('int', [7, 7.0, '7', '+7', decimal.Decimal('7.00'), np.int64(7), np.float32(7)], 7),
        ('tinyint', [-128, '-128'], -128),
        ('varint', [2**200, str(2**200)], 2**200),
        ('double', [1, 1.0, '1', '1e0', decimal.Decimal(1), np.float32(1)], 1.0),
        ('float', [0.1, '0.1', decimal.Decimal('0.1'), np.float32(0.1)], float(np.float32(0.1))),
        ('double', [math.inf, 'inf', decimal.Decimal('Infinity')], math.inf),
        ('decimal', [1.5, '1.5', '1.50', decimal.Decimal('1.500')], decimal.Decimal('1.5')),
        ('decimal', [2, '2', 2.0], decimal.Decimal(2)),
        ('boolean', [True, 'true', 'TRUE', np.bool_(True)], True),
        ('text', ['7', np.str_('7')], '7'),
        ('ascii', ['a'], 'a'),
        ('blob', [b'\xca\xfe', bytearray(b'\xca\xfe'), '0xCAFE'], b'\xca\xfe'),
        (
            'timestamp',
            [
                datetime.datetime(2020, 1, 1, tzinfo=UTC), datetime.datetime(2020, 1, 1, 1, tzinfo=EAST),
                '2020-01-01T00:00Z', '2020-01-01T01:00:00.000+01:00', 1577836800000,
            ],
            1577836800000,
        ),
        ('timestamp', [2**63 - 1], 2**63 - 1),
        ('date', [datetime.date(1970, 1, 3), '1970-01-03', 2, Date(2)], 2),
        ('date', [-(2**31)], -(2**31)),
        ('time', [datetime.time(0, 0, 1, 5), '00:00:01.000005', 1_000_005_000, Time(1_000_005_000)], 1_000_005_000),
        ('time', ['23:59:59.999999999'], 86_400 * 10**9 - 1),
        ('time', ['12:30', datetime.time(12, 30)], 45_000 * 10**9),
        ('duration', [Duration(1, 2, 3)], (1, 2, 3)),
        ('list<int>', [[1, 2], (1, 2), ['1', 2.0], np.array([1, 2])], (1, 2)),
        ('frozen<set<text>>', [{'a', 'b'}, ['b', 'a', 'a']], frozenset('ab')),
        ('frozen<map<text, frozen<list<uuid>>>>', [{'a': [ID.hex]}], frozenset({('a', (str(ID),))})),
        ('frozen<tuple<int, text>>', [(1, 'x'), [1, 'x']], (1, 'x')),
        ('tuple<int, text>', [(1, None)], (1, None)),
        ('vector<float, 2>', [[0.5, 1], (0.5, 1.0)], (0.5, 1.0)),
    ],
)  # fmt: skip
def test_equal_values_are_parsed_to_equal_ones(cql_type: str, given_values: list, parsed: Any) -> None:
    for value in given_values:
        got = values.parse(cql_type, value)
        assert got == parsed, value
        assert type(got) is type(parsed), value


@pytest.mark.parametrize(
    ('cql_type', 'value'),
    [
        ('int', True), ('int', np.bool_(True)), ('int', 7.5), ('int', '7.0'), ('int', '7_0'), ('int', ' 7'),
        ('int', None), ('int', b'7'), ('int', math.nan), ('int', math.inf),
        ('int', decimal.Decimal('1e999999')), ('int', [7]), ('int', '\u0667'), ('double', True),
        ('double', 'x'), ('double', None), ('decimal', True), ('decimal', 'x'), ('decimal', math.nan),
        ('decimal', decimal.Decimal('Infinity')), ('boolean', 1), ('boolean', 'yes'), ('text', 7),
        ('text', b'a'), ('text', ID), ('text', '\ud800'), ('blob', 'cafe'), ('blob', '0xc'), ('blob', 7),
        ('uuid', 'x'), ('uuid', 7), ('uuid', ID.bytes), ('inet', '10.0.0.256'), ('inet', '10.0.0.0/8'),
        ('inet', 7), ('inet', ipaddress.ip_interface('10.0.0.1/8')), ('inet', 'fe80::1%eth0'),
        ('timestamp', '2020-01-01'), ('timestamp', datetime.datetime(2020, 1, 1)),
        ('timestamp', datetime.date(2020, 1, 1)), ('timestamp', True),
        ('timestamp', datetime.datetime(2020, 1, 1, 0, 0, 0, 1, UTC)),
        ('timestamp', np.datetime64('2020-01-01', 'ns')), ('date', datetime.datetime(2020, 1, 1, tzinfo=UTC)),
        ('date', '01/02/2020'), ('date', '12'), ('time', '24:00'), ('time', '12:60'),
        ('time', datetime.time(12, tzinfo=UTC)), ('time', 'noon'), ('duration', '1h'), ('list<int>', 7),
        ('list<int>', 'ab'), ('set<int>', {7: 8}), ('map<int, int>', [1]), ('tuple<int, int>', (1,)),
        ('vector<float, 3>', [1.0]), ('vector<float, 1>', ['x']), ('frozen<address>', 'x'),
        ('frozen<list<int>>', ['x']),
    ],
)  # fmt: skip
def test_a_wrong_value_is_an_error_that_names_column_value_and_type(cql_type: str, value: Any) -> None:
    with pytest.raises(SchemaError) as caught:
        values.parse_all('some column', cql_type, [value])
    assert str(caught.value).startswith(f'where some column: got {value!r}, rule: a {cql_type} (')


@pytest.mark.parametrize(
    ('cql_type', 'value'),
    [
        ('tinyint', 128), ('smallint', -32769), ('int', 3_000_000_000), ('int', '3000000000'), ('bigint', 2**63),
        ('timestamp', 2**63), ('date', 2**31), ('time', 86_400 * 10**9), ('time', -1), ('ascii', 'é'),
        ('timeuuid', uuid.UUID(int=4)), ('float', 16_777_217), ('float', '16777217'), ('float', 1e300),
        ('double', 2**53 + 1), ('double', 10**400), ('double', '1e400'),
    ],
)  # fmt: skip
def test_a_type_may_be_too_narrow(cql_type: str, value: Any) -> None:
    with pytest.raises(OutOfRangeError):
        values.parse(cql_type, value)


def test_a_large_value_is_truncated_in_the_message() -> None:
    for cql_type, value in (('ascii', 'é' * 10**6), ('text', b'x' * 10**6), ('int', list(range(10**5)))):
        with pytest.raises(SchemaError) as caught:
            values.parse_all('c', cql_type, [value])
        assert len(str(caught.value)) < 200


def cells(of: pa.DataType, *rows: Any) -> pa.Array:
    return pa.array([*rows, None], of)


@pytest.mark.parametrize(
    ('cql_type', 'array', 'wanted', 'rows'),
    [
        ('uuid', cells(pa.string(), str(ID), 'other'), [ID.hex.upper()], [0]),
        ('decimal', cells(pa.string(), '1.50', '1.5', '15E-1', '1.51'), [1.5], [0, 1, 2]),
        ('decimal', cells(pa.string(), '1' + '0' * 40, '1E+40'), [10**40], [0, 1]),
        ('varint', cells(pa.int64(), 5, -(2**63)), [5, -(2**63), 2**70], [0, 1]),
        ('varint', cells(pa.string(), '5', str(2**70)), [2**70], [1]),
        ('float', cells(pa.float32(), 0.1, math.nan), [0.1, 'nan'], [0, 1]),
        ('timestamp', cells(pa.timestamp('ms', 'UTC'), 0, 2**62), [2**62], [1]),
        ('date', cells(pa.date32(), 0, 2**31 - 1), ['1970-01-01', 2**31 - 1], [0, 1]),
        ('time', cells(pa.time64('ns'), 5, 6), ['00:00:00.000000005'], [0]),
        ('blob', cells(pa.binary(), b'\0', b''), [b''], [1]),
        ('boolean', cells(pa.bool_(), True, False), ['false'], [1]),
        ('frozen<set<text>>', cells(pa.list_(pa.string()), ['a', 'b'], ['a'], []), [['b', 'a'], []], [0, 2]),
        ('list<timestamp>', cells(pa.list_(pa.timestamp('ms', 'UTC')), [2**62], [1]), [[2**62]], [0]),
        ('map<text, int>', cells(pa.map_(pa.string(), pa.int32()), [('a', 1)], [('a', 2)]), [{'a': 2}], [1]),
        (
            'frozen<tuple<decimal, date>>',
            cells(pa.struct([('0', pa.string()), ('1', pa.date32())]), {'0': '1.0', '1': 3}, {'0': '1.0', '1': None}),
            [(1, datetime.date(1970, 1, 4))], [0],
        ),
        ('vector<float, 2>', cells(pa.list_(pa.float32(), 2), [0.1, 1], [0.2, 1]), [[0.1, 1]], [0]),
        (
            'duration',
            cells(pa.struct([('months', pa.int32()), ('days', pa.int32()), ('nanoseconds', pa.int64())]),
                  {'months': 1, 'days': 2, 'nanoseconds': 3}),
            [Duration(1, 2, 3)], [0],
        ),
        ('int', cells(pa.int32(), 1), [], []),
    ],
)  # fmt: skip
def test_cells_are_compared_as_their_type(cql_type: str, array: pa.Array, wanted: list, rows: list[int]) -> None:
    mask = values.matches(array, cql_type, values.parse_all('c', cql_type, wanted))
    assert [row for row, hit in enumerate(mask.to_pylist()) if hit] == rows


@given(st.recursive(st.sampled_from(['int', 'frozen<"a, <b">']), lambda inner: st.tuples(inner, inner)))
def test_a_type_is_split_into_its_parts(nested: Any) -> None:
    def written(nested_type: Any) -> str:
        return (
            nested_type
            if isinstance(nested_type, str)
            else f'map<{written(nested_type[0])}, {written(nested_type[1])}>'
        )

    if not isinstance(nested, str):
        assert values.type_parts(written(nested)) == ('map', (written(nested[0]), written(nested[1])))
    assert values.type_parts('vector<float, 3>') == ('vector', ('float', '3'))
    assert values.type_parts('"t<int>"') == ('"t<int>"', ())


@pytest.mark.parametrize(
    ('sizes', 'possible'),
    [
        ([0], False), ([1], True), ([65_535], True), ([65_536], False), ([0, 4], True), ([65_525, 4], True),
        ([65_526, 4], False), ([70_000, 4], False),
    ],
)  # fmt: skip
def test_which_partitions_can_have_a_key(sizes: list[int], possible: bool) -> None:
    assert values.is_key([b'x' * size for size in sizes]) is possible
