"""Batches are gathered in their order, up to a number of rows and of bytes."""

from __future__ import annotations

import apache_beam as beam
import pyarrow as pa
import pytest
from apache_beam.testing.util import assert_that

from tfx_cassandra.components.dataset.files.gather import gathered
from tfx_cassandra.components.dataset.files.spool import Gather


def batch(*numbers: int) -> pa.RecordBatch:
    return pa.RecordBatch.from_arrays([pa.array(numbers, pa.int64())], ['n'])


@pytest.mark.parametrize(
    ('sizes', 'rows', 'expected'),
    [
        ([], 4, []),
        ([0, 0], 4, []),
        ([2, 2], 4, [4]),
        ([2, 0, 3], 4, [2, 3]),
        ([1, 9, 1, 1], 4, [1, 9, 2]),  # a larger one is not cut
        ([1] * 9, 4, [4, 4, 1]),
    ],
)
def test_rows_keep_their_order(sizes: list[int], rows: int, expected: list[int]) -> None:
    given = [batch(*range(sum(sizes[:i]), sum(sizes[: i + 1]))) for i in range(len(sizes))]
    got = list(gathered(iter(given), rows))
    assert [part.num_rows for part in got] == expected
    assert [n for part in got for n in part.column(0).to_pylist()] == list(range(sum(sizes)))


def test_wide_rows_are_bounded_by_their_bytes() -> None:
    got = gathered((batch(n).slice(0) for n in range(10)), rows=100, size=8 * 3)
    assert [part.num_rows for part in got] == [3, 3, 3, 1]


def test_a_bundle_is_gathered_whole() -> None:
    def check(parts: list[pa.RecordBatch]) -> None:
        assert sorted(n for part in parts for n in part.column(0).to_pylist()) == list(range(40))
        assert len(parts) <= 4  # a bundle or so for each processor

    with beam.Pipeline() as pipeline:
        parts = pipeline | beam.Create(range(40)) | beam.Map(batch) | beam.ParDo(Gather())
        assert_that(parts, check)
