"""What a read covers: token ranges times slices of the first clustering column, and whether such areas tile a whole.

A `Slice` is about a clustering column of type timestamp, in milliseconds since 1970. The areas of a scan lie in the
plane of tokens and times: they are made by cutting one rectangle, and `faults` says whether they make it up again.
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
    """The moments `start <= time < end`, in milliseconds since 1970; an end at a limit of time is open.

    A row whose time is empty comes before all moments: it is in the slice whose start is open.

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
        """Whether the start, and the end, is a moment; if not, that end is open."""
        return self.start > _FIRST, self.end <= _LAST

    def cut(self, moments: Iterable[int]) -> list[Slice]:
        """Cuts the slice at those moments that lie inside it; each begins a piece."""
        inside = sorted({moment for moment in moments if self.start < moment < self.end})
        return [Slice(start, end) for start, end in itertools.pairwise([self.start, *inside, self.end])]

    def __str__(self) -> str:
        return f'[{self.start}, {self.end}) ms'


ALL_TIMES = Slice()


@dataclasses.dataclass(frozen=True, order=True)
class Area:
    """The rows whose token lies in a range and whose time lies in a slice."""

    tokens: TokenRange
    times: Slice = ALL_TIMES

    def __str__(self) -> str:
        return str(self.tokens) if self.times == ALL_TIMES else f'{self.tokens} x {self.times}'


WHOLE = Area(RING)


class Position(NamedTuple):
    """How far a read has come: the last token it returned, and the furthest time of that (None without times).

    The furthest time is mostly that of the last row, but two partitions may have one token.
    """

    token: int
    time: int | None

    def then(self, later: Position, descending: bool) -> Position:
        """Returns how far a read has come that came to `later` next."""
        times = [position.time for position in (self, later) if position.time is not None]
        if self.token != later.token or not times:
            return later
        return Position(later.token, min(times) if descending else max(times))


class Cut(NamedTuple):
    """An area cut in pieces that tile it.

    Attributes:
      done: What has been read to its end, if anything.
      rest: What the read goes on with, from its page on.
      fresh: What is to be read anew.
    """

    done: Area | None
    rest: Area
    fresh: tuple[Area, ...]


def cut(area: Area, position: Position | None, sliceable: bool, descending: bool = False) -> Cut | None:
    """Cuts an area that a read cannot get through: first by token, down to one; then, where it may be, by time.

    A read that has come to a position keeps the partitions with that token, since only its page knows where in them it
    is; the tokens after it become reads of their own.

    Args:
      area: What the read covers.
      position: How far it has come; None for a read without a row.
      sliceable: Whether the area may be cut by time.
      descending: Whether rows of a partition come latest first.

    Returns:
      The pieces, or None where no cut is left.
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
    # What is left of the slice: the moments from its start to the position, or from the position to its end.
    left = (times.start, position.time + 1) if descending else (position.time, times.end)
    if left[1] - left[0] < 2 or (middle := _middle(Slice(*left))) is None:
        return None
    return Cut(None, *_halves(tokens, times, middle, late_first=descending))


def _middle(times: Slice) -> int | None:
    """Returns where to cut a slice in two; None for a single moment."""
    low, high = max(times.start, _LIKELY[0]), min(times.end, _LIKELY[1])
    if high - low < 2:
        low, high = times.start, times.end
    return low + (high - low) // 2 if high - low > 1 else None


def _halves(tokens: TokenRange, times: Slice, middle: int, late_first: bool) -> tuple[Area, tuple[Area, ...]]:
    """Returns the half that is read first and the other one."""
    early, late = (Area(tokens, piece) for piece in times.cut([middle]))
    return (late, (early,)) if late_first else (early, (late,))


class Faults(NamedTuple):
    """Where areas fail to tile a whole: what none covers, what several cover, and what lies outside of it."""

    missing: list[Area]
    doubled: list[Area]
    outside: list[Area]


def faults(areas: Sequence[Area], wanted: Sequence[Area] = (WHOLE,)) -> Faults:
    """Compares areas with what they should tile exactly once.

    Args:
      areas: What was read, in any order.
      wanted: What should have been read; none of these overlap.

    Returns:
      Areas in ring order; all three lists are empty for a perfect tiling.
    """
    missing: list[tuple[TokenRange, Slice]] = []
    doubled: list[tuple[TokenRange, Slice]] = []
    outside: list[tuple[TokenRange, Slice]] = []
    for tokens, read, asked in _columns(areas, wanted):
        if read == asked:
            continue
        for moments in _moments(read, asked):
            covered = sum(1 for piece in read if piece.start <= moments.start and moments.end <= piece.end)
            due = any(piece.start <= moments.start and moments.end <= piece.end for piece in asked)
            if due and not covered:
                missing.append((tokens, moments))
            elif covered and not due:
                outside.append((tokens, moments))
            if covered > 1:
                doubled.append((tokens, moments))
    return Faults(_merged(missing), _merged(doubled), _merged(outside))


def _columns(areas: Sequence[Area], wanted: Sequence[Area]) -> Iterator[tuple[TokenRange, list[Slice], list[Slice]]]:
    """Yields (range, slices read, slices wanted) for each range of tokens over which neither changes."""
    every = sorted([(area.tokens, 0, area.times) for area in areas] + [(area.tokens, 1, area.times) for area in wanted])
    cuts = sorted({bound for tokens, _, _ in every for bound in (tokens.start, tokens.end)})
    active: list[tuple[int, int, Slice]] = []  # (end, 0 for read or 1 for wanted, slice), by end
    upcoming = 0
    for start, end in itertools.pairwise(cuts):
        while active and active[0][0] <= start:
            heapq.heappop(active)
        while upcoming < len(every) and every[upcoming][0].start <= start:
            tokens, kind, times = every[upcoming]
            heapq.heappush(active, (tokens.end, kind, times))
            upcoming += 1
        yield (
            TokenRange(start, end),
            sorted(times for _, kind, times in active if kind == 0),
            sorted(times for _, kind, times in active if kind == 1),
        )


def _moments(read: list[Slice], asked: list[Slice]) -> Iterator[Slice]:
    bounds = sorted({bound for piece in (*read, *asked) for bound in (piece.start, piece.end)})
    return (Slice(start, end) for start, end in itertools.pairwise(bounds))


def _merged(pieces: list[tuple[TokenRange, Slice]]) -> list[Area]:
    """Joins pieces of one slice whose token ranges touch."""
    joined: dict[Slice, list[TokenRange]] = {}
    for tokens, times in pieces:
        ranges = joined.setdefault(times, [])
        if ranges and ranges[-1].end == tokens.start:
            ranges[-1] = TokenRange(ranges[-1].start, tokens.end)
        else:
            ranges.append(tokens)
    return sorted(Area(tokens, times) for times, ranges in joined.items() for tokens in ranges)
