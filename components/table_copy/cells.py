"""Rows with the write time and time to live of each cell -> rows that are written with one of each.

A statement has one write time and one time to live for all of its cells. Of a row whose cells differ, those that are
alike are written together, and the others by further rows with the same key.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from tfx_cassandra.components.cql.table import ttl_name, writetime_name
from tfx_cassandra.components.write.columns import WRITE_TIME

WRITTEN, TTL = 'writetime()', 'ttl()'  # fields of the rows; no columns are called so
_NO_TTL = -1
_NO_CELL = 0  # write time of a row without cells, whose own Cassandra does not tell: any deletion is later


def writes(batch: pa.RecordBatch, keys: Sequence[str], columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
    """Yields rows that write those of a batch, with the fields WRITTEN and TTL.

    Args:
      batch: Rows as a scan with write times and times to live reads them.
      keys: The columns of the primary key.
      columns: The other columns.
    """
    arrays = dict(zip(batch.schema.names, batch.columns, strict=True))
    cells = {column: _Cells(arrays, column) for column in columns}
    every = np.arange(batch.num_rows)
    bare = (
        np.logical_and.reduce([~each.left for each in cells.values()], axis=0) if cells else np.ones(len(every), bool)
    )
    if bare.any():
        rows = every[bare]
        keyed = {key: arrays[key].take(pa.array(rows)) for key in keys}
        yield _written(keyed, np.full(len(rows), _NO_CELL), np.full(len(rows), _NO_TTL))
    while (
        rows := np.flatnonzero(np.logical_or.reduce([each.left for each in cells.values()])) if cells else every[:0]
    ).size:
        written, ttls = _first(cells.values(), batch.num_rows)
        taken = {key: arrays[key].take(pa.array(rows)) for key in keys}
        for column, each in cells.items():
            now = each.take(written, ttls)
            if now.any():
                taken[column] = arrays[column].take(pa.array(rows, mask=~now[rows]))
        yield _written(taken, written[rows], ttls[rows])


class _Cells:
    """The cells of a column: which are still to be written, with their write times and times to live."""

    def __init__(self, arrays: dict[str, pa.Array], column: str) -> None:
        self.left = arrays[column].is_valid().to_numpy(zero_copy_only=False)
        self.written = np.asarray(pc.fill_null(arrays[writetime_name(column)], _NO_CELL))
        self.ttls = _seconds(arrays[ttl_name(column)])

    def take(self, written: NDArray[np.int64], ttls: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Returns which cells are of the write time and the time to live of their rows, and counts them as written."""
        now: NDArray[np.bool_] = self.left & (self.written == written) & (self.ttls == ttls)
        self.left = self.left & ~now
        return now


def _first(cells: Iterable[_Cells], rows: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Returns the write time and the time to live of the first cell of each row that is still to be written."""
    written, ttls = np.zeros(rows, np.int64), np.zeros(rows, np.int64)
    open_ = np.ones(rows, bool)
    for each in cells:
        chosen = open_ & each.left
        written[chosen], ttls[chosen] = each.written[chosen], each.ttls[chosen]
        open_ &= ~chosen
    return written, ttls


def _seconds(ttls: pa.Array) -> NDArray[np.int64]:
    """Returns times to live in seconds, of a collection that of the element that lives longest; _NO_TTL for ever."""
    if pa.types.is_list(ttls.type):
        longest = [None if not row or None in row else max(row) for row in ttls.to_pylist()]
        ttls = pa.array(longest, pa.int64())
    # In its last second a cell has none left, which CQL cannot write.
    kept = pc.max_element_wise(ttls.cast(pa.int64()), 1, skip_nulls=False)
    return np.asarray(pc.fill_null(kept, _NO_TTL))


def _written(columns: dict[str, pa.Array], written: NDArray[np.int64], ttls: NDArray[np.int64]) -> pa.RecordBatch:
    added = {
        WRITTEN: pa.array(written, pa.int64()).cast(WRITE_TIME),
        TTL: pa.array(ttls, pa.int32(), mask=ttls == _NO_TTL),
    }
    return pa.RecordBatch.from_arrays([*columns.values(), *added.values()], names=[*columns, *added])
