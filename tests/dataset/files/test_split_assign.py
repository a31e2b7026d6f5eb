"""Splits by entity and by time, compared with plain rules; and the search for leaks between splits."""

from __future__ import annotations

import datetime
import hashlib
import zoneinfo
from random import Random

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from slow_examples import encode as slow_encode

from tfx_cassandra.components.dataset.files.encode import encode
from tfx_cassandra.components.dataset.files.examples import Kind
from tfx_cassandra.components.dataset.files.split import NO_SPLIT, EntitySplits, HashSplits, TimeSplits, assign
from tfx_cassandra.components.dataset.join import leaks
from tfx_cassandra.components.errors import DatasetError
from tfx_cassandra.components.window import EPOCH, TimeWindow

KINDS: dict[str, Kind] = {'user': 'bytes_list', 'shop': 'int64_list', 'ts': 'int64_list', 'x': 'float_list'}
BUCKETS = (('train', 3), ('eval', 1), ('test', 1))
HOUR = datetime.timedelta(hours=1)
rows_made = st.lists(st.tuples(st.sampled_from('abcdefgh'), st.integers(0, 3), st.integers(-5, 105)), max_size=60)


def batch_of(rows: list[tuple[str, int, int]]) -> pa.RecordBatch:
    """Rows of (user, shop, hours since 1970)."""
    times = pa.array([3_600_000 * row[2] for row in rows], pa.int64()).cast(pa.timestamp('ms', 'UTC'))
    arrays = [
        pa.array([row[0] for row in rows], pa.string()), pa.array([row[1] for row in rows], pa.int32()), times,
        pa.array([0.5 * i for i in range(len(rows))], pa.float64()),
    ]  # fmt: skip
    return pa.RecordBatch.from_arrays(arrays, names=['user', 'shop', 'ts', 'x'])


def window(first: int, last: int) -> TimeWindow:
    return TimeWindow(EPOCH + first * HOUR, EPOCH + last * HOUR)


@settings(deadline=None)
@given(rows_made)
def test_an_entity_of_one_column_is_split_as_tfx_splits_by_a_feature(rows: list) -> None:
    batch = batch_of(rows)
    expected = HashSplits(BUCKETS, 'user').assign(slow_encode(batch, KINDS))
    assert EntitySplits(BUCKETS, 'user').assign(batch, KINDS).to_pylist() == expected


@settings(deadline=None)
@given(rows_made)
def test_an_entity_of_two_columns_is_never_in_two_splits(rows: list) -> None:
    batch = batch_of(rows)
    got = EntitySplits(BUCKETS, ('user', 'shop')).assign(batch, KINDS).to_pylist()
    # Written another way: a tf.Example of the two features by hand, hashed by hashlib.
    for (user, shop, _), split in zip(rows, got, strict=True):
        features = [
            b'\n\4shop' + b'\x12\x05' + b'\x1a\x03\n\x01' + bytes([shop]),
            b'\n\4user' + b'\x12\x05' + b'\n\x03\n\x01' + user.encode(),
        ]
        inner = b''.join(b'\n' + bytes([len(f)]) + f for f in features)
        bucket = int(hashlib.sha256(b'\n' + bytes([len(inner)]) + inner).hexdigest(), 16) % 5
        assert split == [0, 0, 0, 1, 2][bucket]


@settings(deadline=None)
@given(rows_made, st.integers(0, 30), st.booleans(), st.booleans())
def test_splits_by_time(rows: list, gap: int, given_starts: bool, integers: bool) -> None:
    starts = (EPOCH + 60 * HOUR, EPOCH + 95 * HOUR) if given_starts else ()
    cuts = [60, 95] if given_starts else [60, 80]
    splits = TimeSplits(BUCKETS, 'ts', gap * HOUR, starts)
    batch = batch_of(rows)
    if integers:
        columns = [batch.columns[0], batch.columns[1], batch.columns[2].cast(pa.int64()), batch.columns[3]]
        batch = pa.RecordBatch.from_arrays(columns, names=batch.schema.names)
    if gap >= cuts[1] - cuts[0]:
        with pytest.raises(ValueError, match=r'starts: got .* rule: time for split eval'):
            splits.assign(batch, window(0, 100))
        return
    got = splits.assign(batch, window(0, 100)).to_pylist()
    for (_, _, hour), split in zip(rows, got, strict=True):
        if 0 <= hour < cuts[0] - gap:
            assert split == 0
        elif cuts[0] <= hour < cuts[1] - gap:
            assert split == 1
        elif cuts[1] <= hour < 100:
            assert split == 2
        else:
            assert split == NO_SPLIT


