"""How splits become pages, ledger entries and errors, with a fake server."""

from __future__ import annotations

import dataclasses
import struct
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pytest
from cassandra import InvalidRequest, OperationTimedOut, ReadFailure, ReadTimeout, Unavailable
from counted import counted
from fake_server import NODE, TABLE, Asked, FakeSession, Row

from tfx_cassandra.components.cql.table import Identity
from tfx_cassandra.components.errors import ReadError, SchemaError
from tfx_cassandra.components.scan import fetch, identity, ledger, reading, ring, schedule
from tfx_cassandra.components.scan.area import Area, Slice
from tfx_cassandra.components.scan.fetch import Fetcher, ReadOptions
from tfx_cassandra.components.scan.ledger import Coverage, RangeRead
from tfx_cassandra.components.scan.plan import Split
from tfx_cassandra.components.scan.query import plan_scan
from tfx_cassandra.components.scan.ring import RING, TokenRange

SCAN = plan_scan(TABLE)
MB = 1 << 20
ROWS = [Row(k, n * 1000, 10) for k in range(20) for n in range(30)]


def splits(count: int = 1, first_rows: int | None = 1, replicas: tuple[str, ...] = (NODE,)) -> list[Split]:
    return [Split(Area(tokens), replicas, first_rows) for tokens in ring.subdivide([RING], count)]


def read(session: FakeSession, parts: list[Split], **options: object) -> tuple[list[tuple], Coverage]:
    """Returns the rows, sorted, and what the ledger makes of the entries."""
    rows, entries = [], []
    for found in Fetcher(session, SCAN, ReadOptions(**options)).fetch(parts):
        if isinstance(found, RangeRead):
            entries.append(found)
        else:
            rows += zip(found['k'].to_pylist(), found['at'].cast(pa.int64()).to_pylist(), strict=True)
    return sorted(rows), ledger.verified(entries)


EXPECTED = sorted((row.k, row.at) for row in ROWS)


@pytest.mark.parametrize('count', [1, 7, 100])
@pytest.mark.parametrize('page_rows', [1, 7, 5000])
def test_every_row_is_read_once_however_the_scan_is_cut(count: int, page_rows: int) -> None:
    session = FakeSession(ROWS)
    rows, coverage = read(session, splits(count), page_rows=page_rows)
    assert rows == EXPECTED
    assert (coverage.rows, coverage.pages, coverage.retries) == (len(ROWS), len(session.asked), 0)
    assert coverage.bytes == sum(page.bytes for page in session.asked)
    assert {entry.coordinator for entry in coverage.reads} == {NODE}
    assert max(page.fetch_size for page in session.asked) <= page_rows


def test_the_checksum_is_of_the_rows_whatever_the_pages() -> None:
    checksums = {read(FakeSession(ROWS), splits(n), page_rows=rows)[1].checksum for n, rows in [(1, 7), (9, 5000)]}
    assert len(checksums) == 1


def test_an_area_begins_with_the_rows_its_split_says() -> None:
    session = FakeSession(ROWS)
    read(session, splits(1, first_rows=50))
    assert [page.fetch_size for page in session.asked] == [50, 200, 800]


@pytest.mark.parametrize(
    'sizes',
    [[4 * MB] * 6, [10 * MB] * 3, [10] * 100 + [4 * MB] + [10] * 100, [MB] * 20, [4 * MB] * 3 + [10] * 300],
)
def test_pages_of_large_rows_are_small_without_a_sample(sizes: list[int]) -> None:
    session = FakeSession([Row(1, n * 1000, size) for n, size in enumerate(sizes)])
    rows, _ = read(session, splits())
    assert len(rows) == len(sizes)
    assert max(page.bytes for page in session.asked) < max(4 * MB, max(sizes)) + MB
    assert len(session.asked) < len(sizes) + 10


def test_after_a_failed_sample_rows_that_become_large_are_asked_for_few_at_a_time() -> None:
    sizes = [10] * 50 + [4 * MB] * 8
    session = FakeSession([Row(1, n * 1000, size) for n, size in enumerate(sizes)])
    read(session, splits())
    large = [page.fetch_size for page in session.asked if page.bytes > MB]
    assert large[1:] == [1] * (len(large) - 1)


