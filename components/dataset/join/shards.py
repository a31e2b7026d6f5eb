"""How a point-in-time join is cut into shards of bounded size: by a hash of the entity, and large ones by time.

    count   every batch of spine and facts -> rows in each (bucket of entities, bin of time)
    plan    the sum of these -> shards: neighbouring buckets together, up to a number of rows;
            a bucket with more than that, such as that of a hot entity, alone, in several ranges of time
    route   every batch again -> its rows for each shard

A range of time needs, besides its own facts, of each feature and entity those that counted when it began: the newest,
or as many as an example's history holds. Every batch sends along the last ones it has: facts that turn out to be older
than another batch's do no harm, for the join takes the newest.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import polars as pl
import pyarrow as pa

from tfx_cassandra.components.dataset.join.facts import created_name, entity_arrays, microseconds, value_name
from tfx_cassandra.components.dataset.spec.view import FeatureView
from tfx_cassandra.components.window import TimeWindow

BUCKETS, BINS = 256, 64
SHARD_ROWS = 250_000  # about what one worker holds at once of a join; spine and facts together
ROW_BYTES = 1024  # of a row; one of n times as much counts as n rows
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
      window: Of the spine's times.
      of_bucket: The shards of each bucket, in order of time; buckets that go together have the same ones.
    """

    window: TimeWindow
    of_bucket: tuple[tuple[Shard, ...], ...]

    @property
    def all(self) -> list[Shard]:
        """Each shard once."""
        return list(dict.fromkeys(shard for shards in self.of_bucket for shard in shards))


def count_spine(
    batch: pa.RecordBatch, view: FeatureView, timestamp_column: str, window: TimeWindow, added: int = 0
) -> np.ndarray:  # (BUCKETS, BINS)
    """Counts rows of a spine by bucket and time; `added` is how many bytes the join adds to a row."""
    time = microseconds(_array(batch, timestamp_column))
    return _count(batch, _buckets(entity_arrays(batch, view.spine_columns)), time, window, added)


def count_facts(batch: pa.RecordBatch, view: FeatureView, window: TimeWindow) -> np.ndarray:  # (BUCKETS, BINS)
    """Counts facts by bucket and event time; those from before the window are of its first bin."""
    return _count(batch, _buckets(_entity(batch, view)), _array(batch, 'event'), window, 0)


def plan(counts: np.ndarray, window: TimeWindow, shard_rows: int = SHARD_ROWS) -> Shards:
    """Cuts a join into shards of about `shard_rows` rows.

    Args:
      counts: Rows of spine and facts, of shape (BUCKETS, BINS).
      window: The window the bins divide evenly.
      shard_rows: Rows of a shard; a single bin of a single bucket may have more.
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
    for alike, mask in _alike(buckets, shards):
        for shard in alike:
            rows = np.flatnonzero(mask & (time >= shard.start) & (time < shard.end) if len(alike) > 1 else mask)
            if len(rows):
                yield shard, batch.take(pa.array(rows))


def route_facts(
    batch: pa.RecordBatch, view: FeatureView, shards: Shards, cut_off: bool, history: int | None = None
) -> Iterator[tuple[Shard, pa.RecordBatch]]:
    """Yields each shard's facts of a batch: a fact goes to every shard whose result, or history, it may decide."""
    for alike, mask in _alike(_buckets(_entity(batch, view)), shards):
        part = batch.take(pa.array(np.flatnonzero(mask)))
        if len(alike) == 1:
            yield alike[0], part
            continue
        for shard, wanted in zip(alike, _deciding(part, view, alike, cut_off, history or 1).T, strict=True):
            if wanted.any():
                yield shard, part.take(pa.array(np.flatnonzero(wanted)))


def _deciding(
    batch: pa.RecordBatch, view: FeatureView, alike: tuple[Shard, ...], cut_off: bool, history: int
) -> np.ndarray:  # (rows, shards)
    """Tells for each shard of a bucket which rows become known or happen in its time, or counted when it began."""
    starts = np.array([shard.start for shard in alike])
    owners = _entity(batch, view) + ([_array(batch, 'name')] if view.feature_name_column else [])
    owner, event = _numbered(owners), _array(batch, 'event').to_numpy()
    wanted = np.zeros((batch.num_rows, len(alike)), bool)
    # All features of a long view stand in one column, which `name` parts.
    for feature in view.full_features[: 1 if view.feature_name_column else None]:
        rows = np.flatnonzero(_array(batch, value_name(view, feature)).is_valid().to_numpy(zero_copy_only=False))
        created = _array(batch, created_name(view, feature)).fill_null(_BEGINNING).to_numpy()
        # By event the newest is enough: it only tells why there is no value.
        for from_, count in [(np.maximum(event, created), history), (event, 1)] if cut_off else [(event, history)]:
            shard = np.searchsorted(starts, from_[rows], side='right') - 1
            carried = rows[:0]
            for number in range(len(alike)):
                own = rows[shard == number]
                wanted[own, number] = wanted[carried, number] = True
                if len(own):
                    known = np.concatenate([carried, own])
                    carried = known[_newest(owner[known], event[known], created[known], count)]
    return wanted


