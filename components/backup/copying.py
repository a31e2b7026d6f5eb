"""Snapshots of nodes -> a store, laid out as a full backup of Medusa; see medusa.py.

A node's manifest is written last, so that a copy which was interrupted is never taken for a whole one.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import posixpath
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from pyarrow import fs

from tfx_cassandra.components.backup import medusa
from tfx_cassandra.components.backup.stores import Store
from tfx_cassandra.components.errors import ReadError, invalid

_PART = 4 << 20  # bytes that are read and written at once
_THREADS = 4  # files at a time
_LEFT_OUT = ('manifest.json', 'schema.cql', 'ring.json')  # whose content the backup has elsewhere


@dataclasses.dataclass(frozen=True)
class NodeSnapshot:
    """What a snapshot has of one node.

    Attributes:
      node: Name of the node, as in the tokenmap.
      folders: The folder of each table, with a manifest.json: .../KEYSPACE/TABLE-ID/snapshots/TAG.
      tokenmap: The ring: {node: {"tokens": [...], "dc": ..., "rack": ...}}.
      keyspaces: CREATE KEYSPACE of each keyspace.
      started: Seconds since 1970 at which the snapshot was made.
      release: Cassandra's version.
    """

    node: str
    folders: Sequence[Path]
    tokenmap: Mapping[str, object]
    keyspaces: Sequence[str]
    started: int
    release: str


def copy(snapshots: Sequence[NodeSnapshot], uri: str, name: str, progress: Callable[[str], None]) -> tuple[int, int]:
    """Copies snapshots of nodes into a store, as a backup.

    Args:
      snapshots: What each node has.
      uri: Where to: what holds the folder `index`, or is empty.
      name: Name of the backup.
      progress: Is told how far it is.

    Returns:
      Numbers of files and of bytes.

    Raises:
      ReadError: A file cannot be read or written.
      ValueError: There is a backup of this name.
    """
    check_new(uri, name)
    store = Store(uri)
    copied = _Copied(progress)
    for snapshot in snapshots:
        _copy_node(store, name, snapshot, copied)
    return copied.files, copied.bytes


def check_new(uri: str, name: str) -> None:
    """Raises ValueError if a store has a backup of a name already."""
    if medusa.indexed(Store(uri), name):
        raise invalid('name', name, f'one that {uri} does not have yet')


class _Copied:
    """What has been copied, counted by several threads."""

    def __init__(self, progress: Callable[[str], None]) -> None:
        self._progress, self._lock = progress, threading.Lock()
        self.files, self.bytes = 0, 0

    def add(self, files: int, size: int) -> None:
        """Counts files and bytes."""
        with self._lock:
            self.files, self.bytes = self.files + files, self.bytes + size
            self._progress(f'{self.files:,} files, {self.bytes / 1e6:,.1f} MB')


def _copy_node(store: Store, name: str, snapshot: NodeSnapshot, copied: _Copied) -> None:
    node = snapshot.node
    schemas = [(folder / 'schema.cql').read_text('utf-8') for folder in snapshot.folders]
    meta = {
        'tokenmap.json': json.dumps(snapshot.tokenmap),
        'schema.cql': '\n\n'.join([*snapshot.keyspaces, *schemas]),
        'server_version.json': json.dumps({'server_type': 'cassandra', 'release_version': snapshot.release}),
    }
    index = posixpath.join(medusa.INDEX, name)
    for file, text in meta.items():
        _write(store, posixpath.join(node, name, 'meta', file), text)
    _write(store, f'{index}/tokenmap_{node}.json', meta['tokenmap.json'])
    _write(store, f'{index}/schema_{node}.cql', meta['schema.cql'])
    _write(store, f'{index}/started_{node}_{snapshot.started}.timestamp', str(snapshot.started))
    sections = [_copy_table(store, posixpath.join(node, name, 'data'), folder, copied) for folder in snapshot.folders]
    manifest = json.dumps(sections)
    _write(store, posixpath.join(node, name, 'meta', 'manifest.json'), manifest)
    _write(store, f'{index}/manifest_{node}.json', manifest)


def _copy_table(store: Store, data: str, folder: Path, copied: _Copied) -> dict[str, object]:
    """Copies the files of a table; returns its section of the manifest."""
    keyspace, table = folder.parts[-4:-2]
    target = posixpath.join(data, keyspace, table)
    files = sorted(path for path in folder.iterdir() if path.is_file() and path.name not in _LEFT_OUT)
    with ThreadPoolExecutor(_THREADS) as threads:
        objects = list(threads.map(lambda path: _copy_file(store, path, f'{target}/{path.name}', copied), files))
    return {'keyspace': keyspace, 'columnfamily': table, 'objects': objects}


def _copy_file(store: Store, path: Path, target: str, copied: _Copied) -> dict[str, object]:
    md5, size = hashlib.md5(usedforsecurity=False), 0

    def parts() -> Iterator[bytes]:
        nonlocal size
        with path.open('rb') as file:
            while part := file.read(_PART):
                md5.update(part)
                size += len(part)
                copied.add(0, len(part))
                yield part

    store.write(target, parts())
    copied.add(1, 0)
    if size != path.stat().st_size:
        raise ReadError(f'{path}: got {size} bytes, rule: {path.stat().st_size}, unchanged while it is copied')
    return {'path': target, 'MD5': md5.hexdigest(), 'size': size}


def _write(store: Store, path: str, text: str) -> None:
    store.write(path, iter([text.encode()]))


def remove(uri: str, name: str) -> int:
    """Removes a full backup from a store, its manifests first; returns the number of its nodes.

    Raises:
      ReadError: There is none, or it shares its files with others.
    """
    store = Store(uri)
    nodes = medusa.indexed(store, name).get(name, {})
    if not nodes:
        raise ReadError(f'{store.at(medusa.INDEX)}: got no {name!r}, rule: the name of a backup')
    shared = [node for node, index in nodes.items() if 'differential' in index.files]
    if shared:
        rule = 'a full backup; `medusa delete-backup` knows which files others need'
        raise ReadError(f'{name}: got a differential backup of {shared[0]}, rule: {rule}')
    for index in nodes.values():
        if 'manifest' in index.files:
            store.filesystem.delete_file(store.path(index.files['manifest']))
    for folder in (*(posixpath.join(node, name) for node in nodes), posixpath.join(medusa.INDEX, name)):
        if store.filesystem.get_file_info(store.path(folder)).type == fs.FileType.Directory:
            store.filesystem.delete_dir(store.path(folder))
    return len(nodes)
