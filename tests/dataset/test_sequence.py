"""The last n values before an event equal those a plain loop finds, and become tf.SequenceExamples TensorFlow reads."""

from __future__ import annotations

import datetime

import pyarrow as pa
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from tfx_bsl.coders import sequence_example_coder

from tfx_cassandra.components.dataset import examples as slow
from tfx_cassandra.components.dataset.encode import encode
from tfx_cassandra.components.dataset.sequence import last_n
from tfx_cassandra.components.errors import DatasetError

MS = pa.timestamp('ms', 'UTC')
entities = st.tuples(st.sampled_from(['a', 'b', 'c']), st.integers(0, 1))
events_made = st.lists(st.tuples(entities, st.integers(0, 12)), max_size=12)
values = st.one_of(st.none(), st.floats(width=32, allow_nan=False))
rows_made = st.lists(st.tuples(entities, st.integers(0, 12), values, st.one_of(st.none(), st.text(max_size=3))))


def table(entity: list, times: list[int], **columns: pa.Array) -> pa.RecordBatch:
    arrays = [
        pa.array([e[0] for e in entity], pa.string()),
        pa.array([e[1] for e in entity], pa.int32()),
        pa.array(times, pa.int64()).cast(MS),
        *columns.values(),
    ]
    return pa.RecordBatch.from_arrays(arrays, names=['name', 'part', 'ts', *columns])


@settings(max_examples=150, deadline=None)
@given(events_made, rows_made, st.integers(1, 4), st.one_of(st.none(), st.integers(1, 8)))
def test_equals_a_plain_loop(events: list, rows: list, n: int, ttl: int | None) -> None:
    spine = table([e for e, _ in events], [t for _, t in events])
    x, y = pa.array([r[2] for r in rows], pa.float32()), pa.array([r[3] for r in rows], pa.string())
    feature_rows = table([r[0] for r in rows], [r[1] for r in rows], x=x, y=y)
    span = None if ttl is None else datetime.timedelta(milliseconds=ttl)
    got = last_n(spine, feature_rows, ['name', 'part'], 'ts', 'ts', ['x', 'y'], n, span)
    assert got.num_rows == len(events)
    for column, at in (('x', 2), ('y', 3)):
        expected = []
        for entity, time in events:
            known = [
                (row[1], row[at])
                for row in rows
                if row[0] == entity and row[at] is not None and row[1] <= time and (ttl is None or row[1] > time - ttl)
            ]
            expected.append([value for _, value in sorted(known, key=lambda pair: pair[0])][-n:])
        assert got.column(got.schema.get_field_index(column)).to_pylist() == expected


KINDS = {'id': 'int64_list', 'x': 'float_list', 'i': 'int64_list', 't': 'bytes_list'}


def lists(items: st.SearchStrategy) -> st.SearchStrategy:
    return st.lists(st.one_of(st.none(), st.lists(items, max_size=5)), min_size=6, max_size=6)


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.one_of(st.none(), st.integers(-(2**63), 2**63 - 1)), min_size=6, max_size=6),
    lists(st.floats(width=32)), lists(st.integers(-(2**63), 2**63 - 1)),
    lists(st.one_of(st.binary(max_size=200), st.integers(120, 135).map(bytes))), st.integers(0, 5),
)  # fmt: skip
def test_sequence_examples_have_the_bytes_of_the_slow_encoder(ids: list, x: list, i: list, t: list, skip: int) -> None:
    arrays = [
        pa.array(t, pa.list_(pa.binary())), pa.array(ids, pa.int64()),
        pa.array(x, pa.large_list(pa.float32())), pa.array(i, pa.list_(pa.int64())),
    ]  # fmt: skip
    batch = pa.RecordBatch.from_arrays(arrays, names=['t', 'id', 'x', 'i']).slice(skip)
    framed = encode(batch, KINDS, sequences=['t', 'x', 'i'])
    assert framed.buffer.to_pybytes() == slow.framed(slow.encode_sequences(batch, KINDS, ['t', 'x', 'i']))


def test_tensorflow_and_tfx_bsl_read_them() -> None:
    batch = pa.RecordBatch.from_arrays(
        [pa.array([7, 8]), pa.array([[1.5, 2.5], []], pa.list_(pa.float32())), pa.array([['a'], ['b', 'c']])],
        names=['id', 'x', 't'],
    )
    framed = encode(batch, KINDS, key='id', sequences=['x', 't'])
    first = framed.buffer.to_pybytes()[framed.offsets[0].as_py() + 12 : framed.offsets[1].as_py() - 4]
    context, steps = tf.io.parse_single_sequence_example(
        first,
        {'id': tf.io.FixedLenFeature([], tf.int64)},
        {'x': tf.io.FixedLenSequenceFeature([], tf.float32), 't': tf.io.FixedLenSequenceFeature([], tf.string)},
    )
    assert (context['id'].numpy(), steps['x'].numpy().tolist(), steps['t'].numpy().tolist()) == (7, [1.5, 2.5], [b'a'])
    read = sequence_example_coder.SequenceExamplesToRecordBatchDecoder('##SEQUENCE##').DecodeBatch([first])
    plain = read.to_pydict()
    assert plain['id'] == [[7]]
    assert plain['##SEQUENCE##'] == [{'x': [[1.5], [2.5]], 't': [[b'a']]}]


def test_bad_input() -> None:
    spine = table([('a', 0)], [1])
    with pytest.raises(ValueError, match='n: got 0, rule: at least 1'):
        last_n(spine, spine, ['name', 'part'], 'ts', 'ts', [], 0)
    empty = pa.RecordBatch.from_arrays([pa.array([None], pa.string()), pa.array([1]).cast(MS)], names=['name', 'ts'])
    with pytest.raises(DatasetError, match='events: got a null'):
        last_n(empty, empty, ['name'], 'ts', 'ts', [], 1)
    batch = pa.RecordBatch.from_arrays([pa.array([1])], names=['id'])
    with pytest.raises(ValueError, match="sequences: got 'id', rule: a column of lists"):
        encode(batch, KINDS, sequences=['id'])
    with pytest.raises(ValueError, match='sequences: got'):
        encode(batch, KINDS, sequences=['x'])
