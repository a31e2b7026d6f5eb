"""Keys: one 64-bit integer for a group and a time, so that one sort or search takes the place of one for each group."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

Integers = NDArray[np.int64]
_MAX_KEY = 2**63 - 1


class Keys:
    """Turns (group, time) into keys: group * span + time; where 64 bits are too few, by the ranks of the times."""

    def __init__(self, groups: int, times: Sequence[Integers]) -> None:
        """Learns the times that occur; groups are below `groups`."""
        occurring = [each for each in times if len(each)]
        self._first = min((int(each.min()) for each in occurring), default=0)
        self._span = max((int(each.max()) for each in occurring), default=0) - self._first + 1
        self._ranked: Integers | None = None
        if groups * self._span > _MAX_KEY:
            self._ranked = np.unique(np.concatenate(occurring))
            self._span = len(self._ranked)

    def of(self, group: Integers, time: Integers) -> Integers:
        """Returns the keys of pairs: they are ordered by group, then by time."""
        since = time - self._first if self._ranked is None else np.searchsorted(self._ranked, time)
        return group * self._span + since


def ordered(key: Integers, *others: Integers) -> Integers:
    """Returns the indices that sort rows by a key and, where that is equal, by the other columns in turn."""
    order = np.argsort(key)
    tied = equal_neighbours(key[order])
    alike = order[tied]  # few, as a rule
    order[tied] = alike[np.lexsort([column[alike] for column in (*reversed(others), key)])]
    return order


def equal_neighbours(*columns: Integers) -> NDArray[np.bool_]:
    """Says of each row whether the one before or after it is equal to it."""
    equal = np.logical_and.reduce([column[1:] == column[:-1] for column in columns])
    either: NDArray[np.bool_] = np.zeros(len(columns[0]), bool)
    either[1:] |= equal
    either[:-1] |= equal
    return either


def numbered(columns: Sequence[pa.Array]) -> Integers:
    """Numbers rows from 0 in the order in which they first occur, equal rows alike."""
    numbers, *others = (column.dictionary_encode('encode') for column in columns)
    for other in others:
        combined = numbers.indices.to_numpy().astype(np.int64) * len(other.dictionary) + other.indices.to_numpy()
        numbers = pa.array(combined).dictionary_encode()
    codes: Integers = numbers.indices.to_numpy().astype(np.int64)
    return codes


__all__ = ['Integers', 'Keys', 'equal_neighbours', 'numbered', 'ordered']
