"""What the driver takes and what Arrow gives are one value; what has no form in its column fails alone."""

from __future__ import annotations

import datetime
import decimal
import ipaddress
import uuid
from collections import namedtuple
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from cassandra import cqltypes
from cassandra.util import Date, Duration, Time

from tfx_cassandra.components.driver.responses import Milliseconds
from tfx_cassandra.components.write.columns import Column, plain, write_times

UTC = datetime.timezone.utc
NOON = datetime.datetime(2013, 1, 1, 12, tzinfo=UTC)
MS = int(NOON.timestamp() * 1000)
DAY = (NOON.date() - datetime.date(1970, 1, 1)).days
LIST, SET = cqltypes.ListType.apply_parameters, cqltypes.SetType.apply_parameters
MAP, TUPLE = cqltypes.MapType.apply_parameters, cqltypes.TupleType.apply_parameters
VECTOR = cqltypes.VectorType.apply_parameters
UDT = cqltypes.UserType.make_udt_class('k', 'u', ('a', 'b'), (cqltypes.UUIDType, cqltypes.Int32Type))
ID = uuid.UUID(int=7)
PAIR = namedtuple('PAIR', 'a b')
VALUES = [
    (cqltypes.UUIDType, str(ID), ID), (cqltypes.UUIDType, ID, ID), (cqltypes.TimeUUIDType, str(ID), ID),
    (cqltypes.DecimalType, '1.50', decimal.Decimal('1.50')), (cqltypes.DecimalType, 7, decimal.Decimal(7)),
    (cqltypes.DecimalType, decimal.Decimal('-1.5e-7'), decimal.Decimal('-1.5e-7')),
    (cqltypes.IntegerType, 2**100, 2**100), (cqltypes.IntegerType, '-5', -5),
    (cqltypes.DurationType, {'months': 1, 'days': 2, 'nanoseconds': 3}, Duration(1, 2, 3)),
    (cqltypes.DurationType, Duration(1, 2, 3), Duration(1, 2, 3)),
    (cqltypes.TimestampType, NOON, NOON.replace(tzinfo=None)),
    (cqltypes.SimpleDateType, NOON.date(), Date(DAY)), (cqltypes.SimpleDateType, Date(DAY), Date(DAY)),
    (cqltypes.SimpleDateType, '2013-01-01', Date(DAY)), (cqltypes.SimpleDateType, Date(2**31 - 1), Date(2**31 - 1)),
    (cqltypes.TimeType, 5, Time(5)), (cqltypes.TimeType, Time(5), Time(5)),
    (cqltypes.TimeType, Time(0), Time(0)), (cqltypes.TimeType, datetime.time(12, 0, 0, 1), Time(43_200_000_001_000)),
    (cqltypes.InetAddressType, ipaddress.ip_address('::1'), '::1'), (cqltypes.InetAddressType, '10.0.0.1', '10.0.0.1'),
    (cqltypes.BytesType, bytearray(b'x'), b'x'), (cqltypes.BytesType, memoryview(b'x'), b'x'),
    (cqltypes.FloatType, 1, 1.0), (cqltypes.FloatType, float('inf'), float('inf')),
    (cqltypes.DoubleType, np.float32(0.5), 0.5), (cqltypes.Int32Type, np.int64(3), 3),
    (cqltypes.BooleanType, True, True),
    (LIST([cqltypes.UUIDType]), [str(ID)], [ID]), (LIST([cqltypes.Int32Type]), (1, 2), [1, 2]),
    (SET([cqltypes.TimestampType]), {NOON}, [NOON.replace(tzinfo=None)]),
    (MAP([cqltypes.UUIDType, cqltypes.Int32Type]), {str(ID): 1}, {ID: 1}),
    (MAP([cqltypes.UUIDType, cqltypes.Int32Type]), [(ID, 1)], {ID: 1}), (MAP([cqltypes.UTF8Type] * 2), {}, {}),
    (TUPLE([cqltypes.UUIDType, cqltypes.Int32Type]), (str(ID), 1), (ID, 1)),
    (TUPLE([cqltypes.UUIDType, cqltypes.Int32Type]), {'0': None, '1': 1}, (None, 1)),
    (TUPLE([cqltypes.UUIDType, cqltypes.Int32Type]), (ID,), (ID, None)),
    (UDT, {'a': str(ID), 'b': None}, (ID, None)), (UDT, PAIR(ID, 2), (ID, 2)), (UDT, {'b': 2}, (None, 2)),
    (LIST([LIST([cqltypes.Int32Type])]), [[1]], [[1]]),
    (cqltypes.FrozenType.apply_parameters([LIST([cqltypes.UUIDType])]), [str(ID)], [ID]),
    (VECTOR([cqltypes.FloatType, 2], None), np.array([1.5, 2]), [1.5, 2.0]),
    (cqltypes.UTF8Type, 'é', 'é'), (cqltypes.DoubleType, 2**70, 2.0**70), (cqltypes.BooleanType, np.True_, True),
    (cqltypes.DoubleType, decimal.Decimal('1.5'), 1.5),
]  # fmt: skip