def _newest(owner: np.ndarray, event: np.ndarray, created: np.ndarray, count: int) -> np.ndarray:
    """Returns which facts are of their owner's last `count` event times, and of each time those created last.

    Of equally new ones all go along: the join tells them apart by what is not looked at here.
    """
    order = np.lexsort((created, event, owner))[::-1]
    owner, event, created = owner[order], event[order], created[order]
    first_of_owner = np.diff(owner, prepend=-1) != 0
    first_of_event = first_of_owner | (np.diff(event, prepend=event[:1]) != 0)
    at, number = np.arange(len(order)), np.cumsum(first_of_event)
    place = number - number[np.maximum.accumulate(np.where(first_of_owner, at, 0))]
    last_created = created[np.maximum.accumulate(np.where(first_of_event, at, 0))]
    return order[(place < count) & (created == last_created)]


def _numbered(columns: list[pa.Array]) -> np.ndarray:
    """Numbers rows so that equal ones have equal numbers, from 0."""
    frame = pl.DataFrame([pl.Series(str(i), pl.from_arrow(array)) for i, array in enumerate(columns)])
    numbers = frame.unique(maintain_order=True).with_row_index('number')
    joined = frame.join(numbers, on=frame.columns, how='left', maintain_order='left', nulls_equal=True)
    return joined['number'].to_numpy().astype(np.int64)


def _by_time(bucket: int, in_bins: np.ndarray, edges: np.ndarray, shard_rows: int) -> tuple[Shard, ...]:
    starts, rows = [_BEGINNING], 0
    for edge, in_bin in zip(edges, in_bins, strict=True):
        if in_bin and rows and rows + in_bin > shard_rows:
            starts.append(int(edge))
            rows = 0
        rows += in_bin
    return tuple(Shard(bucket, start, end) for start, end in zip(starts, [*starts[1:], _END], strict=True))


def _alike(buckets: np.ndarray, shards: Shards) -> Iterator[tuple[tuple[Shard, ...], np.ndarray]]:
    """Yields (shards, mask of the rows they share) for the buckets that occur."""
    numbers: dict[tuple[Shard, ...], int] = {}
    number_of = np.array([numbers.setdefault(alike, len(numbers)) for alike in shards.of_bucket])
    of_row = number_of[buckets]
    for alike, number in numbers.items():
        mask = of_row == number
        if mask.any():
            yield alike, mask


def _count(batch: pa.RecordBatch, buckets: np.ndarray, time: pa.Array, window: TimeWindow, added: int) -> np.ndarray:
    bins = np.clip(np.searchsorted(_edges(window), time.to_numpy(), side='right') - 1, 0, BINS - 1)
    rows = np.bincount(buckets * BINS + bins, minlength=BUCKETS * BINS).reshape(BUCKETS, BINS)
    # A wide row counts as several: what a worker holds is bounded in bytes.
    return rows * max(1, (batch.nbytes // max(1, batch.num_rows) + added) // ROW_BYTES)


def _edges(window: TimeWindow) -> np.ndarray:
    """Returns where each bin starts, in microseconds since 1970."""
    start, end = (1000 * bound for bound in window.bounds)
    # Python's integers, for 64 times a window of thousands of years is beyond 64 bits.
    return np.array([start + (end - start) * number // BINS for number in range(BINS)])


def _entity(batch: pa.RecordBatch, view: FeatureView) -> list[pa.Array]:
    return [_array(batch, f'entity {i}') for i in range(len(view.entity_columns))]


def _array(batch: pa.RecordBatch, name: str) -> pa.Array:
    return batch.column(batch.schema.get_field_index(name))


def _buckets(entity: list[pa.Array]) -> np.ndarray:
    """Returns each row's bucket, from a hash of its entity, the same one in spine and facts."""
    keys = pl.DataFrame([pl.Series(str(i), pl.from_arrow(array)) for i, array in enumerate(entity)])
    # Polars promises the same hash within one version, and all workers of a pipeline run the same one.
    return (keys.hash_rows(seed=0) % BUCKETS).to_numpy().astype(np.int64)


__all__ = ['SHARD_ROWS', 'Shard', 'Shards', 'count_facts', 'count_spine', 'plan', 'route_facts', 'route_spine']
