"""Assigns examples to splits: by a hash as TFX's ExampleGen does, by the entity, or by the time; see `Splits`.

Whole batches are assigned at once.
"""

from __future__ import annotations

import bisect
import dataclasses
import datetime
import fractions
import hashlib
import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated

import numpy as np
import pyarrow as pa

from tfx_cassandra.components.checks import Name, Rule, check_fields
from tfx_cassandra.components.dataset.files.encode import Framed, encode
from tfx_cassandra.components.dataset.files.examples import Kind
from tfx_cassandra.components.errors import DatasetError, invalid
from tfx_cassandra.components.window import MICROSECOND, TimeWindow, shifted

NO_SPLIT = -1  # of an example that belongs to no split


@dataclasses.dataclass(frozen=True)
class HashSplits:
    """Named splits to which examples are assigned by a hash.

    The rule is that of TFX's `base_example_gen_executor._PartitionFn`: SHA-256 of the serialized example (or of one
    serialized feature), modulo the number of buckets; a split owns `buckets` consecutive ones.

    Attributes:
      buckets: (split name, number of buckets), in order.
      feature: Name of the feature to hash; None for the whole example.

    Raises:
      ValueError: There is no split, a name comes twice, or a split has no bucket.
    """

    buckets: tuple[tuple[Name, int], ...]
    feature: Name | None = None

    def __post_init__(self) -> None:
        check_fields(self)
        _check('output_config', self.buckets)

    @property
    def names(self) -> list[str]:
        """Names of the splits, in order."""
        return [name for name, _ in self.buckets]

    @property
    def ends(self) -> list[int]:
        """The bucket before which each split ends, in order; the last one is the number of buckets."""
        return _ends(self.buckets)

    def assign(self, examples: Iterable[bytes]) -> list[int]:
        """Returns the index into `names` of each serialized tf.Example: the reference implementation of encode.pyx.

        Raises:
          DatasetError: An example lacks the feature, or the feature holds floats.
        """
        ends = self.ends
        keys = examples if self.feature is None else map(self._key, examples)
        buckets = (int.from_bytes(hashlib.sha256(key).digest(), 'big') % ends[-1] for key in keys)
        return [bisect.bisect(ends, bucket) for bucket in buckets]

    def _key(self, example: bytes) -> bytes:
        from tensorflow.core.example import example_pb2  # takes all of TensorFlow along

        feature = example_pb2.Example.FromString(example).features.feature.get(self.feature)
        if feature is None or feature.WhichOneof('kind') not in ('bytes_list', 'int64_list'):
            rule = 'in every example, with text or integers'
            raise DatasetError(f'output_config.partition_feature_name: got {self.feature!r}, rule: {rule}')
        serialized: bytes = feature.SerializeToString(deterministic=True)
        return serialized


@dataclasses.dataclass(frozen=True)
class EntitySplits:
    """Named splits to which entities are assigned by a hash: all examples of an entity are in the same split.

    For an entity of one column the rule is that of HashSplits with this feature, as in TFX. For several columns it is
    the same rule, applied to a tf.Example of these columns only.

    Attributes:
      buckets: (split name, number of buckets), in order.
      columns: Names of the features that identify the entity.

    Raises:
      ValueError: There is no split or no column, a name comes twice, or a split has no bucket.
    """

    buckets: tuple[tuple[Name, int], ...]
    columns: Annotated[tuple[Name, ...], Rule('one or more names, each once', lambda c: 0 < len(c) == len(set(c)))]

    def __post_init__(self) -> None:
        check_fields(self)
        _check('buckets', self.buckets)

    @property
    def names(self) -> list[str]:
        """Names of the splits, in order."""
        return [name for name, _ in self.buckets]

    def assign(self, batch: pa.RecordBatch, kinds: Mapping[str, Kind]) -> pa.Int32Array:
        """Returns the index into `names` of each row's split.

        Args:
          batch: Rows, with the entity's columns among others.
          kinds: The tf.Example kind of each column.

        Raises:
          DatasetError: The batch lacks a column, or an entity column holds nulls or floats.
        """
        entity = pa.RecordBatch.from_arrays([_column(batch, name, 'columns') for name in self.columns], self.columns)
        for name, column in zip(self.columns, entity.columns, strict=True):
            if column.null_count or kinds[name] == 'float_list':
                raise DatasetError(f'columns: got {name!r}, rule: in every example, with text or integers')
        key = self.columns[0] if len(self.columns) == 1 else None
        return encode(entity, kinds, key).assign(_ends(self.buckets))


