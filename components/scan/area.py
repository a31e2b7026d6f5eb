"""What a read covers: token ranges times slices of the first clustering column, and whether such areas tile a whole.

A `Slice` restricts a clustering column of type timestamp, in milliseconds since 1970. Areas are rectangles of tokens
and times. A scan cuts one large area into many, and `faults` checks that these tile it exactly once.
"""

from __future__ import annotations

import dataclasses
import heapq
import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from tfx_cassandra.components.errors import invalid
from tfx_cassandra.components.scan.ring import RING, TokenRange

_FIRST, _LAST = -(2**63), 2**63 - 1  # timestamps Cassandra can hold
_LIKELY = (0, 4_102_444_800_000)  # 1970 to 2100: where an unbounded slice is cut first


@dataclasses.dataclass(frozen=True, order=True)
class Slice:
    """The times `start <= time < end`, in milliseconds since 1970; a bound at the limit of the type is open.

    A row whose time is an empty value sorts before all times: it is in the slice whose start is open.

    Raises:
      ValueError: start is not below end.
    """

    start: int = _FIRST
    end: int = _LAST + 1

    def __post_init__(self) -> None:
        if not _FIRST <= self.start < self.end <= _LAST + 1:
            raise invalid('slice', (self.start, self.end), f'{_FIRST} <= start < end <= {_LAST + 1}')

    @property
    def bounded(self) -> tuple[bool, bool]:
        """Whether the start, and the end, is a time rather than open."""
        return self.start > _FIRST, self.end <= _LAST

    def cut(self, times: Iterable[int]) -> list[Slice]:
        """Cuts the slice at those times that lie inside it; each begins a piece."""
        inside = sorted({time for time in times if self.start < time < self.end})
        return [Slice(start, end) for start, end in itertools.pairwise([self.start, *inside, self.end])]

    def __str__(self) -> str:
        return f'[{self.start}, {self.end}) ms'


ALL_TIMES = Slice()


@dataclasses.dataclass(frozen=True, order=True)
class Area:
    """The rows whose token lies in a range and whose time lies in a slice."""

    tokens: TokenRange
    times: Slice = ALL_TIMES

    def order(self, descending: bool = False) -> tuple[int, int]:
        """Returns a key that sorts areas as their rows are stored: by token, then by time (descending: latest first).

        It is meant for areas that do not overlap.
        """
        return self.tokens.start, -self.times.start if descending else self.times.start

    def within(self, tokens: TokenRange) -> Area | None:
        """Returns the part of the area in a range of tokens; None if there is none."""
        start, end = max(self.tokens.start, tokens.start), min(self.tokens.end, tokens.end)
        return Area(TokenRange(start, end), self.times) if start < end else None

    def __str__(self) -> str:
        return str(self.tokens) if self.times == ALL_TIMES else f'{self.tokens} x {self.times}'


WHOLE = Area(RING)


class Position(NamedTuple):
    """How far a read has progressed: the last token it returned, and the furthest time there (None without times).

    The furthest time is usually that of the last row, but two partitions may have the same token.
    """

    token: int
    time: int | None

    def then(self, later: Position, descending: bool) -> Position:
        """Returns the position of a read at this position that has read on to `later`."""
        times = [position.time for position in (self, later) if position.time is not None]
        if self.token != later.token or not times:
            return later
        return Position(later.token, min(times) if descending else max(times))


class Cut(NamedTuple):
    """An area cut into pieces that tile it.

    Attributes:
      done: The piece that has been read completely, or None.
      rest: The piece in which the read continues, from its next page.
      fresh: Pieces to read from their beginning.
    """

    done: Area | None
    rest: Area
    fresh: tuple[Area, ...]


def cut(area: Area, position: Position | None, sliceable: bool, descending: bool = False) -> Cut | None:
    """Cuts an area that is too large for its read: first by token, down to a single one; then by time, where possible.

    A read that has a position keeps the partitions with that token, since only its paging state tells how far it has
    read them; the tokens after them become reads of their own.

    Args:
      area: What the read covers.
      position: How far it has read; None for a read without a row.
      sliceable: Whether the area may be cut by time.
      descending: Whether rows of a partition are returned latest first.

    Returns:
      The pieces, or None if the area cannot be cut any further.
    """
    tokens, times = area.tokens, area.times
    if position is None:
        if tokens.width > 1:
            first, second = tokens.split(2)
            return Cut(None, Area(first, times), (Area(second, times),))
        if not sliceable or (middle := _middle(times)) is None:
            return None
        return Cut(None, *_halves(tokens, times, middle, late_first=descending))
    here = TokenRange(position.token - 1, position.token)
    if tokens != here:
        done = Area(TokenRange(tokens.start, here.start), times) if tokens.start < here.start else None
        after = TokenRange(here.end, tokens.end).split(2) if here.end < tokens.end else []
        return Cut(done, Area(here, times), tuple(Area(piece, times) for piece in after))
    if not sliceable or position.time is None:
        return None
    # The unread part of the slice: from its start to the position, or from the position to its end.
    start, end = (times.start, position.time + 1) if descending else (position.time, times.end)
    if end - start < 2 or (middle := _middle(Slice(start, end))) is None:
        return None
    return Cut(None, *_halves(tokens, times, middle, late_first=descending))