@pytest.mark.parametrize(('kind', 'value', 'expected'), VALUES)
def test_a_value_is_serialized_as_the_driver_does(kind: Any, value: Any, expected: Any) -> None:
    column = Column('c', kind)
    array, errors = column.array([None, value])
    assert errors == {}
    encoded, errors = column.encoded(array)
    assert errors == {}
    assert [encoded.value(0), encoded.value(1)] == [None, kind.to_binary(expected, 4)]


def test_a_moment_beyond_python_is_a_number() -> None:
    column = Column('c', cqltypes.TimestampType)
    encoded, _ = column.encoded(column.array([Milliseconds(2**62)])[0])
    assert encoded.value(0) == (2**62).to_bytes(8, 'big')


REFUSED = [
    (cqltypes.Int32Type, 2**31, 'c: got 2147483648, rule: a value of type int'),
    (cqltypes.Int32Type, 'x', "c: got 'x', rule: a value of type int"),
    (cqltypes.DoubleType, 10**400, 'c: got 1000'),
    (cqltypes.DoubleType, '1', "c: got '1', rule: a value of type double"),
    (cqltypes.FloatType, 1e39, 'c: got 1e+39, rule: a value of type float (beyond'),
    (cqltypes.FloatType, '1', "c: got '1', rule: a value of type float"),
    (cqltypes.UTF8Type, 7, 'c: got 7, rule: a text'),
    (cqltypes.UTF8Type, '\ud800', "c: got '\\ud800', rule: a value of type text"),
    (cqltypes.TimestampType, NOON.replace(tzinfo=None), 'c: got'),
    (cqltypes.TimestampType, NOON.replace(microsecond=1), 'c: got'),
    (cqltypes.TimestampType, 7, 'c: got 7'),
    (cqltypes.UUIDType, 'x', "c: got 'x', rule: a value of type uuid (uuid: got 'x'"),
    (cqltypes.Int32Type, 1.5, 'c: got 1.5, rule: a value of type int'),
    (LIST([cqltypes.Int32Type]), [1.5], 'c: got [1.5], rule: a value of type list<int>'),
    (cqltypes.BooleanType, 1, 'c: got 1, rule: a value of type boolean'),
    (cqltypes.DoubleType, True, 'c: got True, rule: a value of type double'),
    (cqltypes.BytesType, 'x', "c: got 'x', rule: a value of type blob"),
    (cqltypes.UTF8Type, b'x', "c: got b'x', rule: a text"),
    (cqltypes.UUIDType, 7, 'c: got 7, rule: a text or UUID'),
    (cqltypes.InetAddressType, '1.2.3', "c: got '1.2.3', rule: a value of type inet"),
    (cqltypes.DecimalType, True, 'c: got True, rule: a value of type decimal'),
    (cqltypes.DecimalType, 'NaN', "c: got 'NaN', rule: a value of type decimal"),
    (cqltypes.IntegerType, 1.5, 'c: got'),
    (cqltypes.SimpleDateType, 'soon', "c: got 'soon', rule: a value of type date"),
    (LIST([cqltypes.UTF8Type]), 'text', "c: got 'text', rule: a list of values"),
    (LIST([cqltypes.Int32Type]), [1, None], 'c: got [1, None], rule: a value of type list<int>'),
    (MAP([cqltypes.UTF8Type] * 2), 7, 'c: got 7, rule: a value of type map<text, text>'),
    (MAP([cqltypes.UTF8Type] * 2), {'a': None}, "c: got [('a', None)], rule: a value of type map<text, text>"),
    (UDT, {'z': 1}, "c: got {'z': 1}, rule: the fields a, b, without z"),
    (TUPLE([cqltypes.Int32Type]), (1, 2), 'c: got (1, 2), rule: at most 1 values'),
    (VECTOR([cqltypes.FloatType, 2], None), [1.0], 'c: got [1.0], rule: a value of type vector'),
]  # fmt: skip


