"""Rows that were read together: a batch of tensors that a DataLoader may also take apart row by row."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal

import pyarrow as pa
from torch.utils.data import default_collate

from tfx_cassandra.components.checks import conform
from tfx_cassandra.components.cql.types import Decoding
from tfx_cassandra.components.driver.connection import Consistency
from tfx_cassandra.components.errors import invalid
from tfx_cassandra.components.torch.tensors import Ragged, TensorOptions, tensors


@dataclasses.dataclass(frozen=True)
class RowOptions:
    """How rows are read and become tensors; the keyword arguments that all map-style datasets have.

    Attributes:
      consistency: Consistency level of the reads.
      nulls, fill, pad: See `tensors.TensorOptions`.
      transform: Record batch -> record batch, applied to the rows that are read together.
      invalid_text, wide_varints: As of ReadFromCassandra.
    """

    consistency: Consistency = 'LOCAL_QUORUM'
    nulls: Literal['nan', 'mask'] = 'nan'
    fill: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    pad: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    transform: Callable[[pa.RecordBatch], pa.RecordBatch] | None = None
    invalid_text: Literal['error', 'replace'] = 'error'
    wide_varints: Literal['error', 'text'] = 'error'

    def __post_init__(self) -> None:
        conform('consistency', self.consistency, Consistency)
        if self.transform is not None and not callable(self.transform):
            raise invalid('transform', self.transform, 'a function of a record batch')
        _ = self.tensors, self.decoding  # checks them

    @property
    def tensors(self) -> TensorOptions:
        return TensorOptions(self.nulls, self.fill, self.pad)

    @property
    def decoding(self) -> Decoding:
        return Decoding(self.invalid_text, self.wide_varints)


class Rows(Sequence[dict[str, Any]]):
    """A batch whose items are its rows.

    Attributes:
      batch: Column name -> values of all rows; see tensors.py.
    """

    def __init__(self, batch: Mapping[str, Any], count: int) -> None:
        self.batch, self._count = dict(batch), count

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: Any) -> Any:
        if not -self._count <= index < self._count:
            raise IndexError(index)
        row = index % self._count
        return {name: _cell(values, row) for name, values in self.batch.items()}

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return (self[row] for row in range(self._count))


def collate(rows: Sequence[Any]) -> Any:
    """Returns the batch of rows that were read together; the `collate_fn` that saves taking them apart."""
    return rows.batch if isinstance(rows, Rows) else default_collate(list(rows))


def _cell(values: Any, row: int) -> Any:
    if isinstance(values, Ragged):
        return values.values[int(values.offsets[row]) : int(values.offsets[row + 1])]
    return values[row]


def rows_of(batch: pa.RecordBatch, options: RowOptions, required: Sequence[str], decimals: Sequence[str]) -> Rows:
    """Converts a record batch; see `tensors.tensors`."""
    count = batch.num_rows
    if options.transform is not None:
        batch = options.transform(batch)
    return Rows(tensors(batch, options.tensors, required, decimals), count)


def empty(schema: pa.Schema) -> pa.RecordBatch:
    """Returns a batch without rows."""
    return pa.RecordBatch.from_arrays([pa.array([], field.type) for field in schema], schema=schema)