def _middle(times: Slice) -> int | None:
    """Returns where to cut a slice in two; None for a slice of one millisecond."""
    low, high = max(times.start, _LIKELY[0]), min(times.end, _LIKELY[1])
    if high - low < 2:
        low, high = times.start, times.end
    return low + (high - low) // 2 if high - low > 1 else None


def _halves(tokens: TokenRange, times: Slice, middle: int, late_first: bool) -> tuple[Area, tuple[Area, ...]]:
    """Returns the half that is read first, and the other half."""
    early, late = (Area(tokens, piece) for piece in times.cut([middle]))
    return (late, (early,)) if late_first else (early, (late,))


class Faults(NamedTuple):
    """Where areas fail to tile a whole: areas that none covers, that several cover, and that lie outside of it."""

    missing: list[Area]
    doubled: list[Area]
    outside: list[Area]


def faults(areas: Sequence[Area], wanted: Sequence[Area] = (WHOLE,)) -> Faults:
    """Compares areas with those that they should tile exactly once.

    Args:
      areas: The areas that were read, in any order.
      wanted: The areas that should have been read, without overlaps.

    Returns:
      Areas in ring order; all three lists are empty for a perfect tiling.
    """
    missing: list[tuple[TokenRange, Slice]] = []
    doubled: list[tuple[TokenRange, Slice]] = []
    outside: list[tuple[TokenRange, Slice]] = []
    for tokens, read, expected in _columns(areas, wanted):
        if read == expected:
            continue
        for times in _elementary_slices(read, expected):
            covered = sum(1 for piece in read if piece.start <= times.start and times.end <= piece.end)
            due = any(piece.start <= times.start and times.end <= piece.end for piece in expected)
            if due and not covered:
                missing.append((tokens, times))
            elif covered and not due:
                outside.append((tokens, times))
            if covered > 1:
                doubled.append((tokens, times))
    return Faults(_merged(missing), _merged(doubled), _merged(outside))


def _columns(areas: Sequence[Area], wanted: Sequence[Area]) -> Iterator[tuple[TokenRange, list[Slice], list[Slice]]]:
    """Yields (range, slices read, slices wanted) for each range of tokens over which neither changes."""
    rectangles = sorted(
        [(area.tokens, 0, area.times) for area in areas] + [(area.tokens, 1, area.times) for area in wanted]
    )
    cuts = sorted({bound for tokens, _, _ in rectangles for bound in (tokens.start, tokens.end)})
    active: list[tuple[int, int, Slice]] = []  # (end, 0 for read or 1 for wanted, slice), by end
    upcoming = 0
    for start, end in itertools.pairwise(cuts):
        while active and active[0][0] <= start:
            heapq.heappop(active)
        while upcoming < len(rectangles) and rectangles[upcoming][0].start <= start:
            tokens, kind, times = rectangles[upcoming]
            heapq.heappush(active, (tokens.end, kind, times))
            upcoming += 1
        yield (
            TokenRange(start, end),
            sorted(times for _, kind, times in active if kind == 0),
            sorted(times for _, kind, times in active if kind == 1),
        )


def _elementary_slices(read: list[Slice], expected: list[Slice]) -> Iterator[Slice]:
    """Yields the slices between every two neighbouring bounds."""
    bounds = sorted({bound for piece in (*read, *expected) for bound in (piece.start, piece.end)})
    return (Slice(start, end) for start, end in itertools.pairwise(bounds))


def _merged(pieces: list[tuple[TokenRange, Slice]]) -> list[Area]:
    """Merges pieces of the same slice whose token ranges are adjacent."""
    joined: dict[Slice, list[TokenRange]] = {}
    for tokens, times in pieces:
        ranges = joined.setdefault(times, [])
        if ranges and ranges[-1].end == tokens.start:
            ranges[-1] = TokenRange(ranges[-1].start, tokens.end)
        else:
            ranges.append(tokens)
    return sorted(Area(tokens, times) for times, ranges in joined.items() for tokens in ranges)
