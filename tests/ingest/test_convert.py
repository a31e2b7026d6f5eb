"""Columns are converted as the slow oracle converts each value: the same values, and errors for the same rows."""

from __future__ import annotations

import datetime
import decimal
import math
from typing import Any

import pyarrow as pa
import pytest
from cassandra import cqltypes
from cql_tables import scalar
from hypothesis import given
from hypothesis import strategies as st

from tfx_cassandra.components.ingest.convert import arrow_type, check_type, convert
from tfx_cassandra.components.ingest.values import value_of

UTC = datetime.timezone.utc
KINDS = {
    name: cqltypes.lookup_casstype(f'org.apache.cassandra.db.marshal.{kind}')
    for name, kind in {
        'ascii': 'AsciiType',
        'text': 'UTF8Type',
        'blob': 'BytesType',
        'boolean': 'BooleanType',
        'tinyint': 'ByteType',
        'int': 'Int32Type',
        'bigint': 'LongType',
        'varint': 'IntegerType',
        'float': 'FloatType',
        'double': 'DoubleType',
        'decimal': 'DecimalType',
        'timestamp': 'TimestampType',
        'date': 'SimpleDateType',
        'time': 'TimeType',
        'uuid': 'UUIDType',
        'timeuuid': 'TimeUUIDType',
        'inet': 'InetAddressType',
        'duration': 'DurationType',
    }.items()
}
LIST = cqltypes.ListType.apply_parameters
MAP = cqltypes.MapType.apply_parameters


def oracle(kind: Any, values: list[Any]) -> tuple[list[Any], set[int]]:
    """Converts each value by itself."""
    found, wrong = [], set()
    for row, value in enumerate(values):
        try:
            found.append(None if value is None else value_of(kind, value))
        except (ValueError, OverflowError):
            found.append(None)
            wrong.add(row)
    return pa.array(found, arrow_type(kind)), wrong


def plain(name: str, array: pa.Array) -> pa.Array:
    """Returns decimals without the zeros before their digits, and without the sign of zero."""
    if name != 'decimal':
        return array
    return pa.array(
        [None if text is None else str(decimal.Decimal(text) + 0) for text in array.to_pylist()], pa.string()
    )


def same(one: pa.Array, other: pa.Array) -> bool:
    """Says whether arrays are equal, and their zeros have the same sign."""
    if not pa.types.is_floating(one.type):
        return one.equals(other)
    pairs = zip(one.to_pylist(), other.to_pylist(), strict=True)
    return all(
        (a is None and b is None)
        or (
            a is not None
            and b is not None
            and ((a != a and b != b) or (a == b and math.copysign(1, a) == math.copysign(1, b)))
        )
        for a, b in pairs
    )


DIGITS = st.from_regex(r'\A-?[0-9]{1,20}\Z')
NUMBERS = DIGITS | st.from_regex(r'\A[-+]?[0-9]{0,18}\.?[0-9]{0,20}([eE][-+]?[0-9]{1,3})?\Z')
TIMES = st.from_regex(
    r'\A[0-9]{4}-[01][0-9]-[0-3][0-9][T ][0-2][0-9]:[0-6][0-9](:[0-6][0-9](\.[0-9]{1,7})?)?'
    r'(Z|[+-][01][0-9]:[0-5][0-9])?\Z'
)
DATES = st.from_regex(r'\A[0-9]{4}-[01][0-9]-[0-3][0-9]\Z') | st.dates().map(str)
CLOCKS = st.from_regex(r'\A[0-2][0-9]:[0-6][0-9](:[0-6][0-9](\.[0-9]{1,10})?)?\Z')
TEXTS = {
    'blob': st.binary(max_size=6).map(lambda b: '0x' + b.hex()) | st.just('0xZZ'),
    'boolean': st.sampled_from(['true', 'false', 'True', '1']),
    **dict.fromkeys(['tinyint', 'int', 'bigint', 'varint'], DIGITS | st.integers(-130, 130).map(str)),
    **dict.fromkeys(['float', 'double', 'decimal'], NUMBERS | st.floats().map(repr)),
    'timestamp': TIMES | st.datetimes().map(lambda at: at.isoformat(timespec='milliseconds') + '+00:00') | DIGITS,
    'date': DATES,
    'time': CLOCKS | st.integers(0, 10**14).map(str),
    'uuid': st.uuids().map(str),
    'timeuuid': st.uuids(version=1).map(str) | st.uuids().map(str),
    'inet': st.ip_addresses().map(str) | st.from_regex(r'\A[0-9]{1,3}(\.[0-9]{1,3}){3}\Z'),
}