@settings(deadline=None)
@given(rows_made)
def test_parts_hold_the_records_of_their_split_in_order(rows: list) -> None:
    batch = batch_of(rows)
    framed = encode(batch, KINDS)
    splits = TimeSplits(BUCKETS, 'ts', 2 * HOUR).assign(batch, window(0, 100))
    frames = [
        framed.buffer.to_pybytes()[framed.offsets[i].as_py() : framed.offsets[i + 1].as_py()] for i in range(len(rows))
    ]
    by_split = [[f for f, s in zip(frames, splits.to_pylist(), strict=True) if s == i] for i in range(3)]
    assert framed.parts_by(splits, 3) == [b''.join(part) for part in by_split]
    assert framed.counts_by(splits, 3) == [len(part) for part in by_split]
    if len(rows) > 1:
        assert encode(batch.slice(1), KINDS).parts_by(splits.slice(1), 3) == encode(batch.slice(1), KINDS).parts_by(
            pa.array(splits.to_pylist()[1:], pa.int32()), 3
        )


@settings(deadline=None)
@given(rows_made, st.randoms())
def test_the_checksum_is_that_of_a_split_s_records_in_any_order(rows: list, random: Random) -> None:
    batch = batch_of(rows)
    records = slow_encode(batch, KINDS)
    splits = [random.randrange(-1, 3) for _ in rows]
    expected = [0, 0, 0]
    for record, split in zip(records, splits, strict=True):
        if split >= 0:
            expected[split] += int.from_bytes(hashlib.sha256(record).digest()[:8], 'big')
    framed = encode(batch, KINDS)
    assert framed.checksums_by(pa.array(splits, pa.int32()), 3) == [total % 2**64 for total in expected]
    # What was hashed for the splits is not hashed again; of a key, that is another hash.
    for key in (None, batch.schema.names[0]):
        framed = encode(batch, KINDS, key)
        framed.assign([2, 3])
        assert framed.checksums_by(pa.array(splits, pa.int32()), 3) == [total % 2**64 for total in expected]


@pytest.mark.parametrize('wrong', [pa.array([0], pa.int64()), pa.array([], pa.int32()), pa.array([None], pa.int32())])
def test_parts_by_refuses_invalid_assignments(wrong: pa.Array) -> None:
    with pytest.raises(ValueError, match='splits: got'):
        encode(batch_of([('a', 1, 1)]), KINDS).parts_by(wrong, 2)


@settings(deadline=None)
@given(st.lists(st.tuples(st.sampled_from('abcdefgh'), st.integers(0, 3), st.integers(0, 99)), min_size=1, max_size=60))
def test_no_leak_is_found_in_separate_splits(rows: list) -> None:
    batch = batch_of(rows)
    framed = encode(batch, KINDS)
    by_time = TimeSplits(BUCKETS, 'ts', HOUR)
    by_entity = EntitySplits(BUCKETS, ('user', 'shop'))
    for splits in (by_time, by_entity):
        assigned = assign(splits, batch, framed, KINDS, window(0, 100))
        tables = {
            name: pa.Table.from_batches([batch.filter(pa.array([s == i for s in assigned.to_pylist()]))])
            for i, name in enumerate(splits.names)
        }
        if splits is by_time:
            assert not leaks.find(tables, time_column='ts', gap=HOUR)
        else:
            assert not leaks.find(tables, entity_columns=['user', 'shop'])


def test_a_planted_leak_is_found() -> None:
    train, later = batch_of([('a', 1, 1), ('b', 1, 5)]), batch_of([('a', 2, 6), ('b', 1, 7)])
    tables = {'train': pa.Table.from_batches([train]), 'eval': pa.Table.from_batches([later])}
    assert leaks.find(tables, ['user', 'shop']) == [leaks.Leak('entity', ('train', 'eval'), 1, ('b', 1))]
    assert leaks.find(tables, ['user'])[0].examples == 2
    assert leaks.find(tables, time_column='ts', gap=HOUR) == []
    assert leaks.find(tables, time_column='ts', gap=2 * HOUR) == [
        leaks.Leak('time', ('train', 'eval'), 1, (5 * 3_600_000,))
    ]


