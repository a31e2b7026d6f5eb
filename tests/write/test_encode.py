"""Serialized values and requests equal what the driver makes of the same values; what has no form in CQL is refused."""

from __future__ import annotations

import io
import itertools
import os
import zlib
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from cassandra import ConsistencyLevel, cqltypes
from cassandra.metadata import Murmur3Token
from cassandra.protocol import BatchMessage
from cassandra.query import UNSET_VALUE, BatchType
from cql_tables import EMPTY, plain, scalar, tables
from hypothesis import given, settings
from hypothesis import strategies as st

from tfx_cassandra.components.cql import types
from tfx_cassandra.components.driver.encoded import ending
from tfx_cassandra.components.write import encode
from tfx_cassandra.components.write.coding import coding_of


def test_this_build_is_tested() -> None:
    """In test-sanitized, the build with sanitizers is the one that is imported."""
    assert encode.__file__.startswith(os.environ.get('TFX_CASSANDRA_SANITIZED', ''))


def has_gap(kind: Any, value: Any, nested: bool = False) -> bool:
    """Whether a value is empty, or lacks an element where CQL, or Arrow, cannot say so."""
    if value is EMPTY:
        return True
    if value is None:
        return nested
    if issubclass(kind, cqltypes.TupleType):
        return any(has_gap(part, item) for part, item in zip(kind.subtypes, value, strict=False))
    if kind.typename == 'frozen':
        return has_gap(kind.subtypes[0], value, nested)
    if issubclass(kind, cqltypes.VectorType):
        return any(has_gap(kind.subtype, item, True) for item in value)
    if kind.typename in ('list', 'set'):
        return any(has_gap(kind.subtypes[0], item, True) for item in value)
    if kind.typename == 'map':
        return any(
            has_gap(part, item, True)
            for entry in value.items()
            for part, item in zip(kind.subtypes, entry, strict=True)
        )
    return False


def arrow(kind: Any, values: list[Any]) -> pa.Array:
    decoded = [None if value is None else kind.from_binary(kind.to_binary(value, 4), 4) for value in values]
    return pa.array([plain(kind, value) for value in decoded], types.arrow_type(kind))


def check_table(table: tuple[list, list[tuple]], before: int, after: int) -> None:
    kinds, rows = table
    for number, kind in enumerate(kinds):
        values = [row[number] for row in rows if not has_gap(kind, row[number])]
        # A slice has offsets in every buffer.
        array = arrow(kind, values[:before] + values + values[:after])
        array = array.slice(min(before, len(values)), len(values))
        encoded = encode.encode(coding_of(kind), array)
        expected = [None if value is None else kind.to_binary(value, 4) for value in values]
        assert [encoded.value(row) for row in range(encoded.count)] == expected, kind.cql_parameterized_type()


@settings(max_examples=300, deadline=None)
@given(tables(), st.integers(0, 9), st.integers(0, 2))
def test_equals_the_driver(table: tuple[list, list[tuple]], before: int, after: int) -> None:
    check_table(table, before, after)


@pytest.mark.slow
@settings(max_examples=5000, deadline=None)
@given(tables(), st.integers(0, 9), st.integers(0, 2))
def test_thousands_of_tables_equal_the_driver(table: tuple[list, list[tuple]], before: int, after: int) -> None:
    check_table(table, before, after)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.none() | st.binary(max_size=20), st.none() | st.binary(max_size=3)), max_size=20))
def test_packed_rows_are_those_of_a_page(values: list[tuple[bytes | None, bytes | None]]) -> None:
    blob = coding_of(scalar('BytesType'))
    columns = [encode.encode(blob, pa.array([row[i] for row in values], pa.binary())) for i in range(2)]
    expected = [b'\xff\xff\xff\xff' if v is None else len(v).to_bytes(4, 'big') + v for row in values for v in row]
    assert encode.packed(columns) == b''.join(expected)


