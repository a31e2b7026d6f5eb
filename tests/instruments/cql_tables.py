"""Tables of every CQL type, nested and with nulls, as Hypothesis makes them; and the driver's values for Arrow."""

from __future__ import annotations

import datetime
import decimal
import itertools
import uuid
from typing import Any

from cassandra import cqltypes
from cassandra.util import Date, Duration, OrderedMap, SortedSet, Time
from hypothesis import strategies as st

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
    'CounterColumnType': signed(64),
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


EMPTY = object()  # a value of no bytes, which every type but text and blob reads as null
names = itertools.count()


@st.composite
def columns(
    draw: st.DrawFn, depth: int = 3, ordered: bool = False, counter: bool = True
) -> tuple[Any, st.SearchStrategy]:
    """A CQL type, nested at most `depth` deep, and a strategy for its values.

    Args:
      ordered: Whether it can stand in a set or be a key.
      counter: Whether it can be a counter.
    """
    nested = ['list', 'tuple', 'udt', 'frozen', *([] if ordered else ['set', 'map', 'vector'])]
    shape = draw(st.sampled_from(['scalar'] * 3 + nested * (depth > 0)))
    if shape == 'scalar':
        without = {'DurationType': ordered, 'CounterColumnType': not counter}
        name = draw(st.sampled_from([name for name in SCALARS if not without.get(name)]))
        return scalar(name), SCALARS[name]
    if shape in ('tuple', 'udt'):
        parts = draw(st.lists(columns(depth - 1, ordered, counter), min_size=1, max_size=3))
        values = st.tuples(*(values if ordered else st.none() | values for _, values in parts))
        return structure(shape, [part for part, _ in parts]), values
    # What is in a set or is a key has an order, lest the driver sort it another time in another way.
    part, values = draw(columns(depth - 1, ordered or shape == 'set', counter))
    if shape == 'frozen':
        # There is no frozen scalar.
        return (cqltypes.FrozenType.apply_parameters([part]) if part.subtypes else part), values
    if shape == 'list':
        return cqltypes.ListType.apply_parameters([part]), st.lists(values, max_size=3)
    if shape == 'vector':
        size = draw(st.integers(1, 4))
        kind = cqltypes.VectorType.apply_parameters([part, size], None)
        return kind, st.lists(values, min_size=size, max_size=size)
    if shape == 'set':
        # A server sends sets sorted; the driver sorts them again, so here they are from the start.
        return cqltypes.SetType.apply_parameters([part]), st.lists(values, max_size=3).map(SortedSet).map(list)
    key, keys = draw(columns(depth - 1, True, counter))
    pairs = st.lists(st.tuples(keys, values), max_size=3)
    return cqltypes.MapType.apply_parameters([key, part]), pairs.map(OrderedMap)


def structure(shape: str, parts: list) -> Any:
    if shape == 'tuple':
        return cqltypes.TupleType.apply_parameters(parts)
    fields = tuple(f'field_{i}' for i in range(len(parts)))
    return cqltypes.UserType.make_udt_class('k', f'type_{next(names)}', fields, tuple(parts))


@st.composite
def tables(draw: st.DrawFn) -> tuple[list, list[tuple]]:
    made = draw(st.lists(columns(), min_size=1, max_size=5))
    row = st.tuples(*(st.sampled_from([None, EMPTY]) | values for _, values in made))
    return [kind for kind, _ in made], draw(st.lists(row, max_size=12))


def plain(kind: Any, value: Any) -> Any:
    """What the driver decoded, as pyarrow takes it."""
    if value is None:
        return None
    if kind.typename == 'frozen':
        return plain(kind.subtypes[0], value)
    if isinstance(value, (Date, Time)):
        return value.days_from_epoch if isinstance(value, Date) else value.nanosecond_time
    if isinstance(value, Duration):
        return value.months, value.days, value.nanoseconds
    if isinstance(value, (uuid.UUID, decimal.Decimal)):
        return str(value)
    if isinstance(value, OrderedMap):
        return [tuple(map(plain, kind.subtypes, entry)) for entry in value.items()]
    if isinstance(value, tuple):
        fields = getattr(kind, 'fieldnames', None) or map(str, range(len(value)))
        return dict(zip(fields, map(plain, kind.subtypes, value), strict=True))
    if isinstance(value, (list, SortedSet)):
        item = kind.subtype if issubclass(kind, cqltypes.VectorType) else kind.subtypes[0]
        return [plain(item, one) for one in value]
    return value
