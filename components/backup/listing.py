"""The backups that a place has: snapshots of nodes, or backups in Medusa's layout, with sizes and moments."""

from __future__ import annotations

import dataclasses
import datetime

from tfx_cassandra.components.backup import medusa, snapshot
from tfx_cassandra.components.backup.stores import Store


@dataclasses.dataclass(frozen=True)
class Listed:
    """A backup.

    Attributes:
      name: Its name, or the tag of a snapshot.
      layout: 'snapshot' or 'medusa'.
      created_at: When it was made; of several nodes the latest.
      complete: Whether all nodes have finished.
      nodes: Number of nodes.
      tables: Number of tables.
      files: Number of files.
      bytes: Their bytes.
    """

    name: str
    layout: str
    created_at: datetime.datetime
    complete: bool
    nodes: int
    tables: int
    files: int
    bytes: int


def listed(uri: str) -> list[Listed]:
    """Returns the backups in a place, the oldest first.

    Raises:
      ReadError: The place cannot be listed, or a manifest is damaged.
    """
    store = Store(uri)
    backups = medusa.indexed(store, None)
    found = [_backup(store, name, nodes) for name, nodes in backups.items()] if backups else _snapshots(store)
    return sorted(found, key=lambda one: (one.created_at, one.name))


def _backup(store: Store, name: str, nodes: dict[str, medusa.Indexed]) -> Listed:
    found = {node: one.files['manifest'] for node, one in nodes.items() if one.complete}
    contents = zip(found.items(), store.contents(found.values()), strict=True)
    manifests = [medusa.manifest(content, store.at(path), node) for (node, path), content in contents]
    tables = {table for sections in manifests for table in sections}
    sizes = [one.size for sections in manifests for objects in sections.values() for one in objects]
    started = max(node.times.get('started', 0) for node in nodes.values())
    return Listed(
        name, 'medusa', datetime.datetime.fromtimestamp(started, datetime.timezone.utc),
        not medusa.unfinished(store, nodes), len(nodes), len(tables), len(sizes), sum(sizes),
    )  # fmt: skip


def _snapshots(store: Store) -> list[Listed]:
    found: dict[str, list[snapshot.Folder]] = {}
    for folder in snapshot.folders(store):
        found.setdefault(folder.tag, []).append(folder)
    return [
        Listed(
            tag, 'snapshot', max(one.created_at for one in folders), True, len({one.node for one in folders}),
            len({one.table for one in folders}), sum(one.files for one in folders), sum(one.bytes for one in folders),
        )
        for tag, folders in found.items()
    ]  # fmt: skip
