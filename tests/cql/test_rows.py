"""The page decoder: every CQL type, nested, with nulls, equals the driver's own decoding; damaged pages raise.

Pages are made here, cell by cell, by the driver's serialization; the oracle is the driver's deserialization, value by
value, put into Arrow by pyarrow.
"""

from __future__ import annotations

import decimal
import ipaddress
import mmap
import os
import re
import struct
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import slow_pages
from cassandra import cqltypes
from cql_tables import EMPTY, plain, scalar, tables
from hypothesis import given, settings
from hypothesis import strategies as st

from tfx_cassandra.components.cql import rows, types
from tfx_cassandra.components.cql.table import Table
from tfx_cassandra.components.cql.types import Decoding
from tfx_cassandra.components.errors import DatasetError, ReadError, SchemaError
from tfx_cassandra.components.scan import page
from tfx_cassandra.components.scan.query import plan_scan


def content(kind: Any, value: Any) -> bytes | None:
    if value is None:
        return None
    return b'' if value is EMPTY else kind.to_binary(value, 4)


def cell(kind: Any, value: Any) -> bytes:
    written = content(kind, value)
    return struct.pack('>i', -1) if written is None else struct.pack('>i', len(written)) + written


def made_page(kinds: list, rows: list[tuple], before: bytes = b'head') -> page.Page:
    body = before + b''.join(cell(kind, value) for row in rows for kind, value in zip(kinds, row, strict=True))
    names = tuple(f'c{i}' for i in range(len(kinds)))
    return page.Page(body, len(before), len(rows), names, tuple(kinds))


def oracle(kind: Any, values: list) -> pa.Array:
    decoded = [kind.from_binary(content(kind, value), 4) for value in values]
    return pa.array([plain(kind, value) for value in decoded], types.arrow_type(kind))


def check_table(table: tuple[list, list[tuple]]) -> None:
    kinds, values = table
    batch, *_ = page.decode(made_page(kinds, values))
    batch.validate(full=True)
    assert batch.num_rows == len(values)
    for i, kind in enumerate(kinds):
        assert batch.column(i).equals(oracle(kind, [row[i] for row in values])), kind.cql_parameterized_type()
    check_outcome(made_page(kinds, values))  # the slow decoder agrees with the driver


def check_damaged(table: tuple[list, list[tuple]], data: st.DataObject) -> None:
    whole = made_page(*table)
    body = bytearray(whole.body)
    for _ in range(data.draw(st.integers(1, 4))):
        index = data.draw(st.integers(0, len(body) - 1))
        body[index] = data.draw(
            st.sampled_from([0, 1, 0x7F, 0x80, 0xFF, *(body[index] ^ 1 << bit for bit in range(8))])
        )
    cut = data.draw(st.integers(0, len(body)))
    count = data.draw(st.sampled_from([whole.rows, whole.rows, whole.rows + 1, -2, 2**31 - 1]))
    for damaged in (bytes(body), bytes(body[:cut]), whole.body[:cut]):
        check_outcome(whole._replace(body=damaged, rows=count))


def check_outcome(given: page.Page) -> None:
    """Asserts that a page is refused by the package's own errors, or read as the slow decoder reads it."""
    try:
        expected = None if given.rows < 0 else slow_pages.decode(*given[:3], list(given.kinds))
    except slow_pages.DamagedError:
        expected = None
    if expected is None:
        with pytest.raises((ReadError, DatasetError), match=r'^(page: got|column c[0-9]+: )'):
            page.decode(given)
    else:
        batch = page.decode(given).content
        for column in batch.columns:
            # Cassandra holds a `time` beyond a day, which Arrow's full validation would refuse.
            column.validate(full='time64' not in str(column.type))
        assert [slow_pages.values(column) for column in batch.columns] == expected


@settings(max_examples=300, deadline=None)
@given(tables())
def test_equals_the_driver(table: tuple[list, list[tuple]]) -> None:
    check_table(table)


@pytest.mark.slow
@settings(max_examples=5000, deadline=None)
@given(tables())
def test_thousands_of_tables_equal_the_driver(table: tuple[list, list[tuple]]) -> None:
    check_table(table)


@settings(max_examples=200, deadline=None)
@given(tables(), st.data())
def test_a_damaged_page_raises_or_decodes_and_never_reads_outside(table: tuple, data: st.DataObject) -> None:
    check_damaged(table, data)


