"""Streams of partitions that are written here, byte by byte: memory, the order of reading, and what is refused."""

from __future__ import annotations

import itertools
import os
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from murmur3 import key_of
from written_streams import LIVE, PLAN, batches, feed, merged, partition, row, stream, vint

from tfx_cassandra.components.errors import ReadError
from tfx_cassandra.components.sstable import data
from tfx_cassandra.components.sstable.layout import Part


def test_memory_does_not_grow_with_the_files() -> None:
    count = 60_000
    held, found, last = [], 0, -1
    merger = merged(*(partition(0, (row(n, b'x' * 50) for n in range(i, count, 4))) for i in range(4)))
    for rows, cells in batches(merger):
        numbers = [int.from_bytes(cells[1].value(i), 'big') for i in (0, rows - 1)]
        assert numbers[0] == last + 1
        found, last = found + rows, numbers[1]
        held.append(merger.held)
    assert (found, len(held)) == (count, 60)
    assert max(held) == max(held[:2]) < 1 << 18


def test_a_window_holds_a_row_whatever_its_size() -> None:
    sizes = [10, 3_000_000, 10, 200_000, 0]
    content = b''.join(partition(0, [row(n, b'v' * size) for n, size in enumerate(sizes)]))
    merger = merged([content[i : i + 1000] for i in range(0, len(content), 1000)], size=1000)
    assert [len(cells[2].value(i)) for rows, cells in batches(merger) for i in range(rows)] == sizes


def test_a_batch_of_repeated_keys_is_bounded_by_what_they_take_once_more_for_each_row() -> None:
    sizes = [rows for rows, _ in batches(merged(partition(0, (row(n, b'') for n in range(1000))), size=1600))]
    assert sum(sizes) == 1000
    assert max(sizes) <= 100  # of 16 bytes of key each


def test_an_sstable_is_opened_when_its_first_partition_is_due() -> None:
    """Thousands of SSTables may belong to a table: only those that have the partition at hand take memory."""
    tokens = range(0, 1000, 5)
    opened: list[int] = []

    def opening(token: int) -> Callable[[], bytes]:
        pieces = partition(token, [row(1, b'a' * 100)])

        def following() -> bytes:
            opened.append(token)
            return next(pieces, b'')

        return following

    streams = [stream(f'nb-{token}-big', Part(key_of(token))) for token in tokens]
    merger = data.Merger(PLAN, streams, map(opening, tokens), 0, 1, 1 << 20)
    for i, (rows, _) in enumerate(batches(merger)):
        assert rows == 1
        assert len(set(opened)) <= i + 2
        assert merger.held < 1 << 18
    assert merger.counts == [(1, 1)] * len(tokens)


def test_the_first_partition_must_be_the_one_that_is_named() -> None:
    merger = data.Merger(PLAN, [stream(part=Part(key_of(3)))], [feed(partition(4, [row(1, b'a')]))], 0, 10, 1000)
    with pytest.raises(
        ReadError, match=r'^nb-1-big: got another first partition than its other files name, about byte 0'
    ):
        merger.batch()


@pytest.mark.parametrize('tokens', [(4, 3), (4, 4)])
def test_partitions_out_of_order(tokens: tuple[int, int]) -> None:
    merger = merged(itertools.chain.from_iterable(partition(token, [row(1, b'a')]) for token in tokens))
    with pytest.raises(
        ReadError, match=r'^nb-0-big: got partitions out of order, about byte \d+ of its data, rule: an'
    ):
        list(batches(merger))


def test_partitions_of_one_token_are_ordered_by_key() -> None:
    first, second = sorted(key_of(5, salt) for salt in (0, 1))
    pieces = [[struct.pack('>H', 16) + key + LIVE, row(1, key), b'\x01'] for key in (first, second)]
    merger = merged(pieces[1], pieces[0])
    ((_, cells),) = batches(merger)
    assert [cells[0].value(i) for i in range(2)] == [cells[2].value(i) for i in range(2)] == [first, second]


@pytest.mark.parametrize('cut', [1, 2, 20, 31, 33, 40, -1])
def test_an_end_within_a_partition(cut: int) -> None:
    content = b''.join(partition(0, [row(1, b'abc')]))[:cut]
    with pytest.raises(
        ReadError, match=rf'^nb-0-big: got an end within a partition, at byte {len(content)} of its data'
    ):
        list(batches(merged([content])))


@pytest.mark.parametrize(
    ('item', 'message'),
    [
        (row(1, b'a', flags=0xA4), 'a row of a materialized view, or a static row among others'),
        (b'\x03', "a partition's end with unknown flags"),
        (row(1, b'a')[:-1] + b'aa', 'a partition'),
        (b'\x24\x00' + b'\0' * 4 + vint(2**32), r'a row of more than 2\^31 bytes'),
        (b'\x24\x00' + b'\0' * 4 + vint(2) + b'\0\0', 'a row that ends outside its size'),
        (b'\x24\x00' + b'\0' * 4 + vint(9) + b'\0\0\x08\1aXXXX', 'a row that ends within its size'),
        (b'\x24\x00' + b'\0' * 4 + vint(4) + b'\0\0\x40\1', 'a cell with unknown flags'),
        (b'\x24\x00' + b'\0' * 4 + vint(4) + b'\0\0\x03\1', 'a cell with unknown flags'),
        (b'\x04\x00' + b'\0' * 4 + vint(4) + b'\0\0\x02\0', 'a row with unknown columns'),
        (b'\x02\x03\0\0\0\0', 'a range tombstone of an unknown kind'),
        (b'\x02\x01\0\2\0\0', 'a range tombstone of an unknown kind'),
        (b'\x02\x01\0\0' + vint(4) + b'\0\0\0\0', 'a range tombstone that ends within its size'),
    ],
)
def test_what_is_no_partition(item: bytes, message: str) -> None:
    content = b''.join(partition(0, [item]))
    with pytest.raises(ReadError, match=f'^nb-0-big: got {message}'):
        list(batches(merged([content])))


def test_write_times_are_exact() -> None:
    times = [0, 1, 127, 128, 2**14, 2**40, 2**62]
    merger = merged(partition(0, [row(n, b'', time) for n, time in enumerate(times)]))
    count, _, (written,) = merger.batch()
    assert np.frombuffer(written, np.int64).tolist() == times
    assert count == len(times)


def test_a_merger_may_be_collected_with_a_cycle() -> None:
    """In a process of its own, which memory that is used after it was freed would end."""
    program = """
import gc
from tfx_cassandra.components.sstable import data
from written_streams import PLAN, stream

merger = data.Merger.__new__(data.Merger)  # which is older, and so cleared before, what holds it
merger.__init__(PLAN, [stream()], [merger.batch], 0, 10, 1000)
del merger
gc.collect()
"""
    overwritten = {**os.environ, 'MALLOC_PERTURB_': '165'}  # what is freed
    subprocess.run(
        [sys.executable, '-c', program], check=True, env=overwritten, cwd=Path(__file__).parents[1] / 'instruments'
    )
