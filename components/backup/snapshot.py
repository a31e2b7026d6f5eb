"""Snapshots of one table: the folders that `nodetool snapshot` has made on nodes, or copies of them.

A folder belongs to a node by the path before KEYSPACE/TABLE-ID, and has a manifest.json, which names its SSTables.
"""

from __future__ import annotations

import dataclasses
import datetime
import json
import posixpath
import re
from collections.abc import Iterable, Mapping
from pathlib import PurePosixPath

from tfx_cassandra.components.backup.stores import Store
from tfx_cassandra.components.errors import ReadError
from tfx_cassandra.components.sstable import schema_file
from tfx_cassandra.components.sstable.schema_file import SchemaFile

# A folder of a table as Cassandra names it. Both names are words, case included.
_FOLDER = re.compile(r'(?:(?P<node>.*)/)?(?P<keyspace>\w+)/(?P<table>\w+)-[0-9a-f]{32}(?:/snapshots/(?P<tag>[^/]+))?')
_MANIFEST, _SCHEMA = 'manifest.json', 'schema.cql'


@dataclasses.dataclass(frozen=True)
class TableFolder:
    """What a node's snapshot has of the table.

    Attributes:
      node: What the node is called: the folder that its keyspaces are in.
      path: The folder, relative to the store.
      tag: Tag of the snapshot; None where the path does not tell it.
      schema: The table, by schema.cql.
      created_at: The moment of the snapshot.
      listed: Names of the Data.db files that manifest.json names.
      sizes: Bytes of the files in the folder, by name.
    """

    node: str
    path: str
    tag: str | None
    schema: SchemaFile
    created_at: datetime.datetime
    listed: tuple[str, ...]
    sizes: Mapping[str, int]


def table_folders(store: Store, tag: str | None, keyspace: str, table: str) -> list[TableFolder]:
    """Returns the folders of a table's snapshot, one for each node.

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
    wanted = [(path, names) for path, names in sorted(folders.items()) if _may_hold(store, path, tag, keyspace, table)]
    found = [_folder(store, path, names) for path, names in wanted if {_MANIFEST, _SCHEMA} <= set(names)]
    other = sorted({f'{one.schema.table.keyspace}.{one.schema.table.name}' for one in found})
    found = [one for one in found if (one.schema.table.keyspace, one.schema.table.name) == (keyspace, table)]
    if not found:
        bare = [path for path, names in wanted if any(name.endswith('-Data.db') for name in names)]
        raise ReadError(_nothing(store, bare, other, tag, f'{keyspace}.{table}'))
    return _checked(store, found, f'{keyspace}.{table}')


def _nothing(store: Store, bare: list[str], other: list[str], tag: str | None, table: str) -> str:
    if other:
        return f'{store.uri}: got snapshots of {", ".join(other)}, rule: of {table}'
    if bare:
        rule = 'a folder of a snapshot, which has both, not one that Cassandra writes to'
        return f'{store.at(bare[0])}: got no {_MANIFEST} or no {_SCHEMA}, rule: {rule}'
    named = '' if tag is None else f' {tag!r}'
    return f'{store.uri}: got no snapshot{named} of {table}, rule: a folder of snapshots, as nodetool makes them'


def _checked(store: Store, found: list[TableFolder], table: str) -> list[TableFolder]:
    """Returns the folders; raises ReadError unless they are one snapshot, with one folder for each node."""
    tags = sorted({one.tag or '' for one in found})
    if len(tags) > 1:
        raise ReadError(f'backup: got None, rule: one of {", ".join(tags)}, of which {store.uri} has folders')
    nodes = [one.node for one in found]
    for one in found:
        if nodes.count(one.node) > 1:
            raise ReadError(
                f'{store.uri}: got several folders of {table} of node {one.node!r}, rule: one snapshot of each node'
            )
        if one.schema.table != found[0].schema.table or one.schema.dropped != found[0].schema.dropped:
            paths = f'{store.at(found[0].path)} and {store.at(one.path)}'
            raise ReadError(f'{paths}: got two schemas of {table}, rule: snapshots without a change of schema between')
    return found


def _may_hold(store: Store, path: str, tag: str | None, keyspace: str, table: str) -> bool:
    """Whether a folder may hold the table's snapshot: its path does not say otherwise."""
    match = _FOLDER.fullmatch(posixpath.join(store.root, path).rstrip('/'))
    if match is None:
        return tag is None or tag in PurePosixPath(store.root, path).parts
    if (match['keyspace'], match['table']) != (keyspace, table):
        return False
    return tag is None or tag == match['tag'] or (match['tag'] is None and tag in (match['node'] or '').split('/'))


def _folder(store: Store, path: str, sizes: Mapping[str, int]) -> TableFolder:
    manifest = posixpath.join(path, _MANIFEST)
    listed, created_at = _parsed(store.content(manifest), store.at(manifest))
    if created_at is None:
        created_at = datetime.datetime.fromtimestamp(store.modified(manifest), datetime.timezone.utc)
    schema = schema_file.parse(store.content(posixpath.join(path, _SCHEMA)).decode('utf-8', 'replace'))
    match = _FOLDER.fullmatch(posixpath.join(store.root, path).rstrip('/'))
    node = posixpath.relpath(match['node'] or '/', store.root) if match else path
    return TableFolder(node, path, match['tag'] if match else None, schema, created_at, tuple(listed), sizes)


def _parsed(content: bytes, name: str) -> tuple[list[str], datetime.datetime | None]:
    """Returns the Data.db files that a manifest names, and its moment where it has one (Cassandra 4.1 and later)."""
    try:
        values = json.loads(content)
        # What lies in a folder of its own belongs to an index.
        listed = sorted(file for file in _texts(values['files']) if '/' not in file)
        created_at = values.get('created_at')
        moment = None if created_at is None else _moment(created_at)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ReadError(f'{name}: got {error!r}, rule: the manifest of a snapshot') from error
    return listed, moment


def _texts(values: Iterable[object]) -> list[str]:
    if not all(isinstance(value, str) for value in values):
        raise TypeError('files that are not texts')
    return [str(value) for value in values]


def _moment(text: str) -> datetime.datetime:
    """Parses a moment of UTC such as 2026-01-01T00:00:00.123Z."""
    digits, _, fraction = text.removesuffix('Z').partition('.')
    moment = datetime.datetime.strptime(digits, '%Y-%m-%dT%H:%M:%S').replace(tzinfo=datetime.timezone.utc)
    return moment + datetime.timedelta(microseconds=int(fraction[:6].ljust(6, '0')))