@pytest.mark.slow
@settings(max_examples=5000, deadline=None)
@given(tables(), st.data())
def test_thousands_of_damaged_pages_raise_or_decode(table: tuple, data: st.DataObject) -> None:
    check_damaged(table, data)


@pytest.mark.parametrize(
    ('name', 'content'),
    [
        ('Int32Type', b'\0'),
        ('LongType', b'\0' * 9),
        ('UUIDType', b'\0' * 15),
        ('BooleanType', b'\0\0'),
        ('DurationType', b'\xff'),
    ],
)
def test_a_length_its_type_cannot_have(name: str, content: bytes) -> None:
    body = struct.pack('>i', len(content)) + content
    with pytest.raises(ReadError, match='page: got'):
        page.decode(page.Page(body, 0, 1, ('c',), (scalar(name),)))


def test_rows_must_end_with_the_page() -> None:
    kinds = [scalar('Int32Type')]
    for body in (cell(kinds[0], 1) + b'x', cell(kinds[0], 1)[:-1], b''):
        with pytest.raises(ReadError, match='rule: every length lies within the page'):
            page.decode(page.Page(body, 0, 1, ('c',), tuple(kinds)))


def test_a_varint_beyond_64_bits_names_its_column() -> None:
    kinds = [scalar('IntegerType')]
    with pytest.raises(DatasetError, match='column c0: varint in row 1 of the page: got 9223372036854775808'):
        page.decode(made_page(kinds, [(1,), (2**63,)]))


def test_empty_values_of_types_that_are_not_text_are_null() -> None:
    for name in ('Int32Type', 'UUIDType', 'BooleanType', 'IntegerType'):
        batch, *_ = page.decode(page.Page(struct.pack('>i', 0), 0, 1, ('c',), (scalar(name),)))
        assert batch.column(0).to_pylist() == [None]


def test_empty_elements_of_a_collection_are_null() -> None:
    ints = cqltypes.ListType.apply_parameters([scalar('Int32Type')])
    content = struct.pack('>iiiii', 3, 4, 7, 0, -1)
    batch, *_ = page.decode(page.Page(struct.pack('>i', len(content)) + content, 0, 1, ('c',), (ints,)))
    assert batch.column(0).to_pylist() == [[7, None, None]]


def test_a_type_may_be_named_as_a_scalar_is() -> None:
    date = cqltypes.UserType.make_udt_class('k', 'date', ('year', 'text'), (scalar('Int32Type'), scalar('UTF8Type')))
    rows = [((2013, 'a'),), ((2014, None),), (None,)]
    assert page.decode(made_page([date], rows))[0].column(0).to_pylist() == [
        {'year': 2013, 'text': 'a'}, {'year': 2014, 'text': None}, None
    ]  # fmt: skip


def test_the_checksum_does_not_depend_on_order_or_pages() -> None:
    kinds = [scalar('Int32Type'), scalar('UTF8Type')]
    rows = [(1, 'a'), (2, None), (3, 'long enough to be hashed by words')]
    whole = page.decode(made_page(kinds, rows))[1]
    assert page.decode(made_page(kinds, rows[::-1], before=b''))[1] == whole
    parts = [page.decode(made_page(kinds, part))[1] for part in (rows[:1], rows[1:])]
    assert sum(parts) % 2**64 == whole
    for other in (rows[:2], [*rows, rows[0]], [(1, 'b'), *rows[1:]]):
        assert page.decode(made_page(kinds, other))[1] != whole


@pytest.mark.parametrize('milliseconds', [-(2**63), -1, 2**43 + 1, 2**63 - 1])
def test_timestamps_are_exact_however_far(milliseconds: int) -> None:
    body = struct.pack('>iq', 8, milliseconds)
    batch, *_ = page.decode(page.Page(body, 0, 1, ('c',), (scalar('TimestampType'),)))
    assert batch.column(0).cast(pa.int64()).to_pylist() == [milliseconds]


def test_inet_is_canonical_text() -> None:
    kinds = [scalar('InetAddressType')]
    address = str(ipaddress.ip_address('::1'))
    assert page.decode(made_page(kinds, [(address,)]))[0].column(0).to_pylist() == [address]


def test_decimals_keep_their_digits() -> None:
    kinds = [scalar('DecimalType')]
    assert page.decode(made_page(kinds, [(decimal.Decimal('1.50'),)]))[0].column(0).to_pylist() == ['1.50']