def test_an_oversized_area_is_cut_while_it_is_read_and_nothing_is_read_twice() -> None:
    table = [Row(k, n, 500_000) for k in range(10) for n in range(10)]
    with counted() as grown:
        rows, coverage = read(FakeSession(table), splits())
    assert len(rows) == len(set(rows)) == 100
    assert coverage.ranges > 1
    # Each division leaves one range more, and perhaps one that was read completely before it.
    assert 0 < grown['tfx_cassandra_read_divisions_total', ('ks.t', 'size')] < coverage.ranges


@pytest.mark.parametrize(
    'error',
    [
        ReadTimeout('slow', consistency=1),
        ReadFailure('tombstones', consistency=1),
        Unavailable('away', consistency=1),
    ],
)
def test_pages_that_fail_at_times_are_retried(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, '_FIRST_BACKOFF', 0.001)
    count = iter(range(10**6))
    session = FakeSession(ROWS, failing=lambda asked: error if next(count) % 3 == 1 else None)
    with counted() as grown:
        rows, coverage = read(session, splits(3))
    assert rows == EXPECTED
    assert coverage.retries == sum(page.failed for page in session.asked) > 0
    reason = {ReadTimeout: 'slow', ReadFailure: 'refused', Unavailable: 'unreachable'}[type(error)]
    assert grown['tfx_cassandra_read_retries_total', ('ks.t', reason)] == coverage.retries
    divided = ('tfx_cassandra_read_divisions_total', ('ks.t', 'failure')) in grown
    assert divided == (reason == 'refused') or reason == 'slow'  # the latter from the fourth failure of a page on
    assert grown['tfx_cassandra_read_pages_total', ('ks.t',)] == coverage.pages
    assert grown['tfx_cassandra_read_seconds_count', ()] == coverage.pages + coverage.retries
    assert ('tfx_cassandra_read_in_flight', ()) not in grown


def test_a_retry_goes_to_the_next_replica(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, '_FIRST_BACKOFF', 0.001)

    def failing(asked: Asked) -> Exception | None:
        return Unavailable('away', consistency=1) if asked.host is not None else None

    session = FakeSession(ROWS, failing)
    rows, coverage = read(session, splits(1, replicas=(NODE, 'gone:9042')))
    assert rows == EXPECTED
    assert {entry.coordinator for entry in coverage.reads} == {'gone:9042'}  # which the driver's choice stands for


def test_an_area_that_is_never_answered_ends_with_an_error_that_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, '_FIRST_BACKOFF', 0.001)
    session = FakeSession(ROWS, failing=lambda asked: Unavailable('away', consistency=1))
    rule = rf'ks.t at LOCAL_QUORUM token range \(.*\]: not read in 7 attempts, the last of {NODE} \(Unavailable: '
    with pytest.raises(ReadError, match=rule):
        read(session, splits())
    assert len(session.asked) == reading.MAX_RETRIES + 1


def test_an_error_that_a_retry_cannot_help_is_not_retried() -> None:
    session = FakeSession(ROWS, failing=lambda asked: InvalidRequest('unconfigured table'))
    with pytest.raises(ReadError, match=r'not read in 1 attempts, .* \(InvalidRequest: unconfigured table\)'):
        read(session, splits())
    assert len(session.asked) == 1


def test_no_more_areas_are_read_at_once_than_the_limit_of_a_node(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schedule, 'PER_NODE', 3)
    session = FakeSession(ROWS)
    fetcher = Fetcher(session, SCAN).fetch(splits(50))
    next(fetcher)
    assert len(session.asked) <= 4
    assert len({(page.fetch_size, page.cql) for page in session.asked}) == 1


def test_bytes_per_second_are_limited_from_the_first_page_on() -> None:
    session = FakeSession([Row(k, 0, 50_000) for k in range(30)])
    begun = time.monotonic()
    rows, coverage = read(session, splits(10), bytes_per_second=1e6)
    seconds = time.monotonic() - begun
    assert len(rows) == 30
    assert coverage.bytes / seconds < 1.3e6
    assert max(page.bytes for page in session.asked) <= 250_000


def test_rows_per_second_are_limited() -> None:
    begun = time.monotonic()
    rows, _ = read(FakeSession(ROWS[:200]), splits(4), rows_per_second=400)
    assert len(rows) == 200
    assert 0.3 < time.monotonic() - begun < 3


