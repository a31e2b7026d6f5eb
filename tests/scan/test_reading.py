"""How a reading recovers from failures, from literal cases."""

from __future__ import annotations

import pytest

from tfx_cassandra.components.cql.table import Table
from tfx_cassandra.components.scan.area import Area, Position, Slice, faults
from tfx_cassandra.components.scan.page_size import PAGE_BYTES
from tfx_cassandra.components.scan.plan import Split
from tfx_cassandra.components.scan.query import plan_scan
from tfx_cassandra.components.scan.reading import MAX_RETRIES, MAX_SPLIT_FAILURES, Failure, Reading
from tfx_cassandra.components.scan.ring import TokenRange

SCAN = plan_scan(Table('ks', 't', ('k',), ('ts',), (('k', 'int'), ('ts', 'timestamp'))))
AREA = Area(TokenRange(0, 100), Slice(0, 1000))


def reading(area: Area = AREA, replicas: tuple[str, ...] = ('a', 'b', 'c')) -> Reading:
    return Reading.of(Split(area, replicas), 1000)


def test_each_failure_asks_the_next_replica() -> None:
    current = reading()
    nodes = []
    for _ in range(4):
        nodes.append(current.node)
        current.record_failure(Failure.UNREACHABLE)
    assert nodes == ['a', 'b', 'c', 'a']
    assert reading(replicas=()).node == ''


def test_an_unreachable_node_costs_retries_but_no_smaller_page() -> None:
    current = reading()
    assert [current.record_failure(Failure.UNREACHABLE) for _ in range(MAX_RETRIES + 1)] == [True] * MAX_RETRIES + [
        False
    ]
    assert current.next_rows == 1000
    assert current.split_after_failure(SCAN, Failure.UNREACHABLE) == (None, [current])
    assert current.read.retries == MAX_RETRIES + 1


def test_a_slow_node_is_asked_for_half_the_page_then_for_half_the_area() -> None:
    current = reading()
    sizes, parts = [], []
    for _ in range(4):
        assert current.record_failure(Failure.SLOW)
        sizes.append(current.next_rows)
        done, readings = current.split_after_failure(SCAN, Failure.SLOW)
        assert done is None
        parts.append(len(readings))
    assert sizes == [500, 250, 125, 62]
    assert parts == [1, 1, 1, 2]
    assert [part.area.tokens for part in readings] == [TokenRange(0, 50), TokenRange(50, 100)]


def test_a_page_resets_the_failures_and_later_pages_let_the_page_grow_again() -> None:
    current = reading()
    for _ in range(3):
        current.record_failure(Failure.SLOW)
    for _ in range(7):
        current.record_page(125, 1000, b'next')
    assert (current.failures, current.shared_failures.count, current.next_rows) == (0, 0, 125)
    current.record_page(125, 1000, b'next')
    assert current.next_rows == 250
    for _ in range(100):
        current.record_page(125, 1000, b'next')
    assert current.next_rows == 1000


def test_failures_that_alternate_with_pages_do_not_shrink_the_page_further() -> None:
    current = reading()
    for _ in range(50):
        current.record_failure(Failure.SLOW)
        current.record_page(500, 1000, b'next')
    assert current.next_rows == 500


def test_a_refusal_cuts_at_once_down_to_a_millisecond_and_the_pieces_tile_the_area() -> None:
    waiting, entries = [reading()], []
    while waiting:
        current = waiting.pop()
        before = current.area
        current.record_failure(Failure.REFUSED)
        current.shared_failures.count = 0  # as if a page of another part had arrived
        done, parts = current.split_after_failure(SCAN, Failure.REFUSED)
        assert done is None
        if len(parts) == 1:
            entries.append(current.area)
        elif before.tokens.end <= 97:
            entries += [part.area for part in parts]  # only the last three partitions are cut all the way
        else:
            waiting += parts
        assert current.backoff(Failure.REFUSED) == 0
    assert faults(entries, [AREA]) == ([], [], [])
    assert Area(TokenRange(99, 100), Slice(500, 501)) in entries


def test_what_was_read_becomes_an_entry_and_the_rest_continues_from_its_page() -> None:
    current = reading()
    current.record_page(10, 100, b'state')
    current.read = current.read.with_page(10, 100, 7)
    current.position = Position(40, 5)
    current.record_failure(Failure.REFUSED)
    done, (rest, *fresh) = current.split_after_failure(SCAN, Failure.REFUSED)
    assert done is not None
    assert (done.area.tokens, done.rows, done.checksum, done.retries) == (TokenRange(0, 39), 10, 7, 1)
    assert rest is current
    assert (rest.area.tokens, rest.paging_state, rest.read.rows) == (TokenRange(39, 40), b'state', 0)
    assert [part.area.tokens for part in fresh] == [TokenRange(40, 70), TokenRange(70, 100)]
    assert all(part.paging_state is None and part.position is None for part in fresh)


def test_a_reading_without_a_position_is_not_cut() -> None:
    current = reading()
    current.record_page(0, 20, b'state')  # a page without rows
    current.record_failure(Failure.REFUSED)
    assert current.split_after_failure(SCAN, Failure.REFUSED) == (None, [current])


def test_an_oversized_reading_is_cut_without_a_failure() -> None:
    current = reading()
    current.record_page(10, PAGE_BYTES, b'state')
    assert not current.oversized
    for _ in range(10):
        current.record_page(10, PAGE_BYTES, b'state')
    assert current.oversized
    current.position = Position(40, 5)
    done, readings = current.split_oversized(SCAN)
    assert done is not None
    assert not current.oversized
    assert [part.failures for part in readings] == [0, 0, 0]
    assert faults([done.area, *(part.area for part in readings)], [AREA]) == ([], [], [])


def test_all_parts_of_a_split_share_a_limit_of_failures() -> None:
    waiting, failures = [reading()], 0
    while True:
        current = waiting.pop(0)
        failures += 1
        if not current.record_failure(Failure.SLOW):
            break
        waiting += current.split_after_failure(SCAN, Failure.SLOW)[1]
    assert failures == MAX_SPLIT_FAILURES + 1


def test_backoff_grows_up_to_a_maximum() -> None:
    current = reading()
    longest = []
    for _ in range(20):
        current.record_failure(Failure.SLOW)
        longest.append(max(current.backoff(Failure.SLOW) for _ in range(200)))
    assert longest[0] <= 0.2
    assert 1 < max(longest) <= 5


@pytest.mark.parametrize(('rows', 'size', 'expected'), [(1000, PAGE_BYTES, 1000), (1000, 10 * PAGE_BYTES, 100)])
def test_a_page_of_large_rows_makes_the_next_one_smaller(rows: int, size: int, expected: int) -> None:
    current = reading()
    current.record_page(rows, size, b'next')
    for _ in range(100):
        current.record_page(expected, expected * size // rows, b'next')
    assert current.next_rows == expected
