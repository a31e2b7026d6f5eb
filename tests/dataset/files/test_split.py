"""Splits are those of TFX's own partition function, record for record."""

from __future__ import annotations

import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from tfx.components.example_gen import base_example_gen_executor
from tfx.proto import example_gen_pb2

from tfx_cassandra.components.dataset.files.split import HashSplits
from tfx_cassandra.components.errors import DatasetError

rows = st.fixed_dictionaries({'n': st.integers(-(2**63), 2**63 - 1), 'x': st.floats(width=32), 't': st.binary()})
bucket_counts = st.lists(st.integers(1, 20), min_size=1, max_size=4)


def example(row: dict) -> tf.train.Example:
    made = tf.train.Example()
    made.features.feature['n'].int64_list.value.append(row['n'])
    made.features.feature['x'].float_list.value.append(row['x'])
    made.features.feature['t'].bytes_list.value.append(row['t'])
    return made


@pytest.mark.parametrize('feature', [None, 'n', 't'])
@settings(max_examples=50, deadline=None)
@given(st.lists(rows, min_size=1, max_size=20), bucket_counts)
def test_equals_tfx(feature: str | None, made: list[dict], counts: list[int]) -> None:
    config = example_gen_pb2.SplitConfig(partition_feature_name=feature)
    ends = [sum(counts[: i + 1]) for i in range(len(counts))]
    examples = [example(row) for row in made]
    expected = [base_example_gen_executor._PartitionFn(example, len(ends), ends, config) for example in examples]
    splits = HashSplits(tuple((f's{i}', count) for i, count in enumerate(counts)), feature)
    assert splits.assign(example.SerializeToString(deterministic=True) for example in examples) == expected


@pytest.mark.parametrize('feature', ['absent', 'x'])
def test_a_feature_that_cannot_be_hashed(feature: str) -> None:
    splits = HashSplits((('train', 1),), feature)
    with pytest.raises(DatasetError, match=f'partition_feature_name: got {feature!r}'):
        splits.assign([example({'n': 1, 'x': 1.0, 't': b''}).SerializeToString()])


@pytest.mark.parametrize('buckets', [(), (('a', 1), ('a', 2)), (('a', 0), ('b', 1))])
def test_bad_splits(buckets: tuple) -> None:
    with pytest.raises(ValueError, match='output_config'):
        HashSplits(buckets)
