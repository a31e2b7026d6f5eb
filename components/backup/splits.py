"""Reads splits of a table of a backup: ranges of tokens, each from all of its SSTables at once."""

from __future__ import annotations

import dataclasses
from collections.abc import Generator, Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tfx_cassandra.components import metrics
from tfx_cassandra.components.backup.changes import are_new, dated
from tfx_cassandra.components.backup.opening import BackupTable
from tfx_cassandra.components.cql import rows
from tfx_cassandra.components.errors import DatasetError, ReadError
from tfx_cassandra.components.scan import page
from tfx_cassandra.components.scan.area import ALL_TIMES, Area
from tfx_cassandra.components.scan.fetch import ReadOptions
from tfx_cassandra.components.scan.ledger import RangeRead
from tfx_cassandra.components.scan.plan import Split
from tfx_cassandra.components.scan.query import Scan
from tfx_cassandra.components.sstable.read import Reading


class Splits:
    """Reads splits of a table of a backup, one after the other.

    Args:
      table: The table, with the SSTables that are read.
      scan: What is read of it.
      options: How.
    """

    def __init__(self, table: BackupTable, scan: Scan, options: ReadOptions) -> None:
        self._table, self._scan, self._options = table, scan, options
        timed = () if table.since is None else dated(table)
        self._writetimes = tuple(dict.fromkeys([*scan.writetimes, *timed]))
        behind = len(scan.columns) + len(scan.selected)
        cells = range(behind, behind + len(scan.writetimes))
        ttls = range(behind + len(self._writetimes), behind + len(self._writetimes) + len(scan.ttls))
        # The order of a page: the columns wanted, write times and times to live, what is read besides.
        self._page = (*range(len(scan.columns)), *cells, *ttls, *range(len(scan.columns), behind))
        self._batch = [self._page[i] for i in page.key_columns(scan).columns or ()]
        self._time = None if scan.sliced_column is None else self._page[scan.index(scan.sliced_column)]
        self._written = [behind + self._writetimes.index(column) for column in timed]

    @property
    def schema(self) -> pa.Schema:
        """Of the columns wanted, their write times and times to live."""
        fields = list(self._reading().schema)
        return pa.schema([fields[i] for i in self._page[: len(self._scan.names)]])

    def fetch(self, splits: Sequence[Split], in_order: bool = False) -> Generator[Any, None, None]:
        """Yields record batches, and for each split its ledger entry; see `scan.options.Fetches`."""
        for split in sorted(splits, key=lambda split: split.area.order()) if in_order else splits:
            try:
                yield from self._read(split.area)
            except (ReadError, DatasetError) as error:
                raise type(error)(f'{self._scan.table} token range {split.area}: {error}') from error

    def _read(self, area: Area) -> Iterator[Any]:
        reading = self._reading((area.tokens.start, area.tokens.end))
        entry, name = RangeRead(area), str(self._scan.table)
        schema = pa.schema([reading.schema[i] for i in self._batch])
        for cells in reading.cells():
            within = self._within(area, reading, cells)
            if within is not None and not within.any():
                continue
            checksum = rows.checksum([cells[i] for i in self._page], within)
            arrays = [reading.decoded(i, cells[i]) for i in self._batch]
            batch = pa.RecordBatch.from_arrays(arrays, schema=schema)
            if within is not None:
                batch = batch.filter(pa.array(within.view(bool)))
            entry = entry.with_page(batch.num_rows, 0, checksum)
            metrics.READ_PAGES.add(1, name)
            metrics.READ_ROWS.add(batch.num_rows, name)
            yield batch
        metrics.READ_BYTES.add(reading.bytes, name)
        yield dataclasses.replace(entry, bytes=reading.bytes, files=tuple(count for _, count in reading.counts))

    def _reading(self, tokens: tuple[int, int] | None = None) -> Reading:
        table, scan, options = self._table, self._scan, self._options
        return Reading(
            table.schema, table.sstables, table.created_at, (*scan.columns, *scan.selected), self._writetimes,
            options.decoding, options.page_rows, tokens=tokens, owned=table.owned, ttls=scan.ttls,
        )  # fmt: skip

    def _within(self, area: Area, reading: Reading, cells: list[rows.Cells]) -> NDArray[np.uint8] | None:
        """Returns for each row whether it is in the area's slice of time and new enough, 1 or 0; None: all of them."""
        within = None
        if area.times != ALL_TIMES and self._time is not None:
            times = reading.decoded(self._time, cells[self._time])
            moments = times.cast(pa.int64()).fill_null(0).to_numpy()
            within = (moments >= area.times.start) & (moments < area.times.end)
            within &= times.is_valid().to_numpy(zero_copy_only=False)
        if self._table.since is not None and self._written:
            new = are_new([reading.decoded(i, cells[i]) for i in self._written], self._table.since)
            within = new if within is None else within & new
        return None if within is None else within.astype(np.uint8)
