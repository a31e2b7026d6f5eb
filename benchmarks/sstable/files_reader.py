"""Reads a snapshot by this package: to batches that are dropped, or to files as `tfx-cassandra scan` writes them."""

from __future__ import annotations

import datetime
import os
import time
from collections.abc import Callable
from pathlib import Path

import clock
import pyarrow as pa

from tfx_cassandra.components.backup.backup import CassandraBackup
from tfx_cassandra.components.backup.opening import open_table
from tfx_cassandra.components.backup.remote import RemoteFile
from tfx_cassandra.components.cli.export import Files
from tfx_cassandra.components.sstable.read import Reading
from tfx_cassandra.components.sstable.snapshot import open_snapshot

NOW = datetime.datetime(2026, 1, 1, tzinfo=datetime.timezone.utc)

pa.array([0])  # the first one loads pandas, which is no part of the work


def main() -> None:
    options = clock.parser()
    options.add_argument('--folder', type=Path, help='of a snapshot on this machine')
    options.add_argument('--uri', help='of one in an object store')
    options.add_argument('--sink', choices=['arrow', 'parquet', 'tfrecord'], required=True)
    options.add_argument('--cold', action='store_true', help='without the pages of the files that are in memory')
    options.add_argument('--latency', type=float, default=0, help='seconds that each request to the store takes longer')
    options.add_argument('--no-ahead', action='store_true', help='ask the store for each range when it is needed')
    chosen = options.parse_args()
    if chosen.cold:
        forget(chosen.folder)
    slow_down(chosen.latency, chosen.no_ahead)

    def read(_part: int, _parts: int, connected: Callable[[], None]) -> int:
        connected()
        if chosen.uri:
            table = open_table(CassandraBackup(chosen.uri, keyspace=chosen.keyspace), chosen.table)
            reading = Reading(table.schema, table.sstables, NOW, owned=table.owned)
        else:
            schema, sstables = open_snapshot(chosen.folder)
            kinds = dict(schema.table.types)
            # A tf.Example has no maps.
            columns = [name for name in schema.table.readable if 'map<' not in kinds[name]]
            reading = Reading(schema, sstables, NOW, columns if chosen.sink == 'tfrecord' else None)
        if chosen.sink == 'arrow':
            return sum(batch.num_rows for batch in reading)
        rows, files = 0, Files(Path(chosen.out), chosen.sink, reading.schema)
        for batch in reading:
            files.write(batch)
            rows += batch.num_rows
        files.close()
        return rows

    clock.measure(read)


def slow_down(latency: float, no_ahead: bool) -> None:
    """Makes each request to a store take longer, as one far away does; and perhaps leaves out reading ahead."""
    fetched = RemoteFile._fetched

    def later(file: RemoteFile, start: int, length: int) -> bytes:
        time.sleep(latency)
        return fetched(file, start, length)

    RemoteFile._fetched = later
    if no_ahead:
        RemoteFile._sequential = later


def forget(folder: Path) -> None:
    """Has the system drop what it holds of the files of a folder."""
    for path in folder.iterdir():
        with path.open('rb') as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


if __name__ == '__main__':
    main()
