"""Half-open windows of time."""

from __future__ import annotations

import dataclasses
import datetime

from tfx_cassandra.components.errors import invalid

EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.timezone.utc)
MILLISECOND = datetime.timedelta(milliseconds=1)
MICROSECOND = datetime.timedelta(microseconds=1)


def aware(field: str, moment: object) -> datetime.datetime:
    """Returns a moment as a plain datetime of UTC.

    Python compares and subtracts datetimes of one time zone by what the clock on the wall shows, which is wrong where
    the clock is put back; datetimes of UTC are compared as instants.

    Raises:
      ValueError: The moment is no datetime with an offset, is finer than a microsecond, or lies outside of the years 1
        to 9999 of UTC; the message names `field`.
    """
    rule = 'a datetime with a time zone, such as 2013-01-01T00:00+00:00'
    # Subclasses, such as those of pandas, have a missing value without an offset, and finer parts.
    if not isinstance(moment, datetime.datetime) or moment != moment or moment.utcoffset() is None:
        raise invalid(field, moment, rule)
    if getattr(moment, 'nanosecond', 0):
        raise invalid(field, moment.isoformat(), 'whole microseconds, as Python has them')
    parts = (moment.year, moment.month, moment.day, moment.hour, moment.minute, moment.second, moment.microsecond)
    try:
        return datetime.datetime(*parts, moment.tzinfo, fold=moment.fold).astimezone(datetime.timezone.utc)
    except OverflowError as error:
        raise invalid(field, moment.isoformat(), 'in the years 1 to 9999 of UTC') from error


def duration(field: str, length: object) -> datetime.timedelta:
    """Returns a length of time as a plain timedelta.

    Raises:
      ValueError: It is no timedelta, or finer than a microsecond; the message names `field`.
    """
    if not isinstance(length, datetime.timedelta) or length != length:
        raise invalid(field, length, 'a datetime.timedelta')
    if getattr(length, 'nanoseconds', 0):
        raise invalid(field, str(length), 'whole microseconds, as Python has them')
    return datetime.timedelta(length.days, length.seconds, length.microseconds)


def shifted(field: str, moment: datetime.datetime, length: datetime.timedelta, times: int = 1) -> datetime.datetime:
    """Returns `moment + times * length`.

    Raises:
      ValueError: That is outside of the years 1 to 9999; the message names `field`.
    """
    try:
        return moment + times * length
    except OverflowError as error:
        rule = f'a moment of the years 1 to 9999, counted from {moment.isoformat()}'
        raise invalid(field, f'{times} x {length}', rule) from error


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
      start: Aware datetime, included; kept in UTC.
      end: Aware datetime, excluded; after start; kept in UTC.

    Raises:
      ValueError: A bound is naive, or end is not after start.
    """

    start: datetime.datetime
    end: datetime.datetime

    def __post_init__(self) -> None:
        for field in ('start', 'end'):
            object.__setattr__(self, field, aware(field, getattr(self, field)))
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


@dataclasses.dataclass(frozen=True)
class TimesBefore(TimeWindow):
    """All times before `end`, also those before the first year of Python's datetimes, which is `start`.

    Attributes:
      start: The first moment that Python knows.
    """

    start: datetime.datetime = dataclasses.field(
        default=datetime.datetime(1, 1, 1, tzinfo=datetime.timezone.utc), init=False
    )

    @property
    def bounds(self) -> tuple[int, int]:
        return -(2**63), milliseconds('end', self.end)


def parse_moment(field: str, text: str) -> datetime.datetime:
    """Parses a moment in ISO-8601 such as '2013-01-01T00:00Z'; raises ValueError naming `field`."""
    # Before Python 3.11 fromisoformat does not know 'Z'.
    try:
        moment = datetime.datetime.fromisoformat(text.strip().replace('Z', '+00:00'))
    except ValueError as error:
        raise invalid(field, text, 'ISO-8601 with an offset, such as 2013-01-01T00:00Z') from error
    return aware(field, moment)
