"""Last values by literal tables; tests/dataset/test_join.py holds them against loops.

Columns of lists become tf.SequenceExamples that TensorFlow and tfx_bsl read.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
import slow_examples as slow
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from tfx_bsl.coders import sequence_example_coder

from tfx_cassandra.components.dataset.files.encode import encode
from tfx_cassandra.components.dataset.join.keys import Keys
from tfx_cassandra.components.dataset.join.parts import Candidates, Column
from tfx_cassandra.components.dataset.join.sequence import last_values

# Entity, event, created; entity 1 first learns of event 7, then of 5, then of a correction of 5, then of 8.
KNOWN = [(0, 4, 4), (0, 5, 5), (1, 7, 7), (1, 5, 8), (1, 5, 9), (1, 8, 9)]


@pytest.mark.parametrize(
    ('at', 'time', 'n', 'ttl', 'expected'),
    [
        (None, 9, 3, None, []),  # nothing is known
        (1, 9, 3, None, ['z', 'a']),
        (2, 9, 3, None, ['b']),  # of the entity before it nothing
        (3, 9, 3, None, ['c', 'b']),  # oldest first, by event and not by when it was known
        (4, 9, 3, None, ['d', 'b']),  # of one event time the one created last
        (5, 9, 3, None, ['d', 'b', 'e']),
        (5, 9, 2, None, ['b', 'e']),
        (5, 9, 1, None, ['e']),
        (5, 9, 3, 4, ['b', 'e']),  # exactly as old as the ttl
        (5, 9, 3, 5, ['d', 'b', 'e']),
    ],
)
def test_last_values(at: int | None, time: int, n: int, ttl: int | None, expected: list[str]) -> None:
    group, event, created = np.array(KNOWN).T
    keys = Keys(2, [event, created])
    candidates = Candidates(group, event, created, keys.of(group, created), keys)
    column = Column(pa.array(list('edcbaz')), np.arange(5, -1, -1))
    # An event that knows nothing beside it, so that lists start where they should.
    places = np.array([-1, -1 if at is None else at, -1])
    got = last_values(places, np.array([time] * 3), candidates, column, n, ttl)
    assert got.to_pylist() == [[], expected, []]


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
    batch = pa.RecordBatch.from_arrays([pa.array([1])], names=['id'])
    with pytest.raises(ValueError, match="sequences: got 'id', rule: a column of lists"):
        encode(batch, KINDS, sequences=['id'])
    with pytest.raises(ValueError, match='sequences: got'):
        encode(batch, KINDS, sequences=['x'])
