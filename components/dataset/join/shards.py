"""Cuts a point-in-time join into shards of bounded size: by a hash of the entity, and large ones by time.

    count   every batch of spine and facts -> number of rows by (bucket of entities, bin of time)
    plan    the sum of these -> shards: neighbouring buckets are combined, up to a number of rows;
            a larger bucket, such as that of a hot entity, is cut into several ranges of time
    route   every batch again -> its rows for each shard

Besides its own facts a range of time needs, for each feature and entity, the newest facts from before it began: one, or
as many as an example's history holds. Every batch sends its own newest ones. Facts that are older than those of another
batch do no harm, since the join uses the newest.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

from tfx_cassandra.components.dataset.join.facts import entity_arrays, microseconds, written_together
from tfx_cassandra.components.dataset.join.keys import Keys, numbered, ordered
from tfx_cassandra.components.dataset.spec.view import FeatureView
from tfx_cassandra.components.window import TimeWindow

BUCKETS, BINS = 256, 64
SHARD_ROWS = 250_000  # of spine and facts together, which one worker holds in memory
ROW_BYTES = 1024  # a row of n times as many bytes counts as n rows
_BEGINNING, _END = -(2**63), 2**63 - 1


class Shard(NamedTuple):
    """A part of a join: entities of some buckets, and spine times `[start, end)` in microseconds since 1970."""

    first_bucket: int
    start: int
    end: int


@dataclasses.dataclass(frozen=True)
class Shards:
    """All shards of a join.

    Attributes:
      window: The window of the spine's times.
      of_bucket: The shards of each bucket, in order of time; combined buckets have the same one.
    """

    window: TimeWindow
    of_bucket: tuple[tuple[Shard, ...], ...]

    @property
    def all(self) -> list[Shard]:
        """Each shard once."""
        return list(dict.fromkeys(shard for shards in self.of_bucket for shard in shards))


def count_spine(
    batch: pa.RecordBatch, view: FeatureView, timestamp_column: str, window: TimeWindow, added: int = 0
) -> NDArray[np.int64]:  # (BUCKETS, BINS)
    """Counts rows of a spine by bucket and time; `added` is the number of bytes that the join adds to a row."""
    time = microseconds(_array(batch, timestamp_column))
    return _count(batch, _buckets(entity_arrays(batch, view.spine_columns)), time, window, added)


def count_facts(batch: pa.RecordBatch, view: FeatureView, window: TimeWindow) -> NDArray[np.int64]:  # (BUCKETS, BINS)
    """Counts facts by bucket and event time; those from before the window count in its first bin."""
    return _count(batch, _buckets(_entity(batch, view)), _array(batch, 'event'), window, 0)


def plan(counts: NDArray[np.int64], window: TimeWindow, shard_rows: int = SHARD_ROWS) -> Shards:
    """Cuts a join into shards of about `shard_rows` rows.

    Args:
      counts: Rows of spine and facts, of shape (BUCKETS, BINS).
      window: The window that the bins divide evenly.
      shard_rows: Maximum rows of a shard; a single bin of a single bucket may exceed it.
    """
    edges = _edges(window)
    of_bucket: list[tuple[Shard, ...]] = []
    rows, first = 0, 0
    for bucket, in_bucket in enumerate(counts.sum(axis=1)):
        if in_bucket > shard_rows:
            of_bucket.append(_by_time(bucket, counts[bucket], edges, shard_rows))
            rows, first = 0, bucket + 1
            continue
        if rows + in_bucket > shard_rows:
            rows, first = 0, bucket
        rows += in_bucket
        of_bucket.append((Shard(first, _BEGINNING, _END),))
    return Shards(window, tuple(of_bucket))


def route_spine(
    batch: pa.RecordBatch, view: FeatureView, timestamp_column: str, shards: Shards
) -> Iterator[tuple[Shard, pa.RecordBatch]]:
    """Yields each shard's rows of a batch of the spine: every row goes to exactly one shard."""
    buckets = _buckets(entity_arrays(batch, view.spine_columns))
    time = microseconds(_array(batch, timestamp_column)).to_numpy()
    for bucket_shards, mask in _rows_by_shards(buckets, shards):
        for shard in bucket_shards:
            several = len(bucket_shards) > 1
            rows = np.flatnonzero(mask & (time >= shard.start) & (time < shard.end) if several else mask)
            if len(rows):
                yield shard, batch.take(pa.array(rows))


