"""Shards of a join by literal tables; tests/dataset/test_join.py holds their result against that of the whole."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from tfx_cassandra.components.dataset.join import shards
from tfx_cassandra.components.dataset.join.facts import facts
from tfx_cassandra.components.dataset.spec.view import FeatureView
from tfx_cassandra.components.window import TimeWindow

WINDOW = TimeWindow.parse('1970-01-01T00:00Z/1970-01-01T00:00:00.064Z')  # a bin a millisecond
VIEW = FeatureView('v', 't', ('e',), 'ts', ('a', 'b'))
STAMP = pa.timestamp('ms', 'UTC')


def hot(times: range) -> pa.RecordBatch:
    """Facts of one entity: a value of `a` at each time, one of `b` at the first."""
    columns = {
        'e': pa.array(['x'] * len(times)),
        'ts': pa.array(list(times), STAMP),
        'a': pa.array(list(times)),
        'b': pa.array([i or None for i in range(1, 2)] + [None] * (len(times) - 1), pa.int64()),
    }
    return facts(pa.RecordBatch.from_arrays(list(columns.values()), names=list(columns)), VIEW)


@pytest.mark.parametrize('history', [1, 3])
def test_a_hot_entity_is_cut_by_time_and_each_piece_gets_what_counted_when_it_began(history: int) -> None:
    batches = [hot(range(start, start + 16)) for start in range(0, 64, 16)]
    counts = sum(shards.count_facts(batch, VIEW, WINDOW) for batch in batches)
    plan = shards.plan(counts, WINDOW, shard_rows=16)
    (pieces,) = {alike for alike in plan.of_bucket if len(alike) > 1}
    assert [(piece.start, piece.end) for piece in pieces[1:]] == [
        (16_000, 32_000),
        (32_000, 48_000),
        (48_000, 2**63 - 1),
    ]
    held: dict = {piece: set() for piece in pieces}
    for batch in batches:
        for shard, part in shards.route_facts(batch, VIEW, plan, cut_off=True, history=history):
            held[shard] |= set(part.column(part.schema.get_field_index('event')).to_pylist())
    for number, piece in enumerate(pieces):
        own = {1000 * t for t in range(16 * number, 16 * number + 16)}
        # of each earlier batch its newest `a`s, and its `b`: not its other rows
        carried = {1000 * (16 * n + last) for n in range(number) for last in (0, *range(16 - history, 16))}
        assert held[piece] == own | carried


def test_every_row_of_the_spine_goes_to_one_shard() -> None:
    rng = np.random.default_rng(3)
    entities = np.where(rng.random(500) < 0.5, 'hot', rng.integers(0, 90, 500).astype(str))
    times = pa.array(rng.integers(-5, 70, 500), pa.int64()).cast(STAMP)  # outside of the window too
    spine = pa.RecordBatch.from_arrays([pa.array(entities), times, pa.array(range(500))], names=['e', 'at', 'row'])
    plan = shards.plan(shards.count_spine(spine, VIEW, 'at', WINDOW), WINDOW, shard_rows=40)
    assert len(plan.all) > 8
    parts = [part for _, part in shards.route_spine(spine, VIEW, 'at', plan)]
    assert sorted(row for part in parts for row in part.column(2).to_pylist()) == list(range(500))
    assert max(part.num_rows for part in parts) <= 60


def test_neighbouring_buckets_share_a_shard_up_to_its_rows() -> None:
    counts = np.zeros((shards.BUCKETS, shards.BINS), np.int64)
    counts[:6, 0] = [4, 4, 4, 11, 5, 5]
    plan = shards.plan(counts, WINDOW, shard_rows=10)
    first = [alike[0].first_bucket for alike in plan.of_bucket[:7]]
    assert first == [0, 0, 2, 3, 4, 4, 4]
    assert len(plan.of_bucket[3]) == 1  # one bin cannot be cut


def test_wide_rows_count_as_several() -> None:
    view = FeatureView('v', 't', ('e',), 'ts', ('a',))
    window = TimeWindow.parse('1970-01-01T00:00Z/1970-01-02T00:00Z')

    def facts_of(size: int) -> pa.RecordBatch:
        stamps = pa.array([0] * 100, pa.int64())
        columns = {'entity 0': pa.array(['x'] * 100), 'event': stamps, 'value:a': pa.array(['v' * size] * 100)}
        return pa.RecordBatch.from_arrays([*columns.values(), stamps], [*columns, 'created:a'])

    assert shards.count_facts(facts_of(10), view, window).sum() == 100
    assert shards.count_facts(facts_of(10 * shards.ROW_BYTES), view, window).sum() == 1000
    assert shards.count_facts(facts_of(0).slice(0, 0), view, window).sum() == 0
    at = pa.array([0] * 100, pa.int64()).cast(pa.timestamp('ms', 'UTC'))
    spine = pa.RecordBatch.from_arrays([pa.array(['x'] * 100), at], ['e', 'at'])
    assert shards.count_spine(spine, view, 'at', window).sum() == 100
    assert shards.count_spine(spine, view, 'at', window, 10_000 * 8).sum() == 100 * 78