@pytest.mark.parametrize(('kind', 'value', 'message'), REFUSED)
def test_a_value_without_a_form_fails_its_row_alone(kind: Any, value: Any, message: str) -> None:
    good = next((of_kind for each, of_kind, _ in VALUES if each is kind), None)
    column = Column('c', kind)
    array, errors = column.array([good, value, None])
    if not errors:
        encoded, errors = column.encoded(array)
        assert encoded is None
    assert list(errors) == [1]
    assert errors[1].startswith(message)
    assert '\n' not in errors[1]


ARRAYS = [
    (cqltypes.LongType, pa.array([1, None], pa.int32()), [1, None]),
    (cqltypes.DoubleType, pa.array([1, None], pa.int8()), [1.0, None]),
    (cqltypes.FloatType, pa.array([0.5, float('inf'), None]), [0.5, float('inf'), None]),
    (cqltypes.TimestampType, pa.array([NOON], pa.timestamp('us', 'Europe/Vienna')), [NOON.replace(tzinfo=None)]),
    (cqltypes.UTF8Type, pa.array(['a', None], pa.large_string()), ['a', None]),
    (cqltypes.UTF8Type, pa.array(['a', 'b', 'a']).dictionary_encode(), ['a', 'b', 'a']),
    (cqltypes.BytesType, pa.array([b'ab'], pa.binary(2)), [b'ab']),
    (cqltypes.TimeType, pa.array([1], pa.time64('us')), [Time(1000)]),
    (cqltypes.IntegerType, pa.array([5, None]), [5, None]),
    (cqltypes.IntegerType, pa.array(['5', None]), [5, None]),
    (LIST([cqltypes.Int32Type]), pa.array([[1], None], pa.list_(pa.int64())), [[1], None]),
    (LIST([cqltypes.Int32Type]), pa.array([[1]], pa.large_list(pa.int32())), [[1]]),
    (cqltypes.Int32Type, pa.nulls(2), [None, None]),
]  # fmt: skip


@pytest.mark.parametrize(('kind', 'array', 'expected'), ARRAYS)
def test_an_array_of_another_type_is_converted(kind: Any, array: pa.Array, expected: list) -> None:
    column = Column('c', kind)
    converted, errors = column.array(array)
    assert errors == {}
    encoded, _ = column.encoded(converted)
    assert [encoded.value(i) for i in range(len(array))] == [
        None if value is None else kind.to_binary(value, 4) for value in expected
    ]


def test_a_nested_map_of_parquet_is_written(tmp_path: Path) -> None:
    """Its parts have other names, which makes the type equal to the column's, with another hash."""
    lists = cqltypes.FrozenType.apply_parameters([LIST([cqltypes.Int32Type])])
    column = Column('c', MAP([cqltypes.UTF8Type, lists]))
    array = pa.array([[('a', [1, 2])], None], pa.map_(pa.string(), pa.list_(pa.int32())))
    pq.write_table(pa.table({'c': array}), tmp_path / 'file')
    read = pq.read_table(tmp_path / 'file')['c'].chunk(0)
    found, errors = column.array(read)
    values, of_array = column.encoded(found)[0], column.encoded(array)[0]
    assert errors == {}
    assert [values.value(row) for row in range(2)] == [of_array.value(row) for row in range(2)]


