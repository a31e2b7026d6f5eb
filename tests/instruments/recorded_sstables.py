"""SSTables that a real Cassandra has written, kept beside the tests with what CQL said of them at that moment.

    python tests/instruments/recorded_sstables.py NAME FORMAT SEED [SEED ...]

records made tables anew into tests/sstable/NAME.tar.xz: in FORMAT `nb` on the dev cluster, in `oa` or `da` on a node
that is started for it. FIRST-LAST are all seeds from one to the other. An archive has a folder for each table: the
files of its snapshot, and `cql.txt`: the moment, names and columns, and what CQL gave of some choices of columns.
"""

from __future__ import annotations

import ast
import contextlib
import datetime
import io
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

ARCHIVES = Path(__file__).parents[1] / 'sstable'


class Recorded(NamedTuple):
    """A table: its snapshot, when CQL was asked, and the names and values that it gave, column by column.

    `chosen` has (columns asked for, values that it gave) of choices of columns.
    """

    folder: Path
    now: datetime.datetime
    names: list[str]
    values: list[list[Any]]
    chosen: list[tuple[list[str], list[list[Any]]]]


def unpacked(folder: Path, archive: str = 'recorded', only: str = '') -> dict[str, Recorded]:
    """Unpacks an archive, or the one table that is named, into a folder; returns the tables by name."""
    with tarfile.open(ARCHIVES / f'{archive}.tar.xz') as files:
        files.extractall(folder, [member for member in files if not only or member.name.startswith(f'{only}/')])
    return {path.name: _read(path) for path in sorted(folder.iterdir())}


def _read(folder: Path) -> Recorded:
    seconds, names, values, chosen = ast.literal_eval((folder / 'cql.txt').read_text('utf-8'))
    return Recorded(folder, datetime.datetime.fromtimestamp(seconds, datetime.timezone.utc), names, values, chosen)


def main(name: str, version: str, seeds: list[int]) -> None:
    with _node(version) as (connection, snapshots), tarfile.open(ARCHIVES / f'{name}.tar.xz', 'w:xz') as archive:
        for first in range(0, len(seeds), 50):  # so many tables at a time
            many = first == 0 and name != 'recorded'
            _record(connection, snapshots, archive, seeds[first : first + 50], many)


def _record(connection: Any, snapshots: Any, archive: tarfile.TarFile, seeds: list[int], many: bool) -> None:
    from made_sstables import make, says_all_types
    from snapshots import asking, selections

    from tfx_cassandra.components.sstable.snapshot import open_snapshot

    made = make(connection, snapshots, 'recorded', seeds, many=many)
    folders = made.check(chosen=True)
    with asking(made.connection) as ask:
        for table, folder in sorted(folders.items()):
            if f'{table}/cql.txt' in archive.getnames() or not says_all_types(folder):
                continue  # the one that is written by hand is there already
            for path in sorted(folder.iterdir()):
                _add(archive, f'{table}/{path.name}', path.read_bytes())
            asked = _seconds()
            schema, values = ask(table)
            ttls = [any(column) for name, column in zip(schema.names, values, strict=True) if name.startswith('ttl(')]
            while any(ttls) and asked != _seconds():  # times to live are those of this second
                asked = _seconds()
                schema, values = ask(table)
            choices = selections(open_snapshot(folder)[0].table)
            chosen = [(columns, ask(table, columns)[1]) for columns in choices]
            _add(archive, f'{table}/cql.txt', repr((asked, schema.names, values, chosen)).encode())
    made.drop()


def _seconds() -> int:
    return int(datetime.datetime.now(datetime.timezone.utc).timestamp())


def _add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    entry = tarfile.TarInfo(name)
    entry.size = len(content)
    archive.addfile(entry, io.BytesIO(content))


@contextlib.contextmanager
def _node(version: str) -> Iterator[tuple[Any, Any]]:
    """Yields a connection to a node that writes SSTables of a version, and its Snapshots."""
    from made_sstables import writing
    from snapshots import snapshots_of

    from tfx_cassandra.components.driver.connection import CassandraConnection

    if version == 'nb':
        connection = CassandraConnection.from_env()
        yield connection, snapshots_of(connection)
        return
    with tempfile.TemporaryDirectory() as folder, writing(version, Path(folder)) as found:
        yield found


def _numbers(text: str) -> range:
    first, _, last = text.partition('-')
    return range(int(first), int(last or first) + 1)


if __name__ == '__main__':
    sys.path.insert(0, str(Path(__file__).parent))
    main(sys.argv[1], sys.argv[2], [seed for text in sys.argv[3:] for seed in _numbers(text)])
