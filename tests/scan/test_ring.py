"""Ranges `(start, end]` of the ring."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tfx_cassandra.components.scan import ring
from tfx_cassandra.components.scan.area import Area, faults
from tfx_cassandra.components.scan.ring import MAX_TOKEN, MIN_TOKEN, TokenRange

tokens = st.integers(MIN_TOKEN, MAX_TOKEN)


@pytest.mark.parametrize(
    ('nodes', 'expected'),
    [
        ([], [(MIN_TOKEN, MAX_TOKEN)]),
        ([0], [(MIN_TOKEN, 0), (0, MAX_TOKEN)]),  # the range that wraps around, in two
        ([5, -5], [(MIN_TOKEN, -5), (-5, 5), (5, MAX_TOKEN)]),
        ([MAX_TOKEN], [(MIN_TOKEN, MAX_TOKEN)]),
        ([MIN_TOKEN, 7], [(MIN_TOKEN, 7), (7, MAX_TOKEN)]),
        ([3, 3], [(MIN_TOKEN, 3), (3, MAX_TOKEN)]),
    ],
)
def test_ring_ranges(nodes: list[int], expected: list[tuple[int, int]]) -> None:
    assert ring.ring_ranges(nodes) == [TokenRange(*bounds) for bounds in expected]


@pytest.mark.parametrize(
    ('count', 'expected'),
    [(1, [(0, 10)]), (2, [(0, 5), (5, 10)]), (3, [(0, 3), (3, 6), (6, 10)]), (11, [(i, i + 1) for i in range(10)])],
)
def test_split(count: int, expected: list[tuple[int, int]]) -> None:
    assert TokenRange(0, 10).split(count) == [TokenRange(*bounds) for bounds in expected]


@given(st.lists(tokens, max_size=50), st.integers(1, 300))
def test_splits_tile_the_ring_and_keep_to_the_nodes_ranges(nodes: list[int], count: int) -> None:
    ranges = ring.ring_ranges(nodes)
    splits = ring.subdivide(ranges, count)
    assert faults([Area(split) for split in splits]) == ([], [], [])
    assert len(splits) >= count
    assert len(splits) <= count + len(ranges)
    assert all(any(r.start <= s.start and s.end <= r.end for r in ranges) for s in splits)


@pytest.mark.parametrize('bounds', [(0, 0), (1, 0), (MIN_TOKEN - 1, 0), (0, MAX_TOKEN + 1)])
def test_a_range_has_a_start_before_its_end(bounds: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match='token range'):
        TokenRange(*bounds)
