"""The last values of a feature that are known at each event: the history in a tf.SequenceExample.

Over an entity's facts, in the order in which they become known, the newest one is a running maximum. Each value that it
displaces goes to a second running maximum, which is the second newest, and so on: n passes give the last n values.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tfx_cassandra.components.dataset.join.parts import Candidates, Column


def last_values(
    at: NDArray[np.int64], time: NDArray[np.int64], candidates: Candidates, column: Column, n: int,
    ttl: int | None = None,
) -> pa.ListArray:  # fmt: skip
    """Collects for each event the last `n` values known by then, oldest first, one for each event time.

    Args:
      at: Of each event, the index of the last candidate known at it, or -1.
      time: Of each event.
      candidates: Of facts of the same event time the one created last is used, then the last one.
      column: The candidates' values.
      n: Maximum number of values, from 1.
      ttl: Age from which a value has expired, in the unit of the times; None for no limit.

    Returns:
      Lists of shape (events) with 0 to n values.
    """
    event = np.append(candidates.event, 0)
    # Index -1, for no fact, takes the -1 that is appended to the facts.
    newest = [np.append(facts, -1)[at] for facts in _newest(candidates, n)]
    chosen = np.stack(newest[::-1], axis=1)  # (events, up to n)
    if ttl is not None:
        # Not `event <= time - ttl`, whose difference may overflow 64 bits.
        chosen[time[:, None] - event[chosen] >= ttl] = -1
    present = chosen >= 0
    offsets = np.concatenate([[0], np.cumsum(present.sum(axis=1))]).astype(np.int32)
    rows = column.rows[chosen[present]]
    return pa.ListArray.from_arrays(pa.array(offsets), column.values.take(pa.array(rows)))


def _newest(candidates: Candidates, n: int) -> Iterator[NDArray[np.int64]]:
    """Yields, for the newest, the second newest, ... event time, the fact used once each fact is known, or -1."""
    entity, event = candidates.group, candidates.event
    fact = np.lexsort((candidates.created, event, entity))
    rank = np.empty(len(fact), np.int64)
    rank[fact] = np.arange(len(fact))
    # The ranks of an entity's facts are contiguous, so a rank below the first one belongs to another entity.
    starts = np.diff(entity, prepend=entity[:1] - 1) != 0
    first = np.maximum.accumulate(np.where(starts, np.arange(len(fact)), 0))
    fact, event = np.append(fact, -1), np.append(event[fact], 0)  # by rank; rank -1 is no fact
    arriving = rank
    for _ in range(n):
        best = np.maximum.accumulate(arriving)
        best[best < first] = -1
        yield fact[best]
        before = np.concatenate([[-1], best])[:-1]
        before[starts] = -1
        # Only one fact of an event time is used: one that arrives next to another of its event time displaces nothing.
        unchanged = (arriving < 0) | (before < 0) | (event[arriving] == event[before])
        arriving = np.where(unchanged, -1, np.minimum(arriving, before))
        if (arriving < 0).all():
            return
