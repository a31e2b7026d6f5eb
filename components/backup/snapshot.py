"""Snapshots of one table: the folders that `nodetool snapshot` has made on nodes, or copies of them.

A folder belongs to a node by the path before KEYSPACE/TABLE-ID, and has a manifest.json, which names its SSTables.
"""

from __future__ import annotations

import datetime
import posixpath
import re
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from tfx_cassandra.components.backup.node_table import NodeTable, check_alike, files_of
from tfx_cassandra.components.backup.ring_file import RING_FILE, node_and_ring
from tfx_cassandra.components.backup.stores import THREADS, Store
from tfx_cassandra.components.errors import ReadError
from tfx_cassandra.components.sstable import schema_file
from tfx_cassandra.components.sstable.snapshot import MANIFEST, SCHEMA, manifest

# A folder of a table as Cassandra names it. Both names are words, case included.
_FOLDER = re.compile(r'(?:(?P<node>.*)/)?(?P<keyspace>\w+)/(?P<table>\w+)-[0-9a-f]{32}(?:/snapshots/(?P<tag>[^/]+))?')


def find(store: Store, tag: str | None, keyspace: str, table: str) -> tuple[str, list[NodeTable]]:
    """Returns the name of a table's snapshot and what each node has of it.

    Args:
      store: Where to look: a folder itself, and all below it.
      tag: Tag of the snapshot; None for the only one.
      keyspace: Keyspace of the table.
      table: Name of the table.

    Raises:
      ReadError: There is none, there are several snapshots and no tag, or a manifest is damaged.
      SchemaError: A schema.cql is not that of a table that can be read.
    """
    folders: dict[str, dict[str, int]] = {}
    for path, size in store.sizes().items():
        folder, name = posixpath.split(path)
        folders.setdefault(folder, {})[name] = size
    wanted = {path: names for path, names in sorted(folders.items()) if _may_hold(store, path, tag, keyspace, table)}
    whole = {path: names for path, names in wanted.items() if {MANIFEST, SCHEMA} <= set(names)}
    full = f'{keyspace}.{table}'
    with ThreadPoolExecutor(THREADS) as threads:
        waiting = {path: threads.submit(_node_table, store, path, names, full) for path, names in whole.items()}
        found = {path: one.result() for path, one in waiting.items()}
    own = {path: one for path, one in found.items() if isinstance(one, NodeTable)}
    if not own:
        bare = [path for path, names in wanted.items() if any(name.endswith('-Data.db') for name in names)]
        raise ReadError(_nothing(store, bare, sorted({*map(str, found.values())}), tag, full))
    tags = {_parts(store, path).get('tag') or '' for path in own}
    if len(tags) > 1:
        rule = f'one of {", ".join(sorted(tags))}, of which {store.uri} has snapshots'
        raise ReadError(f'backup: got None, rule: {rule}')
    check_alike(list(own.values()), full)
    return tag or min(tags) or posixpath.basename(store.root.rstrip('/')), list(own.values())


class Folder(NamedTuple):
    """The folder of a table in a snapshot of a node: .../KEYSPACE/TABLE-ID/snapshots/TAG, with its manifest."""

    node: str
    table: str
    tag: str
    created_at: datetime.datetime
    files: int
    bytes: int


def folders(store: Store) -> Iterator[Folder]:
    """Yields the folders of all snapshots in a place; raises ReadError where a manifest is damaged."""
    sizes: dict[str, dict[str, int]] = {}
    for path, size in store.sizes().items():
        folder, name = posixpath.split(path)
        sizes.setdefault(folder, {})[name] = size
    for path, found in sizes.items():
        parts = _parts(store, path)
        if parts and parts['tag'] and MANIFEST in found:
            _, moment = _manifest(store, posixpath.join(path, MANIFEST))
            table = f'{parts["keyspace"]}.{parts["table"]}'
            yield Folder(parts['node'] or '', table, parts['tag'], moment, len(found), sum(found.values()))


def _nothing(store: Store, bare: list[str], other: list[str], tag: str | None, table: str) -> str:
    if other:
        return f'{store.uri}: got snapshots of {", ".join(other)}, rule: of {table}'
    if bare:
        rule = 'a folder of a snapshot, which has both, not one that Cassandra writes to'
        return f'{store.at(bare[0])}: got no {MANIFEST} or no {SCHEMA}, rule: {rule}'
    named = '' if tag is None else f' {tag!r}'
    return f'{store.uri}: got no snapshot{named} of {table}, rule: a folder of snapshots, as nodetool makes them'


def _parts(store: Store, path: str) -> dict[str, str | None]:
    """Returns node, keyspace, table and tag of a folder by its path; nothing where it has another form."""
    match = _FOLDER.fullmatch(posixpath.join(store.root, path).rstrip('/'))
    return match.groupdict() if match else {}


def _may_hold(store: Store, path: str, tag: str | None, keyspace: str, table: str) -> bool:
    """Whether a folder may hold the table's snapshot: its path does not say otherwise."""
    parts = _parts(store, path)
    if not parts:
        return tag is None or tag in PurePosixPath(store.root, path).parts
    if (parts['keyspace'], parts['table']) != (keyspace, table):
        return False
    return tag is None or tag == parts['tag'] or (parts['tag'] is None and tag in (parts['node'] or '').split('/'))


def _node_table(store: Store, path: str, sizes: Mapping[str, int], table: str) -> NodeTable | str:
    """Returns what a folder has of a table; the name of another table, which need not be one that can be read."""
    text = store.content(posixpath.join(path, SCHEMA)).decode('utf-8', 'replace')
    if (name := schema_file.name_of(text)) != table:
        return name
    schema = schema_file.parse(text)
    listed, moment = _manifest(store, posixpath.join(path, MANIFEST))
    above = _parts(store, path).get('node')
    node, ring = path if above is None else posixpath.relpath(above or '/', store.root), None
    if RING_FILE in sizes:
        node, ring = node_and_ring(store, posixpath.join(path, RING_FILE), schema.table.keyspace)
    return NodeTable(node, store.at(path), schema, moment, files_of(store, path, listed, sizes), ring)


def created_at(folder: Path) -> datetime.datetime:
    """Returns the moment of the snapshot in a folder of this machine; raises ReadError for a damaged manifest."""
    return _manifest(Store(str(folder)), MANIFEST)[1]


def _manifest(store: Store, path: str) -> tuple[list[str], datetime.datetime]:
    """Returns the Data.db files that a manifest names, and its moment: when it was written, if it does not say it."""
    listed, moment = manifest(store.content(path), store.at(path))
    return listed, moment or datetime.datetime.fromtimestamp(store.modified(path), datetime.timezone.utc)
