"""The fast encoder makes the bytes of the slow one, frames that TensorFlow reads, and the splits of TFX."""

from __future__ import annotations

import datetime
import decimal
import hashlib
import itertools
import math
import os
import random
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

import google_crc32c
import pyarrow as pa
import pytest
import slow_examples as slow
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from tfx.components.example_gen import base_example_gen_executor
from tfx.proto import example_gen_pb2

from tfx_cassandra.components.dataset.files import encode as fast
from tfx_cassandra.components.dataset.files.split import HashSplits
from tfx_cassandra.components.errors import DatasetError

CASES = int(os.environ.get('CASES', '100'))

Values = Callable[[random.Random], object]


def int64(r: random.Random) -> int:
    bits = r.randrange(64)
    return r.choice([r.getrandbits(bits), (1 << bits) - 1, -r.getrandbits(bits), -(1 << bits)])


def number(r: random.Random) -> float:
    word = struct.pack('<Q', r.getrandbits(64))
    odd = r.choice([0.0, -0.0, 1e-310, 1e300, math.inf, math.nan])
    return r.choice([r.random(), struct.unpack('<d', word)[0], odd])


def text(r: random.Random) -> str:
    return r.choice('aé') * r.choice([0, 1, r.randrange(20), r.randrange(300), r.choice([0, 1, 9000])])


# Which the slow encoder takes: in a list, times go through datetime, with its bounds and its microseconds.
SCALARS: list[tuple[pa.DataType, Values, slow.Kind]] = [
    (pa.int64(), int64, 'int64_list'),
    (pa.int32(), lambda r: r.randrange(-(2**31), 2**31), 'int64_list'),
    (pa.int8(), lambda r: r.randrange(-128, 128), 'int64_list'),
    (pa.bool_(), lambda r: r.random() < 0.5, 'int64_list'),
    (pa.timestamp('ms', 'UTC'), lambda r: r.randrange(-(2**45), 2**47), 'int64_list'),
    (pa.date32(), lambda r: r.randrange(-700_000, 2_900_000), 'int64_list'),
    (pa.time64('ns'), lambda r: 1000 * r.randrange(86_399 * 10**6), 'int64_list'),
    (pa.string(), lambda r: str(int64(r)), 'int64_list'),
    (pa.null(), lambda r: None, 'int64_list'),
    (pa.float64(), number, 'float_list'),
    (pa.float32(), number, 'float_list'),
    (pa.int32(), lambda r: r.randrange(-(2**31), 2**31), 'float_list'),
    (pa.string(), lambda r: str(decimal.Decimal(int64(r)).scaleb(-r.randrange(30))), 'float_list'),
    (pa.string(), text, 'bytes_list'),
    (pa.large_string(), text, 'bytes_list'),
    (pa.binary(), lambda r: text(r).encode('utf-16'), 'bytes_list'),
    (pa.large_binary(), lambda r: text(r).encode('utf-16'), 'bytes_list'),
]
TIMES = (pa.timestamp('ms', 'UTC'), pa.date32(), pa.time64('ns'))


def made(values: list, of: pa.DataType) -> pa.Array:
    """An array of integers for times too, since not every time has a Python object."""
    if of in TIMES:
        return pa.array(values, pa.int32() if of == pa.date32() else pa.int64()).cast(of)
    return pa.array(values, of)


