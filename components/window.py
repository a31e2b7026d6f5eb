"""Half-open windows of time."""

from __future__ import annotations

import dataclasses
import datetime

from tfx_cassandra.components.errors import invalid


def aware(field: str, moment: object) -> datetime.datetime:
    """Returns `moment` if it is a datetime with an offset; raises ValueError naming `field` if not."""
    if not isinstance(moment, datetime.datetime) or moment.utcoffset() is None:
        raise invalid(field, moment, 'a datetime with a time zone, such as 2013-01-01T00:00+00:00')
    return moment


EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.timezone.utc)
MILLISECOND = datetime.timedelta(milliseconds=1)


def milliseconds(field: str, moment: datetime.datetime) -> int:
    """Returns the first whole millisecond since 1970 that is not before `moment`.

    Cassandra's timestamps are whole milliseconds, so that `>=` and `<` give the same with it as with `moment`.

    Raises:
      ValueError: The moment is naive; the message names `field`.
    """
    return -((EPOCH - aware(field, moment)) // MILLISECOND)


def whole_milliseconds(field: str, moment: object) -> int:
    """Returns milliseconds since 1970 of a moment to be stored, where nothing finer may be lost.

    Raises:
      ValueError: The moment is naive or finer than a millisecond; the message names `field`.
    """
    checked = aware(field, moment)
    if checked.microsecond % 1000:
        rule = 'whole milliseconds, as moment.replace(microsecond=moment.microsecond // 1000 * 1000) has'
        raise invalid(field, checked.isoformat(), rule)
    return milliseconds(field, checked)


@dataclasses.dataclass(frozen=True)
class TimeWindow:
    """A span of event time, half-open: `start <= time < end`.

    Attributes:
      start: Aware datetime, included.
      end: Aware datetime, excluded; after start.

    Raises:
      ValueError: A bound is naive, or end is not after start.
    """

    start: datetime.datetime
    end: datetime.datetime

    def __post_init__(self) -> None:
        aware('start', self.start)
        aware('end', self.end)
        if self.end <= self.start:
            raise invalid('end', self.end.isoformat(), f'after start ({self.start.isoformat()})')

    @classmethod
    def parse(cls, text: TimeWindow | str) -> TimeWindow:
        """Parses an ISO-8601 interval such as '2013-01-01T00:00Z/2013-02-01T00:00Z'; a window stays as it is."""
        if isinstance(text, TimeWindow):
            return text
        start, slash, end = text.partition('/') if isinstance(text, str) else ('', '', '')
        if not slash:
            raise invalid('window', text, 'START/END in ISO-8601 with offsets')
        return cls(parse_moment('start', start), parse_moment('end', end))

    @property
    def bounds(self) -> tuple[int, int]:
        """Start (included) and end (excluded) in milliseconds since 1970, as Cassandra compares them."""
        return milliseconds('start', self.start), milliseconds('end', self.end)

    def __str__(self) -> str:
        return f'{self.start.isoformat()}/{self.end.isoformat()}'


def parse_moment(field: str, text: str) -> datetime.datetime:
    """Parses a moment in ISO-8601 such as '2013-01-01T00:00Z'; raises ValueError naming `field`."""
    # Before Python 3.11 fromisoformat does not know 'Z'.
    try:
        moment = datetime.datetime.fromisoformat(text.strip().replace('Z', '+00:00'))
    except ValueError as error:
        raise invalid(field, text, 'ISO-8601 with an offset, such as 2013-01-01T00:00Z') from error
    return aware(field, moment)
