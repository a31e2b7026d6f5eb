"""Columns as tensors, against the values that Arrow itself gives row by row."""

from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

torch = pytest.importorskip('torch', reason='needs the extra torch (tools/torch)')

from tfx_cassandra.components.errors import DatasetError
from tfx_cassandra.components.torch.tensors import Ragged, TensorOptions, tensors

VECTOR, LIST = pa.list_(pa.float32(), 3), pa.list_(pa.int64())


def one(array: pa.Array, decimals: tuple[str, ...] = (), required: tuple[str, ...] = (), **options: Any) -> Any:
    found = tensors(pa.RecordBatch.from_arrays([array], ['c']), TensorOptions(**options), required, decimals)
    return found if len(found) > 1 else found['c']


@pytest.mark.parametrize(
    ('array', 'dtype', 'values'),
    [
        (pa.array([1, -2], pa.int8()), torch.int8, [1, -2]),
        (pa.array([1, 2**40], pa.int64()), torch.int64, [1, 2**40]),
        (pa.array([True, False, True]), torch.bool, [True, False, True]),
        (pa.array([0.5, 2.0], pa.float32()), torch.float32, [0.5, 2.0]),
        (pa.array([0.1, 2.0], pa.float64()), torch.float64, [0.1, 2.0]),
        (pa.array([5, -7], pa.timestamp('ms', 'UTC')), torch.int64, [5, -7]),
        (pa.array([5, -7], pa.date32()), torch.int32, [5, -7]),
        (pa.array([5, 7], pa.time64('ns')), torch.int64, [5, 7]),
        (pa.array([[1, 2, 3], [4, 5, 6]], VECTOR), torch.float32, [[1, 2, 3], [4, 5, 6]]),
        (pa.array([], pa.int64()), torch.int64, []),
        (pa.array(['a', 'a']).dictionary_encode().indices, torch.int32, [0, 0]),
    ],
    ids=str,
)
def test_a_column_without_nulls(array: pa.Array, dtype: torch.dtype, values: list) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        found = one(array)
    assert (found.dtype, found.tolist()) == (dtype, values)
    padded = pa.concat_arrays([array, array, array])
    assert one(padded.slice(len(array), len(array))).tolist() == values
    if len(found):
        found[0] = found[-1]  # it may be written


def test_numbers_are_not_copied() -> None:
    array = pa.array([1.0, 2.0])
    address = array.buffers()[1].address
    assert one(array).data_ptr() == address
    assert one(array.slice(1)).data_ptr() == address + 8
    vectors = pa.array([[1, 2, 3], [4, 5, 6]], VECTOR)
    assert one(vectors).data_ptr() == vectors.values.buffers()[1].address


def test_nulls_as_nan() -> None:
    assert [math.isnan(v) for v in one(pa.array([None, 1.0], pa.float32())).tolist()] == [True, False]
    assert one(pa.array(['a', None])).tolist() == ['a', None]
    assert one(pa.array([b'a', None])).tolist() == [b'a', None]
    vectors = one(pa.array([[1, 2, 3], None], VECTOR))
    assert vectors.shape == (2, 3)
    assert vectors.isnan().tolist() == [[False] * 3, [True] * 3]
    with pytest.raises(DatasetError, match=r"^column c: got 1 nulls in int64, rule: none in .* or nulls='mask'$"):
        one(pa.array([1, None]))
    with pytest.raises(DatasetError, match=r'^column c: got 1 nulls in bool, rule: '):
        one(pa.array([True, None]))


def test_nulls_with_a_mask() -> None:
    for array in (
        pa.array([7, None]),
        pa.array(['x', None]),
        pa.array([[1], None]),
        pa.array([[1, 2, 3], None], VECTOR),
    ):
        found = one(array, nulls='mask')
        assert list(found) == ['c', 'c.valid']
        assert found['c.valid'].tolist() == [True, False]
    assert one(pa.array([7, None]), nulls='mask')['c'].tolist() == [7, 0]
    assert one(pa.array([7, 8]), nulls='mask')['c.valid'].tolist() == [True, True]
    assert one(pa.array([7, 8]), nulls='mask', required=('c',)).tolist() == [7, 8]
    batch = pa.RecordBatch.from_arrays([pa.array([1]), pa.array([True])], ['c', 'c.valid'])
    with pytest.raises(DatasetError, match=r'^column c\.valid: '):
        tensors(batch, TensorOptions('mask'))


def test_nulls_filled() -> None:
    assert one(pa.array([1, None]), fill={'c': 9}).tolist() == [1, 9]
    assert one(pa.array(['a', None]), fill={'c': '?'}).tolist() == ['a', '?']
    assert one(pa.array([[1, 2, 3], None], VECTOR), fill={'c': 5}).tolist() == [[1, 2, 3], [5, 5, 5]]
    with pytest.raises(DatasetError, match=r'^column c: '):
        one(pa.array([1, None]), fill={'c': 'x'})


def test_lists_are_ragged_or_padded() -> None:
    lists = pa.array([[1, 2], None, [], [3]], LIST)
    for array in (lists, pa.concat_arrays([lists, lists, lists]).slice(4, 4)):
        found = one(array)
        assert isinstance(found, Ragged)
        assert (found.values.tolist(), found.offsets.tolist()) == ([1, 2, 3], [0, 2, 2, 2, 3])
        assert one(array, pad={'c': 3}).tolist() == [[1, 2, 0], [0, 0, 0], [0, 0, 0], [3, 0, 0]]
        assert one(array, pad={'c': 2}, fill={'c': -1}).tolist() == [[1, 2], [-1, -1], [-1, -1], [3, -1]]
    texts = pa.array([['a', 'b'], None, ['c']])
    assert one(texts).values.tolist() == ['a', 'b', 'c']
    assert one(texts, pad={'c': 2}).tolist() == [['a', 'b'], [None, None], ['c', None]]
    with pytest.raises(DatasetError, match=r'^column c: got a list of 2 values, rule: at most 1, as pad says$'):
        one(lists, pad={'c': 1})
    with pytest.raises(DatasetError, match=r'^column c: got pad 3 for int64, rule: a column of lists$'):
        one(pa.array([1]), pad={'c': 3})


def test_decimals_are_numbers() -> None:
    assert one(pa.array(['1.5', None, '-1E+3']), decimals=('c',))[[0, 2]].tolist() == [1.5, -1000.0]


@pytest.mark.parametrize('kind', [pa.map_(pa.string(), pa.int32()), pa.struct([('x', pa.int32())]), pa.list_(LIST)])
def test_a_column_without_a_form(kind: pa.DataType) -> None:
    with pytest.raises(DatasetError, match=r'^column c: got .*, rule: numbers, times, texts, lists or vectors'):
        one(pa.array([None], kind) if not pa.types.is_list(kind) else pa.array([[[1]]], kind))


def test_options_are_checked() -> None:
    with pytest.raises(ValueError, match=r'^pad of c: got 0, rule: '):
        TensorOptions(pad={'c': 0})
    with pytest.raises(ValueError, match=r'^nulls: got '):
        TensorOptions(nulls='zero')  # type: ignore[arg-type]


def test_a_tensor_outlives_its_batch() -> None:
    def made() -> torch.Tensor:
        return one(pa.array(np.arange(10**6)).slice(10, 10**5))

    kept = [made() for _ in range(20)]
    assert all(int(tensor[0]) == 10 and int(tensor[-1]) == 10**5 + 9 for tensor in kept)
