"""Backups of Cassandra Medusa (0.11 to 0.31), full and differential.

    [PREFIX/]index/backup_index/BACKUP/{tokenmap,schema,manifest,started,finished,differential}_NODE...
    [PREFIX/]NODE/BACKUP/data/KEYSPACE/TABLE-ID/...      full
    [PREFIX/]NODE/data/KEYSPACE/TABLE-ID/...             differential

A node's manifest is written last: it names the files with their sizes, so a node without one has not finished.
"""

from __future__ import annotations

import base64
import binascii
import dataclasses
import datetime
import hashlib
import json
import posixpath
import re
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

from tfx_cassandra.components.backup.dropped import with_dropped
from tfx_cassandra.components.backup.node_table import NodeTable, check_alike, files_of
from tfx_cassandra.components.backup.ownership import Ring, places_of, replication_of
from tfx_cassandra.components.backup.stores import THREADS, Store
from tfx_cassandra.components.errors import ReadError
from tfx_cassandra.components.sstable import schema_file
from tfx_cassandra.components.sstable.files import Files, Ranges

INDEX = 'index/backup_index'
_FILE = re.compile(
    r'(tokenmap|schema|manifest|differential)_(.+?)(?:\.json|\.cql)?|(started|finished)_(.+)_([0-9]+)\.timestamp'
)
_PROBES = 3  # files that show whether a store's sums are MD5
_DROPPED = ('system_schema', 'dropped_columns')


class _Object(NamedTuple):
    """A file of a manifest: its path in the store, its bytes, and what the store said of its content."""

    path: str
    size: int
    md5: str


class Indexed(NamedTuple):
    """What the index has of a node in a backup: files by kind, and the seconds since 1970 of its begin and end."""

    files: dict[str, str]
    times: dict[str, int]

    @property
    def complete(self) -> bool:
        """Whether the node has finished."""
        return 'manifest' in self.files


def indexed(store: Store, name: str | None) -> dict[str, dict[str, Indexed]]:
    """Returns what the index has: backup -> node -> files; of one backup, or of all."""
    found: dict[str, dict[str, Indexed]] = {}
    for path in store.sizes(INDEX if name is None else posixpath.join(INDEX, name)):
        backup, file = posixpath.split(posixpath.relpath(path, INDEX))
        match = _FILE.fullmatch(file)
        if match is None:
            continue
        kind, node = match[1] or match[3], match[2] or match[4]
        own = found.setdefault(backup, {}).setdefault(node, Indexed({}, {}))
        if match[5]:
            own.times[kind] = int(match[5])
        else:
            own.files[kind] = path
    return found


def latest(store: Store) -> str:
    """Returns the name of the complete backup that was finished last; raises ReadError where there is none."""
    found = indexed(store, None)
    ordered = sorted(found, key=lambda name: max(node.times.get('started', 0) for node in found[name].values()))
    for name in reversed(ordered):
        if not unfinished(store, found[name]):
            return name
    names = ', '.join(ordered) or 'nothing'
    raise ReadError(f'{store.at(INDEX)}: got {names}, rule: a backup that all its nodes have finished')


def unfinished(store: Store, nodes: Mapping[str, Indexed]) -> list[str]:
    """Returns the nodes of a backup that have not finished, those of its tokenmaps included."""
    known = {name for node in nodes.values() if 'tokenmap' in node.files for name in _places(store, node)}
    return sorted(name for name in known | set(nodes) if name not in nodes or not nodes[name].complete)


def _places(store: Store, node: Indexed) -> Mapping[str, Any]:
    return places_of(store.content(node.files['tokenmap']), store.at(node.files['tokenmap']))


def find(store: Store, name: str | None, keyspace: str, table: str) -> tuple[str, list[NodeTable]]:
    """Returns the name of a backup and what each node that has finished has of a table in it.

    Args:
      store: What holds the folder `index`.
      name: Name of the backup; None for the latest complete one.
      keyspace: Keyspace of the table.
      table: Name of the table.

    Raises:
      ReadError: There is no such backup, or it lacks a file, or a file has not its size or MD5.
      SchemaError: The table is not in its schema, or cannot be read.
    """
    name = name or latest(store)
    nodes = {node: one for node, one in indexed(store, name).get(name, {}).items() if one.complete}
    if not nodes:
        known = ', '.join(sorted(indexed(store, None))) or 'nothing'
        raise ReadError(f'{store.at(INDEX)}: got {known}, rule: backup {name!r} with a node that has finished')
    with ThreadPoolExecutor(THREADS) as threads:
        waiting = [
            threads.submit(_node_table, store, name, node, one, (keyspace, table))
            for node, one in sorted(nodes.items())
        ]
        found = [one.result() for one in waiting]
    check_alike(found, f'{keyspace}.{table}')
    return name, found


def _node_table(store: Store, backup: str, node: str, index: Indexed, table: tuple[str, str]) -> NodeTable:
    missing = [kind for kind in ('tokenmap', 'schema') if kind not in index.files]
    if missing:
        raise ReadError(f'{store.at(INDEX)}/{backup}: got no {missing[0]} of {node}, rule: what Medusa writes')
    text = store.content(index.files['schema']).decode('utf-8', 'replace')
    tables = _tables(store.content(index.files['manifest']), store.at(index.files['manifest']), node)
    ring = Ring(_places(store, index), replication_of(text, table[0], store.at(index.files['schema'])))
    schema = schema_file.parse(text, table)
    # What was dropped is not in the schema as Medusa writes it, but in the server's own table.
    schema = with_dropped(schema, _files(store, tables, _DROPPED), _started(store, index))
    place = store.at(posixpath.join(node, backup))
    if not any(_is_of(section, table) for section in tables):
        # An empty table has a section, too. Medusa 0.31 writes an empty manifest where nodetool has failed.
        raise ReadError(f'{place}: got no {".".join(table)} in its manifest, rule: what was in the snapshot')
    return NodeTable(node, place, schema, _started(store, index), _files(store, tables, table), ring)