@pytest.mark.parametrize('name', KINDS)
@given(st.data())
def test_texts_are_converted_as_each_by_itself(name: str, data: st.DataObject) -> None:
    one = st.none() | st.text(max_size=4) | TEXTS.get(name, st.text(max_size=4))
    values = data.draw(st.lists(one, max_size=6) | st.lists(TEXTS.get(name, st.text()), max_size=4))
    expected, wrong = oracle(KINDS[name], values)
    for source in (pa.array(values, pa.string()), values):
        found = convert(source, KINDS[name])
        assert found.errors.keys() == wrong, values
        assert same(plain(name, found.values), plain(name, expected)), values


@pytest.mark.parametrize(
    ('name', 'text', 'expected'),
    [
        ('int', '-7', -7),
        ('varint', '123456789012345678901234567890', '123456789012345678901234567890'),
        ('double', '0.1', 0.1),
        ('double', 'NaN', math.nan),
        ('double', '-inf', -math.inf),
        ('float', '0.1', 0.10000000149011612),
        ('double', '9007199254740993', 9007199254740992.0),
        ('boolean', 'FALSE', False),
        ('blob', '0xCAFE', b'\xca\xfe'),
        ('timestamp', '2013-01-01T01:00+01:00', datetime.datetime(2013, 1, 1, tzinfo=UTC)),
        ('timestamp', '1356998400000', datetime.datetime(2013, 1, 1, tzinfo=UTC)),
        ('date', '2013-02-28', datetime.date(2013, 2, 28)),
        ('decimal', '1.50', '1.50'),
        ('inet', '::1', '::1'),
        ('uuid', 'F8443B40-E6E0-11F1-8331-9D826B7771BC', 'f8443b40-e6e0-11f1-8331-9d826b7771bc'),
    ],
)
def test_values_of_text(name: str, text: str, expected: object) -> None:
    found = convert(pa.array([None, text]), KINDS[name])
    assert found.errors == {}
    assert same(found.values, pa.array([None, expected], arrow_type(KINDS[name])))


WRONG = [
    ('int', '3.5', 'not an integer'),
    ('int', '2147483648', 'beyond 32 bits'),
    ('double', '1e400', 'too large'),
    ('float', '1e39', 'too large'),
    ('double', 'much', 'not a number'),
    ('timestamp', '2013-01-01T00:00', 'a time without an offset'),
    ('timestamp', '2013-01-01T00:00:00.000100Z', 'finer than a millisecond'),
    ('timestamp', '1356998400000000', 'not in the years 1 to 9999'),
    ('timestamp', 'noon', 'neither ISO 8601 with an offset nor milliseconds since 1970'),
    ('boolean', 'yes', 'neither true nor false'),
    ('ascii', 'é', 'not ASCII'),
    ('text', 'a\udcff', 'not UTF-8'),
    ('timeuuid', '4f2d2b9e-6f5c-4b60-9d0a-0b1c2d3e4f50', 'not of version 1'),
    ('time', '24:00', 'not a time of day'),
    ('blob', 'cafe', 'neither bytes nor text such as 0xcafe'),
    ('inet', '1.2.3', "'1.2.3' does not appear"),
]


@pytest.mark.parametrize(('name', 'text', 'reason'), WRONG)
def test_wrong_texts(name: str, text: str, reason: str) -> None:
    found = convert([None, text], KINDS[name])
    assert found.errors.keys() == {1}
    assert found.errors[1].startswith(reason)
    assert found.values.null_count == 2


@pytest.mark.parametrize(
    ('source', 'name', 'expected'),
    [
        (pa.array([1, None], pa.int16()), 'bigint', [1, None]),
        (pa.array([2.0]), 'int', [2]),
        (pa.array([1]), 'double', [1.0]),
        (pa.array([1.5]), 'float', [1.5]),
        (pa.array(['a', 'a']).dictionary_encode(), 'text', ['a', 'a']),
        (pa.array(['a'], pa.large_string()), 'text', ['a']),
        (pa.array([b'a']), 'text', ['a']),
        (pa.array([b'\xff']), 'blob', [b'\xff']),
        (
            pa.array([1], pa.timestamp('s', 'Asia/Tokyo')),
            'timestamp',
            [datetime.datetime(1970, 1, 1, 0, 0, 1, tzinfo=UTC)],
        ),
        (pa.array([5]), 'timestamp', [datetime.datetime(1970, 1, 1, 0, 0, 0, 5000, tzinfo=UTC)]),
        (pa.array([1, 0]), 'boolean', [True, False]),
        (pa.array([decimal.Decimal('1.50')]), 'decimal', ['1.50']),
        (pa.array([decimal.Decimal('2.00')]), 'int', [2]),
        (pa.array([12], pa.uint64()), 'varint', ['12']),
        (pa.array([1], pa.int64()), 'date', [datetime.date(1970, 1, 2)]),
    ],
)
def test_typed_columns(source: pa.Array, name: str, expected: list[Any]) -> None:
    check_type(source.type, KINDS[name])
    found = convert(source, KINDS[name])
    assert found.errors == {}
    assert found.values.type == arrow_type(KINDS[name])
    assert found.values.to_pylist() == expected