@pytest.mark.parametrize(
    ('make', 'message'),
    [
        (lambda: EntitySplits((), 'user'), 'buckets: got'),
        (lambda: EntitySplits((('a', 0),), 'user'), 'buckets: got'),
        (lambda: EntitySplits((('a', 1), ('a', 1)), 'user'), 'buckets: got'),
        (lambda: EntitySplits((('a', 1),), ()), 'columns: got'),
        (lambda: TimeSplits((('a', 1), ('b', 1)), 'ts', gap=-HOUR), 'gap: got'),
        (lambda: TimeSplits((('a', 1), ('b', 1)), 'ts', starts=(EPOCH, EPOCH)), 'starts: got'),
        (lambda: TimeSplits((('a', 1), ('b', 1), ('c', 1)), 'ts', starts=(EPOCH, EPOCH)), 'starts: got'),
        (lambda: TimeSplits((('a', 1), ('b', 1)), 'ts', starts=(datetime.datetime(2013, 1, 1),)), 'starts: got'),
        (
            lambda: TimeSplits((('a', 1), ('b', 1)), 'ts', starts=(EPOCH - HOUR,)).windows(window(0, 1)),
            'starts: got .* rule: time for split a',
        ),
    ],
)
def test_bad_splits(make: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()  # type: ignore[operator]


def test_rows_that_cannot_be_assigned() -> None:
    batch = batch_of([('a', 1, 1)])
    with pytest.raises(DatasetError, match="columns: got 'nobody', rule: a column of the examples"):
        EntitySplits(BUCKETS, 'nobody').assign(batch, KINDS)
    with pytest.raises(DatasetError, match="columns: got 'x', rule: in every example, with text or integers"):
        EntitySplits(BUCKETS, ('user', 'x')).assign(batch, KINDS)
    empty = pa.RecordBatch.from_arrays([pa.array([None], pa.string())], names=['user'])
    with pytest.raises(DatasetError, match="columns: got 'user', rule: in every example"):
        EntitySplits(BUCKETS, ('user',)).assign(empty, KINDS)
    with pytest.raises(DatasetError, match="column: got 'user', rule: in every example"):
        TimeSplits(BUCKETS, 'user').assign(empty, window(0, 1))


def test_shares_of_a_long_window_and_gaps_beyond_the_calendar() -> None:
    everything = TimeWindow(EPOCH.replace(year=1), EPOCH.replace(year=9999))
    first, second = TimeSplits((('a', 2**31 - 1), ('b', 2**31 - 1)), 'at').windows(everything)
    assert first.end == second.start == everything.start + (everything.end - everything.start) / 2
    for gap in (datetime.timedelta(days=2_999_999), datetime.timedelta.max):
        with pytest.raises(ValueError, match=r'^(gap|starts): got .*, rule: (a moment of the years|time for split a)'):
            TimeSplits((('a', 1), ('b', 1)), 'at', gap).windows(everything)
    with pytest.raises(ValueError, match=r'^gap: got 3600, rule: a datetime.timedelta'):
        TimeSplits((('a', 1), ('b', 1)), 'at', 3600)  # type: ignore[arg-type]


def test_starts_in_the_repeated_hour_of_a_clock_change_are_distinct() -> None:
    half = datetime.datetime(2013, 10, 27, 2, 30, tzinfo=zoneinfo.ZoneInfo('Europe/Berlin'))
    window = TimeWindow(half.replace(hour=0), half.replace(hour=5))
    splits = TimeSplits((('a', 1), ('b', 1), ('c', 1)), 'at', starts=(half, half.replace(minute=10, fold=1)))
    _, second, _ = splits.windows(window)
    assert second.end - second.start == datetime.timedelta(minutes=40)
    with pytest.raises(ValueError, match='rule: ascending'):
        TimeSplits((('a', 1), ('b', 1), ('c', 1)), 'at', starts=(half.replace(fold=1), half.replace(minute=50)))


@pytest.mark.parametrize('gap', [datetime.timedelta(0), datetime.timedelta.max])
def test_leaks_are_found_at_any_time(gap: datetime.timedelta) -> None:
    first, last = -(2**63), 2**63 - 1
    rows = [pa.table({'t': pa.array([at])}) for at in (first, last)]
    assert not leaks.find({'a': rows[0], 'b': rows[1]}, time_column='t', gap=datetime.timedelta(0))
    (leak,) = leaks.find({'a': rows[1], 'b': rows[0]}, time_column='t', gap=gap)
    assert leak.first == (last,)
    with pytest.raises(ValueError, match=r'^gap: got .*, rule: zero or more'):
        leaks.find({'a': rows[0], 'b': rows[1]}, time_column='t', gap=-datetime.timedelta(1))


@pytest.mark.parametrize('name', ['*', '^.*$', 'entity', ''])
def test_leaks_are_found_with_any_column_name(name: str) -> None:
    first, second = pa.table({'x': [1, 2], name: [1, 2]}), pa.table({'x': [2, 3], name: [1, 3]})
    assert not leaks.find({'a': first, 'b': second}, ['x', name])
    (leak,) = leaks.find({'a': first, 'b': second}, [name, name])
    assert (leak.examples, leak.first) == (1, (1,))
