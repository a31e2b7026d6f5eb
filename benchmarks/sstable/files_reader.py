"""Reads a snapshot by this package: to record batches that are dropped, or to a Parquet file."""

from __future__ import annotations

import datetime
import os
from collections.abc import Callable
from pathlib import Path

import clock
import pyarrow as pa
import pyarrow.parquet as pq

from tfx_cassandra.components.sstable.read import Reading, open_snapshot

NOW = datetime.datetime(2026, 1, 1, tzinfo=datetime.timezone.utc)

pa.array([0])  # the first one loads pandas, which is no part of the work


def main() -> None:
    options = clock.parser()
    options.add_argument('--folder', type=Path, required=True)
    options.add_argument('--sink', choices=['arrow', 'parquet'], required=True)
    options.add_argument('--cold', action='store_true', help='without the pages of the files that are in memory')
    chosen = options.parse_args()
    if chosen.cold:
        forget(chosen.folder)

    def read(_part: int, _parts: int, connected: Callable[[], None]) -> int:
        connected()
        reading = Reading(*open_snapshot(chosen.folder), NOW)
        if chosen.sink == 'arrow':
            return sum(batch.num_rows for batch in reading)
        rows = 0
        with pq.ParquetWriter(Path(chosen.out, 'rows.parquet'), reading.schema) as writer:
            for batch in reading:
                writer.write_batch(batch)
                rows += batch.num_rows
        return rows

    clock.measure(read)


def forget(folder: Path) -> None:
    """Has the system drop what it holds of the files of a folder."""
    for path in folder.iterdir():
        with path.open('rb') as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


if __name__ == '__main__':
    main()
