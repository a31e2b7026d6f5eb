"""Rows of a recorded table by way of a backup, and as CQL had them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import slow_pages
from recorded_sstables import Recorded

from tfx_cassandra.components.backup.copying import NodeSnapshot
from tfx_cassandra.components.backup.opening import BackupTable
from tfx_cassandra.components.sstable.read import Reading

ID = '0123456789abcdef0123456789abcdef'
STARTED = 1_750_000_000  # seconds since 1970


def _columns(one: Recorded) -> list[str]:
    return [name for name in one.names if not name.startswith(('writetime(', 'ttl('))]


def rows(table: BackupTable, one: Recorded) -> list[list[object]]:
    """Returns the values of a table's rows, column by column."""
    values: list[list[object]] = [[] for _ in _columns(one)]
    for batch in Reading(table.schema, table.sstables, one.now, _columns(one), owned=table.owned):
        for column, array in zip(values, batch.columns, strict=True):
            column += slow_pages.values(array)
    return values


def expected(one: Recorded) -> list[list[object]]:
    """Returns the values that CQL gave."""
    return [one.values[one.names.index(name)] for name in _columns(one)]


def node_snapshots(one: Recorded, root: Path) -> list[NodeSnapshot]:
    """Deals the SSTables of a table out to the snapshots of two nodes."""
    found = []
    data = sorted(one.folder.glob('*-Data.db'))
    tokenmap = {f'10.0.0.{i}': {'tokens': [i * 2**60], 'dc': 'dc1', 'rack': 'r'} for i in range(2)}
    for i, node in enumerate(tokenmap):
        folder = root / node / 'recorded' / f't1-{ID}' / 'snapshots' / 'nightly'
        folder.mkdir(parents=True)
        for path in data[i::2]:
            for file in one.folder.glob(path.name.removesuffix('Data.db') + '*'):
                shutil.copy(file, folder)
        shutil.copy(one.folder / 'schema.cql', folder)
        (folder / 'manifest.json').write_text(json.dumps({'files': [path.name for path in data[i::2]]}))
        keyspace = "CREATE KEYSPACE recorded WITH replication = {'class': 'SimpleStrategy', 'replication_factor': '2'};"
        found.append(NodeSnapshot(node, [folder], tokenmap, [keyspace], STARTED + i, '5.0.8'))
    return found
