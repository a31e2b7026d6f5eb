"""How many rows each page is requested with, given literal page sizes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tfx_cassandra.components.scan.page_size import MAX_GROWTH, PAGE_BYTES, PageSize


def requested_rows(row_bytes: list[int], max_rows: int = 5000) -> list[int]:
    """Reads rows of these sizes; returns how many rows each page was requested with."""
    size, pages, at = PageSize(max_rows), [], 0
    while at < len(row_bytes):
        pages.append(size.rows)
        page = row_bytes[at : at + size.rows]
        at += len(page)
        size.record_page(len(page), sum(page))
    return pages


def test_small_rows_begin_with_one_and_grow_to_the_maximum() -> None:
    assert requested_rows([100] * 12_000) == [1, 4, 16, 64, 256, 1024, 4096, 5000, 5000]


def test_large_rows_stay_at_one() -> None:
    assert requested_rows([PAGE_BYTES] * 20) == [1] * 20
    assert requested_rows([3 * PAGE_BYTES] * 5) == [1] * 5


def test_a_page_stays_near_its_bytes() -> None:
    assert requested_rows([PAGE_BYTES // 10] * 50) == [1, 4, 10, 10, 10, 10, 10]


def test_one_large_row_at_the_end_of_a_page_makes_the_next_page_small() -> None:
    size = PageSize(5000, rows=200, row_bytes=10)
    size.record_page(200, 199 * 10 + PAGE_BYTES)
    assert size.rows == 1


def test_after_large_rows_it_grows_again() -> None:
    assert requested_rows([PAGE_BYTES] * 3 + [10] * 30) == [1, 1, 1, 1, 4, 16, 64]


@pytest.mark.parametrize(('rows', 'size'), [(0, 0), (0, 20)])
def test_a_page_without_rows_changes_nothing(rows: int, size: int) -> None:
    page = PageSize(100, rows=7)
    page.record_page(rows, size)
    assert page == PageSize(100, rows=7)


def test_a_short_last_page_does_not_shrink_the_next() -> None:
    page = PageSize(5000, rows=1000, row_bytes=10)
    page.record_page(3, 30)
    assert page.rows == 1000


@given(st.lists(st.integers(0, 3 * PAGE_BYTES), max_size=200), st.integers(1, 100))
def test_no_page_is_expected_to_exceed_its_bytes_or_grows_faster_than_the_limit(
    sizes: list[int], max_rows: int
) -> None:
    page, at = PageSize(max_rows), 0
    while at < len(sizes):
        part = sizes[at : at + page.rows]
        before, at = page.rows, at + len(part)
        page.record_page(len(part), sum(part))
        assert 1 <= page.rows <= min(max_rows, MAX_GROWTH * before)
        assert page.rows == 1 or page.rows * page.row_bytes <= PAGE_BYTES
