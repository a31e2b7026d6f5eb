"""Rows of several units: the same order whatever the pages, and from any place on."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pytest

pytest.importorskip('torch', reason='needs the extra torch (tools/torch)')

import itertools

from hypothesis import given
from hypothesis import strategies as st

from tfx_cassandra.components.errors import DatasetError
from tfx_cassandra.components.torch import blocks
from tfx_cassandra.components.torch.blocks import Start
from tfx_cassandra.components.torch.interleave import TURN_ROWS, Interleave, UnitRead

SIZES = st.lists(st.integers(0, 3 * TURN_ROWS), max_size=7)


def opener(sizes: list[int], seed: int, asked: list[int] | None = None):
    """Opens units with rows (unit, number), cut into random pages."""

    def unit_rows(unit: int) -> Iterator[pa.RecordBatch | UnitRead]:
        rng, size = np.random.default_rng((seed, unit)), sizes[unit]
        cuts = sorted({0, size, *rng.integers(0, size + 1, 4).tolist()})
        for start, end in itertools.pairwise(cuts):
            yield pa.RecordBatch.from_arrays([[unit] * (end - start), range(start, end)], ['unit', 'row'])
        yield UnitRead(unit, size, size, 8 * size, unit)

    def open_unit(unit: int) -> Iterator[pa.RecordBatch | UnitRead]:
        if asked is not None:
            asked.append(unit)
        return unit_rows(unit)

    return open_unit


def rows_of(batches: list[pa.RecordBatch]) -> list[tuple[int, int]]:
    return [(row['unit'], row['row']) for batch in batches for row in batch.to_pylist()]


def slow_order(sizes: list[int], lanes: int) -> list[tuple[int, int]]:
    """The order by the words of the module's docstring, row by row."""
    waiting = [(unit, list(range(size))) for unit, size in enumerate(sizes)]
    running, waiting, found, turn = waiting[:lanes], waiting[lanes:], [], 0
    while running:
        unit, left = running[turn]
        found += [(unit, row) for row in left[:TURN_ROWS]]
        if len(left) >= TURN_ROWS:
            running[turn] = unit, left[TURN_ROWS:]
            turn = (turn + 1) % len(running)
            continue
        # A unit that ends within a turn gives the lane, and a whole turn, to the next unit.
        if waiting:
            running[turn] = waiting.pop(0)
        else:
            del running[turn]
            turn = turn % len(running) if running else 0
    return found


@given(sizes=SIZES, lanes=st.integers(1, 4), seed=st.integers(0, 99), take=st.integers(1, 2000))
def test_the_order_is_that_of_the_rows(sizes: list[int], lanes: int, seed: int, take: int) -> None:
    rows, found = Interleave(opener(sizes, seed), range(len(sizes)), lanes), []
    while taken := rows.take(take):
        assert sum(batch.num_rows for batch in taken) == take or not rows.take(1)
        found += taken
    assert rows_of(found) == slow_order(sizes, lanes)
    assert sorted(read.unit for read in rows.done) == list(range(len(sizes)))


@given(sizes=SIZES, lanes=st.integers(1, 4), before=st.integers(0, 5000), seeds=st.tuples(st.integers(), st.integers()))
def test_a_share_continues_anywhere(sizes: list[int], lanes: int, before: int, seeds: tuple[int, int]) -> None:
    first = Interleave(opener(sizes, abs(seeds[0])), range(len(sizes)), lanes)
    first.take(before)
    done = list(first.done)
    second = Interleave(opener(sizes, abs(seeds[1])), range(len(sizes)), lanes, first.place)
    assert rows_of(second.take(10**6)) == rows_of(first.take(10**6))
    assert sorted(read.unit for read in (*done, *second.done)) == list(range(len(sizes)))


def test_units_are_requested_ahead() -> None:
    asked: list[int] = []
    rows = Interleave(opener([TURN_ROWS + 5] * 9, 0, asked), range(9), 3)
    assert asked == [0, 1, 2], 'nothing that would delay the first rows'
    rows.take(TURN_ROWS)
    assert asked == [0, 1, 2, 3, 4, 5]
    rows.take(2 * TURN_ROWS + 5)
    assert asked == [0, 1, 2, 3, 4, 5]
    rows.take(1)  # the first unit has ended, and the next one takes its place
    assert asked == [0, 1, 2, 3, 4, 5, 6]


