"""SSTables that a real Cassandra has written, kept beside the tests with what CQL said of them at that moment.

    python tests/instruments/recorded_sstables.py SEED [SEED ...]      records made tables anew, on the dev cluster

The archive has a folder for each table: the files of its snapshot, and `cql.txt`: the moment, names and columns.
"""

from __future__ import annotations

import ast
import datetime
import sys
import zipfile
from pathlib import Path
from typing import Any, NamedTuple

ARCHIVE = Path(__file__).parents[1] / 'sstable' / 'recorded.zip'


class Recorded(NamedTuple):
    """A table: its snapshot, when CQL was asked, and the names and values that it gave, column by column."""

    folder: Path
    now: datetime.datetime
    names: list[str]
    values: list[list[Any]]


def unpacked(folder: Path) -> dict[str, Recorded]:
    """Unpacks the archive into a folder; returns the tables by name."""
    with zipfile.ZipFile(ARCHIVE) as archive:
        archive.extractall(folder)
    return {path.name: _read(path) for path in sorted(folder.iterdir())}


def _read(folder: Path) -> Recorded:
    seconds, names, values = ast.literal_eval((folder / 'cql.txt').read_text('utf-8'))
    return Recorded(folder, datetime.datetime.fromtimestamp(seconds, datetime.timezone.utc), names, values)


def main(seeds: list[int]) -> None:
    sys.path.insert(0, str(Path(__file__).parent))
    from made_sstables import make
    from snapshots import in_cql, snapshots_of

    from tfx_cassandra.components.driver.connection import CassandraConnection

    connection = CassandraConnection.from_env()
    made = make(connection, snapshots_of(connection), 'recorded', seeds)
    with zipfile.ZipFile(ARCHIVE, 'w', zipfile.ZIP_LZMA) as archive:
        for name, folder in sorted(made.check().items()):
            for path in sorted(folder.iterdir()):
                archive.writestr(zipfile.ZipInfo(f'{name}/{path.name}'), path.read_bytes(), zipfile.ZIP_LZMA)
            now = datetime.datetime.now(datetime.timezone.utc)
            schema, values = in_cql(made.connection, name)
            text = repr((int(now.timestamp()), schema.names, values))
            archive.writestr(zipfile.ZipInfo(f'{name}/cql.txt'), text, zipfile.ZIP_LZMA)
    made.drop()


if __name__ == '__main__':
    main([int(seed) for seed in sys.argv[1:]])