def column(r: random.Random, rows: int) -> tuple[pa.Array, slow.Kind]:
    """An array of `rows` rows and its kind; sliced, and with null lists that have items all the same."""
    of, values, kind = r.choice(SCALARS)
    before, after = r.randrange(10), r.randrange(3)
    total = before + rows + after
    nulls = r.choice([0, 0, 0.01, 0.5, 1])
    valid = [r.random() >= nulls for _ in range(total)]
    shape = r.choice(['scalar', 'scalar', 'list', 'large_list', 'fixed'])
    if shape == 'scalar':
        return made([values(r) if ok else None for ok in valid], of).slice(before, rows), kind
    width = r.randrange(4 if of != pa.null() else 1)
    lengths = [width if shape == 'fixed' else r.randrange(width + 1) for _ in valid]
    ahead = r.randrange(3) * width  # items that belong to no row
    flat = [values(r) for _ in range(ahead)]
    for ok, length in zip(valid, lengths, strict=True):
        # What stands under a null row may be null, or not of the right form.
        under = r.choice([None, '?' if of == pa.string() else values(r)])
        flat += [values(r) if ok else under for _ in range(length)]
    items = made(flat, of).slice(ahead)
    bits = pa.py_buffer(bytes(sum(ok << i for i, ok in enumerate(valid[j : j + 8])) for j in range(0, total, 8)))
    if shape == 'fixed':
        array = pa.Array.from_buffers(pa.list_(of, width), total, [bits], children=[items])
    else:
        offsets = struct.pack(f'<{total + 1}{"i" if shape == "list" else "q"}', *itertools.accumulate([0, *lengths]))
        listed = pa.list_(of) if shape == 'list' else pa.large_list(of)
        array = pa.Array.from_buffers(listed, total, [bits, pa.py_buffer(offsets)], children=[items])
    return array.slice(before, rows), kind


@st.composite
def tables(draw: st.DrawFn) -> tuple[pa.RecordBatch, dict[str, slow.Kind]]:
    rows = draw(st.one_of(st.integers(0, 9), st.just(130)))
    name = st.one_of(st.text(max_size=3), st.integers(100, 300).map(lambda size: 'n' * size))
    names = draw(st.lists(name, max_size=5, unique=True))
    r = random.Random(draw(st.integers(0, 2**32)))  # a value a draw takes too long
    drawn = [column(r, rows) for _ in names]
    batch = pa.RecordBatch.from_arrays([array for array, _ in drawn], names)
    return batch, {name: kind for name, (_, kind) in zip(names, drawn, strict=True)}


@pytest.fixture(params=[False, True], ids=['native', 'portable'])
def hashes(request: pytest.FixtureRequest) -> Iterator[None]:
    native = fast.use_portable(request.param)
    assert not (request.param and native)
    yield
    fast.use_portable(False)


def one(values: list, of: pa.DataType, kind: str, **kwargs: str) -> fast.Framed:
    return fast.encode(pa.RecordBatch.from_arrays([pa.array(values, of)], ['c']), {'c': kind}, **kwargs)


def records(framed: fast.Framed) -> list[bytes]:
    frames, offsets = framed.buffer.to_pybytes(), framed.offsets.to_pylist()
    return [frames[start + 12 : stop - 4] for start, stop in itertools.pairwise(offsets)]


@settings(max_examples=CASES, deadline=None)
@given(tables())
def test_equals_the_slow_encoder(table: tuple[pa.RecordBatch, dict]) -> None:
    batch, kinds = table
    expected, framed = slow.encode(batch, kinds), fast.encode(batch, kinds)
    assert records(framed) == expected
    assert framed.buffer.to_pybytes() == slow.framed(expected)
    assert len(framed) == batch.num_rows == len(framed.offsets) - 1


@settings(max_examples=CASES, deadline=None)
@given(tables(), st.lists(st.integers(1, 2**31), min_size=1, max_size=1) | st.lists(st.integers(1, 20), min_size=1))
def test_splits_are_those_of_tfx(table: tuple[pa.RecordBatch, dict], counts: list[int]) -> None:
    batch, kinds = table
    ends = list(itertools.accumulate(counts))
    framed = fast.encode(batch, kinds)
    expected = [partition(record, ends, None) for record in records(framed)]
    assert framed.assign(ends).to_pylist() == expected
    assert framed.counts_by(framed.assign(ends), len(ends)) == [expected.count(i) for i in range(len(ends))]
    rows = list(zip(expected, records(framed), strict=True))
    parts = framed.parts_by(framed.assign(ends), len(ends))
    assert parts == [slow.framed(r for split, r in rows if split == i) for i in range(len(ends))]


@settings(max_examples=CASES, deadline=None)
@given(tables(), st.lists(st.integers(1, 20), min_size=1, max_size=4), st.data())
def test_splits_by_a_feature(table: tuple[pa.RecordBatch, dict], counts: list[int], data: st.DataObject) -> None:
    batch, kinds = table
    ends = list(itertools.accumulate(counts))
    key = data.draw(st.sampled_from([*kinds, 'absent']))
    framed = fast.encode(batch, kinds, key)
    try:
        expected = [partition(tf.train.Example.FromString(record), ends, key) for record in records(framed)]
    except RuntimeError:
        with pytest.raises(DatasetError, match=r'partition_feature_name: got .*, rule: in every example'):
            framed.assign(ends)
    else:
        assert framed.assign(ends).to_pylist() == expected