def route_facts(
    batch: pa.RecordBatch, view: FeatureView, shards: Shards, cut_off: bool, history: int | None = None
) -> Iterator[tuple[Shard, pa.RecordBatch]]:
    """Yields each shard's facts of a batch: a fact goes to every shard whose result, or history, it may affect."""
    for bucket_shards, mask in _rows_by_shards(_buckets(_entity(batch, view)), shards):
        part = batch.take(pa.array(np.flatnonzero(mask)))
        if len(bucket_shards) == 1:
            yield bucket_shards[0], part
            continue
        needed = _needed_facts(part, view, bucket_shards, cut_off, history or 1)
        for shard, wanted in zip(bucket_shards, needed.T, strict=True):
            if wanted.any():
                yield shard, part.take(pa.array(np.flatnonzero(wanted)))


def _needed_facts(
    batch: pa.RecordBatch, view: FeatureView, bucket_shards: tuple[Shard, ...], cut_off: bool, history: int
) -> NDArray[np.bool_]:  # (rows, shards)
    """Says for each shard of a bucket which facts it needs.

    These are the facts that happen or become known in its range of time, and the newest ones from before it began.
    """
    starts = np.array([shard.start for shard in bucket_shards])
    owners = _entity(batch, view) + ([_array(batch, 'name')] if view.feature_name_column else [])
    owner, event = numbered(owners), _array(batch, 'event').to_numpy()
    by_event = Keys(batch.num_rows, [-event]).of(owner, -event)  # by owner, newest first
    wanted = np.zeros((batch.num_rows, len(bucket_shards)), bool)
    number = np.arange(len(bucket_shards))
    for written in written_together(batch, view):
        rows = np.flatnonzero(written.present)
        created = written.created.fill_null(_BEGINNING + 1).to_numpy()[rows]
        newest_first = ordered(by_event[rows], -created)
        rows, created = rows[newest_first], created[newest_first]
        moment = event[rows]
        # By event time one fact is enough: it only explains why there is no value.
        for since, count in [(np.maximum(moment, created), history), (moment, 1)] if cut_off else [(moment, history)]:
            first = np.searchsorted(starts, since, side='right') - 1
            last = np.maximum(first, _last_shard(owner[rows], moment, created, first, len(starts) - 1, count))
            wanted[rows] |= (number >= first[:, None]) & (number <= last[:, None])
    return wanted


def _last_shard(
    owner: NDArray[np.int64], event: NDArray[np.int64], created: NDArray[np.int64], known: NDArray[np.int64],
    end: int, count: int,
) -> NDArray[np.int64]:  # fmt: skip
    """Returns the last shard at whose start a fact is one of its owner's newest.

    Args:
      owner, event, created: Of facts, sorted by owner, and newest first.
      known: The shard in which each becomes known.
      end: The last shard.
      count: Of an owner's event times, how many count, with the facts that were created last. Ties all count: the join
        breaks them.
    """
    new_moment = (np.diff(owner, prepend=-1) != 0) | (np.diff(event, prepend=event[:1]) != 0)
    new_version = new_moment | (np.diff(created, prepend=created[:1]) != 0)
    moments, versions = np.flatnonzero(new_moment), np.flatnonzero(new_version)
    if not len(moments):
        return known
    moment = np.cumsum(new_moment) - 1
    # A fact is replaced by another version of the same event time, or by as many newer event times as count.
    newer = _smallest_before(np.minimum.reduceat(known, moments), owner[moments], end, count)
    replaced = _smallest_before(np.minimum.reduceat(known, versions), moment[versions], end, 1)
    last: NDArray[np.int64] = np.minimum(newer[moment], replaced[np.cumsum(new_version) - 1])
    return last


