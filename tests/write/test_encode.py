"""Serialized values and requests equal what the driver makes of the same values; what has no form in CQL is refused."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest
from cassandra import cqltypes
from cassandra.metadata import Murmur3Token
from cql_tables import EMPTY, plain, scalar, tables
from hypothesis import given, settings
from hypothesis import strategies as st

from tfx_cassandra.components.cql import types
from tfx_cassandra.components.write import encode
from tfx_cassandra.components.write.coding import coding_of


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