def _started(store: Store, index: Indexed) -> datetime.datetime:
    """Returns when the node's backup began: what has been written until then is in its snapshot."""
    seconds = index.times.get('started') or store.modified(index.files['schema'])
    return datetime.datetime.fromtimestamp(seconds, datetime.timezone.utc)


def manifest(content: bytes, name: str, node: str) -> dict[tuple[str, str], list[_Object]]:
    """Returns the files of each (keyspace, folder of a table); raises ReadError where it names none."""
    try:
        return {
            (section['keyspace'], section['columnfamily']): [
                _Object(_relative(one['path'], node), int(one['size']), str(one['MD5'])) for one in section['objects']
            ]
            for section in json.loads(content)
        }
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ReadError(f'{name}: got {error!r}, rule: a manifest of Medusa') from error


def _tables(content: bytes, name: str, node: str) -> dict[tuple[str, str], list[_Object]]:
    """Returns the same without files of indexes, which have folders of their own."""
    return {
        section: [one for one in objects if posixpath.basename(posixpath.dirname(one.path)) == section[1]]
        for section, objects in manifest(content, name, node).items()
    }


def _relative(path: str, node: str) -> str:
    """Returns a path of a manifest below the prefix: from the node's name on."""
    parts = path.split('/')
    return '/'.join(parts[parts.index(node) :])


def _files(
    store: Store, tables: Mapping[tuple[str, str], Sequence[_Object]], table: tuple[str, str]
) -> tuple[Files, ...]:
    """Returns the files of a table's SSTables, whose sizes have been compared."""
    found: tuple[Files, ...] = ()
    for section, objects in sorted(tables.items()):
        if _is_of(section, table) and objects:
            place = posixpath.dirname(objects[0].path)
            sizes = _checked(store, place, objects)
            listed = [name for name in sizes if name.endswith('-Data.db')]
            found += _summed(store, objects, files_of(store, place, listed, sizes))
    return found


def _is_of(section: tuple[str, str], table: tuple[str, str]) -> bool:
    """Whether a section of a manifest, keyspace and folder, is that of a table."""
    return (section[0], section[1].rpartition('-')[0]) == table


def _checked(store: Store, folder: str, objects: Sequence[_Object]) -> dict[str, int]:
    """Returns the bytes of files by name; raises ReadError where one is missing or has another size."""
    there = store.sizes(folder)
    for one in objects:
        if there.get(one.path) != one.size:
            got = f'{there[one.path]} bytes' if one.path in there else 'no file'
            raise ReadError(f'{store.at(one.path)}: got {got}, rule: {one.size} bytes, as the manifest says')
    return {posixpath.basename(one.path): one.size for one in objects}


def _summed(store: Store, objects: Sequence[_Object], found: Sequence[Files]) -> tuple[Files, ...]:
    """Returns files whose MD5 is compared when they are read whole."""
    sums = {posixpath.basename(one.path): md5 for one in objects if (md5 := _md5(one.md5)) is not None}
    probes = sorted((one for one in objects if _md5(one.md5)), key=lambda one: one.size)[:_PROBES]
    contents = store.contents([one.path for one in probes])
    # Where a store encrypts, its ETags are no MD5, so that not one agrees.
    if not any(_sum_of(content) == _md5(one.md5) for one, content in zip(probes, contents, strict=True)):
        return tuple(found)
    return tuple(
        dataclasses.replace(
            files,
            components={
                component: _Summed(file, sums[name], store.at(name))
                if (name := f'{files.name}-{component}') in sums
                else file
                for component, file in files.components.items()
            },
        )
        for files in found
    )


class _Summed:
    """A file whose MD5 is compared whenever it is read whole, as all small files are; a Data.db has its own digest."""

    def __init__(self, file: Ranges, md5: bytes | None, name: str) -> None:
        self._file, self._md5, self._name, self.size = file, md5, name, file.size

    def read(self, start: int, length: int) -> bytes:
        """Returns the bytes from `start` on: `length` of them, or fewer where the file ends."""
        content = self._file.read(start, length)
        if self._md5 is not None and len(content) == self.size and _sum_of(content) != self._md5:
            raise ReadError(f'{self._name}: got another MD5, rule: {self._md5.hex()}, as the manifest says')
        return content

    def in_order(self, end: int) -> _Summed:
        """Returns it for one reader, which reads it in order, probably up to byte `end`."""
        return _Summed(self._file.in_order(end), self._md5, self._name)


def _sum_of(content: bytes) -> bytes:
    return hashlib.md5(content, usedforsecurity=False).digest()


def _md5(text: str) -> bytes | None:
    """Returns the MD5 that a manifest has, in hexadecimal digits or base64; None for the ETag of a multipart upload."""
    try:
        found = bytes.fromhex(text) if len(text) == 32 else base64.b64decode(text, validate=True)
    except (ValueError, binascii.Error):
        return None
    return found if len(found) == 16 else None
