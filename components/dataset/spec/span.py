"""Spans: time cut into numbered pieces of one length, and ranges of them that become a window when they are read.

Span n is the window `[origin + n * length, origin + (n + 1) * length)`; with the defaults it is the n-th day of UTC
since 1970, as TFX numbers them. A span is complete once its end, and `lateness` beyond it, has passed.
"""

from __future__ import annotations

import dataclasses
import datetime
from collections.abc import Callable
from typing import NamedTuple

from tfx_cassandra.components.checks import Int64, check_fields
from tfx_cassandra.components.errors import DatasetError, invalid
from tfx_cassandra.components.window import EPOCH, TimeWindow, aware, shifted

DAY = datetime.timedelta(days=1)


class Resolved(NamedTuple):
    """What a range of spans came to: the spans `first` to `last`, both included, and the window they cover."""

    first: int
    last: int
    window: TimeWindow


@dataclasses.dataclass(frozen=True)
class SpanRange:
    """Some consecutive spans: fixed ones (`first`, `last`), or those up to the latest complete one with data (`count`).

    Attributes:
      first: Number of the first span; with `count`, the lowest span a rolling range may reach down to.
      last: Number of the last span, included; None for `first` alone. Not with `count`.
      count: Number of spans of a rolling range, or None for a fixed one.
      skip: How many spans before the latest complete span with data a rolling range ends; those left out are counted
        by their numbers, whether they have data or not.
      length: Length of a span.
      origin: Where span 0 starts.
      lateness: How long after its end a span still gets data.

    Raises:
      ValueError: A field breaks its rule; the message names field, value and rule.
    """

    first: Int64 | None = None
    last: Int64 | None = None
    count: Int64 | None = None
    skip: Int64 = 0
    length: datetime.timedelta = DAY
    origin: datetime.datetime = EPOCH
    lateness: datetime.timedelta = datetime.timedelta(0)

    def __post_init__(self) -> None:
        check_fields(self)
        if self.length < datetime.timedelta(milliseconds=1):
            raise invalid('length', self.length, 'a millisecond or more')
        if self.lateness < datetime.timedelta(0):
            raise invalid('lateness', self.lateness, 'not below zero')
        if self.count is None:
            self._check_fixed()
        elif self.count < 1:
            raise invalid('count', self.count, '1 or more spans')
        elif self.last is not None:
            raise invalid('last', self.last, 'not with count, which ends at the latest complete span')
        elif self.skip < 0:
            raise invalid('skip', self.skip, '0 or more spans')

    def _check_fixed(self) -> None:
        if self.first is None:
            raise invalid('first', self.first, 'given, or count for a rolling range')
        if self.last is not None and self.last < self.first:
            raise invalid('last', self.last, f'not before first ({self.first})')
        if self.skip:
            raise invalid('skip', self.skip, 'only with count')

    @classmethod
    def parse(cls, span: SpanRange | int | str) -> SpanRange:
        """Returns the range that `span` stands for: a range, the number of one day, or 'latest'."""
        if isinstance(span, SpanRange):
            return span
        if span == 'latest':
            return cls(count=1)
        if isinstance(span, int) and not isinstance(span, bool):
            return cls(first=span)
        raise invalid('span', span, "a SpanRange, the number of a day, or 'latest'")

    def number(self, moment: datetime.datetime) -> int:
        """Returns the number of the span that holds `moment`; a span holds its start and not its end."""
        return (aware('moment', moment) - self.origin) // self.length

    def window(self, first: int, last: int) -> TimeWindow:
        """Returns the window of the spans `first` to `last`, both included.

        Raises:
          ValueError: A span lies outside of the years 1 to 9999.
        """
        return TimeWindow(*(shifted('span', self.origin, self.length, number) for number in (first, last + 1)))


def resolve(
    span: SpanRange, now: datetime.datetime, has_data: Callable[[TimeWindow], bool], describe: str = ''
) -> Resolved:
    """Returns the spans of a range at a moment.

    A rolling range ends `skip` spans before the latest complete span with data, which is found by binary search.

    Args:
      span: The range.
      now: The moment, or the reference time of the read: a span is complete if its end plus lateness is not after it.
      has_data: Whether there is a row in a window; asked about a logarithmic number of windows, for a rolling range.
      describe: What is read, for the message.

    Raises:
      ValueError: A fixed range ends in the future.
      DatasetError: A rolling range finds no complete span with data.
    """
    complete = span.number(shifted('lateness', aware('now', now), span.lateness, -1)) - 1
    if span.count is None:
        first = 0 if span.first is None else span.first  # never None: the constructor's rule
        last = first if span.last is None else span.last
        if last > complete:
            raise invalid('span', last, f'spans that are complete at {now.isoformat()} (up to {complete})')
        return Resolved(first, last, span.window(first, last))
    lowest = 0 if span.first is None else span.first
    last = _latest(span, lowest, complete, has_data) - span.skip
    if last < lowest:
        rule = f'a complete span with data from {lowest} to {complete}, less {span.skip} skipped'
        raise DatasetError(f'span: got none in {describe or "the table"}, rule: {rule}')
    first = max(lowest, last - span.count + 1)
    return Resolved(first, last, span.window(first, last))


def _latest(span: SpanRange, lowest: int, complete: int, has_data: Callable[[TimeWindow], bool]) -> int:
    """Returns the last span from `lowest` to `complete` that has data, or lowest - 1."""
    # Always: no data in (high, complete]. First ever wider steps down, for the newest spans are the likeliest.
    high, step = complete, 1
    while True:
        low = max(lowest, high - step + 1)
        if low > high:
            return lowest - 1
        if has_data(span.window(low, high)):
            break
        high, step = low - 1, step * 2
    while low < high:  # there is data in [low, high]
        middle = (low + high + 1) // 2
        if has_data(span.window(middle, high)):
            low = middle
        else:
            high = middle - 1
    return low