def test_rows_that_are_gone_are_noticed() -> None:
    first = Interleave(opener([900, 900], 0), range(2), 2)
    first.take(1300)
    second = Interleave(opener([300, 900], 0), range(2), 2, first.place)
    with pytest.raises(DatasetError, match=r'^state: got 300 rows of a range of which more had been read, rule: '):
        second.take(10**6)


def batches_of(sizes: list[int], start: Start, place, seed: int | None, size: int = 100, shuffle: int = 250, **options):
    rows = Interleave(opener(sizes, 0), range(len(sizes)), 3, place)
    return blocks.batches(
        rows, size, shuffle, None if seed is None else (seed, 0, 0), start, options.get('drop', False)
    )


@given(sizes=SIZES, seed=st.one_of(st.none(), st.integers(0, 9)), stop=st.integers(0, 30))
def test_batches_are_the_rows_and_continue_anywhere(sizes: list[int], seed: int | None, stop: int) -> None:
    whole = list(batches_of(sizes, Start(), None, seed))
    assert all(batch.rows.num_rows == 100 for batch in whole[:-1])
    found = [row for batch in whole for row in rows_of([batch.rows])]
    in_order = slow_order(sizes, 3)
    assert sorted(found) == sorted(in_order)
    if seed is None:
        assert found == in_order
    else:  # a row leaves in its block of 300 rows
        for first in range(0, len(found), 300):
            assert sorted(found[first : first + 300]) == sorted(in_order[first : first + 300])
    if stop < len(whole):
        at = whole[stop]
        crc = None if at.block is None else blocks.content_crc(at.block)
        rest = list(batches_of(sizes, Start(at.number, at.batches, crc), at.place, seed))
        assert [rows_of([batch.rows]) for batch in rest] == [rows_of([batch.rows]) for batch in whole[stop + 1 :]]


def test_a_block_of_other_rows_is_noticed() -> None:
    at = next(iter(batches_of([900], Start(), None, 1)))
    assert at.block is not None
    with pytest.raises(DatasetError, match=r'^state: got other rows in the ranges that it continues in, rule: '):
        next(iter(batches_of([900], Start(at.number, at.batches, blocks.content_crc(at.block) ^ 1), at.place, 1)))


def test_a_small_last_batch_is_dropped_if_asked() -> None:
    kept = list(batches_of([250], Start(), None, 1, drop=True))
    assert [(batch.rows.num_rows, batch.dropped) for batch in kept] == [(100, False), (100, False), (50, True)]


COLUMNS = [
    pa.array([1, None, 3], pa.int16()), pa.array([0.5, None, float('nan')]), pa.array([True, None, False]),
    pa.array(['a', None, 'bc']), pa.array([b'', None, b'x']), pa.array([[1, 2], None, []], pa.list_(pa.int32())),
    pa.array([[1.0, 2.0], None, [3.0, 4.0]], pa.list_(pa.float32(), 2)), pa.array([['x'], None, ['y', '']]),
    pa.array([1, None, 2], pa.timestamp('ms')),
]  # fmt: skip


@pytest.mark.parametrize('column', COLUMNS, ids=lambda column: str(column.type))
def test_the_crc_is_that_of_the_values_alone(column: pa.Array) -> None:
    def crc(*chunks: pa.Array) -> int:
        return blocks.content_crc(pa.Table.from_arrays([pa.chunked_array(chunks)], ['c']).combine_chunks())

    padded = pa.concat_arrays([column.slice(2), column, column.slice(0, 1)])
    assert crc(column) == crc(padded.slice(1, 3)) == crc(column.slice(0, 1), column.slice(1))
    others = [column.take(pa.array(order)) for order in ([2, 1, 0], [0, 0, 2], [0, 1], [0, None, 1], [1, 1, 1])]
    assert len({crc(column), *map(crc, others)}) == 6