@dataclasses.dataclass(frozen=True)
class TimeSplits:
    """Named splits that follow each other in time, so that no split contains information about a later one.

    Split i holds times in `[start_i, start_(i+1) - gap)`; the last split ends with the window, without a gap. Examples
    in a gap are in no split, so that labels that become known within the gap do not overlap with the next split.

    Attributes:
      buckets: (split name, share of the window), in order: with shares 4 and 1 the second split starts after 4/5.
      column: Name of the feature that holds the time.
      gap: Time left out before each start except the first.
      starts: Start of each split except the first; empty to use the shares of the window.

    Raises:
      ValueError: There is no split, a name comes twice, a share is below 1, starts do not ascend or are not one fewer
        than the splits.
    """

    buckets: tuple[tuple[Name, int], ...]
    column: Name
    gap: datetime.timedelta = datetime.timedelta(0)
    starts: tuple[datetime.datetime, ...] = ()

    def __post_init__(self) -> None:
        check_fields(self)
        _check('buckets', self.buckets)
        if self.gap < datetime.timedelta(0):
            raise invalid('gap', self.gap, 'not below zero')
        if self.starts and len(self.starts) != len(self.buckets) - 1:
            raise invalid('starts', [str(start) for start in self.starts], 'one fewer than the splits')
        if any(a >= b for a, b in itertools.pairwise(self.starts)):
            raise invalid('starts', [str(start) for start in self.starts], 'ascending')

    @property
    def names(self) -> list[str]:
        """Names of the splits, in order."""
        return [name for name, _ in self.buckets]

    def windows(self, window: TimeWindow) -> list[TimeWindow]:
        """Returns the window of each split within a window.

        Raises:
          ValueError: A split would be empty.
        """
        *cuts, whole = _ends(self.buckets)
        length = (window.end - window.start) // MICROSECOND
        # Python's integers, since a length times a number of buckets may exceed the range of timedelta.
        shares = [round(fractions.Fraction(length * cut, whole)) * MICROSECOND for cut in cuts]
        starts = [window.start, *(self.starts or [window.start + share for share in shares])]
        ends = [*(shifted('gap', start, self.gap, -1) for start in starts[1:]), window.end]
        for name, start, end in zip(self.names, starts, ends, strict=True):
            if end <= start:
                raise invalid('starts', f'{start}/{end}', f'time for split {name} within {window}, less gap {self.gap}')
        return [TimeWindow(start, end) for start, end in zip(starts, ends, strict=True)]

    def assign(self, batch: pa.RecordBatch, window: TimeWindow) -> pa.Int32Array:
        """Returns the index into `names` of each row's split, or NO_SPLIT for a row in a gap or outside the window.

        Args:
          batch: Rows, with the time as a timestamp or as milliseconds since 1970.
          window: The whole window.

        Raises:
          DatasetError: The batch lacks the column, or a row has no time.
        """
        column = _column(batch, self.column, 'column')
        if column.null_count:
            raise DatasetError(f'column: got {self.column!r}, rule: in every example')
        if pa.types.is_timestamp(column.type):
            column = column.cast(pa.timestamp('ms', column.type.tz))
        times = column.cast(pa.int64()).to_numpy()
        windows = [split.bounds for split in self.windows(window)]
        splits = np.searchsorted([start for start, _ in windows], times, side='right') - 1
        ends = np.array([end for _, end in windows])
        return pa.array(np.where(times < ends[splits], splits, NO_SPLIT).astype(np.int32))


Splits = HashSplits | EntitySplits | TimeSplits


def key_of(splits: Splits) -> str | None:
    """Returns the key with which examples must be encoded for `assign`."""
    return splits.feature if isinstance(splits, HashSplits) else None


def assign(
    splits: Splits, batch: pa.RecordBatch, framed: Framed, kinds: Mapping[str, Kind], window: TimeWindow | None
) -> pa.Int32Array:
    """Returns each row's split; `framed` is the batch encoded, with the key of a HashSplits."""
    if isinstance(splits, HashSplits):
        return framed.assign(splits.ends)
    if isinstance(splits, EntitySplits):
        return splits.assign(batch, kinds)
    if window is None:
        raise invalid('window', window, 'given where splits are by time')
    return splits.assign(batch, window)


def _check(field: str, buckets: Sequence[tuple[str, int]]) -> None:
    names = [name for name, _ in buckets]
    if not buckets or len(set(names)) < len(buckets):
        raise invalid(field, names, 'one or more splits, each name once')
    if wrong := [name for name, count in buckets if not 1 <= count < 2**31]:
        raise invalid(field, wrong, 'hash_buckets of at least 1 and below 2^31 in every split')


def _ends(buckets: Sequence[tuple[str, int]]) -> list[int]:
    return list(itertools.accumulate(count for _, count in buckets))


def _column(batch: pa.RecordBatch, name: str, field: str) -> pa.Array:
    index = batch.schema.get_field_index(name)
    if index < 0:
        raise DatasetError(f'{field}: got {name!r}, rule: a column of the examples ({", ".join(batch.schema.names)})')
    return batch.column(index)
