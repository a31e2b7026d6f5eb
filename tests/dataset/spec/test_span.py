"""Spans: numbers, windows, fixed and rolling ranges, and the latest complete span that has data."""

from __future__ import annotations

import datetime
import zoneinfo

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tfx.components.example_gen import utils

from tfx_cassandra.components.dataset.spec.span import DAY, SpanRange, resolve
from tfx_cassandra.components.errors import DatasetError
from tfx_cassandra.components.window import EPOCH, TimeWindow

HOUR = datetime.timedelta(hours=1)


def day(number: float) -> datetime.datetime:
    return EPOCH + number * DAY


def never(window: TimeWindow) -> bool:
    raise AssertionError(f'asked for {window}')


def test_days_are_numbered_as_tfx_numbers_them() -> None:
    number = utils.date_to_span_number(2013, 1, 1)
    assert SpanRange(number).window(number, number) == TimeWindow.parse('2013-01-01T00:00Z/2013-01-02T00:00Z')


@pytest.mark.parametrize(
    ('moment', 'number'),
    [(day(3), 3), (day(4) - datetime.timedelta(microseconds=1), 3), (day(4), 4), (day(-0.5), -1), (day(0), 0)],
)
def test_a_span_holds_its_start_and_not_its_end(moment: datetime.datetime, number: int) -> None:
    assert SpanRange(0).number(moment) == number


@pytest.mark.parametrize(
    ('span', 'now', 'first', 'last'),
    [
        (SpanRange(3), day(4), 3, 3),
        (SpanRange(3, 5), day(6), 3, 5),
        (SpanRange(3, length=HOUR), day(1), 3, 3),
        (SpanRange(3, lateness=HOUR), day(4) + HOUR, 3, 3),
        (SpanRange(-2, -1), day(4), -2, -1),
    ],
)
def test_fixed_ranges_ask_nothing(span: SpanRange, now: datetime.datetime, first: int, last: int) -> None:
    assert resolve(span, now, never) == (first, last, span.window(first, last))


@pytest.mark.parametrize(
    ('span', 'now'),
    [
        (SpanRange(3), day(3.99)),
        (SpanRange(3, 5), day(5.5)),
        (SpanRange(3, lateness=HOUR), day(4)),
        (SpanRange(3, lateness=HOUR), day(4) + HOUR - datetime.timedelta(microseconds=1)),
    ],
)
def test_a_span_that_overlaps_the_future_is_refused(span: SpanRange, now: datetime.datetime) -> None:
    with pytest.raises(ValueError, match=r'span: got [35], rule: spans that are complete at 1970-01-0'):
        resolve(span, now, never)


@settings(deadline=None)
@given(
    st.sets(st.integers(0, 60), max_size=6), st.integers(0, 60), st.integers(1, 5), st.integers(0, 3),
    st.one_of(st.none(), st.integers(0, 30)), st.integers(0, 48),
)  # fmt: skip
def test_rolling_ranges(filled: set[int], at: int, count: int, skip: int, lowest: int | None, late_hours: int) -> None:
    span = SpanRange(first=lowest, count=count, skip=skip, lateness=late_hours * HOUR)
    now = day(at) + 5 * HOUR
    low = lowest or 0

    def has_data(window: TimeWindow) -> bool:
        assert window.end + span.lateness <= now
        return any(window.start <= day(n) < window.end for n in filled)

    # The plain rule, span by span.
    whole = [n for n in range(low, 61) if day(n + 1) + span.lateness <= now and n in filled]
    if not whole or whole[-1] - skip < low:
        with pytest.raises(DatasetError, match='span: got none in t, rule: a complete span with data from'):
            resolve(span, now, has_data, 't')
        return
    last = whole[-1] - skip
    first = max(low, last - count + 1)
    assert resolve(span, now, has_data) == (first, last, TimeWindow(day(first), day(last + 1)))


