"""Rows of several units at once, in an order that depends on the rows alone: not on pages, timing or failures.

    lane 0   unit 7 ......... then unit 2 ...
    lane 1   unit 4 .... then unit 9 ........      -> turn by turn, up to TURN_ROWS rows of each lane
    lane 2   unit 1 ................

All lanes have requested their next page while rows of one of them are taken, and the units that come next their first
one: lanes of equal units end together, and each would wait for a request.
"""

from __future__ import annotations

import collections
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import pyarrow as pa

from tfx_cassandra.components.errors import DatasetError

TURN_ROWS = 512  # of a lane, before it is the next lane's turn


class UnitRead(NamedTuple):
    """A unit that was read from beginning to end.

    Attributes:
      unit: Its number.
      rows: Rows that the source returned.
      kept: Those of them that were wanted, after filters.
      bytes: Size of the results.
      checksum: Sum over the rows of a 64-bit hash of each, modulo 2^64.
    """

    unit: int
    rows: int
    kept: int
    bytes: int
    checksum: int


class Place(NamedTuple):
    """How far a share has been read.

    Attributes:
      lanes: (position of the lane's unit in the share, rows taken of it) for each lane.
      upcoming: Position of the next unit to begin.
      turn: The lane whose turn it is.
      left: Rows that are left of its turn.
    """

    lanes: tuple[tuple[int, int], ...] = ()
    upcoming: int = 0
    turn: int = 0
    left: int = TURN_ROWS


# The rows of a unit in their order, and last its UnitRead. Its first rows are requested by the call.
OpenUnit = Callable[[int], Iterator[Any]]


class Interleave:
    """Reads the units of a share.

    Args:
      open_unit: Opens a unit.
      units: The share.
      lanes: Units read at once. As many more have requested their first rows.
      place: Where to continue; the units that have been begun are read again up to there.

    Attributes:
      done: The units read so far, since `place`.
    """

    def __init__(self, open_unit: OpenUnit, units: Sequence[int], lanes: int, place: Place | None = None) -> None:
        self._open, self._units = open_unit, units
        self.done: list[UnitRead] = []
        if place is None:
            first = min(lanes, len(units))
            place = Place(tuple((position, 0) for position in range(first)), first)
        self._lanes = [_Lane(position, open_unit(units[position]), taken) for position, taken in place.lanes]
        self._upcoming, self._turn, self._left = place.upcoming, place.turn, place.left
        self._ahead: collections.deque[Iterator[Any]] = collections.deque()  # units from `_upcoming` on, requested
        self._most_ahead = lanes

    @property
    def place(self) -> Place:
        """How far the share has been read."""
        lanes = tuple((lane.position, lane.taken) for lane in self._lanes)
        return Place(lanes, self._upcoming, self._turn, self._left)

    def take(self, rows: int) -> list[pa.RecordBatch]:
        """Returns the next rows, fewer only at the end."""
        taken = []
        while rows and self._lanes:
            batch = self._lanes[self._turn].take(min(rows, self._left))
            if batch is None:
                self._finish_unit()
                continue
            taken.append(batch)
            rows, self._left = rows - batch.num_rows, self._left - batch.num_rows
            if not self._left:
                self._turn, self._left = (self._turn + 1) % len(self._lanes), TURN_ROWS
                self._request_ahead()
        return taken

    def _request_ahead(self) -> None:
        for unit in self._units[self._upcoming + len(self._ahead) : self._upcoming + self._most_ahead]:
            self._ahead.append(self._open(unit))

    def _finish_unit(self) -> None:
        """Begins the next unit in a lane whose unit has ended, or removes the lane."""
        read = self._lanes[self._turn].read
        if read is None:
            raise DatasetError(f'unit {self._lanes[self._turn].position}: got no end, rule: a UnitRead')
        self.done.append(read)
        self._left = TURN_ROWS
        if self._upcoming < len(self._units):
            source = self._ahead.popleft() if self._ahead else self._open(self._units[self._upcoming])
            self._lanes[self._turn] = _Lane(self._upcoming, source)
            self._upcoming += 1
            self._request_ahead()
        else:
            del self._lanes[self._turn]
            self._turn = self._turn % len(self._lanes) if self._lanes else 0


class _Lane:
    """A unit being read; `skip` rows of it have been taken before."""

    def __init__(self, position: int, source: Iterator[Any], skip: int = 0) -> None:
        self.position, self.taken = position, 0
        self.read: UnitRead | None = None
        self._source, self._skip = source, skip
        self._batch: pa.RecordBatch | None = None
        self._at = 0  # rows taken of the batch

    def take(self, limit: int) -> pa.RecordBatch | None:
        """Returns up to `limit` rows, at least one; None at the end of the unit."""
        while self._skip:
            skipped = self._next(self._skip)
            if skipped is None:
                rule = 'the rows that were there when the state was saved (a window of the past, or as_of, has them)'
                raise DatasetError(f'state: got {self.taken} rows of a range of which more had been read, rule: {rule}')
            self._skip -= skipped.num_rows
        return self._next(limit)

    def _next(self, limit: int) -> pa.RecordBatch | None:
        while self._batch is None or self._at == self._batch.num_rows:
            found = next(self._source, None)
            if found is None or isinstance(found, UnitRead):
                self.read = found or self.read
                return None
            self._batch, self._at = found, 0
        rows = self._batch.slice(self._at, limit)
        self._at, self.taken = self._at + rows.num_rows, self.taken + rows.num_rows
        return rows
