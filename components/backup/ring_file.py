"""Files that tell the ring at the moment of a backup, and what of each node's files is read by it.

`snapshot take` writes a ring.json into each table's folder: {"node": NAME, "keyspaces": {KEYSPACE: REPLICATION},
"tokenmap": {NAME: {"tokens": [...], "dc": ..., "rack": ...}}}. Medusa has a tokenmap.json beside a schema.cql.
"""

from __future__ import annotations

import json
import logging
import posixpath
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath

from tfx_cassandra.components.backup.node_table import NodeTable
from tfx_cassandra.components.backup.ownership import Ranges, Ring, places_of, replication_of, shared_out
from tfx_cassandra.components.backup.stores import Store
from tfx_cassandra.components.errors import CoverageError, ReadError
from tfx_cassandra.components.scan.ring import RING

RING_FILE = 'ring.json'
_WHOLE = ((RING.start, RING.end),)
_log = logging.getLogger(__name__)


def ring_text(node: str, keyspaces: Mapping[str, Mapping[str, str]], tokenmap: Mapping[str, object]) -> str:
    """Returns the text of a ring.json."""
    return json.dumps({'node': node, 'keyspaces': keyspaces, 'tokenmap': tokenmap}, indent=1, sort_keys=True)


def write_ring(uri: str, tokenmap: Mapping[str, object], keyspace_cql: str) -> None:
    """Writes tokenmap.json and schema.cql into a folder, as `ring_at` reads them.

    Raises:
      ReadError: They cannot be written.
    """
    store = Store(uri)
    store.write('tokenmap.json', iter([json.dumps(tokenmap, indent=1).encode()]))
    store.write('schema.cql', iter([keyspace_cql.encode()]))


def node_and_ring(store: Store, path: str, keyspace: str) -> tuple[str, Ring]:
    """Returns the node that a ring.json names, and the ring; raises ReadError for a damaged file."""
    name = store.at(path)
    try:
        values = json.loads(store.content(path))
        node, replication = str(values['node']), dict(values['keyspaces'][keyspace])
        tokenmap = json.dumps(values['tokenmap']).encode()
    except (ValueError, KeyError, TypeError) as error:
        raise ReadError(f'{name}: got {error!r}, rule: what `snapshot take` writes') from error
    return node, Ring(places_of(tokenmap, name), replication)


def ring_at(uri: str, keyspace: str) -> Ring:
    """Returns the ring of a tokenmap.json, with the keyspace's replication of the schema.cql beside it.

    Raises:
      ReadError: A file is missing or damaged.
    """
    path, mark, options = uri.partition('?')
    folder, name = posixpath.split(path)
    store = Store(f'{folder}{mark}{options}')
    schema = store.content('schema.cql').decode('utf-8', 'replace')
    return Ring(places_of(store.content(name), uri), replication_of(schema, keyspace, store.at('schema.cql')))


def ranges_of(tables: Sequence[NodeTable], replicas: str, given: Ring | None) -> list[Ranges | None]:
    """Returns for each node what is read of its files: token ranges (start, end]; None for everything.

    Args:
      tables: What the nodes have.
      replicas: 'all' or 'one'; see CassandraBackup.
      given: The ring, where the files do not tell it.

    Raises:
      CoverageError: The files of a node are missing that owns ranges; the message names them.
      ReadError: Which node's files are which is not clear, or nothing tells the ring and 'one' is asked for.
    """
    rings = _rings(tables, given)
    if not rings:
        if replicas == 'one' and len(tables) > 1:
            rule = 'a ring, which says who owns what: give `ring`'
            raise ReadError(f"replicas: got 'one' of {len(tables)} nodes, rule: {rule}")
        _log.warning('%s: nothing tells the ring, so rows that a node no longer owned are read too', tables[0].place)
        return [None] * len(tables)
    if replicas == 'one':
        owned = shared_out(rings)
    else:
        owned = {name: ring.owned([name])[name] for name, ring in rings.items()}
        _check_all(rings)
    return [None if owned[name] == _WHOLE else owned[name] for name in rings]


def _rings(tables: Sequence[NodeTable], given: Ring | None) -> dict[str, Ring]:
    """Returns the ring that each node knew, by the node's name, in the order of `tables`; none where nothing tells."""
    if given is not None:
        names = [_name_in(given, table) for table in tables]
        for name, table in zip(names, tables, strict=True):
            if names.count(name) > 1:
                raise ReadError(f'{table.place}: got one of several folders of node {name}, rule: one of each node')
        return dict.fromkeys(names, given)
    without = [table.place for table in tables if table.ring is None]
    if 0 < len(without) < len(tables):
        raise ReadError(f'{without[0]}: got no {RING_FILE}, rule: one in each folder, or in none')
    return {table.node: table.ring for table in tables if table.ring is not None}


def _name_in(ring: Ring, table: NodeTable) -> str:
    """Returns the name that the ring has for a node: a folder on the path of its files."""
    names = [part for part in PurePosixPath(table.place).parts if part in ring.nodes]
    if len(names) != 1:
        rule = f'a path with the name of one node: {", ".join(sorted(ring.nodes))}'
        raise ReadError(f'{table.place}: got the files of {len(names)} nodes of the ring, rule: {rule}')
    return names[0]


def _check_all(rings: Mapping[str, Ring]) -> None:
    """Raises CoverageError if a node of a ring is missing that owns something."""
    for ring in {id(ring): ring for ring in rings.values()}.values():
        for name, ranges in ring.owned([name for name in ring.nodes if name not in rings]).items():
            if ranges:
                text = ', '.join(f'({start}, {end}]' for start, end in ranges)
                rule = "those of all nodes, or replicas='one'"
                raise CoverageError(f'backup: got no files of node {name}, which owned {text}, rule: {rule}')
