"""What a failure calls for, from literal readings."""

from __future__ import annotations

import pytest

from tfx_cassandra.components.cql.table import Table
from tfx_cassandra.components.scan.area import Area, Position, Slice, faults
from tfx_cassandra.components.scan.page_size import PAGE_BYTES
from tfx_cassandra.components.scan.plan import Split
from tfx_cassandra.components.scan.query import plan_scan
from tfx_cassandra.components.scan.reading import BUDGET, RETRIES, Reading, Trouble
from tfx_cassandra.components.scan.ring import TokenRange

SCAN = plan_scan(Table('ks', 't', ('k',), ('ts',), (('k', 'int'), ('ts', 'timestamp'))))
AREA = Area(TokenRange(0, 100), Slice(0, 1000))


def reading(area: Area = AREA, replicas: tuple[str, ...] = ('a', 'b', 'c')) -> Reading:
    return Reading.of(Split(area, replicas), 1000)


def test_each_failure_asks_the_next_replica() -> None:
    one = reading()
    nodes = []
    for _ in range(4):
        nodes.append(one.node)
        one.failed(Trouble.UNREACHED)
    assert nodes == ['a', 'b', 'c', 'a']
    assert reading(replicas=()).node == ''


def test_a_node_that_is_not_reached_costs_retries_and_nothing_else() -> None:
    one = reading()
    assert [one.failed(Trouble.UNREACHED) for _ in range(RETRIES + 1)] == [True] * RETRIES + [False]
    assert one.size == 1000
    assert one.divided(SCAN, Trouble.UNREACHED) == (None, [one])
    assert one.read.retries == RETRIES + 1


def test_a_slow_node_is_asked_for_half_the_page_then_for_half_the_area() -> None:
    one = reading()
    sizes, parts = [], []
    for _ in range(4):
        assert one.failed(Trouble.SLOW)
        sizes.append(one.size)
        done, readings = one.divided(SCAN, Trouble.SLOW)
        assert done is None
        parts.append(len(readings))
    assert sizes == [500, 250, 125, 62]
    assert parts == [1, 1, 1, 2]
    assert [part.area.tokens for part in readings] == [TokenRange(0, 50), TokenRange(50, 100)]


def test_a_page_that_comes_forgives_and_later_ones_let_the_page_grow_again() -> None:
    one = reading()
    for _ in range(3):
        one.failed(Trouble.SLOW)
    for _ in range(7):
        one.came(125, 1000, b'next')
    assert (one.failures, one.budget.failures, one.size) == (0, 0, 125)
    one.came(125, 1000, b'next')
    assert one.size == 250
    for _ in range(100):
        one.came(125, 1000, b'next')
    assert one.size == 1000


def test_failures_that_alternate_with_pages_do_not_shrink_the_page_further() -> None:
    one = reading()
    for _ in range(50):
        one.failed(Trouble.SLOW)
        one.came(500, 1000, b'next')
    assert one.size == 500


def test_a_refusal_cuts_at_once_down_to_a_moment_and_the_pieces_tile_the_area() -> None:
    waiting, entries = [reading()], []
    while waiting:
        one = waiting.pop()
        before = one.area
        one.failed(Trouble.TOO_MUCH)
        one.budget.failures = 0  # as if some other part had come
        done, parts = one.divided(SCAN, Trouble.TOO_MUCH)
        assert done is None
        if len(parts) == 1:
            entries.append(one.area)
        elif before.tokens.end <= 97:
            entries += [part.area for part in parts]  # only the last three partitions go all the way
        else:
            waiting += parts
        assert one.pause(Trouble.TOO_MUCH) == 0
    assert faults(entries, [AREA]) == ([], [], [])
    assert Area(TokenRange(99, 100), Slice(500, 501)) in entries


def test_what_was_read_is_an_entry_of_its_own_and_the_rest_goes_on_from_its_page() -> None:
    one = reading()
    one.came(10, 100, b'state')
    one.read = one.read.with_page(10, 100, 7)
    one.position = Position(40, 5)
    one.failed(Trouble.TOO_MUCH)
    done, (rest, *fresh) = one.divided(SCAN, Trouble.TOO_MUCH)
    assert done is not None
    assert (done.area.tokens, done.rows, done.checksum, done.retries) == (TokenRange(0, 39), 10, 7, 1)
    assert rest is one
    assert (rest.area.tokens, rest.paging_state, rest.read.rows) == (TokenRange(39, 40), b'state', 0)
    assert [part.area.tokens for part in fresh] == [TokenRange(40, 70), TokenRange(70, 100)]
    assert all(part.paging_state is None and part.position is None for part in fresh)


def test_a_read_whose_place_is_unknown_is_not_cut() -> None:
    one = reading()
    one.came(0, 20, b'state')  # a page without rows
    one.failed(Trouble.TOO_MUCH)
    assert one.divided(SCAN, Trouble.TOO_MUCH) == (None, [one])


def test_a_read_that_turns_out_oversized_is_cut_without_a_failure() -> None:
    one = reading()
    one.came(10, PAGE_BYTES, b'state')
    assert not one.oversized
    for _ in range(10):
        one.came(10, PAGE_BYTES, b'state')
    assert one.oversized
    one.position = Position(40, 5)
    done, readings = one.shared(SCAN)
    assert done is not None
    assert not one.oversized
    assert [part.failures for part in readings] == [0, 0, 0]
    assert faults([done.area, *(part.area for part in readings)], [AREA]) == ([], [], [])


def test_all_parts_of_a_split_share_a_budget() -> None:
    waiting, failures = [reading()], 0
    while True:
        one = waiting.pop(0)
        failures += 1
        if not one.failed(Trouble.SLOW):
            break
        waiting += one.divided(SCAN, Trouble.SLOW)[1]
    assert failures == BUDGET + 1


def test_pauses_grow_and_have_an_end() -> None:
    one = reading()
    longest = []
    for _ in range(20):
        one.failed(Trouble.SLOW)
        longest.append(max(one.pause(Trouble.SLOW) for _ in range(200)))
    assert longest[0] <= 0.2
    assert 1 < max(longest) <= 5


@pytest.mark.parametrize(('rows', 'size', 'expected'), [(1000, PAGE_BYTES, 1000), (1000, 10 * PAGE_BYTES, 100)])
def test_a_page_of_large_rows_makes_the_next_one_smaller(rows: int, size: int, expected: int) -> None:
    one = reading()
    one.came(rows, size, b'next')
    for _ in range(100):
        one.came(expected, expected * size // rows, b'next')
    assert one.size == expected
