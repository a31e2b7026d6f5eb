"""Rows asked for, from literal pages."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tfx_cassandra.components.scan.page_size import GROWTH, PAGE_BYTES, PageSize


def asked(row_bytes: list[int], most: int = 5000) -> list[int]:
    """Reads rows of these sizes; returns the rows that each page was asked for."""
    size, pages, at = PageSize(most), [], 0
    while at < len(row_bytes):
        pages.append(size.rows)
        page = row_bytes[at : at + size.rows]
        at += len(page)
        size.came(len(page), sum(page))
    return pages


def test_small_rows_begin_with_one_and_grow_to_the_most() -> None:
    assert asked([100] * 12_000) == [1, 4, 16, 64, 256, 1024, 4096, 5000, 5000]


def test_large_rows_stay_at_one() -> None:
    assert asked([PAGE_BYTES] * 20) == [1] * 20
    assert asked([3 * PAGE_BYTES] * 5) == [1] * 5


def test_a_page_stays_near_its_bytes() -> None:
    assert asked([PAGE_BYTES // 10] * 50) == [1, 4, 10, 10, 10, 10, 10]


def test_one_large_row_at_the_end_of_a_page_makes_the_next_page_small() -> None:
    size = PageSize(5000, rows=200, row_bytes=10)
    size.came(200, 199 * 10 + PAGE_BYTES)
    assert size.rows == 1


def test_after_large_rows_it_grows_again() -> None:
    assert asked([PAGE_BYTES] * 3 + [10] * 30) == [1, 1, 1, 1, 4, 16, 64]


@pytest.mark.parametrize(('rows', 'size'), [(0, 0), (0, 20)])
def test_a_page_without_rows_changes_nothing(rows: int, size: int) -> None:
    page = PageSize(100, rows=7)
    page.came(rows, size)
    assert page == PageSize(100, rows=7)


def test_the_last_page_which_is_short_does_not_shrink_the_next() -> None:
    page = PageSize(5000, rows=1000, row_bytes=10)
    page.came(3, 30)
    assert page.rows == 1000


@given(st.lists(st.integers(0, 3 * PAGE_BYTES), max_size=200), st.integers(1, 100))
def test_no_page_is_expected_beyond_its_bytes_nor_grows_faster(sizes: list[int], most: int) -> None:
    page, at = PageSize(most), 0
    while at < len(sizes):
        part = sizes[at : at + page.rows]
        before, at = page.rows, at + len(part)
        page.came(len(part), sum(part))
        assert 1 <= page.rows <= min(most, GROWTH * before)
        assert page.rows == 1 or page.rows * page.row_bytes <= PAGE_BYTES
