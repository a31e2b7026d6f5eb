"""The last values of a feature known at each event: what a tf.SequenceExample holds of a sequence model's past.

Of an entity's facts, in the order in which they become known, the newest is a running maximum. Of what it displaces the
running maximum is the second newest, and so on: so the last n values after every fact take n passes.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import polars as pl
import pyarrow as pa


def last_values(
    events: pl.DataFrame, candidates: pl.DataFrame, values: pa.Array, n: int, ttl: int | None = None
) -> pa.ListArray:
    """Gathers for each event the last `n` values known by then, oldest first, one for each event time.

    Args:
      events: `time`, and `at`: the place among the candidates of the last one known to the event, or null.
      candidates: Facts with a value, as entity, event, created, row; those of an entity stand together, in the order in
        which they become known, and of facts of one event time the one created last counts, then the one that stands
        last.
      values: The facts' values, which `row` counts in.
      n: Most values, at least 1.
      ttl: How old a value must not be, in the unit of the times; None for any age.

    Returns:
      Lists of shape (events) with 0 to n values.
    """
    at, time = events['at'].cast(pl.Int64).fill_null(-1).to_numpy(), events['time'].to_numpy()
    event = np.append(candidates['event'].to_numpy(), 0)
    # A place of -1, none, finds the -1 that is put behind the facts.
    newest = [np.append(facts, -1)[at] for facts in _newest(candidates, n)]
    chosen = np.stack(newest[::-1], axis=1)  # (events, up to n)
    if ttl is not None:
        # Not `event <= time - ttl`, which may be beyond 64 bits.
        chosen[time[:, None] - event[chosen] >= ttl] = -1
    kept = chosen >= 0
    offsets = np.concatenate([[0], np.cumsum(kept.sum(axis=1))]).astype(np.int32)
    rows = candidates['row'].to_numpy().astype(np.int64)[chosen[kept]]
    return pa.ListArray.from_arrays(pa.array(offsets), values.take(pa.array(rows)))


def _newest(candidates: pl.DataFrame, n: int) -> Iterator[np.ndarray]:
    """Yields for the newest, the second newest, ... event time: which fact counts once each fact is known, or -1."""
    entity, event, created = (candidates[name].to_numpy() for name in ('entity', 'event', 'created'))
    fact = np.lexsort((created, event, entity))
    rank = np.empty(len(fact), np.int64)
    rank[fact] = np.arange(len(fact))
    # An entity's ranks are the places of its facts, so what is below the first of these is of another entity.
    starts = np.diff(entity, prepend=entity[:1] - 1) != 0
    first = np.maximum.accumulate(np.where(starts, np.arange(len(fact)), 0))
    fact, event = np.append(fact, -1), np.append(event[fact], 0)  # by rank; the rank -1 is none
    arriving = rank
    for _ in range(n):
        best = np.maximum.accumulate(arriving)
        best[best < first] = -1
        yield fact[best]
        before = np.concatenate([[-1], best])[:-1]
        before[starts] = -1
        # Of one event time only one fact counts, so what arrives beside an equal one displaces nothing.
        none = (arriving < 0) | (before < 0) | (event[arriving] == event[before])
        arriving = np.where(none, -1, np.minimum(arriving, before))
        if (arriving < 0).all():
            return
