"""Long rows become one row per entity and timestamp; the oracle is a plain dictionary."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tfx_cassandra.components.dataset.join import pivot
from tfx_cassandra.components.dataset.spec.view import FeatureView
from tfx_cassandra.components.errors import DatasetError
from tfx_cassandra.components.training_set import read as training_set

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


MANY = FeatureView(
    'v', 't', ('e',), 'ts', tuple(f'f{i}' for i in range(40)), layout='long', feature_name_column='name',
    value_column='value',
)  # fmt: skip


def many(keys_: int) -> pa.RecordBatch:
    """Rows of so many entities and 10 features each, those of an entity far from one another."""
    rows = [(f'user {k}', k % 5, f'f{(k + 4 * n) % 40}', float(k * 100 + n)) for n in range(10) for k in range(keys_)]
    columns = zip(*rows, strict=True)
    kinds = (pa.string(), pa.timestamp('ms', 'UTC'), pa.string(), pa.float64())
    arrays = [pa.array(column, kind) for column, kind in zip(columns, kinds, strict=True)]
    return pa.RecordBatch.from_arrays(arrays, ['e', 'ts', 'name', 'value'])


@pytest.mark.parametrize('bounds', [{'_PIVOT_CELLS': 40 * 300}, {'_PIVOT_BYTES': 5000}, {}])
def test_a_shard_is_pivoted_in_pieces_that_are_bounded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bounds: dict[str, int]
) -> None:
    rows, held, real = many(500), [], pivot.pivot

    def watched(batches: list[pa.RecordBatch], view: FeatureView) -> pa.RecordBatch:
        held.append((sum(batch.num_rows for batch in batches), sum(batch.nbytes for batch in batches)))
        return real(batches, view)

    monkeypatch.setattr(training_set.pivot, 'pivot', watched)
    monkeypatch.setattr(training_set, '_PIVOT_SHARDS', 8)
    for name, value in bounds.items():
        monkeypatch.setattr(training_set, name, value)
    pages = [rows.slice(start, 50) for start in range(0, rows.num_rows, 50)]
    made = list(training_set._pivot(pages, MANY, str(tmp_path)))
    expected = {row['e']: row for row in real([rows], MANY).to_pylist()}
    got = [row for batch in made for row in batch.to_pylist()]
    assert len(got) == len(expected) == 500
    assert {row['e']: row for row in got} == expected
    most_rows, most_bytes = map(max, zip(*held, strict=True))
    assert sum(number for number, _ in held) == rows.num_rows
    if '_PIVOT_CELLS' in bounds:
        assert most_rows <= 300
    if '_PIVOT_BYTES' in bounds:
        assert most_bytes <= 5000
    assert (len(held) == 1) == (not bounds)


def test_a_row_that_comes_without_end_is_still_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training_set, '_PIVOT_CELLS', 40 * 10)
    pages = [many(1).slice(0, 1)] * 50
    with pytest.raises(DatasetError, match=r"got {'e': 'user 0', 'ts': 0, 'name': 'f0'} more than once, rule: one row"):
        list(training_set._pivot(pages, MANY, str(tmp_path)))