def test_the_latest_span_is_found_in_few_questions() -> None:
    asked = []

    def has_data(window: TimeWindow) -> bool:
        asked.append(window)
        return window.start <= day(9_000) < window.end

    assert resolve(SpanRange.parse('latest'), day(20_000), has_data).last == 9_000
    assert len(asked) <= 30


@pytest.mark.parametrize(
    ('span', 'same'), [('latest', SpanRange(count=1)), (7, SpanRange(7)), (SpanRange(7, 9), SpanRange(7, 9))]
)
def test_short_forms(span: object, same: SpanRange) -> None:
    assert SpanRange.parse(span) == same


@pytest.mark.parametrize(
    ('fields', 'message'),
    [
        ({}, 'first: got None, rule: given, or count for a rolling range'),
        ({'first': 5, 'last': 4}, 'last: got 4, rule: not before first'),
        ({'first': 1.5}, 'first: got 1.5, rule: an integer of 64 bits'),
        ({'first': 1, 'skip': 2}, 'skip: got 2, rule: only with count'),
        ({'count': 0}, 'count: got 0, rule: 1 or more spans'),
        ({'count': 2, 'last': 7}, 'last: got 7, rule: not with count'),
        ({'count': 2, 'skip': -1}, 'skip: got -1, rule: 0 or more'),
        ({'count': 1, 'length': datetime.timedelta(0)}, 'length: got datetime.timedelta'),
        ({'count': 1, 'lateness': -HOUR}, 'lateness: got'),
        ({'count': 1, 'origin': datetime.datetime(1970, 1, 1)}, 'origin: got'),
    ],
)
def test_bad_ranges(fields: dict, message: str) -> None:
    with pytest.raises(ValueError, match='rule') as caught:
        SpanRange(**fields)
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize('span', ['newest', True, 1.0, None])
def test_bad_short_forms(span: object) -> None:
    with pytest.raises(ValueError, match='span: got'):
        SpanRange.parse(span)


@pytest.mark.parametrize(
    ('span', 'now'),
    [
        (SpanRange(-(10**9)), day(4)),
        (SpanRange(-(10**18)), day(4)),
        (SpanRange(0, length=datetime.timedelta.max), EPOCH.replace(year=9999)),
        (SpanRange(0, lateness=datetime.timedelta.max), day(4)),
        (SpanRange(count=1, lateness=900_000 * DAY), day(4)),
    ],
)
def test_spans_outside_of_the_calendar_are_an_error_of_ours(span: SpanRange, now: datetime.datetime) -> None:
    with pytest.raises(
        ValueError, match=r'^(span|lateness): got .*, rule: (a moment of the years|spans that are comp)'
    ):
        resolve(span, now, never)


def test_spans_are_as_long_where_the_clock_is_put_back() -> None:
    midnight = datetime.datetime(2013, 10, 27, tzinfo=zoneinfo.ZoneInfo('Europe/Berlin'))
    span = SpanRange(0, length=HOUR, origin=midnight)
    windows = [span.window(number, number) for number in range(5)]
    assert all(window.end - window.start == HOUR for window in windows)
    assert all(span.number(window.start) == number for number, window in enumerate(windows))
    twice = midnight.replace(hour=2, minute=30)
    assert [span.number(twice), span.number(twice.replace(fold=1))] == [2, 3]


def test_skipped_spans_are_counted_by_their_numbers() -> None:
    def has_data(window: TimeWindow) -> bool:  # in spans 2 and 5
        return any(window.start <= day(number) < window.end for number in (2, 5))

    assert resolve(SpanRange(count=2, skip=1), day(9), has_data)[:2] == (3, 4)  # neither of which has data
    assert resolve(SpanRange(count=1, skip=0), day(9), has_data)[:2] == (5, 5)


@pytest.mark.parametrize('change', [{'length': 3600}, {'lateness': 1.5}, {'length': pd.Timedelta(10**9 + 1, 'ns')}])
def test_lengths_are_durations(change: dict) -> None:
    with pytest.raises(ValueError, match=f'^{next(iter(change))}: got .*, rule: (a datetime.timedelta|whole micro)'):
        SpanRange(1, **change)
