"""A table of a backup -> its SSTables, with what is needed to read them as of the moment of the backup."""

from __future__ import annotations

import dataclasses
import datetime
import hashlib
from concurrent.futures import ThreadPoolExecutor

from tfx_cassandra.components.backup import medusa, snapshot
from tfx_cassandra.components.backup.backup import CassandraBackup
from tfx_cassandra.components.backup.ring_file import ranges_of, ring_at
from tfx_cassandra.components.backup.stores import Store
from tfx_cassandra.components.sstable import schema_file
from tfx_cassandra.components.sstable.files import checked
from tfx_cassandra.components.sstable.read import SSTable, open_sstable
from tfx_cassandra.components.sstable.schema_file import SchemaFile

_THREADS = 16  # that read small files; in a store each waits for an answer
_LAYOUTS = {'snapshot': snapshot.find, 'medusa': medusa.find}


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
    keyspace, _, name = table.rpartition('.')
    keyspace = keyspace or backup.keyspace
    found, nodes = _LAYOUTS[backup.layout](Store(backup.uri), backup.backup, keyspace, name)
    ring = ring_at(backup.ring, keyspace) if backup.ring else None
    ranges = ranges_of(nodes, backup.replicas, ring)
    # What a node has and owned nothing of is not read.
    files = [(one, own) for node, own in zip(nodes, ranges, strict=True) for one in node.files if own != ()]
    with ThreadPoolExecutor(_THREADS) as threads:
        sstables = tuple(threads.map(open_sstable, threads.map(checked, (one for one, _ in files))))
        crcs = tuple(threads.map(_crc, sstables))
    owned = tuple(own for _, own in files)
    names = {kind for sstable in sstables for kind in sstable.statistics.header.types}
    sizes = [sstable.files.ranges('Data.db').size for sstable in sstables]
    entries = sorted(zip((one.name for one in sstables), sizes, crcs, map(str, owned), strict=True))
    return BackupTable(
        schema_file.completed(nodes[0].schema, sorted(names)),
        sstables,
        owned,
        max(node.created_at for node in nodes),
        found,
        hashlib.sha256(repr(entries).encode()).hexdigest(),
        tuple(node.node for node in nodes),
        sum(sizes),
        sum(sstable.statistics.rows for sstable in sstables),
    )


def _crc(sstable: SSTable) -> str:
    return sstable.files.content('Digest.crc32').decode('ascii', 'replace').strip()