@pytest.mark.parametrize(
    ('kind', 'array', 'bad'),
    [
        (cqltypes.Int32Type, pa.array([1, 2**31]), [1]),
        (cqltypes.FloatType, pa.array([1e39, float('inf'), 1.0]), [0]),
        (cqltypes.TimestampType, pa.array([0, 1], pa.timestamp('us', 'UTC')), [1]),
        (cqltypes.TimestampType, pa.array([NOON, None], pa.timestamp('ms')), [0]),
        (cqltypes.UTF8Type, pa.array([1, 2]), [0, 1]),
        (cqltypes.LongType, pa.array([NOON], pa.timestamp('ms', 'UTC')), [0]),
        (cqltypes.UUIDType, pa.array([str(ID), 'x']), [1]),
    ],
)
def test_rows_of_an_array_without_a_form_fail_alone(kind: Any, array: pa.Array, bad: list[int]) -> None:
    column = Column('c', kind)
    converted, errors = column.array(array)
    if not errors:
        _, errors = column.encoded(converted)
    assert list(errors) == bad


def test_write_times_are_microseconds() -> None:
    late = NOON + datetime.timedelta(microseconds=7)
    for values in ([NOON, late], pa.array([NOON, late], pa.timestamp('us', 'UTC'))):
        times, errors = write_times('at', values)
        assert (times.to_pylist(), errors) == ([MS * 1000, MS * 1000 + 7], {})
    times, errors = write_times('at', [NOON, None, NOON.replace(tzinfo=None), 7])
    assert times[0].as_py() == MS * 1000
    assert list(errors) == [1, 2, 3]
    assert errors[1] == 'at: got None, rule: a datetime with a time zone: the write time of its row'
    assert list(write_times('at', pa.array([NOON, None], pa.timestamp('ms', 'UTC')))[1]) == [1]
    assert list(write_times('at', pa.array([NOON], pa.timestamp('ms')))[1]) == [0]


def test_a_value_is_what_python_has() -> None:
    late = 1_700_000_000_000_000
    far = pa.array([late, None, MS]).cast(pa.timestamp('ms', 'UTC'))
    columns = {
        'at': far,
        'naive': pa.array([late, None, 0]).cast(pa.timestamp('ms')),
        'day': pa.array([2**31 - 1, None, 0], pa.int32()).cast(pa.date32()),
        'time': pa.array([1, None, 2], pa.time64('ns')),
        'list': pa.ListArray.from_arrays(pa.array([0, 2, 2, 3], pa.int32()), far),
        'vector': pa.FixedSizeListArray.from_arrays(far, 1),
        'map': pa.MapArray.from_arrays(pa.array([0, 1, 1, 3], pa.int32()), pa.array(['a', 'b', 'c']), far),
        'struct': pa.StructArray.from_arrays([far, pa.array([1, 2, 3])], ['x', 'y']),
        'text': pa.array(['a', 'b', None]),
    }
    first, second, third = ({name: plain(column[i]) for name, column in columns.items()} for i in range(3))
    assert first == {
        'at': late, 'naive': late, 'day': Date(2**31 - 1), 'time': 1, 'list': [late, None], 'vector': [late],
        'map': [('a', late)], 'struct': {'x': late, 'y': 1}, 'text': 'a',
    }  # fmt: skip
    assert [type(first['at']), type(first['naive'])] == [Milliseconds, int]
    assert second == {
        'at': None, 'naive': None, 'day': None, 'time': None, 'list': [], 'vector': [None], 'map': [],
        'struct': {'x': None, 'y': 2}, 'text': 'b',
    }  # fmt: skip
    assert third == {
        'at': NOON, 'naive': datetime.datetime(1970, 1, 1), 'day': datetime.date(1970, 1, 1), 'time': 2, 'list': [NOON],
        'vector': [NOON], 'map': [('b', None), ('c', NOON)], 'struct': {'x': NOON, 'y': 3}, 'text': None,
    }  # fmt: skip
