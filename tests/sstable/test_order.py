"""The order of serialized values against a slow one: of Python's own values, type by type and nested."""

from __future__ import annotations

import decimal
import functools
import itertools
import math
import struct
import uuid
from typing import Any, NamedTuple

import pytest
from cassandra.metadata import Murmur3Token
from hypothesis import given, settings
from hypothesis import strategies as st
from murmur3 import key_of

from tfx_cassandra.components.errors import ReadError
from tfx_cassandra.components.sstable import data, types

PACKAGE = 'org.apache.cassandra.db.marshal.'


class Kind(NamedTuple):
    """A type: Cassandra's name, values as (what Python sorts, serialized), and bytes of each in a vector."""

    name: str
    values: st.SearchStrategy
    fixed: int = -1


def number(form: str, low: int, high: int) -> st.SearchStrategy:
    return st.integers(low, high).map(lambda n: (n, struct.pack(form, n)))


def real(form: str, bits: int) -> st.SearchStrategy:
    def value(number: float) -> tuple[Any, bytes]:
        key = (
            math.isnan(number),
            0.0 if math.isnan(number) else number,
            math.copysign(1, number) > 0 or math.isnan(number),
        )
        return key, struct.pack(form, number)

    special = st.sampled_from([0.0, -0.0, math.inf, -math.inf, math.nan, -math.nan])
    return (special | st.floats(width=bits)).map(value)


