"""Record batches -> tensors, column by column, without a loop over rows.

| Arrow (CQL) | in the batch |
|---|---|
| integers, booleans, floats | tensor of the same type, shape (rows) |
| timestamp, date, time | int64 ms since 1970, int32 days since 1970, int64 ns since midnight, shape (rows) |
| text of a CQL decimal | float64 tensor, shape (rows) |
| other text, uuid, inet, blob | numpy array of str or bytes objects, shape (rows); None for null |
| list, set | `Ragged`, or with `pad` a tensor of shape (rows, length) |
| vector | tensor of shape (rows, length) |
| map, tuple, user-defined type | an error: a transform may replace them |
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping
from typing import Any, Literal, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from numpy.typing import NDArray

from tfx_cassandra.components.checks import check_fields
from tfx_cassandra.components.errors import DatasetError, invalid

VALID = '.valid'  # behind a column's name: which of its values are not null


class Ragged(NamedTuple):
    """Lists of different lengths: row i has `values[offsets[i]:offsets[i + 1]]`.

    Attributes:
      values: All elements, shape (elements); a tensor, or a numpy array of texts.
      offsets: int64 tensor of shape (rows + 1), from 0.
    """

    values: Any
    offsets: torch.Tensor


@dataclasses.dataclass(frozen=True)
class TensorOptions:
    """How columns become tensors.

    Attributes:
      nulls: 'nan': null is NaN in floats and vectors, None in texts, an empty list, and an error in integers and
        booleans. 'mask': null is 0, NaN, False, None or an empty list, and each column that may hold nulls has a
        boolean tensor `NAME.valid` beside it, False where it is null.
      fill: Column -> the value in place of null.
      pad: Column of lists -> the length to which they are padded, by the column's `fill` or 0; a longer one is an
        error.
    """

    nulls: Literal['nan', 'mask'] = 'nan'
    fill: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    pad: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        check_fields(self)
        for column, length in self.pad.items():
            if not isinstance(length, int) or not 0 < length < 2**31:
                raise invalid(f'pad of {column}', length, 'an integer of at least 1')


def tensors(
    batch: pa.RecordBatch, options: TensorOptions, required: Collection[str] = (), decimals: Collection[str] = ()
) -> dict[str, Any]:
    """Converts a record batch.

    Args:
      batch: The rows.
      options: How nulls and lists are represented.
      required: Columns that hold no nulls, and get no mask.
      decimals: Columns of text that hold decimals.

    Returns:
      Column name -> tensor, numpy array of objects, or Ragged.

    Raises:
      DatasetError: A column, or a value in it, has no such form; the message names it.
    """
    found: dict[str, Any] = {}
    for name, array in zip(batch.schema.names, batch.columns, strict=True):
        try:
            found[name] = _column(array, options.fill.get(name), options.pad.get(name), options.nulls, name in decimals)
        except (DatasetError, pa.ArrowException, TypeError, OverflowError) as error:
            raise DatasetError(f'column {name}: {error}') from error
        if options.nulls == 'mask' and name not in required:
            if name + VALID in batch.schema.names:
                raise DatasetError(f'column {name}{VALID}: got a column with the name of a mask, rule: another name')
            found[name + VALID] = torch.from_numpy(writable(array.is_valid()))
    return found


def _column(array: pa.Array, fill: Any, pad: int | None, nulls: str, is_decimal: bool) -> Any:
    kind = array.type
    if pa.types.is_list(kind):
        return _lists(array, fill, pad, nulls)
    if pad is not None:
        raise DatasetError(f'got pad {pad} for {kind}, rule: a column of lists')
    if pa.types.is_fixed_size_list(kind):
        return _vectors(array, fill)
    if is_decimal:
        array = array.cast(pa.float64())
    if fill is not None and array.null_count:
        array = array.fill_null(pa.scalar(fill, array.type))
    return _scalars(array, nulls)


def _scalars(array: pa.Array, nulls: str) -> Any:
    """Returns scalars as a tensor, or texts as numpy objects."""
    kind = array.type
    if pa.types.is_string(kind) or pa.types.is_binary(kind):
        return array.to_numpy(zero_copy_only=False)
    if pa.types.is_dictionary(kind):
        return _scalars(array.dictionary_decode(), nulls)
    if pa.types.is_temporal(kind):
        array = array.cast(pa.int32() if kind.bit_width == 32 else pa.int64())
    elif not (pa.types.is_integer(kind) or pa.types.is_boolean(kind) or pa.types.is_floating(kind)):
        raise DatasetError(f'got {kind}, rule: numbers, times, texts, lists or vectors (use columns or a transform)')
    if array.null_count and pa.types.is_floating(array.type):
        array = array.fill_null(float('nan'))
    elif array.null_count:
        if nulls == 'nan':
            rule = "none in integers and booleans, or fill, or nulls='mask'"
            raise DatasetError(f'got {array.null_count} nulls in {kind}, rule: {rule}')
        array = array.fill_null(pa.scalar(0).cast(array.type))
    return torch.from_numpy(writable(array))


def _lists(array: pa.ListArray, fill: Any, pad: int | None, nulls: str) -> Any:
    lengths = writable(pc.list_value_length(array).fill_null(0)).astype(np.int64)  # (rows)
    values = _scalars(array.flatten(), nulls)
    offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)])  # (rows + 1)
    if pad is None:
        return Ragged(values, torch.from_numpy(offsets))
    if len(lengths) and lengths.max() > pad:
        raise DatasetError(f'got a list of {lengths.max()} values, rule: at most {pad}, as pad says')
    places = np.arange(pad) < lengths[:, None]  # (rows, pad)
    if isinstance(values, np.ndarray):
        texts = np.full(places.shape, fill, object)
        texts[places] = values
        return texts
    padded = torch.full(places.shape, 0 if fill is None else fill, dtype=values.dtype)
    padded[torch.from_numpy(places)] = values
    return padded


def _vectors(array: pa.FixedSizeListArray, fill: Any) -> torch.Tensor:
    length = array.type.list_size
    values = _scalars(array.drop_null().flatten(), 'nan').reshape(-1, length)  # (rows that are not null, length)
    if not array.null_count:
        return values
    missing = (float('nan') if values.is_floating_point() else 0) if fill is None else fill
    padded = torch.full((len(array), length), missing, dtype=values.dtype)
    padded[torch.from_numpy(writable(array.is_valid()))] = values
    return padded


class _Memory:
    """The memory of an Arrow array, which it keeps alive, as numpy finds it."""

    def __init__(self, array: pa.Array, typestr: str, size: int) -> None:
        self._array = array
        address = array.buffers()[1].address + array.offset * size
        self.__array_interface__ = {'data': (address, False), 'shape': (len(array),), 'typestr': typestr, 'version': 3}


def writable(array: pa.Array) -> NDArray[Any]:
    """Returns numbers or booleans without nulls as numpy; numbers without a copy.

    Arrow's own conversion gives read-only arrays, which torch warns of, and imports pandas, which takes seconds.
    Nothing else refers to the memory of a batch here.
    """
    kind, count = array.type, len(array)
    if pa.types.is_boolean(kind):
        if not count:
            return np.zeros(0, bool)
        bits = np.unpackbits(np.frombuffer(array.buffers()[1], np.uint8), bitorder='little')
        return bits[array.offset : array.offset + count].astype(bool)
    size = kind.bit_width // 8
    typestr = f'<{"f" if pa.types.is_floating(kind) else "i"}{size}'
    return np.asarray(_Memory(array, typestr, size)) if count else np.zeros(0, typestr)
