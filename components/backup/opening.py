"""A table of a backup -> its SSTables, with what is needed to read them as of the moment of the backup."""

from __future__ import annotations

import dataclasses
import datetime
import hashlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from tfx_cassandra.components.backup import medusa, snapshot
from tfx_cassandra.components.backup.backup import CassandraBackup
from tfx_cassandra.components.backup.ring_file import ranges_of, ring_at
from tfx_cassandra.components.backup.stores import THREADS, Store
from tfx_cassandra.components.errors import ReadError, invalid
from tfx_cassandra.components.sstable import schema_file
from tfx_cassandra.components.sstable.files import checked
from tfx_cassandra.components.sstable.schema_file import SchemaFile
from tfx_cassandra.components.sstable.sstable import SSTable, open_sstable
from tfx_cassandra.components.window import EPOCH

LATE = datetime.timedelta(hours=3)  # as long as Cassandra keeps hints for a node that is down (max_hint_window)
_Identity = tuple[str, int, str]  # name, bytes of Data.db, its CRC
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
      digest: Hexadecimal digits that stand for what is read: the SSTables' names, sizes and CRCs, their ranges, the
        columns and those that were dropped, and the second of the moment where cells may expire.
      nodes: Names of the nodes whose files there are.
      size: Bytes of all Data.db.
      rows: Number of rows in all SSTables, copies of a row counted each.
      since: The write time from which on rows are wanted, where the table was opened for them; see changes.py.
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
    since: datetime.datetime | None = None

    def within(self, start: int, end: int) -> BackupTable:
        """Returns the table with those SSTables alone that a window needs, `[start, end)` in its first clustering.

        Args:
          start, end: Milliseconds since 1970, of a first clustering column of type timestamp.
        """
        return self.of([i for i, sstable in enumerate(self.sstables) if sstable.concerns(start, end)])

    def of(self, kept: Sequence[int]) -> BackupTable:
        """Returns the table with some of its SSTables, by their places; its digest stays."""
        sstables = tuple(self.sstables[i] for i in kept)
        return dataclasses.replace(
            self,
            sstables=sstables,
            owned=tuple(self.owned[i] for i in kept),
            size=sum(sstable.files.ranges('Data.db').size for sstable in sstables),
            rows=sum(sstable.statistics.rows for sstable in sstables),
        )


def open_table(
    backup: CassandraBackup, table: str, since: CassandraBackup | None = None, late: datetime.timedelta = LATE
) -> BackupTable:
    """Opens a table of a backup: reads the small files of its SSTables.

    Args:
      backup: Where the files are.
      table: Name of the table, or keyspace.table.
      since: An earlier backup: only SSTables are opened that it lacks, and that hold what was written since. Read them
        by `changes.rows_since`, which says what cannot be seen so.
      late: How much later than its write time a write may have reached a node.

    Raises:
      ReadError: The backup lacks the table or a file, or a file is damaged; `since` is no earlier one.
      SchemaError: The table cannot be read from files.
      ValueError: `late` is below zero.
    """
    found, identities = _opened(backup, table)
    if since is None:
        return found
    earlier, known = _opened(since, table)
    if earlier.created_at > found.created_at:
        raise ReadError(f'since: got {since} of {earlier.created_at}, rule: before {found.created_at}, as {backup}')
    if late < datetime.timedelta(0):
        raise invalid('late', late, 'a time of at least zero')
    moment = earlier.created_at - late
    return _reduced(found, identities, {*known}, moment)


def _reduced(
    found: BackupTable, identities: list[_Identity], known: set[_Identity], since: datetime.datetime
) -> BackupTable:
    """Returns a table with the SSTables that are not known and have something of the moment `since` or after."""
    first = (since - EPOCH) // datetime.timedelta(microseconds=1)
    kept = [
        i for i, (sstable, identity) in enumerate(zip(found.sstables, identities, strict=True))
        if identity not in known and sstable.statistics.times[1] >= first
    ]  # fmt: skip
    reduced = dataclasses.replace(found.of(kept), since=since)
    return dataclasses.replace(reduced, digest=_digest(reduced, [identities[i] for i in kept]))


def _opened(backup: CassandraBackup, table: str) -> tuple[BackupTable, list[_Identity]]:
    """Returns a table of a backup, and of each SSTable what tells it from others."""
    keyspace, _, name = table.rpartition('.')
    keyspace = keyspace or backup.keyspace
    found, nodes = _LAYOUTS[backup.layout](Store(backup.uri), backup.backup, keyspace, name)
    ring = ring_at(backup.ring, keyspace) if backup.ring else None
    ranges = ranges_of(nodes, backup.replicas, ring)
    # What a node has and owned nothing of is not read.
    files = [(one, own) for node, own in zip(nodes, ranges, strict=True) for one in node.files if own != ()]
    with ThreadPoolExecutor(THREADS) as threads:
        sstables = tuple(threads.map(open_sstable, threads.map(checked, (one for one, _ in files))))
        crcs = tuple(threads.map(_crc, sstables))
    owned = tuple(own for _, own in files)
    names = {kind for sstable in sstables for kind in sstable.statistics.header.types}
    sizes = [sstable.files.ranges('Data.db').size for sstable in sstables]
    identities = list(zip((one.name for one in sstables), sizes, crcs, strict=True))
    opened = BackupTable(
        schema_file.completed(nodes[0].schema, sorted(names)),
        sstables,
        owned,
        max(node.created_at for node in nodes),
        found,
        '',
        tuple(node.node for node in nodes),
        sum(sizes),
        sum(sstable.statistics.rows for sstable in sstables),
    )
    return dataclasses.replace(opened, digest=_digest(opened, identities)), identities


def _digest(table: BackupTable, identities: Sequence[_Identity]) -> str:
    files = sorted((*identity, str(own)) for identity, own in zip(identities, table.owned, strict=True))
    # Cassandra's own table of dropped columns, which a copy may have them from, has milliseconds.
    dropped = sorted((column, time // 1000) for column, time in table.schema.dropped.items())
    expiring = any(sstable.statistics.ttls[1] for sstable in table.sstables)
    second = (table.created_at - EPOCH) // datetime.timedelta(seconds=1) if expiring else None
    read = files, table.schema.table.types, dropped, second, str(table.since)
    return hashlib.sha256(repr(read).encode()).hexdigest()


def _crc(sstable: SSTable) -> str:
    return sstable.files.content('Digest.crc32').decode('ascii', 'replace').strip()
