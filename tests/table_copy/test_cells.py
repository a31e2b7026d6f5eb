"""Rows with write times and times to live per cell -> writes; the oracle applies them one by one."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tfx_cassandra.components.table_copy.cells import TTL, WRITTEN, writes

COLUMNS = ('a', 'b', 'tags')
cell = st.none() | st.tuples(st.integers(0, 3), st.sampled_from([1, 5, 2**50]), st.sampled_from([None, 0, 1, 99]))


def batch_of(rows: list[dict[str, Any]]) -> pa.RecordBatch:
    """Returns rows of (value, write time, time to live) as a scan reads them."""
    arrays = {'k': pa.array(range(len(rows)), pa.int32())}
    for column in COLUMNS:
        cells = [row[column] for row in rows]
        values = [found and found[0] for found in cells]
        kind = pa.list_(pa.int32()) if column == 'tags' else pa.int32()
        arrays[column] = pa.array([v if v is None or column != 'tags' else [v] for v in values], kind)
        arrays[f'writetime({column})'] = pa.array([found and found[1] for found in cells], pa.int64())
        left = [found and found[2] for found in cells]
        if column == 'tags':
            left = [None if found is None else [found[2], None if found[2] is None else 0] for found in cells]
        arrays[f'ttl({column})'] = pa.array(left, pa.list_(pa.int32()) if column == 'tags' else pa.int32())
    return pa.RecordBatch.from_arrays(list(arrays.values()), names=list(arrays))


@given(st.lists(st.fixed_dictionaries(dict.fromkeys(COLUMNS, cell)), max_size=12))
def test_each_cell_is_written_once_with_its_own_times(rows: list[dict[str, Any]]) -> None:
    found: dict[tuple[int, str], Any] = {}
    keys = set()
    for part in writes(batch_of(rows), ['k'], COLUMNS):
        for row in part.to_pylist():
            keys.add(row['k'])
            written = int(row[WRITTEN].timestamp() * 1_000_000 + 0.5)
            for column in COLUMNS:
                if row.get(column) is not None:
                    assert (row['k'], column) not in found
                    value = row[column][0] if column == 'tags' else row[column]
                    found[row['k'], column] = (value, written, row[TTL])
    assert keys == set(range(len(rows)))
    assert found == {
        (number, column): (
            row[column][0],
            row[column][1],
            row[column][2] and max(1, row[column][2]) if row[column][2] != 0 else 1,
        )
        for number, row in enumerate(rows)
        for column in COLUMNS
        if row[column] is not None
    }


def test_rows_whose_cells_are_alike_are_written_once() -> None:
    rows = [
        {'a': (1, 7, None), 'b': (2, 7, None), 'tags': (3, 7, None)},
        {'a': (1, 8, 5), 'b': None, 'tags': (3, 8, 5)},
    ]
    (part,) = writes(batch_of(rows), ['k'], COLUMNS)
    assert part.num_rows == 2


@pytest.mark.parametrize('columns', [(), COLUMNS])
def test_a_row_without_cells_is_written_before_any_deletion(columns: tuple[str, ...]) -> None:
    (part,) = writes(batch_of([dict.fromkeys(COLUMNS)]), ['k'], columns)
    assert part.schema.names == ['k', WRITTEN, TTL]
    assert part.column(1).cast(pa.int64()).to_pylist() == [0]
