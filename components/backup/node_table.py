"""What a backup has of a table from one node, in whatever layout the files are."""

from __future__ import annotations

import dataclasses
import datetime
import posixpath
from collections.abc import Iterable, Mapping

from tfx_cassandra.components.backup.ownership import Ring
from tfx_cassandra.components.backup.stores import Store
from tfx_cassandra.components.errors import ReadError
from tfx_cassandra.components.sstable.files import Files, split_name
from tfx_cassandra.components.sstable.schema_file import SchemaFile


@dataclasses.dataclass(frozen=True)
class NodeTable:
    """The files of a table from one node.

    Attributes:
      node: Name of the node.
      place: Where they are, for messages.
      schema: The table.
      created_at: The moment of the backup on this node.
      files: Those of each SSTable.
      ring: The ring as the node knew it then; None where nothing tells.
    """

    node: str
    place: str
    schema: SchemaFile
    created_at: datetime.datetime
    files: tuple[Files, ...]
    ring: Ring | None


def files_of(store: Store, folder: str, listed: Iterable[str], sizes: Mapping[str, int]) -> tuple[Files, ...]:
    """Returns the files of SSTables.

    Args:
      store: Where they are.
      folder: Their folder in the store.
      listed: Names of the Data.db files.
      sizes: Bytes of all files in the folder, by name.

    Raises:
      ReadError: A Data.db is missing, or of a version that cannot be read.
    """
    named: dict[str, dict[str, int]] = {}
    for file, size in sizes.items():
        if file.count('-') >= 3:
            sstable, _, component = file.rpartition('-')
            named.setdefault(sstable, {})[component] = size
    found = []
    for data in sorted(listed):
        version, name, _ = split_name(data)
        if data not in sizes:
            raise ReadError(f'{store.at(folder)}: got no {data}, rule: all files that its manifest names')
        components = {
            component: store.file(posixpath.join(folder, f'{name}-{component}'), size)
            for component, size in named[name].items()
        }
        found.append(Files(name, version, components))
    return tuple(found)


def check_alike(tables: list[NodeTable], table: str) -> None:
    """Raises ReadError unless all nodes have the same schema of a table, and each node stands once."""
    nodes = [one.node for one in tables]
    for one in tables:
        if nodes.count(one.node) > 1:
            rule = 'one of each node, with all its files in one folder'
            raise ReadError(f'{one.place}: got several snapshots of {table} of node {one.node!r}, rule: {rule}')
        if one.schema.table != tables[0].schema.table or one.schema.dropped != tables[0].schema.dropped:
            rule = 'backups without a change of the table between them'
            raise ReadError(f'{tables[0].place} and {one.place}: got two schemas of {table}, rule: {rule}')