@pytest.mark.parametrize(
    ('source', 'name', 'wrong'),
    [
        (pa.array([1, 2**40, None]), 'int', {1: 'Integer value 1099511627776 not in range'}),
        (pa.array([1.5, 2.0]), 'int', {0: 'Float value 1.5'}),
        (pa.array([1.0, 1e300, math.inf]), 'float', {1: 'too large'}),
        (pa.array([b'a', b'\xff']), 'text', {1: 'not UTF-8'}),
        (pa.array([0, 10**15]), 'timestamp', {1: 'not in the years 1 to 9999'}),
        (pa.array([2, 1]), 'boolean', {0: 'neither 0 nor 1'}),
        (pa.array([1500, 2000], pa.timestamp('us', 'UTC')), 'timestamp', {0: 'Casting from timestamp'}),
    ],
)
def test_wrong_values_of_typed_columns(source: pa.Array, name: str, wrong: dict[int, str]) -> None:
    found = convert(source, KINDS[name])
    assert found.errors.keys() == wrong.keys()
    assert all(found.errors[row].startswith(reason) for row, reason in wrong.items())
    kept = [value for row, value in enumerate(found.values) if row not in wrong and source[row].is_valid]
    assert all(value.is_valid for value in kept)


@pytest.mark.parametrize(
    ('source', 'name'),
    [
        (pa.timestamp('ms'), 'timestamp'),
        (pa.int64(), 'text'),
        (pa.bool_(), 'int'),
        (pa.list_(pa.int64()), 'int'),
        (pa.float64(), 'timestamp'),
        (pa.date32(), 'timestamp'),
        (pa.timestamp('ms', 'UTC'), 'date'),
        (pa.bool_(), 'double'),
    ],
)
def test_types_that_fit_no_value(source: pa.DataType, name: str) -> None:
    with pytest.raises(ValueError, match=r'.+'):
        check_type(source, KINDS[name])


@pytest.mark.parametrize('text', [True, False])
def test_collections(text: bool) -> None:
    import json

    cases = [
        (LIST([KINDS['int']]), [1, 2], [1, 2]),
        (
            MAP([KINDS['text'], KINDS['timestamp']]),
            {'a': '1970-01-01T00:00Z'},
            [('a', datetime.datetime(1970, 1, 1, tzinfo=UTC))],
        ),
        (MAP([KINDS['int'], KINDS['double']]), {'1': 2}, [(1, 2.0)]),
        (MAP([KINDS['int'], KINDS['text']]), [[1, 'x']], [(1, 'x')]),
        (KINDS['duration'], {'months': 1, 'days': 2, 'nanoseconds': 3}, {'months': 1, 'days': 2, 'nanoseconds': 3}),
        (cqltypes.TupleType.apply_parameters([KINDS['int'], KINDS['text']]), [1, None], {'0': 1, '1': None}),
    ]
    for kind, value, expected in cases:
        found = convert([json.dumps(value) if text else value, None], kind)
        assert found.errors == {}
        assert found.values.to_pylist() == [expected, None]


@pytest.mark.parametrize(
    ('kind', 'value', 'reason'),
    [
        (LIST([KINDS['int']]), '[1', 'not JSON'),
        (LIST([KINDS['int']]), {'a': 1}, 'not a list'),
        (LIST([KINDS['int']]), [None], 'a null within a collection'),
        (LIST([KINDS['int']]), ['x'], 'not a number'),
        (MAP([KINDS['int'], KINDS['int']]), [1], 'neither an object nor a list of pairs'),
        (KINDS['duration'], {'months': 1, 'days': -1, 'nanoseconds': 0}, 'its parts have different signs'),
        (cqltypes.TupleType.apply_parameters([KINDS['int']]), [1, 2], 'not of 1 parts'),
    ],
)
def test_wrong_collections(kind: Any, value: Any, reason: str) -> None:
    assert convert([value], kind).errors == {0: reason}


