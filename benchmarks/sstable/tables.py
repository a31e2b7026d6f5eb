"""The tables that are read: SSTables that Cassandra's CQLSSTableWriter makes, imported into the server, and a snapshot.

So the server and the readers of files have the same bytes. A table whose snapshot is there is not made again.
"""

from __future__ import annotations

import dataclasses
import subprocess
from pathlib import Path

from cassandra.cluster import Session
from load import Layout

from tfx_cassandra.components.devcluster.cache import cache_folder
from tfx_cassandra.components.devcluster.cluster import DevCluster
from tfx_cassandra.components.devcluster.distribution import find_distribution
from tfx_cassandra.components.devcluster.java import find_java
from tfx_cassandra.components.devcluster.node import JVM_OPTIONS
from tfx_cassandra.components.progress import step

TAG = 'bench'
_SOURCE = Path(__file__).with_name('Write.java')
_SETTINGS = {'cassandra.config': 'cassandra.yaml', 'cassandra-rackdc.properties': 'cassandra-rackdc.properties'}
_TIME = 1_700_000_000_000_000  # of the first writes, microseconds since 1970


@dataclasses.dataclass(frozen=True)
class Table:
    """A table.

    Attributes:
      layout: Its columns and rows.
      rows: Their number.
      copies: SSTables, each of which has all rows, written later than those of the one before.
    """

    layout: Layout
    rows: int
    copies: int = 1

    @property
    def name(self) -> str:
        return f'{self.layout.name}_{self.rows}'


class MakeError(Exception):
    """A table could not be made; the message is one line."""


def make(cluster: DevCluster, session: Session, keyspace: str, table: Table, scratch: Path) -> Path:
    """Makes a table on the first node of a cluster; returns the folder of its snapshot.

    Args:
      cluster: The development cluster.
      session: A session to it.
      keyspace: Made where it is missing, with one copy of each row.
      table: The table.
      scratch: An empty folder on the same disk.

    Raises:
      MakeError: Java or nodetool failed.
    """
    folders = cluster.ring[0].folder / 'data' / keyspace
    if found := list(folders.glob(f'{table.name}-*/snapshots/{TAG}/manifest.json')):
        return found[0].parent
    layout, whole = table.layout, f'{keyspace}.{table.name}'
    replication = "{'class': 'SimpleStrategy', 'replication_factor': 1}"
    session.execute(f'CREATE KEYSPACE IF NOT EXISTS {keyspace} WITH replication = {replication}')
    session.execute(f'DROP TABLE IF EXISTS {whole}', timeout=120)
    options = "compaction = {'class': 'SizeTieredCompactionStrategy', 'enabled': 'false'}"
    session.execute(f'CREATE TABLE {whole} ({layout.ddl}) AND {options}', timeout=60)
    with step(f'make {whole}') as progress:
        for copy in range(table.copies):
            folder = scratch / keyspace / table.name
            _write(cluster, folder, keyspace, table, _TIME + copy)
            if cluster.nodetool(['import', keyspace, table.name, str(folder)]):
                raise MakeError(f'{whole}: nodetool import failed')
            progress.update(f'SSTable {copy + 1} of {table.copies}')
    if cluster.nodetool(['snapshot', '--tag', TAG, '--table', table.name, keyspace]):
        raise MakeError(f'{whole}: nodetool snapshot failed')
    folder = next(folders.glob(f'{table.name}-*/snapshots/{TAG}/manifest.json')).parent
    if (found_files := len(list(folder.glob('*-Data.db')))) != table.copies:
        raise MakeError(f'{whole}: got {found_files} SSTables in its snapshot, rule: {table.copies}')
    return folder


def _write(cluster: DevCluster, folder: Path, keyspace: str, table: Table, timestamp: int) -> None:
    cache, layout, whole = cache_folder(), table.layout, f'{keyspace}.{table.name}'
    distribution = find_distribution(cache, version=cluster.version)
    marks, home = ', '.join('?' * len(layout.columns)), cluster.ring[0].folder
    command = [
        find_java(cache),
        f'@{JVM_OPTIONS}',
        '-Xmx768m',
        *(f'-D{key}={(home / name).as_uri()}' for key, name in _SETTINGS.items()),
        '-cp',
        distribution.class_path,
        _SOURCE,
        folder,
        layout.name,
    ]
    command += [f'CREATE TABLE {whole} ({layout.ddl})']
    command += [f'INSERT INTO {whole} ({", ".join(layout.columns)}) VALUES ({marks})']
    command += [table.rows // layout.partition_rows, layout.partition_rows, timestamp]
    found = subprocess.run([str(word) for word in command], capture_output=True, text=True)
    if found.returncode:
        lines = [line for line in found.stderr.splitlines() if 'Exception' in line] or ['no output']
        raise MakeError(f'{whole}: {lines[0][:200]}')
