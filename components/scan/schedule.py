"""The order in which areas are read: as nodes have room for them, or as their rows come."""

from __future__ import annotations

import collections
import heapq
import itertools
import time
from collections.abc import Sequence

from tfx_cassandra.components.scan.reading import Reading

PER_NODE = 4  # areas read at once from one node by one worker thread; more did not read faster


class Schedule:
    """Readings to be started: those that are ready, and those that wait for the end of their backoff."""

    def __init__(self, readings: Sequence[Reading]) -> None:
        self._ready = collections.deque(readings)
        self._delayed: list[tuple[float, int, Reading]] = []  # (ready at, tie breaker, reading), a heap
        self._ties = itertools.count()

    def __bool__(self) -> bool:
        return bool(self._ready or self._delayed)

    def add(self, reading: Reading, delay: float) -> None:
        """Adds a reading that becomes ready after a delay in seconds."""
        heapq.heappush(self._delayed, (time.monotonic() + delay, next(self._ties), reading))

    def seconds_to_next(self) -> float | None:
        """Returns the seconds until the next delayed reading becomes ready; None if there is none."""
        return max(0.0, self._delayed[0][0] - time.monotonic()) + 0.001 if self._delayed else None

    def pop(self, active: collections.Counter[str]) -> Reading | None:
        """Removes and returns the first ready reading whose node serves fewer than PER_NODE, or returns None."""
        while self._delayed and self._delayed[0][0] <= time.monotonic():
            self._ready.appendleft(heapq.heappop(self._delayed)[2])
        for i, reading in enumerate(self._ready):
            if active[reading.node] < PER_NODE:
                del self._ready[i]
                return reading
        return None


class OrderedSchedule(Schedule):
    """Readings one after the other, in the order of their rows: the first is waited for even while it is delayed."""

    def __init__(self, readings: Sequence[Reading], descending: bool) -> None:
        super().__init__(sorted(readings, key=lambda reading: reading.area.order(descending)))
        self._descending = descending

    def pop(self, active: collections.Counter[str]) -> Reading | None:
        """Removes and returns the first reading, if none is active and its backoff has ended."""
        if active.total() or not self:
            return None
        now = time.monotonic()
        waiting = [(reading, 0.0) for reading in self._ready] + [(reading, at) for at, _, reading in self._delayed]
        first, ready_at = min(waiting, key=lambda entry: entry[0].area.order(self._descending))
        if ready_at > now:
            return None
        self._ready = collections.deque(reading for reading in self._ready if reading is not first)
        self._delayed = [entry for entry in self._delayed if entry[2] is not first]
        heapq.heapify(self._delayed)
        return first