def _smallest_before(values: NDArray[np.int64], group: NDArray[np.int64], most: int, count: int) -> NDArray[np.int64]:
    """Returns of each value the count-th smallest of those before it in its group, `most` where they are fewer.

    Args:
      values: Integers from 0 to `most`.
      group: Of each value; neighbours, in ascending order.
      most: The largest value.
      count: From 1.
    """
    base = -group * (most + 1)  # so that the values of each group are below those of the groups before it
    starts, values = np.diff(group, prepend=-1) != 0, values + base
    for number in range(count):
        before = np.roll(np.minimum.accumulate(values), 1)
        before[starts] = base[starts] + most
        if number < count - 1:
            values = np.maximum(before, values)  # without the smallest
    return before - base


def _by_time(bucket: int, in_bins: NDArray[np.int64], edges: NDArray[np.int64], shard_rows: int) -> tuple[Shard, ...]:
    starts, rows = [_BEGINNING], 0
    for edge, in_bin in zip(edges, in_bins, strict=True):
        if in_bin and rows and rows + in_bin > shard_rows:
            starts.append(int(edge))
            rows = 0
        rows += in_bin
    return tuple(Shard(bucket, start, end) for start, end in zip(starts, [*starts[1:], _END], strict=True))


def _rows_by_shards(
    buckets: NDArray[np.int64], shards: Shards
) -> Iterator[tuple[tuple[Shard, ...], NDArray[np.bool_]]]:
    """Yields (shards, mask of the rows that belong to these) for the buckets that occur."""
    numbers: dict[tuple[Shard, ...], int] = {}
    number_of_bucket = np.array([numbers.setdefault(group, len(numbers)) for group in shards.of_bucket])
    number_of_row = number_of_bucket[buckets]
    for group, number in numbers.items():
        mask = number_of_row == number
        if mask.any():
            yield group, mask


def _count(
    batch: pa.RecordBatch, buckets: NDArray[np.int64], time: pa.Array, window: TimeWindow, added: int
) -> NDArray[np.int64]:
    bins = np.clip(np.searchsorted(_edges(window), time.to_numpy(), side='right') - 1, 0, BINS - 1)
    rows = np.bincount(buckets * BINS + bins, minlength=BUCKETS * BINS).reshape(BUCKETS, BINS)
    # A wide row counts as several rows, since a worker's memory is bounded in bytes.
    weighted: NDArray[np.int64] = rows * max(1, (batch.nbytes // max(1, batch.num_rows) + added) // ROW_BYTES)
    return weighted


def _edges(window: TimeWindow) -> NDArray[np.int64]:
    """Returns where each bin starts, in microseconds since 1970."""
    start, end = (1000 * bound for bound in window.bounds)
    # Python's integers, since 64 times a window of thousands of years overflows 64 bits.
    return np.array([start + (end - start) * number // BINS for number in range(BINS)])


def _entity(batch: pa.RecordBatch, view: FeatureView) -> list[pa.Array]:
    return [_array(batch, f'entity {i}') for i in range(len(view.entity_columns))]


def _array(batch: pa.RecordBatch, name: str) -> pa.Array:
    return batch.column(batch.schema.get_field_index(name))


def _buckets(entity: list[pa.Array]) -> NDArray[np.int64]:
    """Returns each row's bucket by a hash of its entity, which is the same for spine and facts."""
    keys = pl.DataFrame([pl.Series(str(i), pl.from_arrow(array)) for i, array in enumerate(entity)])
    # Polars guarantees equal hashes within one version, and all workers of a pipeline run the same version.
    buckets: NDArray[np.int64] = (keys.hash_rows(seed=0).to_numpy() % BUCKETS).astype(np.int64)
    return buckets


__all__ = ['SHARD_ROWS', 'Shard', 'Shards', 'count_facts', 'count_spine', 'plan', 'route_facts', 'route_spine']
