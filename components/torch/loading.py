"""How an epoch is read, batched and shuffled."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal

import pyarrow as pa

from tfx_cassandra.components.checks import Count, Int64, Name, Rule, check_fields
from tfx_cassandra.components.errors import invalid
from tfx_cassandra.components.torch.shares import Reader
from tfx_cassandra.components.torch.tensors import TensorOptions

Number = Annotated[int, Rule('an integer of at least 0', lambda number: 0 <= number < 2**63)]


@dataclasses.dataclass(frozen=True)
class Loading:
    """How an epoch is read, batched and shuffled; the keyword arguments that all iterable datasets have.

    Attributes:
      batch_rows: Rows of a batch; the last one of each reader has fewer.
      shuffle_rows: Rows that a reader holds and permutes together; 0 keeps the rows of the units in turn.
      shuffle: Whether the order of the units, and of rows where shuffle_rows is set, depends on seed and epoch.
      seed: Of the order.
      prefetch: Units that a reader reads at once; of each, it holds a page and has requested the next. Of as many more
        it has requested the first page.
      drop_last: Whether to drop the last batch of a reader if it is smaller than batch_rows.
      nulls, fill, pad: How nulls and lists become tensors; see `tensors.TensorOptions`.
      transform: Record batch -> record batch, applied to each batch before it becomes tensors.
      rank, world_size: The distributed process; None for that of torch.distributed where it is initialized, else that
        of the variables RANK and WORLD_SIZE, else a single one.
      ledger: Folder for the records of finished shares, for all ranks of one run; None for a temporary one, which only
        the workers of this process share.

    Raises:
      ValueError: A field breaks its rule; the message names field, value and rule.
    """

    batch_rows: Count = 1024
    shuffle_rows: Number = 0
    shuffle: bool = True
    seed: Int64 = 0
    prefetch: Count = 8
    drop_last: bool = False
    nulls: Literal['nan', 'mask'] = 'nan'
    fill: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    pad: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    transform: Callable[[pa.RecordBatch], pa.RecordBatch] | None = None
    rank: Number | None = None
    world_size: Count | None = None
    ledger: Name | None = None

    def __post_init__(self) -> None:
        transform = self.transform
        if transform is not None and not callable(transform):
            raise invalid('transform', transform, 'a function of a record batch')
        object.__setattr__(self, 'transform', None)  # no hint tells a function
        check_fields(self)
        object.__setattr__(self, 'transform', transform)
        if (self.rank is None) != (self.world_size is None):
            raise invalid('rank', self.rank, 'given together with world_size')
        if self.rank is not None and self.world_size is not None:
            Reader(self.rank, self.world_size)
        self.tensors  # noqa: B018  # checks them

    @property
    def tensors(self) -> TensorOptions:
        """How columns become tensors."""
        return TensorOptions(self.nulls, self.fill, self.pad)
