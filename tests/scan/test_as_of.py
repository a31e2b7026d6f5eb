"""Rows as of a reference time, compared with a plain rule."""

from __future__ import annotations

import datetime

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tfx_cassandra.components.scan.as_of import kept, microseconds
from tfx_cassandra.components.window import EPOCH

cells = st.one_of(st.none(), st.tuples(st.integers(), st.integers(0, 20)))


@settings(deadline=None)
@given(st.lists(st.tuples(cells, cells), max_size=20), st.integers(0, 20))
def test_cells_written_later_are_null_and_rows_without_cells_absent(rows: list, last: int) -> None:
    def column(at: int, part: int) -> list:
        return [None if row[at] is None else row[at][part] for row in rows]

    arrays = [
        pa.array(range(len(rows)), pa.int64()),
        pa.array([None if c is None else [str(c)] for c in column(0, 0)], pa.list_(pa.string())),
        pa.array(column(0, 1), pa.int64()),
        pa.array(
            [None if c is None else [('k', float(c % 99))] for c in column(1, 0)], pa.map_(pa.string(), pa.float64())
        ),
        pa.array(column(1, 1), pa.int64()),
    ]
    batch = pa.RecordBatch.from_arrays(arrays, names=['key', 'a', 'writetime(a)', 'm', 'writetime(m)'])
    got = kept(batch, ['a', 'm'], EPOCH + datetime.timedelta(microseconds=last))
    expected = []
    for i, (a, m) in enumerate(rows):
        first = [str(a[0])] if a is not None and a[1] <= last else None
        second = [('k', float(m[0] % 99))] if m is not None and m[1] <= last else None
        if first is not None or second is not None:
            expected.append({'key': i, 'a': first, 'm': second})
    assert got.to_pylist() == expected
    assert got.schema.names == ['key', 'a', 'm']


def test_a_table_of_keys_alone_has_no_write_times() -> None:
    batch = pa.RecordBatch.from_arrays([pa.array([1, 2])], names=['key'])
    assert kept(batch, [], EPOCH).num_rows == 2


def test_a_reference_time_is_aware_and_exact() -> None:
    assert microseconds(EPOCH + datetime.timedelta(days=20_000, microseconds=7)) == 20_000 * 86_400 * 10**6 + 7
    with pytest.raises(ValueError, match='as_of: got'):
        microseconds(datetime.datetime(2013, 1, 1))


def test_a_static_cell_keeps_a_row_only_where_no_other_cell_could() -> None:
    names = ['k', 'c', 'x', 'writetime(x)', 's', 'writetime(s)']
    rows = [(1, 1, 5, 1, 7, 1), (1, 2, 5, 3, 7, 1), (2, None, None, None, 7, 1), (3, None, None, None, 7, 3)]
    arrays = [pa.array(column, pa.int64()) for column in zip(*rows, strict=True)]
    batch = pa.RecordBatch.from_arrays(arrays, names=names)
    at = EPOCH + datetime.timedelta(microseconds=2)
    got = kept(batch, ['x', 's'], at, static=['s'], clustering='c')
    assert [tuple(row.values()) for row in got.to_pylist()] == [(1, 1, 5, 7), (2, None, None, 7)]
    of_partitions = pa.RecordBatch.from_arrays([batch.column(i) for i in (0, 4, 5)], names=['k', 's', 'writetime(s)'])
    assert kept(of_partitions, ['s'], at, static=['s']).column(0).to_pylist() == [1, 1, 2]