def test_columns_of_unequal_length_are_not_packed() -> None:
    blob = coding_of(scalar('BytesType'))
    with pytest.raises(ValueError, match='columns: got 1, rule: 2 values each'):
        encode.packed([encode.encode(blob, pa.array([b'a'] * count, pa.binary())) for count in (2, 1)])


KEYS = st.binary(min_size=1, max_size=40)


@settings(max_examples=300, deadline=None)
@given(st.lists(KEYS, min_size=1, max_size=20))
def test_tokens_equal_the_drivers(keys: list[bytes]) -> None:
    made = encode.Keys([encode.encode(coding_of(scalar('BytesType')), pa.array(keys, pa.binary()))])
    assert made.tokens.to_pylist() == [Murmur3Token.hash_fn(key) for key in keys]
    assert [made.key(row) for row in range(len(keys))] == keys


def test_the_smallest_token_is_the_largest() -> None:
    from murmur3 import key_of

    key = key_of(-(2**63))
    made = encode.Keys([encode.encode(coding_of(scalar('BytesType')), pa.array([key], pa.binary()))])
    assert made.tokens.to_pylist() == [2**63 - 1]


@st.composite
def _rows(draw: st.DrawFn) -> tuple[list[bytes], list[list[bytes | None]], list[int]]:
    """Keys, of which some are alike, the values of two columns, and an order with those of one key side by side."""
    keys = draw(st.lists(st.sampled_from([b'a', b'b', b'cc', b'c' * 30]), max_size=30))
    values = [draw(st.lists(st.none() | st.binary(max_size=40), min_size=len(keys), max_size=len(keys))) for _ in '12']
    order = sorted(draw(st.permutations(range(len(keys)))), key=lambda row: keys[row])
    return keys, values, order


@settings(max_examples=300, deadline=None)
@given(_rows(), st.sampled_from([1, 40, 100, 10_000]), st.integers(1, 5), st.sampled_from([4, 5]))
def test_bodies_equal_the_drivers(rows: tuple, most_bytes: int, most_rows: int, version: int) -> None:
    keys, columns, order = rows
    blob = coding_of(scalar('BytesType'))
    key_values, *values = (encode.encode(blob, pa.array(column, pa.binary())) for column in (keys, *columns))
    end = ending(ConsistencyLevel.LOCAL_QUORUM, version)
    made = encode.bodies(
        b'query', [key_values, *values], [encode.UNSET, encode.UNSET, encode.DELETED], encode.Keys([key_values]),
        np.array(order, np.int64), most_bytes, most_rows, end,
    )  # fmt: skip
    assert [place for _, first, count in made for place in range(first, first + count)] == list(range(len(keys)))
    for body, first, count in made:
        places = order[first : first + count]
        assert len({keys[row] for row in places}) == 1
        assert count <= most_rows
        first_values = [UNSET_VALUE if columns[0][row] is None else columns[0][row] for row in places]
        bound = [[keys[row], value, columns[1][row]] for row, value in zip(places, first_values, strict=True)]
        size = sum(4 + len(value) if isinstance(value, bytes) else 4 for row in bound for value in row)
        assert count == 1 or size <= most_bytes
        written, statements = io.BytesIO(), [(True, b'query', row) for row in bound]
        BatchMessage(BatchType.UNLOGGED, statements, ConsistencyLevel.LOCAL_QUORUM).send_body(written, version)
        assert body == written.getvalue()
    # No request could have taken the next one's first row as well.
    for (_, first, count), (_, following, _) in itertools.pairwise(made):
        both = order[first : following + 1]
        size = sum(12 + sum(len(column[row] or b'') for column in (keys, *columns)) for row in both)
        assert count == most_rows or size > most_bytes or keys[both[0]] != keys[both[-1]]


def test_counters_have_a_kind_of_batch_of_their_own() -> None:
    key = encode.encode(coding_of(scalar('BytesType')), pa.array([b'k'], pa.binary()))
    order = np.zeros(1, np.int64)
    ((body, _, _),) = encode.bodies(b'q', [key], [encode.UNSET], encode.Keys([key]), order, 100, 100, b'', 2)
    assert body[0] == BatchType.COUNTER.value


