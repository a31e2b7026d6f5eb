"""Layouts: the declaration, buckets against the calendar, salts against published vectors and another CRC-32."""

from __future__ import annotations

import datetime
import uuid

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tfx_cassandra.components.cql import layout
from tfx_cassandra.components.cql.layout import Bucket, Layout, Salt
from tfx_cassandra.components.cql.table import Table
from tfx_cassandra.components.cql.values import has_one_form, parse, serialized
from tfx_cassandra.components.errors import SchemaError

EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.timezone.utc)
MILLISECOND = datetime.timedelta(milliseconds=1)
UNITS = ('hour', 'day', 'month')
moments = st.datetimes(timezones=st.just(datetime.timezone.utc)).map(lambda moment: (moment - EPOCH) // MILLISECOND)


def calendar(unit: str, moment: int) -> int:
    """The oracle: the calendar of Python."""
    cut = {'minute': 0, 'second': 0, 'microsecond': 0}
    cut |= {'hour': {}, 'day': {'hour': 0}, 'month': {'hour': 0, 'day': 1}}[unit]
    return ((EPOCH + moment * MILLISECOND).replace(**cut) - EPOCH) // MILLISECOND  # type: ignore[arg-type]


def slow_crc32(content: bytes) -> int:
    """The oracle: CRC-32 bit by bit, as RFC 1952 defines it."""
    crc = 0xFFFFFFFF
    for byte in content:
        crc ^= byte
        for _ in range(8):
            crc = (crc >> 1) ^ (0xEDB88320 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


@pytest.mark.parametrize(
    ('comment', 'found'),
    [
        ('', Layout()),
        ('of sensors, event_time=at', Layout()),
        ('bucket=day:day:at', Layout(Bucket('day', 'day', 'at'))),
        ('salt=part:16:sensor', Layout(None, Salt('part', 16, ('sensor',)))),
        (
            'event_time=at, bucket=b:month:at; salt=part:1024:sensor,at.',
            Layout(Bucket('b', 'month', 'at'), Salt('part', 1024, ('sensor', 'at'))),
        ),
    ],
)
def test_a_comment_declares_a_layout(comment: str, found: Layout) -> None:
    assert layout.parse(comment, 't') == found
    assert layout.parse(str(found), 't') == found


@pytest.mark.parametrize(
    'comment',
    ['bucket=day', 'bucket=b:week:at', 'bucket=:day:at', 'bucket=b:day:', 'salt=s:1:a', 'salt=s:1025:a', 'salt=s:x:a',
     'salt=s:4:', 'salt=s:4:a,,b', 'salt=s:4:a,a', 'salt=s:4'],
)  # fmt: skip
def test_another_declaration_is_refused(comment: str) -> None:
    with pytest.raises(SchemaError, match=f"comment of t: got '{comment}', rule: (bucket|salt)=COLUMN"):
        layout.parse(comment, 't')


TYPES = {'k': 'text', 'd': 'decimal', 'b': 'timestamp', 's': 'int', 'at': 'timestamp', 'v': 'double', 'n': 'text'}


@pytest.mark.parametrize(
    ('comment', 'partition', 'clustering', 'message'),
    [
        ('bucket=b:day:at', ['k', 'b'], ['at'], ''),
        ('salt=s:2:k,at', ['k', 's'], ['at'], ''),
        ('bucket=b:day:at salt=s:2:at', ['k', 's', 'b'], ['at'], ''),
        ('bucket=b:day:at', ['b'], ['at'], 'columns of the partition key'),
        ('bucket=b:day:at', ['k'], ['at'], 'columns of the partition key'),
        ('bucket=n:day:at', ['k', 'n'], ['at'], 'n is a timestamp of the partition key'),
        ('bucket=b:day:v', ['k', 'b'], ['at'], 'v is a timestamp of the clustering columns'),
        ('bucket=b:day:b', ['k', 'b'], ['at'], 'b is a timestamp of the clustering columns'),
        ('salt=n:2:at', ['k', 'n'], ['at'], 'n is of type smallint or int'),
        ('salt=s:2:v', ['k', 's'], ['at'], 'columns of the primary key'),
        ('salt=s:2:b bucket=b:day:at', ['k', 's', 'b'], ['at'], 'columns of the primary key'),
        ('salt=s:2:d', ['d', 's'], ['at'], 'columns of the primary key'),
    ],
)
def test_a_layout_is_of_the_tables_columns(
    comment: str, partition: list[str], clustering: list[str], message: str
) -> None:
    found = layout.parse(comment, 't')
    if not message:
        found.check('t', partition, clustering, TYPES, has_one_form)
        return
    with pytest.raises(SchemaError, match=message):
        found.check('t', partition, clustering, TYPES, has_one_form)


@given(st.sampled_from(UNITS), st.lists(moments, min_size=1))
def test_buckets_begin_as_the_calendar_says(unit: str, given: list[int]) -> None:
    bucket = Bucket('b', unit, 'at')  # type: ignore[arg-type]
    assert bucket.starts(np.array(given, np.int64)).tolist() == [calendar(unit, moment) for moment in given]


@given(st.sampled_from(UNITS), st.integers(-(2**63), 2**63 - 1))
def test_buckets_tile_all_moments_of_cql(unit: str, moment: int) -> None:
    bucket = Bucket('b', unit, 'at')  # type: ignore[arg-type]
    start = bucket.start(moment)
    end = bucket.end(start)
    assert -(2**63) <= start <= moment < end
    assert (bucket.start(start), bucket.start(end - 1)) == (start, start)
    assert end == 2**63 or bucket.start(end) == end
    assert end - start <= {'hour': 1, 'day': 24, 'month': 31 * 24}[unit] * 3_600_000


@given(st.sampled_from(UNITS), moments, st.integers(0, 90 * 86_400_000))
def test_a_window_has_the_buckets_of_its_moments(unit: str, start: int, length: int) -> None:
    bucket = Bucket('b', unit, 'at')  # type: ignore[arg-type]
    found = list(bucket.within(start, start + length))
    step = 600_000
    sampled = [*range(start, start + length, step), start + length - 1] if length else []
    assert found == sorted({bucket.start(moment) for moment in sampled})
    assert layout.known(found[::-1], bucket, start, start + length) == found[::-1]
    assert layout.known([*found, start + length + step * 5000], bucket, start, start + length) == found


AT = 1_357_041_600_123  # 2013-01-01T12:00:00.123Z
ID = uuid.UUID('12345678-1234-5678-1234-567812345678')
# As docs/layouts.md publishes them: columns, values, the bytes in hexadecimal, their CRC-32, the salt of 16.
VECTORS = [
    ({'k': ('text', 'JFK')}, '4a464b', 0xC561A19F, 15),
    ({'k': ('text', '')}, '', 0x00000000, 0),
    ({'k': ('text', 'Zürich')}, '5ac3bc72696368', 0xD30BA93E, 14),
    ({'k': ('bigint', -1)}, 'ffffffffffffffff', 0x2144DF1C, 12),
    ({'k': ('int', 42)}, '0000002a', 0xFAFF16CA, 10),
    ({'k': ('timestamp', AT)}, '0000013bf5fb867b', 0xDAA86886, 6),
    ({'k': ('uuid', ID)}, '12345678123456781234567812345678', 0x69B24190, 0),
    ({'k': ('text', 'JFK'), 'at': ('timestamp', AT)}, '00034a464b0000080000013bf5fb867b00', 0x8D31E4C1, 1),
]


@pytest.mark.parametrize(('given', 'content', 'crc', 'salt'), VECTORS)
def test_salts_have_published_values(given: dict[str, tuple[str, object]], content: str, crc: int, salt: int) -> None:
    assert slow_crc32(bytes.fromhex(content)) == crc
    assert crc % 16 == salt
    table = Table(
        'k', 't', ('k', 's'), ('at',), tuple((name, kind) for name, (kind, _) in given.items()),
        layout=Layout(None, Salt('s', 16, tuple(given))),
    )  # fmt: skip
    assert table.salts({name: parse(kind, value) for name, (kind, value) in given.items()}) == (salt,)


@given(st.lists(st.binary(max_size=40), min_size=1, max_size=3), st.integers(2, layout.MOST_SALTS))
def test_a_salt_is_the_crc_of_a_partition_key(parts: list[bytes], count: int) -> None:
    from cassandra.query import BoundStatement

    key = parts[0] if len(parts) == 1 else b''.join(BoundStatement._key_parts_packed(None, parts))
    assert Salt('s', count, ('a',)).of(parts) == slow_crc32(key) % count


@pytest.mark.parametrize('count', [2, 3, 16, 100, 1024])
@pytest.mark.parametrize('key', ['user{}', 'model/{:08}', '{:016x}'])
def test_salts_spread_keys_that_follow_one_another(count: int, key: str) -> None:
    rows = 200 * count
    found = np.bincount([Salt('s', count, ('a',)).of([key.format(i).encode()]) for i in range(rows)], minlength=count)
    assert found.max() < 2 * rows / count


def test_a_salt_of_columns_that_are_not_given_may_be_any() -> None:
    table = Table('k', 't', ('k', 's'), ('at',), (('k', 'text'),), layout=Layout(None, Salt('s', 4, ('k', 'at'))))
    assert list(table.salts({'k': 'a'})) == [0, 1, 2, 3]
    assert Table('k', 't', ('k',), (), ()).salts({}) == (None,)
    assert (table.own_partition_key, table.own_key, table.own_columns) == (('k',), ('k', 'at'), ('k', 'at'))


@pytest.mark.parametrize(
    ('kind', 'value', 'content'),
    [
        ('date', 1, '80000001'), ('time', 1, '0000000000000001'), ('inet', '10.0.0.1', '0a000001'),
        ('boolean', True, '01'), ('blob', b'\x00\xff', '00ff'), ('tinyint', -2, 'fe'), ('smallint', 258, '0102'),
        ('ascii', 'a', '61'), ('double', 1.0, '3ff0000000000000'), ('float', 1.0, '3f800000'),
    ],
)  # fmt: skip
def test_values_of_all_other_types_are_hashed_as_keys_have_them(kind: str, value: object, content: str) -> None:
    assert has_one_form(kind)
    assert serialized(kind, parse(kind, value)).hex() == content
