"""The limiter, on a clock of its own."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tfx_cassandra.components.scan.limits import Limiter, quarter


def test_without_limits_nothing_waits() -> None:
    limiter = Limiter()
    assert [limiter.book(5.0, 10**9) for _ in range(3)] == [5.0] * 3


def test_pages_are_asked_for_at_the_rate() -> None:
    limiter = Limiter(rows_per_second=100)
    assert [limiter.book(0.0, 50) for _ in range(4)] == [0.0, 0.5, 1.0, 1.5]


def test_a_short_page_gives_back_what_it_did_not_use() -> None:
    limiter = Limiter(rows_per_second=100)
    assert limiter.book(0.0, 50) == 0.0
    limiter.settle(50, 10, 1000)
    assert limiter.book(0.0, 50) == pytest.approx(0.1)


@given(
    st.floats(10, 1e6),
    st.floats(1e3, 1e8),
    st.lists(
        st.tuples(st.integers(1, 100), st.floats(0, 1), st.integers(1, 400), st.floats(0, 2)), min_size=20, max_size=60
    ),
)
def test_over_any_stretch_no_more_is_read_than_the_rate_and_one_page(
    rows_rate: float, bytes_rate: float, pages: list[tuple[int, float, int, float]]
) -> None:
    limiter = Limiter(rows_rate, bytes_rate)
    now, asked = 0.0, []
    for booked, full, row_bytes, idle in pages:
        rows = int(booked * full)
        now = limiter.book(now, booked)
        asked.append((now, rows, rows * row_bytes))
        limiter.settle(booked, rows, rows * row_bytes)
        now += idle
    for i in range(len(asked)):
        for j in range(i + 1, len(asked)):
            # The last page of the stretch is not due before those before it are paid for.
            seconds = asked[j][0] - asked[i][0]
            assert sum(page[1] for page in asked[i:j]) <= seconds * rows_rate * (1 + 1e-9) + 1e-6
            assert sum(page[2] for page in asked[i:j]) <= seconds * bytes_rate * (1 + 1e-9) + 1e-6


def test_nothing_is_known_of_bytes_before_the_first_row() -> None:
    limiter = Limiter(bytes_per_second=1000)
    assert limiter.blind
    limiter.settle(1, 0, 0)
    assert limiter.blind
    limiter.settle(1, 2, 1000)
    assert not limiter.blind
    free = limiter.book(100.0, 1)
    assert limiter.book(100.0, 1) - free == pytest.approx(0.5)  # the first page's rows of 500 bytes
    assert not Limiter(rows_per_second=10).blind


def test_it_is_busy_while_a_page_would_wait() -> None:
    limiter = Limiter(rows_per_second=10)
    assert not limiter.busy(5.0)
    limiter.book(5.0, 10)
    assert limiter.busy(5.5)
    assert not limiter.busy(6.0)


@pytest.mark.parametrize(
    ('per_second', 'most', 'expected'), [(None, 7, 7), (100, 7, 7), (20, 7, 5), (0.1, 7, 1), (float('inf'), 7, 7)]
)
def test_a_page_has_a_quarter_of_a_second_s_worth(per_second: float | None, most: int, expected: int) -> None:
    assert quarter(per_second, most) == expected
