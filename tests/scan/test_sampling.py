"""What a sample requests of a server and which statistics it returns, from tables of given sizes."""

from __future__ import annotations

import pytest
from cassandra import ReadTimeout
from fake_server import TABLE, FakeSession, Row

from tfx_cassandra.components.scan.plan import SPLIT_BYTES
from tfx_cassandra.components.scan.query import plan_scan
from tfx_cassandra.components.scan.sampling import Bounds, sample

SCAN = plan_scan(TABLE)
MB = 1 << 20


def partition(sizes: list[int], k: int = 1) -> list[Row]:
    return [Row(k, n * 1000, size) for n, size in enumerate(sizes)]


@pytest.mark.parametrize(
    'sizes',
    [
        [4 * MB] * 50,
        [10 * MB] * 10,
        [MB] * 50,
        [10] * 199 + [4 * MB] * 50,
        [4 * MB] + [10] * 1000,
        [10, 10, 4 * MB, 10] * 20,
        [10] * 21 + [2 * MB] * 30,
    ],
)
def test_no_page_is_large_whatever_the_rows_are(sizes: list[int]) -> None:
    session = FakeSession(partition(sizes))
    sample(session, SCAN)
    assert session.asked[0].fetch_size == 1
    assert max(page.fetch_size for page in session.asked) <= 64
    assert max(page.bytes for page in session.asked) < max(sizes) + MB
    assert sum(page.bytes for page in session.asked) <= 8 * MB + 2 * max(sizes)


def test_a_table_of_few_rows_is_known_whole() -> None:
    session = FakeSession([Row(k, 0, 100) for k in range(100)])
    found = sample(session, SCAN)
    assert (found.rows, found.partitions, found.share, found.giants) == (100, 100, 1.0, ())


def test_an_empty_table() -> None:
    found = sample(FakeSession([]), SCAN)
    assert (found.rows, found.bytes, found.partitions, found.share) == (0, 0, 0, 1.0)


def test_partitions_are_counted_by_their_density() -> None:
    found = sample(FakeSession([Row(k, 0, 10) for k in range(20_000)]), SCAN)
    assert found.partitions / found.share == pytest.approx(20_000, rel=0.15)
    assert found.rows / found.share == pytest.approx(20_000, rel=0.15)


def test_the_last_row_of_a_large_partition_shows_how_large_rows_have_become() -> None:
    found = sample(FakeSession(partition([10] * 500 + [3 * MB])), SCAN)
    assert 3 * MB < found.last_bytes < 3 * MB + 100
    assert found.partitions == 1


def test_a_giant_partition_is_found_by_its_times_although_the_first_row_has_none() -> None:
    rows = [Row(1, None, 10), *partition([1000] * 20_000)]
    (giant,) = sample(FakeSession(rows), SCAN).giants
    assert (giant.oldest, giant.newest) == (0, 19_999_000)
    assert giant.bytes > SPLIT_BYTES


def test_only_the_partitions_wanted_are_sampled() -> None:
    rows = [Row(k, 0, 10) for k in range(1000)]
    found = sample(FakeSession(rows), SCAN, [rows[3].token, rows[5].token])
    assert (found.rows, found.share) == (2, 1.0)


def test_a_sample_keeps_to_rows_per_second_and_page_rows() -> None:
    session = FakeSession(partition([10] * 1000))
    sample(session, SCAN, bounds=Bounds(page_rows=3))
    assert max(page.fetch_size for page in session.asked) == 3


def test_a_sample_keeps_to_bytes_per_second() -> None:
    session = FakeSession([Row(k, 0, 1000) for k in range(2000)])
    sample(session, SCAN, bounds=Bounds(bytes_per_second=10_000))
    assert sum(page.bytes for page in session.asked) < 4 * 10_000  # of two seconds, and the page that ends it
    assert max(page.bytes for page in session.asked) <= 4 * 1100


def test_a_sample_of_a_failing_cluster_ends_after_two_failures() -> None:
    session = FakeSession(partition([10] * 1000), failing=lambda asked: ReadTimeout('slow', consistency=1))
    found = sample(session, SCAN)
    assert (found.rows, found.share, len(session.asked)) == (0, 0.0, 2)


def test_places_like_the_previous_one_take_few_pages() -> None:
    session = FakeSession([Row(k, n, 100) for k in range(2000) for n in range(3)])
    sample(session, SCAN)
    assert [page.fetch_size for page in session.asked[:5]] == [1, 1, 4, 16, 64]
    assert len(session.asked) <= 5 + 7 * 4


def test_each_place_begins_with_one_row_whatever_the_previous_ones_had() -> None:
    small = [Row(k, n, 10) for k in range(2000) for n in range(3)]
    token = sorted(row.token for row in small)[5000]
    large = [Row(k, n, 4 * MB) for k in range(2000, 2200) if Row(k, 0, 0).token > token for n in range(2)]
    session = FakeSession([row for row in small if row.token <= token] + large)
    sample(session, SCAN)
    assert max(page.bytes for page in session.asked) < 5 * MB