def one_value(kind: Any, content: bytes | None, decoding: Decoding = types.DEFAULT) -> Any:
    body = struct.pack('>i', -1) if content is None else struct.pack('>i', len(content)) + content
    return page.decode(page.Page(body, 0, 1, ('c',), (kind,)), decoding=decoding).content.column(0)


def sized(*contents: bytes | None) -> bytes:
    return b''.join(struct.pack('>i', -1) if c is None else struct.pack('>i', len(c)) + c for c in contents)


TEXT, INT, VARINT = scalar('UTF8Type'), scalar('Int32Type'), scalar('IntegerType')
WIDE = (2**63).to_bytes(9, 'big')
UDT = cqltypes.UserType.make_udt_class('k', 'pair', ('a', 'b'), (INT, TEXT))
PLACES = {  # where a value of another type can stand: the type around it, and the bytes around it
    'column': (lambda of: of, lambda value: value),
    'list': (
        lambda of: cqltypes.ListType.apply_parameters([of]), lambda value: struct.pack('>i', 2) + sized(None, value)
    ),
    'set': (lambda of: cqltypes.SetType.apply_parameters([of]), lambda value: struct.pack('>i', 1) + sized(value)),
    'key': (
        lambda of: cqltypes.MapType.apply_parameters([of, INT]), lambda value: struct.pack('>i', 1) + sized(value, None)
    ),
    'value': (
        lambda of: cqltypes.MapType.apply_parameters([INT, of]),
        lambda value: struct.pack('>i', 1) + sized(b'\0\0\0\1', value),
    ),
    'tuple': (lambda of: cqltypes.TupleType.apply_parameters([INT, of]), lambda value: sized(None, value)),
    'udt': (
        lambda of: cqltypes.UserType.make_udt_class('k', 'pair', ('a', 'b'), (INT, of)),
        lambda value: sized(b'\0\0\0\1', value),
    ),
    'vector': (
        lambda of: cqltypes.VectorType.apply_parameters([of, 2], None),
        lambda value: b''.join(bytes([len(v)]) + v for v in (b'\1', value)),
    ),
    'frozen list of lists': (
        lambda of: cqltypes.ListType.apply_parameters(
            [cqltypes.FrozenType.apply_parameters([cqltypes.ListType.apply_parameters([of])])]
        ),
        lambda value: struct.pack('>i', 1) + sized(struct.pack('>i', 1) + sized(value)),
    ),
}  # fmt: skip
NO_TEXTS = [
    b'\xff', b'\x80', b'\xc0\x80', b'\xc1\xbf', b'\xe0\x80\x80', b'\xed\xa0\x80', b'\xf0\x8f\xbf\xbf',
    b'\xf4\x90\x80\x80', b'\xf5\x80\x80\x80', b'\xe2\x82', b'\xc3', b'12345678' * 9 + b'\xf0\x9f\x98', b'\xe9t\xe9',
]  # fmt: skip


@pytest.mark.parametrize('place', PLACES)
@pytest.mark.parametrize('content', NO_TEXTS, ids=bytes.hex)
def test_text_that_is_not_utf8_is_an_error_or_replaced(place: str, content: bytes) -> None:
    around, written = PLACES[place]
    kind = around(TEXT)
    with pytest.raises(ReadError, match=r'^column c: text in row 0 of the page: got b.*, rule: UTF-8'):
        one_value(kind, written(content))
    replaced = one_value(kind, written(content), Decoding(invalid_text='replace'))
    replaced.validate(full=True)
    assert content.decode('utf-8', 'replace') in repr(replaced.to_pylist())


@given(st.lists(st.binary(max_size=70) | st.text(max_size=70).map(lambda t: t.encode('utf-8', 'surrogatepass'))))
def test_utf8_is_checked_as_python_does(contents: list[bytes]) -> None:
    for kind in (TEXT, scalar('AsciiType'), scalar('BytesType')):
        check_outcome(page.Page(sized(*contents), 0, len(contents), ('c0',), (kind,)))


def test_ascii_has_no_other_characters() -> None:
    with pytest.raises(ReadError, match='rule: ASCII'):
        one_value(scalar('AsciiType'), 'é'.encode())
    assert one_value(scalar('AsciiType'), b'a\xffb', Decoding('replace')).to_pylist() == ['a\ufffdb']


