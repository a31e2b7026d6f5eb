"""Packed batches: the same values, in one piece of memory."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip('torch', reason='needs the extra torch (tools/torch)')

from tfx_cassandra.components.torch.packing import packed
from tfx_cassandra.components.torch.tensors import Ragged

BATCH = {
    'bool': torch.tensor([True, False, True]),
    'small': torch.tensor([1, 2, 3], dtype=torch.int8),
    'double': torch.tensor([0.5, float('nan'), 2.0], dtype=torch.float64),
    'vector': torch.arange(6, dtype=torch.float32).reshape(3, 2),
    'text': np.array(['a', None, 'b'], object),
    'list': Ragged(torch.tensor([7, 8], dtype=torch.int32), torch.tensor([0, 1, 1, 2])),
    'texts': Ragged(np.array(['x', 'y'], object), torch.tensor([0, 2, 2, 2])),
    'no lists': Ragged(torch.empty(0, dtype=torch.int16), torch.zeros(4, dtype=torch.int64)),
}


def parts(batch):
    return [part for value in batch.values() for part in (value if isinstance(value, Ragged) else (value,))]


def test_values_types_and_shapes_stay() -> None:
    found = packed(BATCH)
    assert list(found) == list(BATCH)
    assert [type(value) for value in found.values()] == [type(value) for value in BATCH.values()]
    for one, other in zip(parts(found), parts(BATCH), strict=True):
        if isinstance(one, torch.Tensor):
            assert (one.dtype, one.shape) == (other.dtype, other.shape)
            assert torch.equal(one.nan_to_num(), other.nan_to_num())
        else:
            assert one is other


def test_all_tensors_share_one_memory_and_none_overlaps() -> None:
    found = [part for part in parts(packed(BATCH)) if isinstance(part, torch.Tensor)]
    assert len({part.untyped_storage().data_ptr() for part in found}) == 1
    before = [part.clone() for part in found]
    for i, part in enumerate(found):
        part.zero_()
        for other, was in list(zip(found, before, strict=True))[i + 1 :]:
            assert torch.equal(other.nan_to_num(), was.nan_to_num())


@pytest.mark.parametrize('batch', [{}, {'x': torch.empty(0)}, {'text': np.array(['a'], object)}])
def test_little_or_nothing(batch) -> None:
    found = packed(batch)
    assert list(found) == list(batch)
    assert all(np.array_equal(one, other) for one, other in zip(parts(found), parts(batch), strict=True))
