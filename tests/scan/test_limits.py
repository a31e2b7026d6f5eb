"""The limiter, on a clock of its own."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tfx_cassandra.components.scan.limits import Limiter, page_limit


def test_without_limits_nothing_waits() -> None:
    limiter = Limiter()
    assert [limiter.reserve(5.0, 10**9) for _ in range(3)] == [5.0] * 3


def test_pages_are_requested_at_the_rate() -> None:
    limiter = Limiter(rows_per_second=100)
    assert [limiter.reserve(0.0, 50) for _ in range(4)] == [0.0, 0.5, 1.0, 1.5]


def test_a_short_page_gives_back_what_it_did_not_use() -> None:
    limiter = Limiter(rows_per_second=100)
    assert limiter.reserve(0.0, 50) == 0.0
    limiter.adjust(50, 10, 1000)
    assert limiter.reserve(0.0, 50) == pytest.approx(0.1)


@given(
    st.floats(10, 1e6),
    st.floats(1e3, 1e8),
    st.lists(
        st.tuples(st.integers(1, 100), st.floats(0, 1), st.integers(1, 400), st.floats(0, 2)), min_size=20, max_size=60
    ),
)
def test_in_any_period_no_more_is_read_than_the_rate_allows_plus_one_page(
    rows_rate: float, bytes_rate: float, pages: list[tuple[int, float, int, float]]
) -> None:
    limiter = Limiter(rows_rate, bytes_rate)
    now, requests = 0.0, []
    for reserved, full, row_bytes, idle in pages:
        rows = int(reserved * full)
        now = limiter.reserve(now, reserved)
        requests.append((now, rows, rows * row_bytes))
        limiter.adjust(reserved, rows, rows * row_bytes)
        now += idle
    for i in range(len(requests)):
        for j in range(i + 1, len(requests)):
            # The last page of the period is not due before the limits allow those before it.
            seconds = requests[j][0] - requests[i][0]
            assert sum(page[1] for page in requests[i:j]) <= seconds * rows_rate * (1 + 1e-9) + 1e-6
            assert sum(page[2] for page in requests[i:j]) <= seconds * bytes_rate * (1 + 1e-9) + 1e-6


def test_the_size_of_a_row_is_unknown_before_the_first_row() -> None:
    limiter = Limiter(bytes_per_second=1000)
    assert limiter.needs_row_size
    limiter.adjust(1, 0, 0)
    assert limiter.needs_row_size
    limiter.adjust(1, 2, 1000)
    assert not limiter.needs_row_size
    free = limiter.reserve(100.0, 1)
    assert limiter.reserve(100.0, 1) - free == pytest.approx(0.5)  # the first page's rows of 500 bytes
    assert not Limiter(rows_per_second=10).needs_row_size


def test_would_wait_until_the_reserved_rows_are_due() -> None:
    limiter = Limiter(rows_per_second=10)
    assert not limiter.would_wait(5.0)
    limiter.reserve(5.0, 10)
    assert limiter.would_wait(5.5)
    assert not limiter.would_wait(6.0)


@pytest.mark.parametrize(
    ('per_second', 'maximum', 'expected'), [(None, 7, 7), (100, 7, 7), (20, 7, 5), (0.1, 7, 1), (float('inf'), 7, 7)]
)
def test_a_page_holds_a_quarter_of_a_second_s_worth(per_second: float | None, maximum: int, expected: int) -> None:
    assert page_limit(per_second, maximum) == expected
