"""How a scan is cut into splits, from literal rings and sizes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tfx_cassandra.components.cql.table import Table
from tfx_cassandra.components.scan import ring
from tfx_cassandra.components.scan.area import Slice, faults
from tfx_cassandra.components.scan.page_size import PAGE_BYTES
from tfx_cassandra.components.scan.plan import (
    GROUP_BYTES,
    MIN_SPLITS,
    SPLIT_BYTES,
    Giant,
    OwnedRange,
    Plan,
    Sample,
    SizeEstimate,
    plan,
    table_bytes,
)
from tfx_cassandra.components.scan.query import plan_scan
from tfx_cassandra.components.scan.ring import RING, TokenRange
from tfx_cassandra.components.window import TimeWindow

TABLE = Table('ks', 't', ('k',), ('ts',), (('k', 'int'), ('ts', 'timestamp')))
SCAN = plan_scan(TABLE)
WINDOW = TimeWindow.parse('2013-01-01T00:00Z/2013-01-02T00:00Z')
DAY = Slice(*WINDOW.bounds)
NODES = ('a', 'b', 'c')
RF3 = [
    OwnedRange(tokens, NODES[i % 3 :] + NODES[: i % 3])
    for i, tokens in enumerate(ring.ring_ranges(range(ring.MIN_TOKEN, ring.MAX_TOKEN, 2**59)))
]
ONE = [OwnedRange(RING, ('a',))]


def tiles(planned: Plan) -> bool:
    return faults([split.area for split in planned.splits], planned.wanted) == ([], [], [])


@given(
    st.lists(st.integers(ring.MIN_TOKEN, ring.MAX_TOKEN), max_size=20),
    st.lists(st.integers(ring.MIN_TOKEN + 1, ring.MAX_TOKEN), max_size=5, unique=True),
    st.none() | st.lists(st.integers(ring.MIN_TOKEN + 1, ring.MAX_TOKEN), max_size=5, unique=True),
    st.integers(0, 10**9),
    st.none() | st.integers(1, 100),
    st.booleans(),
)
def test_the_splits_tile_the_wanted_areas_and_none_crosses_a_node_range(
    tokens: list[int], giants: list[int], keys: list[int] | None, size: int, min_splits: int | None, windowed: bool
) -> None:
    owned = [OwnedRange(part, (f'n{i % 3}',)) for i, part in enumerate(ring.ring_ranges(tokens))]
    scan = plan_scan(TABLE, window=WINDOW if windowed else None)
    seen = tuple(Giant(token, DAY.start + 5, DAY.end + 5, size) for token in giants)
    planned = plan(scan, owned, sample=Sample(100, size, 0.5, seen), keys=keys, min_splits=min_splits)
    assert tiles(planned)
    for split in planned.splits:
        (owner,) = [
            o for o in owned if o.tokens.start <= split.area.tokens.start and split.area.tokens.end <= o.tokens.end
        ]
        assert split.replicas == owner.replicas
    if min_splits and keys is None:
        assert len(planned.splits) >= min_splits


@pytest.mark.parametrize(
    ('estimates', 'sample', 'expected'),
    [
        ([], Sample(), 0),
        ([], Sample(10, 1000, 1.0), 1000),  # the sample was all of it
        ([SizeEstimate(RING, 128, 500)], Sample(10, 1000, 1.0), 1000),  # whatever the nodes state
        ([SizeEstimate(RING, 100, 50)], Sample(), 5000),
        ([SizeEstimate(TokenRange(ring.MIN_TOKEN, -1), 100, 50)], Sample(), 10_000),  # one of two nodes answered
        ([SizeEstimate(RING, 100, 50)], Sample(10, 1000, 0.01), 100_000),  # what is not yet flushed
        ([SizeEstimate(RING, 100, 5000)], Sample(10, 1000, 0.01), 500_000),
    ],
)
def test_sizes(estimates: list[SizeEstimate], sample: Sample, expected: int) -> None:
    assert table_bytes(estimates, sample) == pytest.approx(expected)


def test_the_size_decides_how_many_splits_there_are() -> None:
    assert len(plan(SCAN, ONE).splits) == MIN_SPLITS
    assert len(plan(SCAN, ONE, sample=Sample(10, 50 * SPLIT_BYTES, 0.5)).splits) == 128
    assert len(plan(SCAN, ONE, sample=Sample(10, 60 * SPLIT_BYTES, 0.5)).splits) == 128
    assert len(plan(SCAN, ONE, sample=Sample(10, 50 * SPLIT_BYTES, 0.5), min_splits=3).splits) == 3


def test_groups_are_of_one_replica_set_and_about_one_size() -> None:
    owned = [OwnedRange(tokens, (f'n{i % 2}',)) for i, tokens in enumerate(RING.split(4))]
    planned = plan(SCAN, owned, sample=Sample(10, 4 * GROUP_BYTES, 1.0))
    assert len(planned.groups) == 4
    assert all(len({split.replicas for split in group}) == 1 for group in planned.groups)
    assert len(plan(SCAN, owned, sample=Sample(10, 4 * GROUP_BYTES, 1.0), one_worker=True).groups) == 1


def test_the_replicas_of_a_set_are_asked_in_turn() -> None:
    first = [split.replicas[0] for split in plan(SCAN, RF3, min_splits=300).splits]
    assert all(first.count(node) == pytest.approx(len(first) / 3, rel=0.05) for node in NODES)


def test_a_giant_partition_is_read_in_slices_of_the_window_where_its_rows_are() -> None:
    scan = plan_scan(TABLE, window=WINDOW)
    noon = (DAY.start + DAY.end) // 2
    planned = plan(scan, RF3, sample=Sample(500, 40_000, 0.01, (Giant(7, DAY.start - 10**9, noon, SPLIT_BYTES),)))
    slices = [split.area.times for split in planned.splits if split.area.tokens == TokenRange(6, 7)]
    assert tiles(planned)
    assert len(slices) == 16
    assert slices[0].start == DAY.start
    assert slices[-1].end == DAY.end
    assert all(piece.end - piece.start == pytest.approx((noon - DAY.start) / 16, abs=2) for piece in slices[:-1])


def test_a_giant_partition_has_a_range_of_its_own_and_slices_by_its_size() -> None:
    giant = Giant(7, 0, 10**6, 30 * SPLIT_BYTES)
    planned = plan(SCAN, ONE, sample=Sample(500, 40_000, 0.01, (giant,)), min_splits=1)
    ranges = [TokenRange(ring.MIN_TOKEN, 6), *[TokenRange(6, 7)] * 120, TokenRange(7, ring.MAX_TOKEN)]
    assert [split.area.tokens for split in planned.splits] == ranges


def test_only_the_partitions_wanted() -> None:
    planned = plan(SCAN, RF3, keys=[5, -5])
    assert [split.area.tokens for split in planned.splits] == [TokenRange(-6, -5), TokenRange(4, 5)]
    assert tiles(planned)
    assert plan(SCAN, RF3, keys=[]).splits == []


@pytest.mark.parametrize(('row_bytes', 'expected'), [(10, 5000), (PAGE_BYTES // 100, 100), (2 * PAGE_BYTES, 1)])
def test_large_rows_make_small_pages(row_bytes: int, expected: int) -> None:
    assert plan(SCAN, ONE, sample=Sample(10, 10 * row_bytes, 0.1)).page_rows == expected


@pytest.mark.parametrize(
    ('sample', 'expected'),
    [
        (Sample(1, 1 << 20, 0.99, partitions=1), 200 << 20),  # one partition; its range's files count as 384
        (Sample(80, 8000, 0.5, partitions=50), 100 * (200 << 20)),
        (Sample(80, 8000, 0.001, partitions=50), 384 * (200 << 20)),  # not more than is stated
        (Sample(80, 8000, 0.001), 384 * (200 << 20)),  # nobody has counted
    ],
)
def test_the_sample_corrects_the_nodes_estimate_of_partitions(sample: Sample, expected: int) -> None:
    estimates = [
        SizeEstimate(TokenRange(ring.MIN_TOKEN, 0), 0, 0),
        SizeEstimate(TokenRange(0, ring.MAX_TOKEN), 384, 200 << 20),
    ]
    assert table_bytes(estimates, sample) == pytest.approx(expected, rel=0.02)


@pytest.mark.parametrize(
    ('sample', 'first', 'max_rows'),
    [
        (Sample(), 1, 5000),  # which failed
        (Sample(10, 1000, 0.1), 80, 5000),
        (Sample(1000, 100_000, 0.1), 5000, 5000),
        (Sample(1000, 100_000, 0.1, last_bytes=PAGE_BYTES), 2, 2),  # rows have become large
        (Sample(1000, 1000 * PAGE_BYTES, 0.1), 1, 1),
    ],
)
def test_the_first_page_of_an_area_depends_on_the_rows_of_the_sample(sample: Sample, first: int, max_rows: int) -> None:
    planned = plan(SCAN, ONE, sample=sample)
    assert planned.page_rows == max_rows
    assert {split.first_rows for split in planned.splits} == {first}
