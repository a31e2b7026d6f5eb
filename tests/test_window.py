"""Windows are half-open and know their time zone."""

from __future__ import annotations

import datetime
import zoneinfo

import pandas as pd
import pytest

from tfx_cassandra.components.scan.as_of import microseconds
from tfx_cassandra.components.window import (
    TimesBefore,
    TimeWindow,
    aware,
    duration,
    milliseconds,
    shifted,
    whole_milliseconds,
)

UTC = datetime.timezone.utc


def test_parses_iso_8601() -> None:
    window = TimeWindow.parse('2013-01-01T00:00Z/2013-02-01T00:00+02:00')
    assert window.start == datetime.datetime(2013, 1, 1, tzinfo=UTC)
    assert window.end == datetime.datetime(2013, 1, 31, 22, tzinfo=UTC)
    assert TimeWindow.parse(str(window)) == window


@pytest.mark.parametrize(
    ('text', 'message'),
    [
        ('2013-01-01T00:00Z', "window: got '2013-01-01T00:00Z', rule: START/END"),
        ('2013-01-01T00:00/2013-02-01T00:00Z', 'start: got datetime.datetime(2013, 1, 1, 0, 0), rule: a datetime with'),
        ('2013-01-01T00:00Z/2013-02-01', 'end: got datetime.datetime(2013, 2, 1, 0, 0), rule: a datetime with'),
        ('2013-01-01T00:00Z/soon', "end: got 'soon', rule: ISO-8601"),
        ('2013-02-01T00:00Z/2013-01-01T00:00Z', "end: got '2013-01-01T00:00:00+00:00', rule: after start"),
        ('2013-02-01T00:00Z/2013-02-01T00:00Z', "end: got '2013-02-01T00:00:00+00:00', rule: after start"),
    ],
)
def test_bad_windows(text: str, message: str) -> None:
    with pytest.raises(ValueError, match='rule') as caught:
        TimeWindow.parse(text)
    assert str(caught.value).startswith(message)


def test_only_datetimes() -> None:
    with pytest.raises(ValueError, match="start: got '2013-01-01'"):
        TimeWindow('2013-01-01', datetime.datetime(2013, 1, 1, tzinfo=UTC))  # type: ignore[arg-type]


def test_bounds_are_the_first_milliseconds_not_before() -> None:
    start = datetime.datetime(1970, 1, 1, 0, 0, 0, 1001, UTC)
    window = TimeWindow(start, start + datetime.timedelta(microseconds=999))
    assert window.bounds == (2, 2)
    assert TimeWindow(datetime.datetime(1969, 12, 31, tzinfo=UTC), start).bounds == (-86400000, 2)


BERLIN = zoneinfo.ZoneInfo('Europe/Berlin')
TWO = datetime.datetime(2013, 10, 27, 2, tzinfo=BERLIN)  # there twice on that day, an hour apart
MINUTE = datetime.timedelta(minutes=1)


def again(moment: datetime.datetime) -> datetime.datetime:
    return moment.replace(fold=1)


def test_the_hour_that_comes_twice_is_compared_by_instants() -> None:
    early, late = TWO + 55 * MINUTE, again(TWO + 40 * MINUTE)
    window = TimeWindow(early, late)
    assert window.end - window.start == 45 * MINUTE
    assert window.bounds[1] - window.bounds[0] == 45 * 60 * 1000
    with pytest.raises(ValueError, match='rule: after start'):
        TimeWindow(again(TWO), TWO + 55 * MINUTE)
    with pytest.raises(ValueError, match='rule: after start'):
        TimeWindow(again(TWO + 30 * MINUTE), TWO + 35 * MINUTE)
    assert TimeWindow(TWO - MINUTE, TWO) != TimeWindow(TWO - MINUTE, again(TWO))
    # A day of 25 hours.
    day = TimeWindow(TWO.replace(hour=0), TWO.replace(day=28, hour=0))
    assert day.end - day.start == datetime.timedelta(hours=25)


@pytest.mark.parametrize('moment', [pd.NaT, '2013-01-01', None, 0, datetime.date(2013, 1, 1), pd.Timestamp(0)])
def test_what_is_no_moment(moment: object) -> None:
    with pytest.raises(ValueError, match=r'^at: got .*, rule: a datetime with a time zone'):
        aware('at', moment)


@pytest.mark.parametrize('of', [aware, milliseconds, whole_milliseconds, lambda _, moment: microseconds(moment)])
def test_nanoseconds_are_not_rounded(of: object) -> None:
    moment = pd.Timestamp('2013-01-01T00:00:00.001000001Z')
    with pytest.raises(ValueError, match=r"got '2013-01-01T00:00:00.001000001\+00:00', rule: whole microseconds"):
        of('at', moment)  # type: ignore[operator]
    of('at', moment.floor('us'))  # type: ignore[operator]
    with pytest.raises(ValueError, match='rule: whole microseconds'):
        TimeWindow(moment, moment + pd.Timedelta('1D'))


def test_a_moment_of_pandas_becomes_a_plain_one() -> None:
    moment = aware('at', pd.Timestamp('2013-10-27T00:30Z').tz_convert('Europe/Berlin'))
    assert type(moment) is datetime.datetime
    assert moment == datetime.datetime(2013, 10, 27, 0, 30, tzinfo=UTC)
    assert moment - datetime.timedelta(days=365 * 1000)  # which pandas' own cannot go back


@pytest.mark.parametrize('moment', [datetime.datetime.min, datetime.datetime.max])
def test_moments_beyond_the_years_of_utc(moment: datetime.datetime) -> None:
    hours = 1 if moment.year == 1 else -1
    with pytest.raises(ValueError, match=r'rule: in the years 1 to 9999 of UTC'):
        aware('at', moment.replace(tzinfo=datetime.timezone(datetime.timedelta(hours=hours))))


@pytest.mark.parametrize('length', [5, 1.5, '1h', pd.NaT, pd.Timedelta(1001, 'ns'), None])
def test_what_is_no_duration(length: object) -> None:
    with pytest.raises(ValueError, match=r'^ttl: got .*, rule: (a datetime.timedelta|whole microseconds)'):
        duration('ttl', length)


def test_durations_of_pandas_become_plain_ones() -> None:
    assert type(duration('ttl', pd.Timedelta('1001ms'))) is datetime.timedelta
    assert duration('ttl', datetime.timedelta.max) == datetime.timedelta.max
    assert duration('ttl', pd.Timedelta('1001ms')) == datetime.timedelta(milliseconds=1001)


def test_moments_are_not_moved_out_of_the_calendar() -> None:
    start = datetime.datetime(2013, 1, 1, tzinfo=UTC)
    assert shifted('gap', start, MINUTE, -2) == start - 2 * MINUTE
    for length, times in ((datetime.timedelta.max, 1), (datetime.timedelta.max, 10**12), (MINUTE, -(10**12))):
        with pytest.raises(ValueError, match=r'^gap: got .*, rule: a moment of the years 1 to 9999'):
            shifted('gap', start, length, times)


def test_times_before_hold_those_before_the_first_year() -> None:
    end = datetime.datetime(2013, 1, 1, tzinfo=UTC)
    window = TimesBefore(end)
    assert window.start == datetime.datetime.min.replace(tzinfo=UTC)
    assert window.bounds == (-(2**63), TimeWindow(end - MINUTE, end).bounds[1])