REFUSED = [
    ('UUIDType', ['x'], "uuid: got 'x', rule: a uuid"),
    ('DecimalType', ['1e'], "decimal: got '1e', rule: a finite number"),
    ('DecimalType', ['NaN'], "decimal: got 'NaN', rule: a finite number"),
    ('DecimalType', ['1e-2147483648'], 'decimal: got .*, rule: an exponent of 32 bits'),
    ('InetAddressType', ['1.2.3'], "inet: got '1.2.3', rule: an address"),
]


@pytest.mark.parametrize(('name', 'values', 'message'), REFUSED)
def test_what_has_no_form_is_refused(name: str, values: list, message: str) -> None:
    coding = coding_of(scalar(name))
    with pytest.raises(ValueError, match=message):
        encode.encode(coding, pa.array(values, coding.arrow))


@pytest.mark.parametrize('kind', [cqltypes.ListType.apply_parameters([cqltypes.Int32Type]),
                                  cqltypes.VectorType.apply_parameters([cqltypes.Int32Type, 2], None)])  # fmt: skip
def test_a_null_in_a_collection_is_refused(kind: Any) -> None:
    coding = coding_of(kind)
    with pytest.raises(ValueError, match="got 'a null in it'"):
        encode.encode(coding, pa.array([[1, None]], coding.arrow))


def test_keys_have_a_size() -> None:
    def text(value: str | None) -> encode.Values:
        return encode.encode(coding_of(scalar('UTF8Type')), pa.array([value], pa.string()))

    assert encode.Keys([text('x' * 65535)]).key(0) == b'x' * 65535
    both = encode.Keys([text('x' * 32764), text('y' * 32765)])  # with five bytes more in all, and a last one
    assert both.key(0) == b'\x7f\xfc' + b'x' * 32764 + b'\0\x7f\xfd' + b'y' * 32765 + b'\0'
    for parts, got in (
        ([text('x' * 65536)], '65536 bytes'),
        ([text('x' * 32765), text('y' * 32765)], '65536 bytes'),
        ([text('')], '0 bytes'),
        ([text(None)], 'nothing'),
        ([text('x'), text(None)], 'nothing'),
    ):
        with pytest.raises(ValueError, match=f"partition key: got '{got}', rule: "):
            encode.Keys(parts)


@given(
    st.integers(2, 1024),
    st.lists(st.tuples(st.text(max_size=30), st.integers(-(2**31), 2**31 - 1), st.binary(max_size=300)), min_size=1),
    st.integers(1, 3),
)
def test_salts_are_those_of_the_rule(count: int, rows: list[tuple[str, int, bytes]], width: int) -> None:
    """The oracle is zlib's CRC-32 of the key that the driver packs."""
    from cassandra.query import BoundStatement

    kinds = [cqltypes.UTF8Type, cqltypes.Int32Type, cqltypes.BytesType][:width]
    columns = [
        pa.array(column, kind)
        for column, kind in zip(zip(*rows, strict=True), (pa.string(), pa.int32(), pa.binary()), strict=True)
    ]
    values = [encode.encode(coding_of(kind), column) for kind, column in zip(kinds, columns, strict=False)]
    expected = []
    for row in rows:
        parts = [kind.serialize(value, 4) for kind, value in zip(kinds, row, strict=False)]
        key = parts[0] if width == 1 else b''.join(BoundStatement._key_parts_packed(None, parts))
        expected.append(zlib.crc32(key) % count)
    assert encode.salts(values, count).to_pylist() == expected


def test_a_null_has_no_salt() -> None:
    nulls = encode.Values.nulls(1)
    for parts in ([nulls], [nulls, nulls]):
        with pytest.raises(ValueError, match=r"^(salt|partition key): got 'nothing'"):
            encode.salts(parts, 4)