def test_features_of_examples_are_unwrapped() -> None:
    lists = pa.array([[1], [], None, [4], [5, 6]], pa.list_(pa.int64()))
    found = convert(lists, KINDS['int'])
    assert found.values.to_pylist()[:4] == [1, None, None, 4]
    assert found.errors == {4: 'several values'}
    assert convert(lists, LIST([KINDS['int']])).values.to_pylist() == [[1], [], None, [4], [5, 6]]
    assert convert(pa.array([[1.5], None], pa.list_(pa.float32())), KINDS['text']).errors.keys() == {0}


def vector(kind: Any, size: int) -> Any:
    return cqltypes.VectorType.apply_parameters([kind, size], None)


LISTS = {
    pa.int64(): st.integers(-(2**63), 2**63 - 1) | st.integers(-2, 300),
    pa.float32(): st.floats(width=32, allow_nan=False),
    pa.binary(): st.sampled_from([b'a', b'\xff', b'12', b'true', b'12345678-1234-5678-1234-567812345678']),
}


ITEMS = ('text', 'blob', 'int', 'bigint', 'double', 'float', 'date', 'timestamp', 'uuid', 'boolean')


@given(st.data(), st.sampled_from(list(LISTS)), st.sampled_from(ITEMS), st.booleans())
def test_lists_of_examples_equal_each_item_by_itself(data: st.DataObject, source: Any, name: str, dense: bool) -> None:
    size = st.just(2) if dense else st.integers(0, 3)
    items = size.flatmap(lambda count: st.lists(LISTS[source], min_size=count, max_size=count))
    rows = data.draw(st.lists(st.none() | items, max_size=5))
    lists = pa.array([[], *rows], pa.list_(source)).slice(1)
    kind = vector(KINDS[name], 2) if dense else LIST([KINDS[name]])
    found = convert(lists, kind)
    assert found.values.type == arrow_type(kind)
    for row, items in enumerate(rows):
        if items is None:
            assert (found.values[row].is_valid, row in found.errors) == (False, False)
            continue
        each = convert(pa.array([[item] for item in items], pa.list_(source)), KINDS[name])
        if not each.errors:
            assert found.values[row].values.equals(each.values)
        elif source != pa.float32():  # value by value, a whole number may be a float
            assert row in found.errors


def test_a_wrong_number_in_a_list_fails_its_own_row() -> None:
    lists = pa.array([[0, 1], [0, -1], None], pa.list_(pa.int64()))
    for kind in (LIST([KINDS['boolean']]), vector(KINDS['boolean'], 2)):
        found = convert(lists, kind)
        assert found.values.to_pylist() == [[False, True], None, None]
        assert found.errors.keys() == {1}


def test_a_wrong_text_in_a_list_fails_its_own_row() -> None:
    lists = pa.array([[b'a'], [b'b', b'\xff'], None, [b'c']], pa.list_(pa.binary()))
    found = convert(lists, LIST([KINDS['text']]))
    assert found.values.to_pylist() == [['a'], None, None, ['c']]
    assert found.errors == {1: 'not UTF-8'}


def test_a_vector_has_its_length() -> None:
    lists = pa.array([[1.0, 2.0], None, [1.0]], pa.list_(pa.float32()))
    found = convert(lists, vector(KINDS['float'], 2))
    assert found.values.to_pylist() == [[1.0, 2.0], None, None]
    assert found.errors == {2: 'not of 2 elements'}


def test_nothing_is_nothing() -> None:
    for kind in (*KINDS.values(), LIST([scalar('UTF8Type')])):
        for source in ([], [None], pa.nulls(1), pa.array([], pa.string())):
            found = convert(source, kind)
            assert (found.values.type, found.values.null_count, found.errors) == (arrow_type(kind), len(source), {})


def test_maps_of_parquet_get_the_names_of_the_tables_type() -> None:
    import io

    import pyarrow.parquet as pq

    kind = LIST([MAP([KINDS['int'], KINDS['double']])])
    sink = io.BytesIO()
    pq.write_table(pa.table({'a': pa.array([[[(1, 0.5)]], None], arrow_type(kind))}), sink)
    found = convert(pq.read_table(sink).column('a').chunk(0), kind)
    assert hash(found.values.type) == hash(arrow_type(kind))
    assert found.values.to_pylist() == [[[(1, 0.5)]], None]
