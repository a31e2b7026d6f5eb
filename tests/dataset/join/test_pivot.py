"""Long rows become one row per entity and timestamp; the oracle is a plain dictionary."""

from __future__ import annotations

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tfx_cassandra.components.dataset.join import pivot
from tfx_cassandra.components.dataset.spec.view import FeatureView
from tfx_cassandra.components.errors import DatasetError

VIEW = FeatureView(
    'v', 't', ('e', 'f'), 'ts', ('a', 'b'), layout='long', feature_name_column='name', value_column='value', prefix='p_'
)
SCHEMA = pa.schema(
    [
        ('e', pa.string()),
        ('f', pa.int32()),
        ('ts', pa.timestamp('ms', 'UTC')),
        ('name', pa.string()),
        ('value', pa.float64()),
    ]
)
keys = st.tuples(st.sampled_from(['x', 'y', None]), st.integers(0, 2), st.integers(-2, 2), st.sampled_from(['a', 'b']))


def batch(rows: list[tuple]) -> pa.RecordBatch:
    columns = list(zip(*rows, strict=True)) if rows else [()] * len(SCHEMA)
    arrays = [pa.array(column, field.type) for column, field in zip(columns, SCHEMA, strict=True)]
    return pa.RecordBatch.from_arrays(arrays, schema=SCHEMA)


def oracle(long: dict) -> dict:
    wide: dict = {}
    for (e, f, ts, name), value in long.items():
        wide.setdefault((e, f, ts), {'p_a': None, 'p_b': None})[f'p_{name}'] = value
    return wide


def as_dict(wide: pa.RecordBatch) -> dict:
    stamps = wide.column(2).cast(pa.int64()).to_pylist()
    rows = wide.to_pylist()
    assert wide.schema.names == ['e', 'f', 'ts', 'p_a', 'p_b']
    return {
        (row['e'], row['f'], ts): {'p_a': row['p_a'], 'p_b': row['p_b']} for row, ts in zip(rows, stamps, strict=True)
    }


@settings(deadline=None)
@given(st.dictionaries(keys, st.one_of(st.none(), st.floats(allow_nan=False)), min_size=1), st.integers(1, 3))
def test_equals_the_oracle(long: dict, pieces: int) -> None:
    rows = [(*key, value) for key, value in long.items()]
    wide = pivot.pivot([batch(rows[i::pieces]) for i in range(pieces)], VIEW)
    assert wide.num_rows == len(oracle(long))
    assert as_dict(wide) == oracle(long)


@settings(deadline=None)
@given(st.dictionaries(keys, st.floats(allow_nan=False), min_size=1), st.integers(1, 5))
def test_shards_keep_examples_whole_and_lose_nothing(long: dict, count: int) -> None:
    shards: dict[int, list] = {}
    rows = [(*key, value) for key, value in long.items()]
    for half in (rows[::2], rows[1::2]):
        for number, part in pivot.shard(batch(half), VIEW, count) if half else ():
            assert 0 <= number < count
            shards.setdefault(number, []).append(part)
    merged: dict = {}
    for parts in shards.values():
        wide = as_dict(pivot.pivot(parts, VIEW))
        assert not merged.keys() & wide.keys()
        merged |= wide
    assert merged == oracle(long)


def test_a_doubled_row_is_an_error() -> None:
    rows = [('x', 1, 0, 'a', 1.0), ('x', 1, 0, 'a', 2.0)]
    with pytest.raises(DatasetError, match=r'view v: got .*more than once, rule: one row per e, f, ts, name'):
        pivot.pivot([batch(rows)], VIEW)