@pytest.mark.parametrize('place', PLACES)
@pytest.mark.parametrize('extra', [0, 1, 2, 9, 50])
@pytest.mark.parametrize('number', [0, 1, -1, 127, 128, -128, -129, 2**63 - 1, -(2**63)])
def test_a_varint_need_not_be_in_its_shortest_form(place: str, number: int, extra: int) -> None:
    around, written = PLACES[place]
    content = number.to_bytes((number.bit_length() // 8) + 1 + extra, 'big', signed=True)
    for decoding, expected in ((types.DEFAULT, number), (Decoding(wide_varints='text'), str(number))):
        found = one_value(around(VARINT), written(content), decoding)
        assert re.search(rf'(?<![\d-]){expected}(?!\d)', repr(found.to_pylist()))


@pytest.mark.parametrize('place', PLACES)
@pytest.mark.parametrize('number', [2**63, -(2**63) - 1, 2**64, 10**30])
def test_a_wide_varint_names_its_column_or_is_text(place: str, number: int) -> None:
    around, written = PLACES[place]
    content = written(number.to_bytes(14, 'big', signed=True))
    with pytest.raises(
        DatasetError, match=rf'^column c: varint in row 0 of the page: got {number}, rule: an integer of 64'
    ):
        one_value(around(VARINT), content)
    assert f"'{number}'" in repr(one_value(around(VARINT), content, Decoding(wide_varints='text')).to_pylist())


@pytest.mark.parametrize('size', [1025, 2000, rows.LARGEST_VARINT])
def test_varints_and_decimals_of_thousands_of_digits(size: int) -> None:
    content = b'\x81' + b'\x23' * (size - 1)
    with pytest.raises(
        DatasetError, match=f'column c: varint in row 0 of the page: got an integer of {size} bytes, rule'
    ):
        one_value(VARINT, content)
    exact = decimal.Decimal(int.from_bytes(content, 'big', signed=True))
    assert one_value(VARINT, content, Decoding(wide_varints='text')).to_pylist() == [str(exact)]
    found = one_value(scalar('DecimalType'), struct.pack('>i', 7) + content).to_pylist()[0]
    assert decimal.Decimal(found).as_tuple().digits == exact.as_tuple().digits
    with pytest.raises((ReadError, DatasetError), match=r'column c: .* in row 0'):
        one_value(VARINT, b'\1' * (rows.LARGEST_VARINT + 1), Decoding(wide_varints='text'))


@pytest.mark.parametrize('key', [None, b''])
def test_a_map_without_a_key_is_an_error(key: bytes | None) -> None:
    around, written = PLACES['key']
    content = struct.pack('>i', 1) + sized(key, None)
    with pytest.raises(ReadError, match=r'^column c: map in row 0 of the page: got a key that is null or empty, rule'):
        one_value(around(INT), content)
    assert written(b'\0\0\0\1') != content


TRAILING = {
    'Int32Type': b'\0\0\0\1', 'ByteType': b'\1', 'ShortType': b'\0\1', 'DoubleType': b'\0' * 8, 'TimeType': b'\0' * 8,
    'SimpleDateType': b'\0' * 4, 'BooleanType': b'\1', 'UUIDType': b'\1' * 16, 'InetAddressType': b'\1' * 4,
    'DurationType': b'\2\4\6',
}  # fmt: skip


@pytest.mark.parametrize('place', PLACES)
@pytest.mark.parametrize('name', TRAILING)
def test_bytes_behind_a_value_are_an_error(name: str, place: str) -> None:
    around, written = PLACES[place]
    if place == 'vector':  # whose elements have lengths only if their type's vary
        around, written = PLACES['list']
    one_value(around(scalar(name)), written(TRAILING[name]))
    with pytest.raises(ReadError, match=r'^column c: '):
        one_value(around(scalar(name)), written(TRAILING[name] + b'\0'))
    if place != 'column':
        with pytest.raises(ReadError, match=r'^column c: '):
            one_value(around(scalar(name)), written(TRAILING[name]) + b'\0')


@pytest.mark.parametrize('place', ['vector', 'list'])
def test_bytes_behind_a_vector_are_an_error(place: str) -> None:
    vector = cqltypes.VectorType.apply_parameters([TEXT, 2], None)
    around, written = PLACES[place]
    one_value(around(vector) if place == 'list' else vector, written(b'\1a\1b') if place == 'list' else b'\1a\1b')
    for damaged in (b'\1a\1b\0', b'\1a\2b', b'\1a', b'\xff' + b'\xff' * 8, b'\1a\x80'):
        with pytest.raises(ReadError, match=r'^column c: value in row 0 of the page: got'):
            one_value(vector, damaged)


@pytest.mark.parametrize('count', [-1, -2, -(2**31), 2, 1000, 2**31 - 1])
def test_a_count_of_rows_that_the_page_cannot_hold(count: int) -> None:
    for kinds in ((INT,), (INT, TEXT), ()):
        with pytest.raises(ReadError, match=r'^page: got '):
            page.decode(page.Page(b'\0\0\0\4\0\0\0\1', 0, count, tuple(map(str, range(len(kinds)))), kinds))


@pytest.mark.parametrize('months', [2**31, -(2**31) - 1, 2**62])
def test_a_duration_beyond_its_numbers(months: int) -> None:
    zigzag = (months << 1) ^ (months >> 63)
    with pytest.raises(ReadError, match=r'column c: value in row 0 of the page: got .* in a duration'):
        one_value(scalar('DurationType'), b'\xff' + (zigzag % 2**64).to_bytes(8, 'big') + b'\0\0')


def test_a_page_larger_than_the_protocol_has_is_refused() -> None:
    with mmap.mmap(-1, 2**31 + 8) as body, pytest.raises(ReadError, match='page: got 2147483656 bytes, rule: at most'):
        rows.cells(body, 2**31, 1, 1)


def test_arguments_that_are_not_a_page_or_cells_are_an_error() -> None:
    (cells,), _ = rows.cells(sized(b'\0\0\0\1'), 0, 1, 1)
    for kind, column in ((None, None), (types.kind_of(INT), None), (None, cells)):
        with pytest.raises(ValueError, match=r'kind, cells: got .*, rule: made by types.kind_of and rows.cells'):
            rows.decode(kind, column)
    with pytest.raises(TypeError, match='made by cells'):
        rows.Cells()
    with pytest.raises(ValueError, match='page: got None, rule: a Page'):
        page.decode(None)
    assert len(rows.decode(types.kind_of(INT), rows.Cells.__new__(rows.Cells))) == 0


def test_decoders_of_nested_types_are_reused_although_the_driver_makes_new_classes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def made() -> list:
        date = cqltypes.UserType.make_udt_class('k', 'date', ('year', 'text'), (INT, TEXT))
        return [
            cqltypes.MapType.apply_parameters([TEXT, cqltypes.FrozenType.apply_parameters([date])]),
            cqltypes.VectorType.apply_parameters([cqltypes.TupleType.apply_parameters([INT, TEXT]), 2], None),
        ]

    first = page.decode(made_page(made(), [(None, None)])).content.schema
    monkeypatch.setattr(types, 'kind_of', None)
    assert page.decode(made_page(made(), [(None, None)])).content.schema.equals(first, check_metadata=True)


@pytest.mark.parametrize(
    'other',
    [
        cqltypes.UserType.make_udt_class('k', 'pair', ('a', 'c'), (INT, TEXT)),
        cqltypes.UserType.make_udt_class('k', 'pair', ('a',), (INT,)),
        cqltypes.UserType.make_udt_class('k', 'pair', ('a', 'b'), (INT, INT)),
        cqltypes.UserType.make_udt_class('k', 'other', ('a', 'b'), (INT, TEXT)),
        cqltypes.TupleType.apply_parameters([INT, TEXT]),
        cqltypes.MapType.apply_parameters([INT, TEXT]),
        cqltypes.VectorType.apply_parameters([INT, 2], None),
    ],
)  # fmt: skip
def test_decoders_are_not_reused_for_other_types(other: Any) -> None:
    assert types.identity(other) != types.identity(UDT)
    assert types.identity(cqltypes.UserType.make_udt_class('q', 'pair', ('a', 'b'), (INT, TEXT))) == types.identity(UDT)


def test_a_key_that_is_read_for_its_token_alone_is_not_decoded() -> None:
    table = Table('ks', 't', ('key',), (), (('key', 'varint'), ('c', 'int')))
    keys = page.key_columns(plan_scan(table, ['c']))
    given = page.Page(sized(b'\0\0\0\1', WIDE), 0, 1, ('c', 'key'), (INT, VARINT))
    decoded = page.decode(given, keys)
    assert decoded.content.to_pydict() == {'c': [1]}
    assert decoded.last_key == (WIDE,)
    with pytest.raises(DatasetError, match=rf'column key: varint in row 0 .*\(token {page.token_of([WIDE])}\)'):
        page.decode(given, keys._replace(columns=(0, 1)))


def test_a_type_without_an_arrow_form_names_its_column() -> None:
    with pytest.raises(SchemaError, match="columns: got 'c1' of type org"):
        page.decode(
            made_page([INT, cqltypes.lookup_casstype('org.apache.cassandra.db.marshal.DynamicCompositeType')], [])
        )


def test_this_build_is_tested() -> None:
    """With make test-sanitized, the compiled parts must be those that were made for it."""
    assert rows.__file__.startswith(os.environ.get('TFX_CASSANDRA_SANITIZED', ''))


def located(body: bytes, *values: tuple[int, int]) -> rows.Cells:
    starts, lengths = (np.array(numbers, np.int32) for numbers in zip(*values, strict=True))
    return rows.located(body, starts, lengths)


def test_cells_are_located_anywhere_in_a_body() -> None:
    cells = located(b'abcdef', (1, 3), (0, 6), (99, -1), (99, 0), (1, 3))
    assert [cells.value(i) for i in range(5)] == [b'bcd', b'abcdef', None, b'', b'bcd']
    assert rows.decode(types.kind_of(TEXT), cells).to_pylist() == ['bcd', 'abcdef', None, '', 'bcd']


@pytest.mark.parametrize('value', [(-1, 1), (0, 7), (6, 1), (2**31 - 1, 2**31 - 1), (7, 1)])
def test_a_cell_located_outside_its_body_is_an_error(value: tuple[int, int]) -> None:
    with pytest.raises(ReadError, match=r'^page: got 2 values of \d+ bytes in 6 bytes, rule: every length lies within'):
        located(b'abcdef', (0, 1), value)


def test_located_cells_that_no_array_can_hold_are_an_error() -> None:
    with (
        mmap.mmap(-1, 2**30) as body,
        pytest.raises(ReadError, match=r'got 3 values of 3221225472 bytes in 1073741824'),
    ):
        located(body, *[(0, 2**30)] * 3)
    with pytest.raises(ReadError, match=r'^page: got 1 starts and 2 lengths'):
        rows.located(b'', np.zeros(1, np.int32), np.zeros(2, np.int32))


@given(st.lists(st.tuples(st.none() | st.binary(max_size=20), st.none() | st.binary(max_size=3), st.booleans())))
def test_the_checksum_of_cells_is_that_of_their_page(lines: list[tuple[bytes | None, bytes | None, bool]]) -> None:
    given, kept = ([row[:2] for row in lines], [row[:2] for row in lines if row[2]])
    bodies = [b''.join(sized(value) for row in some for value in row) for some in (given, kept)]
    (cells, whole), (_, part) = (
        rows.cells(body, 0, len(some), 2) for body, some in zip(bodies, (given, kept), strict=True)
    )
    assert rows.checksum(cells) == whole
    assert rows.checksum(cells, np.array([row[2] for row in lines], np.uint8)) == part
    # Values that stand in another order in bodies of their own, and each only once.
    moved = []
    for column in (0, 1):
        values = list(dict.fromkeys(row[column] or b'' for row in reversed(given)))
        places = [(b''.join(values[: values.index(row[column] or b'')]), row[column]) for row in given]
        ends = [(len(before), -1 if value is None else len(value)) for before, value in places]
        moved.append(located(b''.join(values), *ends) if ends else cells[column])
    assert rows.checksum(moved) == whole


def test_a_checksum_needs_as_many_values_of_each_column() -> None:
    columns = [located(b'ab', (0, 1), (1, 1)), located(b'ab', (0, 1))]
    with pytest.raises(ReadError, match=r'^page: got 1 values, rule: 2, as many as there are rows'):
        rows.checksum(columns)
    with pytest.raises(ValueError, match=r'^kept: got 1, rule: one of each of the 2 rows'):
        rows.checksum(columns[:1], np.ones(1, np.uint8))
    assert rows.checksum([]) == 0