def partition(example: tf.train.Example | bytes, ends: list[int], key: str | None) -> int:
    config = example_gen_pb2.SplitConfig(partition_feature_name=key)
    return base_example_gen_executor._PartitionFn(example, len(ends), ends, config)


@pytest.mark.usefixtures('hashes')
@pytest.mark.parametrize('start', [*range(0, 300), 1 << 20])
def test_hashes(start: int) -> None:
    # Two sizes at once, whose numbers of blocks differ; each example is a few bytes longer than its value.
    values = [os.urandom(start), os.urandom(start // 3), os.urandom(start + 64)]
    framed = one(values, pa.binary(), 'bytes_list')
    frames, offsets = framed.buffer.to_pybytes(), framed.offsets.to_pylist()
    assert frames == slow.framed(records(framed))
    assert google_crc32c.value(records(framed)[0]) == unmasked(frames[offsets[1] - 4 : offsets[1]])
    for ends in ([3, 7], [2**31, 2**32 - 1], [1]):
        buckets = [int.from_bytes(hashlib.sha256(r).digest(), 'big') % ends[-1] for r in records(framed)]
        assert framed.assign(ends).to_pylist() == [int(bucket >= ends[0]) for bucket in buckets]


def unmasked(content: bytes) -> int:
    value = (struct.unpack('<I', content)[0] - 0xA282EAD8) & 0xFFFFFFFF
    return (value >> 17 | value << 15) & 0xFFFFFFFF


def test_this_machine_uses_its_instructions() -> None:
    flags = Path('/proc/cpuinfo').read_text().split() if Path('/proc/cpuinfo').exists() else []
    assert fast.use_portable(False) == ('sse4_2' in flags) + ('sha_ni' in flags)


def test_splits_are_those_of_the_slow_path() -> None:
    splits = HashSplits((('a', 2), ('b', 1)))
    framed = one(list(range(1000)), pa.int64(), 'int64_list')
    assert framed.assign([2, 3]).to_pylist() == splits.assign(records(framed))


@pytest.mark.parametrize('columns', [0, 1])
@pytest.mark.parametrize('rows', [0, 1, 127, 128, 129, 1000])
def test_tensorflow_reads_the_frames(tmp_path: Path, rows: int, columns: int) -> None:
    values = pa.array([None if i % 7 == 0 else f'{i:0{i % 200}}' for i in range(rows)], pa.string())
    batch = pa.RecordBatch.from_arrays([values, pa.nulls(rows)], ['c', 'd'])
    framed = fast.encode(batch, {'c': 'bytes_list', 'd': 'int64_list'})
    path = tmp_path / 'data'
    path.write_bytes(framed.buffer)
    assert list(tf.data.TFRecordDataset(str(path)).as_numpy_iterator()) == records(framed)
    parts = framed.parts_by(framed.assign([2, 3]), 2)
    path.write_bytes(b''.join(parts))
    assert sorted(tf.data.TFRecordDataset(str(path)).as_numpy_iterator()) == sorted(records(framed))


@pytest.mark.parametrize('word', [0x7F800001, 0xFF812345, 0x7FC00001, 0xFFFFFFFF, 0x7F7FFFFF, 0x80000000, 1])
def test_bits_of_floats(word: int) -> None:
    array = pa.Array.from_buffers(pa.float32(), 1, [None, pa.py_buffer(struct.pack('<I', word))])
    batch = pa.RecordBatch.from_arrays([array], ['c'])
    assert records(fast.encode(batch, {'c': 'float_list'})) == slow.encode(batch, {'c': 'float_list'})


@pytest.mark.parametrize('bits', range(65))
def test_integers_of_every_size(bits: int) -> None:
    values = [(1 << bits) - 1, 1 << bits, -(1 << bits)]
    values = [value for value in values if -(2**63) <= value < 2**63]
    batch = pa.RecordBatch.from_arrays([pa.array(values, pa.int64())], ['c'])
    assert records(fast.encode(batch, {'c': 'int64_list'})) == slow.encode(batch, {'c': 'int64_list'})


@pytest.mark.parametrize('of', [pa.list_(pa.int64()), pa.large_list(pa.string()), pa.list_(pa.float32(), 2)])
def test_a_null_in_a_list_is_refused(of: pa.DataType) -> None:
    kind = {'int64': 'int64_list', 'string': 'bytes_list', 'float': 'float_list'}[str(of.value_type)]
    value = 'a' if kind == 'bytes_list' else 1
    with pytest.raises(DatasetError, match=r'^c: got a null in a list, rule: lists of values only$'):
        one([[value, value], None, [value, None]], of, kind)


@pytest.mark.parametrize(
    ('values', 'of', 'kind'),
    [
        (['x'], pa.string(), 'float_list'),
        (['x'], pa.string(), 'int64_list'),
        ([1], pa.int64(), 'bytes_list'),
        ([1.5], pa.float64(), 'int64_list'),
        ([[[1]]], pa.list_(pa.list_(pa.int64())), 'int64_list'),
        ([[('a', 1)]], pa.map_(pa.string(), pa.int64()), 'int64_list'),
        ([datetime.timedelta(1)], pa.duration('ns'), 'float_list'),
    ],
)
def test_values_that_do_not_fit(values: list, of: pa.DataType, kind: str) -> None:
    with pytest.raises(DatasetError, match=rf'^c: got [^\n]*, rule: a {kind}: [^\n]*$'):
        one(values, of, kind)


def test_an_example_that_is_too_long_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    assert fast.LARGEST == 2**31 - 1
    (record,) = records(one([b'x' * 50], pa.binary(), 'bytes_list'))
    monkeypatch.setattr(fast, 'LARGEST', len(record))
    one([b'x' * 50], pa.binary(), 'bytes_list')
    with pytest.raises(DatasetError, match=f'^example of row 1: got too many bytes, rule: at most {len(record)}$'):
        one([b'x' * 50, b'x' * 51], pa.binary(), 'bytes_list')


def test_wrong_arguments() -> None:
    array = pa.array([1])
    with pytest.raises(ValueError, match=r'batch: got .*, rule: each column name once'):
        fast.encode(pa.RecordBatch.from_arrays([array, array], ['c', 'c']), {'c': 'int64_list'})
    with pytest.raises(ValueError, match=r"kinds: got \['c'\], rule: one of"):
        fast.encode(pa.RecordBatch.from_arrays([array], ['c']), {})
    with pytest.raises(TypeError, match='made by encode'):
        fast.Framed()
    framed = one([1], pa.int64(), 'int64_list')
    for ends in ([], [0], [2, 2], [3, 2], [-1, 1], [2**32]):
        with pytest.raises(ValueError, match=r'ends: got .*, rule: ascending'):
            framed.assign(ends)


@pytest.mark.parametrize('shape', ['scalar', 'list'])
@pytest.mark.parametrize(
    ('of', 'values', 'expected'),
    [
        (pa.float64(), [1e38, 1e39, -1e300, None, math.inf, -math.inf, math.nan, 3.4028235e38, 3.4028236e38], 3),
        (pa.float32(), [1e38, math.inf, None], 0),
        (pa.string(), ['1.5', '1E+39', '-1E+400', '1E-400', None, '9' * 400], 3),
        (pa.int64(), [2**53, None], 0),
    ],
)
def test_values_beyond_a_32_bit_float_are_counted(of: pa.DataType, values: list, expected: int, shape: str) -> None:
    if shape == 'list':
        values, of = [[value, value] if value is not None else None for value in values], pa.list_(of)
    framed = one([*values, *values], of, 'float_list')
    count = expected * 2 * (2 if shape == 'list' else 1)
    assert framed.overflows == ({'c': count} if count else {})


def test_this_build_is_tested() -> None:
    """With make test-sanitized, the compiled parts must be those that were made for it."""
    assert fast.__file__.startswith(os.environ.get('TFX_CASSANDRA_SANITIZED', ''))
