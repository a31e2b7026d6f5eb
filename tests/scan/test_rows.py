"""The page decoder: every CQL type, nested, with nulls, equals the driver's own decoding; damaged pages raise.

Pages are made here, cell by cell, by the driver's serialization; the oracle is the driver's deserialization, value by
value, put into Arrow by pyarrow.
"""

from __future__ import annotations

import contextlib
import datetime
import decimal
import ipaddress
import struct
import uuid
from typing import Any

import pyarrow as pa
import pytest
from cassandra import cqltypes
from cassandra.util import Date, Duration, SortedSet, Time
from hypothesis import given, settings
from hypothesis import strategies as st

from tfx_cassandra.components.errors import DatasetError, ReadError
from tfx_cassandra.components.scan import page, types

EPOCH = datetime.datetime(1970, 1, 1)
signed = lambda bits: st.integers(-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)  # noqa: E731
SCALARS: dict[str, st.SearchStrategy] = {
    'AsciiType': st.text(st.characters(max_codepoint=127), max_size=9),
    'UTF8Type': st.text(st.characters(exclude_categories=['Cs']), max_size=9),
    'BytesType': st.binary(max_size=9),
    'BooleanType': st.booleans(),
    'ByteType': signed(8),
    'ShortType': signed(16),
    'Int32Type': signed(32),
    'LongType': signed(64),
    'IntegerType': signed(64),
    'FloatType': st.floats(width=32, allow_nan=False),
    'DoubleType': st.floats(allow_nan=False),
    'DecimalType': st.decimals(allow_nan=False, allow_infinity=False),
    # The driver computes with floating-point seconds: beyond these years it misses milliseconds.
    'TimestampType': st.integers(-(2**41), 2**41).map(lambda ms: EPOCH + datetime.timedelta(milliseconds=ms)),
    'SimpleDateType': signed(31).map(Date),
    'TimeType': st.integers(0, 86399999999999).map(Time),
    'DurationType': st.builds(Duration, st.integers(0, 2**31 - 1), st.integers(0, 2**31 - 1), st.integers(0, 2**63 - 1))
    | st.builds(Duration, st.integers(-(2**31), 0), st.integers(-(2**31), 0), st.integers(-(2**63), 0)),
    'UUIDType': st.uuids(),
    'TimeUUIDType': st.just(uuid.UUID('f8443b40-e6e0-11f1-8331-9d826b7771bc')),
    'InetAddressType': st.ip_addresses().map(str),
}  # fmt: skip


def scalar(name: str) -> Any:
    return cqltypes.lookup_casstype(f'org.apache.cassandra.db.marshal.{name}')


@st.composite
def columns(draw: st.DrawFn, depth: int = 3, key: bool = False) -> tuple[Any, st.SearchStrategy]:
    """A CQL type and a strategy for its values."""
    shape = draw(
        st.sampled_from(['scalar'] * 3 + ([] if depth == 0 or key else ['list', 'set', 'map', 'tuple', 'vector']))
    )
    if shape == 'vector':
        size = draw(st.integers(1, 4))
        item, values = draw(st.sampled_from([('FloatType', SCALARS['FloatType']), ('Int32Type', SCALARS['Int32Type'])]))
        return cqltypes.VectorType.apply_parameters([scalar(item), size], None), st.lists(
            values, min_size=size, max_size=size
        )
    if shape == 'scalar':
        name = draw(st.sampled_from(sorted(SCALARS.keys() - ({'DurationType'} if key else set()))))
        return scalar(name), SCALARS[name]
    if shape == 'tuple':
        parts = draw(st.lists(columns(depth - 1), min_size=1, max_size=3))
        kind = cqltypes.TupleType.apply_parameters([part for part, _ in parts])
        return kind, st.tuples(*(st.none() | values for _, values in parts))
    if shape == 'map':
        key_type, keys = draw(columns(0, key=True))
        part, values = draw(columns(depth - 1))
        return cqltypes.MapType.apply_parameters([key_type, part]), st.lists(st.tuples(keys, values), max_size=3).map(
            dict
        )
    part, values = draw(columns(depth - 1) if shape == 'list' else columns(0, key=True))
    if shape == 'list':
        return cqltypes.ListType.apply_parameters([part]), st.lists(values, max_size=3)
    # A server sends sets sorted; the driver sorts them again, so here they are from the start.
    return cqltypes.SetType.apply_parameters([part]), st.lists(values, max_size=3, unique=True).map(SortedSet).map(list)


@st.composite
def tables(draw: st.DrawFn) -> tuple[list, list[tuple]]:
    made = draw(st.lists(columns(), min_size=1, max_size=4))
    row = st.tuples(*(st.none() | values for _, values in made))
    return [kind for kind, _ in made], draw(st.lists(row, max_size=12))


def cell(kind: Any, value: Any) -> bytes:
    if value is None:
        return struct.pack('>i', -1)
    content = kind.to_binary(value, 4)
    return struct.pack('>i', len(content)) + content


def made_page(kinds: list, rows: list[tuple], before: bytes = b'head') -> page.Page:
    body = before + b''.join(cell(kind, value) for row in rows for kind, value in zip(kinds, row, strict=True))
    names = tuple(f'c{i}' for i in range(len(kinds)))
    return page.Page(body, len(before), len(rows), names, tuple(kinds))


def oracle(kind: Any, values: list) -> pa.Array:
    convert = types.converter(kind) or (lambda value: value)
    decoded = [None if v is None else kind.from_binary(kind.to_binary(v, 4), 4) for v in values]
    return pa.array([None if v is None else convert(v) for v in decoded], types.arrow_type(kind))


@settings(max_examples=300, deadline=None)
@given(tables())
def test_equals_the_driver(table: tuple[list, list[tuple]]) -> None:
    kinds, rows = table
    batch, *_ = page.decode(made_page(kinds, rows))
    batch.validate(full=True)
    assert batch.num_rows == len(rows)
    for i, kind in enumerate(kinds):
        assert batch.column(i).equals(oracle(kind, [row[i] for row in rows])), kind.cql_parameterized_type()


@settings(max_examples=200, deadline=None)
@given(tables(), st.data())
def test_a_damaged_page_raises_or_decodes_and_never_reads_outside(table: tuple, data: st.DataObject) -> None:
    kinds, rows = table
    whole = made_page(kinds, rows)
    body = bytearray(whole.body)
    for _ in range(data.draw(st.integers(1, 4))):
        index = data.draw(st.integers(0, len(body) - 1))
        body[index] = data.draw(st.sampled_from([0, 1, 0x7F, 0x80, 0xFF]))
    cut = data.draw(st.integers(0, len(body)))
    for damaged in (bytes(body), bytes(body[:cut])):
        with contextlib.suppress(ReadError, DatasetError):
            page.decode(whole._replace(body=damaged))


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
