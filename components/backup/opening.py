"""A table of a backup -> its SSTables, with what is needed to read them as of the moment of the backup."""

from __future__ import annotations

import dataclasses
import datetime
import hashlib
import posixpath
from concurrent.futures import ThreadPoolExecutor

from tfx_cassandra.components.backup.backup import CassandraBackup
from tfx_cassandra.components.backup.snapshot import TableFolder, table_folders
from tfx_cassandra.components.backup.stores import Store
from tfx_cassandra.components.errors import ReadError
from tfx_cassandra.components.sstable import schema_file
from tfx_cassandra.components.sstable.files import Files, checked, split_name
from tfx_cassandra.components.sstable.read import SSTable, open_sstable
from tfx_cassandra.components.sstable.schema_file import SchemaFile

_THREADS = 16  # that read small files; in a store each waits for an answer


@dataclasses.dataclass(frozen=True)
class BackupTable:
    """A table of a backup. It is pickled to workers: it holds no open files.

    Attributes:
      schema: The table.
      sstables: Its SSTables, of all nodes.
      owned: For each SSTable the token ranges (start, end] of which its node held copies; None for all.
      created_at: The moment of the backup, of several nodes the latest: what had expired then is gone.
      name: Name of the backup.
      digest: Hexadecimal digits that stand for what is read: the SSTables' names, sizes and CRCs, and their ranges.
      nodes: Names of the nodes whose files there are.
      size: Bytes of all Data.db.
      rows: Number of rows in all SSTables, copies of a row counted each.
    """

    schema: SchemaFile
    sstables: tuple[SSTable, ...]
    owned: tuple[tuple[tuple[int, int], ...] | None, ...]
    created_at: datetime.datetime
    name: str
    digest: str
    nodes: tuple[str, ...]
    size: int
    rows: int


def open_table(backup: CassandraBackup, table: str) -> BackupTable:
    """Opens a table of a backup: reads the small files of its SSTables.

    Args:
      backup: Where the files are.
      table: Name of the table, or keyspace.table.

    Raises:
      ReadError: The backup lacks the table or a file, or a file is damaged.
      SchemaError: The table cannot be read from files.
    """
    if backup.layout != 'snapshot':
        raise ReadError(f'layout: got {backup.layout!r}, rule: snapshot')
    keyspace, _, name = table.rpartition('.')
    store = Store(backup.uri)
    folders = table_folders(store, backup.backup, keyspace or backup.keyspace, name)
    with ThreadPoolExecutor(_THREADS) as threads:
        files = [one for folder in folders for one in _files(store, folder)]
        sstables = tuple(threads.map(open_sstable, threads.map(checked, files)))
        crcs = tuple(threads.map(_crc, sstables))
    owned = (None,) * len(sstables)
    names = {kind for sstable in sstables for kind in sstable.statistics.header.types}
    sizes = [sstable.files.ranges('Data.db').size for sstable in sstables]
    entries = sorted(zip((one.name for one in sstables), sizes, crcs, map(str, owned), strict=True))
    return BackupTable(
        schema_file.completed(folders[0].schema, sorted(names)),
        sstables,
        owned,
        max(folder.created_at for folder in folders),
        backup.backup or folders[0].tag or posixpath.basename(store.root.rstrip('/')),
        hashlib.sha256(repr(entries).encode()).hexdigest(),
        tuple(folder.node for folder in folders),
        sum(sizes),
        sum(sstable.statistics.rows for sstable in sstables),
    )


def _files(store: Store, folder: TableFolder) -> list[Files]:
    """Returns the files of each SSTable that a folder's manifest names."""
    found = []
    for data in folder.listed:
        version, name, _ = split_name(data)
        if data not in folder.sizes:
            raise ReadError(f'{store.at(folder.path)}: got no {data}, rule: all files that its manifest names')
        components = {
            file[len(name) + 1 :]: store.file(posixpath.join(folder.path, file), size)
            for file, size in folder.sizes.items()
            if file.startswith(f'{name}-')
        }
        found.append(Files(name, version, components))
    return found


def _crc(sstable: SSTable) -> str:
    return sstable.files.content('Digest.crc32').decode('ascii', 'replace').strip()
