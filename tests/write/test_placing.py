"""Buckets and salts that writers fill in, against the calendar of Python and zlib, row by row."""

from __future__ import annotations

import datetime
import struct
import zlib
from typing import Any

import pyarrow as pa
from cassandra import cqltypes
from hypothesis import given
from hypothesis import strategies as st

from tfx_cassandra.components.cql.layout import Bucket, Layout, Salt
from tfx_cassandra.components.write.columns import Column
from tfx_cassandra.components.write.placing import placed

KINDS = {
    'k': cqltypes.UTF8Type, 'at': cqltypes.TimestampType, 'n': cqltypes.Int32Type, 'day': cqltypes.TimestampType,
    'part': cqltypes.ShortType,
}  # fmt: skip
FIELDS = {name: Column(name, kind) for name, kind in KINDS.items()}
LAYOUT = Layout(Bucket('day', 'day', 'at'), Salt('part', 16, ('k', 'n')))
UTC = datetime.timezone.utc
moments = st.datetimes(timezones=st.just(UTC)).map(
    lambda moment: moment.replace(microsecond=moment.microsecond // 1000 * 1000)
)
rows = st.lists(
    st.tuples(st.none() | st.text(max_size=9), st.none() | moments, st.none() | st.integers(-(2**31), 2**31 - 1))
)


def day_of(moment: datetime.datetime | None) -> datetime.datetime | None:
    return None if moment is None else moment.replace(hour=0, minute=0, second=0, microsecond=0)


def part_of(key: str | None, number: int | None) -> int | None:
    if key is None or number is None:
        return None
    text = key.encode()
    return zlib.crc32(struct.pack('>H', len(text)) + text + b'\0\0\4' + struct.pack('>i', number) + b'\0') % 16


def columns_of(found: list[tuple[Any, ...]], names: tuple[str, ...] = ('k', 'at', 'n')) -> dict[str, pa.Array]:
    return {name: FIELDS[name].array([row[i] for row in found])[0] for i, name in enumerate(names)}


@given(rows)
def test_the_columns_are_those_of_the_rules(found: list[tuple[Any, ...]]) -> None:
    made, wrong = placed(LAYOUT, columns_of(found), FIELDS, {}, len(found))
    assert wrong == {}
    assert made['day'].to_pylist() == [day_of(at) for _, at, _ in found]
    assert made['part'].to_pylist() == [part_of(key, number) for key, _, number in found]


@given(st.lists(st.tuples(st.text(max_size=9), moments, st.integers(0, 9), st.none() | st.integers(0, 15))))
def test_a_value_that_is_given_must_agree(found: list[tuple[Any, ...]]) -> None:
    made, wrong = placed(LAYOUT, columns_of(found, ('k', 'at', 'n', 'part')), FIELDS, {}, len(found))
    computed = [part_of(key, number) for key, _, number, _ in found]
    assert sorted(wrong) == [i for i, row in enumerate(found) if row[3] not in (None, computed[i])]
    for row, message in wrong.items():
        assert message.startswith(f'part: got {found[row][3]}, rule: {computed[row]}, as')
    assert all(made['part'][i].as_py() == part for i, part in enumerate(computed) if i not in wrong)


def test_without_what_they_are_made_of_there_is_what_was_given() -> None:
    day = datetime.datetime(2013, 1, 1, tzinfo=UTC)
    given_day = {'day': FIELDS['day'].array([day, None])[0]}
    made, wrong = placed(LAYOUT, given_day, FIELDS, {}, 2)
    assert (made['day'].to_pylist(), made['part'].to_pylist(), wrong) == ([day, None], [None, None], {})


def test_rows_that_are_wrong_already_and_values_without_bytes_have_no_salt() -> None:
    found = [('a', None, 1), ('b', None, 1), ('c' * 70_000, None, 1)]
    columns = columns_of(found)
    made, wrong = placed(Layout(None, Salt('part', 16, ('k',))), columns, FIELDS, {0: 'bad'}, 3)
    assert wrong == {}
    assert made['part'].to_pylist() == [None, zlib.crc32(b'b') % 16, zlib.crc32(b'c' * 70_000) % 16]
