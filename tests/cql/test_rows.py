"""The page decoder: every CQL type, nested, with nulls, equals the driver's own decoding; damaged pages raise.

Pages are made here, cell by cell, by the driver's serialization; the oracle is the driver's deserialization, value by
value, put into Arrow by pyarrow.
"""

from __future__ import annotations

import contextlib
import decimal
import ipaddress
import struct
from typing import Any

import pyarrow as pa
import pytest
from cassandra import cqltypes
from cql_tables import EMPTY, plain, scalar, tables
from hypothesis import given, settings
from hypothesis import strategies as st

from tfx_cassandra.components.cql import types
from tfx_cassandra.components.errors import DatasetError, ReadError
from tfx_cassandra.components.scan import page


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
    kinds, rows = table
    batch, *_ = page.decode(made_page(kinds, rows))
    batch.validate(full=True)
    assert batch.num_rows == len(rows)
    for i, kind in enumerate(kinds):
        assert batch.column(i).equals(oracle(kind, [row[i] for row in rows])), kind.cql_parameterized_type()


def check_damaged(table: tuple[list, list[tuple]], data: st.DataObject) -> None:
    kinds, rows = table
    whole = made_page(kinds, rows)
    body = bytearray(whole.body)
    for _ in range(data.draw(st.integers(1, 4))):
        index = data.draw(st.integers(0, len(body) - 1))
        body[index] = data.draw(
            st.sampled_from([0, 1, 0x7F, 0x80, 0xFF, *(body[index] ^ 1 << bit for bit in range(8))])
        )
    cut = data.draw(st.integers(0, len(body)))
    for damaged in (bytes(body), bytes(body[:cut]), whole.body[:cut]):
        with contextlib.suppress(ReadError, DatasetError):
            page.decode(whole._replace(body=damaged))


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


def test_the_checksum_is_of_the_rows_whatever_their_order_and_pages() -> None:
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
