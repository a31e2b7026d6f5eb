"""Windows are half-open and know their time zone."""

from __future__ import annotations

import datetime

import pytest

from tfx_cassandra.components.window import TimeWindow

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