def test_slices_are_asked_for_with_the_conditions_of_their_ends() -> None:
    session = FakeSession([Row(1, None, 5), *(Row(1, n, 5) for n in range(100))])
    token = Row(1, 0, 0).token
    parts = [
        Split(Area(TokenRange(ring.MIN_TOKEN, token - 1)), (NODE,)),
        *(Split(Area(TokenRange(token - 1, token), times), (NODE,)) for times in Slice().cut([30, 60])),
        Split(Area(TokenRange(token, ring.MAX_TOKEN)), (NODE,)),
    ]
    rows, coverage = [], []
    for found in Fetcher(session, SCAN).fetch(parts):
        if isinstance(found, RangeRead):
            coverage.append(found)
        else:
            rows += found.to_pylist()
    assert len(rows) == 101
    assert len({page.cql for page in session.asked}) == 4
    assert ledger.verified(coverage).rows == 101


def test_a_page_of_other_columns_than_planned_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    planned = pa.schema([pa.field('k', pa.int32(), metadata={b'cql': b'int'}), pa.field('at', pa.int64())])
    table = dataclasses.replace(TABLE, identity=Identity('id', (), planned))
    with pytest.raises(SchemaError, match=r'table: got ks.t with column at, v altered while it was read, rule: '):
        list(Fetcher(FakeSession(ROWS), dataclasses.replace(SCAN, table=table)).fetch(splits()))


def test_an_error_of_a_table_that_was_changed_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    table = dataclasses.replace(TABLE, identity=Identity('before', (), pa.schema([])))
    monkeypatch.setattr(identity, '_stored', lambda session, table: (None, ()))
    session = FakeSession(ROWS, failing=lambda asked: InvalidRequest('unconfigured table'))
    with pytest.raises(SchemaError, match=r'table: got ks\.t dropped while it was read'):
        list(Fetcher(session, dataclasses.replace(SCAN, table=table)).fetch(splits()))


def test_a_damaged_page_is_the_package_s_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Row, 'packed', lambda row: struct.pack('>i', 1000))
    with pytest.raises(ReadError):
        read(FakeSession(ROWS), splits())


class _Twice(FakeSession):
    """Answers three requests with an error, and later with their pages, as the driver may after their time is over."""

    def __init__(self, rows: list[Row]) -> None:
        super().__init__(rows)
        self._late: list[Callable[[], None]] = []

    def execute_async(self, bound: Any, **options: Any) -> SimpleNamespace:
        for answer in self._late:
            answer()
        self._late.clear()
        future = super().execute_async(bound, **options)
        answered = future.add_callbacks

        def late(came: Callable[..., None], failed: Callable[[Exception], None]) -> None:
            failed(OperationTimedOut())
            self._late.append(lambda: answered(came, failed))

        assert len(self.asked) < 1000
        if len(self.asked) in (3, 6, 9):
            future.add_callbacks = late
        return future


@pytest.mark.parametrize('count', [1, 7])
def test_a_page_that_arrives_after_its_error_is_not_read_twice(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, '_FIRST_BACKOFF', 0.001)
    rows, coverage = read(_Twice(ROWS), splits(count), page_rows=40)
    assert rows == EXPECTED
    assert coverage.rows == len(ROWS)
    assert coverage.retries


def test_limits_are_those_documented() -> None:
    assert (schedule.PER_NODE, fetch.IN_FLIGHT) == (4, 16)


def in_order(session: FakeSession, parts: list[Split], **options: object) -> list[tuple]:
    """The rows in the order in which they come."""
    found = list(Fetcher(session, SCAN, ReadOptions(**options)).fetch(parts, in_order=True))
    ledger.verified([entry for entry in found if isinstance(entry, RangeRead)])
    batches = [batch for batch in found if not isinstance(batch, RangeRead)]
    return [row for b in batches for row in zip(b['k'].to_pylist(), b['at'].cast(pa.int64()).to_pylist(), strict=True)]


@pytest.mark.parametrize('nth', [2, 5])
def test_rows_come_in_order_whatever_fails_and_however_areas_are_cut(nth: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, '_FIRST_BACKOFF', 0.001)
    table = [Row(k, n * 1000, 500_000 if k % 7 == 0 else 10) for k in range(20) for n in range(30)]
    count = iter(range(10**6))
    error = ReadTimeout('slow', consistency=1)
    session = FakeSession(table, lambda _: error if next(count) % nth == 1 else None)
    found = in_order(session, splits(5)[::-1], page_rows=40)
    assert sum(page.failed for page in session.asked)
    assert found == [(row.k, row.at) for row in sorted(table, key=lambda row: row.place)]


def test_the_first_page_is_requested_before_anything_is_taken() -> None:
    session = FakeSession(ROWS)
    Fetcher(session, SCAN).fetch(splits(3), in_order=True)
    assert len(session.asked) == 1