def varint(number: int, extra: int = 0) -> bytes:
    return number.to_bytes(number.bit_length() // 8 + 1 + extra, 'big', signed=True)


def scaled(digits: int, scale: int) -> tuple[Any, bytes]:
    context = decimal.Context(prec=400, Emax=decimal.MAX_EMAX, Emin=decimal.MIN_EMIN)
    return context.scaleb(decimal.Decimal(digits), -scale), struct.pack('>i', scale) + varint(digits)


def signed(content: bytes) -> tuple[int, ...]:
    return struct.unpack('8b', content)


def any_uuid(value: uuid.UUID) -> tuple[Any, bytes]:
    version = value.int >> 76 & 15
    first = value.time if version == 1 else value.int >> 64
    return (version, first, value.int & (2**64 - 1)), value.bytes


def timeuuid(parts: tuple[int, bytes]) -> tuple[Any, bytes]:
    time, low = parts
    fields = time & 0xFFFFFFFF, time >> 32 & 0xFFFF, time >> 48 | 0x1000
    return (time, signed(low)), struct.pack('>IHH', *fields) + low


texts = st.binary(max_size=3)
SCALARS = [
    Kind('BytesType', texts.map(lambda b: (b, b))),
    Kind('UTF8Type', texts.map(lambda b: (b, b))),
    Kind('InetAddressType', st.binary(min_size=4, max_size=4).map(lambda b: (b, b))),
    Kind('SimpleDateType', number('>I', 0, 2**32 - 1)),
    Kind('TimeType', number('>q', 0, 86399999999999)),
    Kind('ByteType', number('>b', -128, 127)),
    Kind('ShortType', number('>h', -(2**15), 2**15 - 1)),
    Kind('Int32Type', number('>i', -(2**31), 2**31 - 1), 4),
    Kind('LongType', number('>q', -(2**63), 2**63 - 1), 8),
    Kind('TimestampType', number('>q', -(2**63), 2**63 - 1), 8),
    Kind('BooleanType', st.sampled_from([(False, b'\0'), (True, b'\1'), (True, b'\xff')]), 1),
    Kind('FloatType', real('>f', 32), 4),
    Kind('DoubleType', real('>d', 64), 8),
    Kind('IntegerType', st.tuples(st.integers(-(2**70), 2**70), st.integers(0, 3)).map(lambda p: (p[0], varint(*p)))),
    Kind('DecimalType', st.builds(scaled, st.integers(-(10**30), 10**30) | st.integers(-20, 20), st.integers(-40, 40))),
    Kind('UUIDType', (st.uuids() | st.uuids(version=1) | st.uuids(version=4)).map(any_uuid), 16),
    Kind('TimeUUIDType', st.tuples(st.integers(0, 2**60 - 1), st.binary(min_size=8, max_size=8)).map(timeuuid), 16),
]  # fmt: skip


def sized(*contents: bytes | None) -> bytes:
    return b''.join(struct.pack('>i', -1) if c is None else struct.pack('>i', len(c)) + c for c in contents)


def several(kind: Kind, most: int = 3) -> st.SearchStrategy:
    def value(items: list) -> tuple[Any, bytes]:
        return tuple(key for key, _ in items), struct.pack('>i', len(items)) + sized(*(content for _, content in items))

    return st.lists(kind.values, max_size=most).map(value)


def mapped(key: Kind, item: Kind) -> st.SearchStrategy:
    def value(pairs: list) -> tuple[Any, bytes]:
        flat = [content for pair in pairs for _, content in pair]
        return tuple((k, v) for (k, _), (v, _) in pairs), struct.pack('>i', len(pairs)) + sized(*flat)

    return st.lists(st.tuples(key.values, item.values), max_size=3).map(value)


def fields(kinds: list[Kind]) -> st.SearchStrategy:
    def value(drawn: tuple[tuple, int]) -> tuple[Any, bytes]:
        items, count = drawn
        kept = [*items[:count], *[None] * (len(items) - count)]
        key = tuple((0,) if item is None else (1, item[0]) for item in kept)
        return key, sized(*(None if item is None else item[1] for item in kept[: max(count, 1)]))

    return st.tuples(st.tuples(*(st.none() | kind.values for kind in kinds)), st.integers(1, len(kinds))).map(value)


def vint(size: int) -> bytes:
    assert size < 128
    return bytes([size])


def repeated(kind: Kind, dimension: int) -> st.SearchStrategy:
    def value(items: list) -> tuple[Any, bytes]:
        parts = [content if kind.fixed >= 0 else vint(len(content)) + content for _, content in items]
        return tuple(key for key, _ in items), b''.join(parts)

    return st.lists(kind.values, min_size=dimension, max_size=dimension).map(value)


@st.composite
def kinds(draw: st.DrawFn, depth: int = 2) -> Kind:
    shape = draw(st.sampled_from(['scalar', 'list', 'set', 'map', 'tuple', 'udt', 'vector'] if depth else ['scalar']))
    if shape == 'scalar':
        return draw(st.sampled_from(SCALARS))
    inner = [draw(kinds(depth - 1)) for _ in range(2)]
    names = ','.join(PACKAGE + kind.name for kind in inner)
    if shape in ('list', 'set'):
        return Kind(f'FrozenType({PACKAGE}{shape.title()}Type({PACKAGE}{inner[0].name}))', several(inner[0]))
    if shape == 'map':
        return Kind(f'FrozenType({PACKAGE}MapType({names}))', mapped(*inner))
    if shape == 'tuple':
        return Kind(f'TupleType({names})', fields(inner))
    if shape == 'udt':
        named = ','.join(f'6{i}:{PACKAGE}{kind.name}' for i, kind in enumerate(inner))
        return Kind(f'FrozenType({PACKAGE}UserType(ks,70616972,{named}))', fields(inner))
    size = inner[0].fixed * 2 if inner[0].fixed >= 0 else -1
    return Kind(f'VectorType({PACKAGE}{inner[0].name} , 2)', repeated(inner[0], 2), size)


def compared(a: Any, b: Any) -> int:
    return (a > b) - (a < b)


@pytest.mark.parametrize('kind', SCALARS, ids=lambda kind: kind.name)
@settings(max_examples=200)
@given(drawn=st.data())
def test_scalars(kind: Kind, drawn: st.DataObject) -> None:
    check(kind, drawn)


@settings(max_examples=300)
@given(kinds(), st.data())
def test_nested_types(kind: Kind, drawn: st.DataObject) -> None:
    check(kind, drawn)


def check(kind: Kind, drawn: st.DataObject) -> None:
    order = types.order_of(types.parse_type(PACKAGE + kind.name))
    backwards = types.order_of(types.parse_type(f'{PACKAGE}ReversedType({PACKAGE}{kind.name})'))
    assert types.fixed_size(types.parse_type(PACKAGE + kind.name)) == kind.fixed
    values = drawn.draw(st.lists(kind.values, min_size=2, max_size=4))
    for (a, first), (b, second) in itertools.pairwise(values):
        assert data.compare(order, first, second) == compared(a, b)
        assert data.compare(backwards, first, second) == compared(b, a)
    assert data.compare(order, b'', values[0][1]) == (-1 if values[0][1] else 0)
    assert data.compare(order, b'', b'') == 0


def test_a_type_without_an_order_is_refused_by_name() -> None:
    for name in ('CounterColumnType', 'LexicalUUIDType', 'MyType'):
        with pytest.raises(ReadError, match=rf'type: got {name}, rule: one of AsciiType'):
            types.order_of(types.parse_type(PACKAGE + name))


@pytest.mark.parametrize('text', ['', 'ListType(', 'ListType(Int32Type', 'ListType(Int32Type))', 'a b', 'ListType()x'])
def test_no_name_of_a_type(text: str) -> None:
    with pytest.raises(ReadError, match=r'type: got .*, rule: a name and parameters in brackets'):
        types.parse_type(text)


def test_damaged_values_have_some_order() -> None:
    """Within what their lengths say: the sanitizers look on."""
    order = types.order_of(
        types.parse_type('TupleType(ListType(DecimalType),VectorType(UTF8Type , 3),MapType(UUIDType,DoubleType))')
    )
    contents = [struct.pack('>i', n) + b'\xff' * size for n in (-1, 0, 3, 9, 2**31 - 1) for size in (0, 1, 5, 40)]
    for a in contents:
        for b in contents:
            assert data.compare(order, a, b) in (-1, 0, 1)
    for part in order.parts:
        ordered = sorted(contents, key=functools.cmp_to_key(functools.partial(data.compare, part)))
        assert len(ordered) == len(contents)


@given(st.binary(max_size=70))
def test_tokens_are_those_of_the_driver(key: bytes) -> None:
    assert data.token(key) == Murmur3Token.hash_fn(key)


@pytest.mark.parametrize('token', [2**63 - 1, -(2**63) + 1, 0, -1])
def test_tokens_at_the_ends_of_the_ring(token: int) -> None:
    assert data.token(key_of(token)) == token


def test_the_least_hash_has_the_greatest_token() -> None:
    assert data.token(key_of(-(2**63))) == 2**63 - 1
