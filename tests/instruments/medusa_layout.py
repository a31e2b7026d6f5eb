"""The files of a snapshot as Cassandra Medusa 0.31 stores them, written by its documented layout."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

ID = '0123456789abcdef0123456789abcdef'
EXCLUDED = ('manifest.json', 'schema.cql', 'cql.txt')  # which Medusa leaves out


def write_backup(
    root: Path, name: str, snapshots: dict[str, Sequence[Path]], *, started: int, differential: bool = False,
    finished: bool = True, factor: int | None = None, md5: str = 'hex',
) -> None:  # fmt: skip
    """Writes a backup of one table.

    Args:
      root: Where the bucket is, with its prefix.
      name: Name of the backup.
      snapshots: Node -> a folder of a snapshot, with the Data.db files that are this node's.
      started: Seconds since 1970.
      differential: Whether files are shared with other backups of the node.
      finished: Whether the last node has finished, too.
      factor: Replication factor; None for as many as there are nodes.
      md5: 'hex', or the form of what stands in its place: 'etag' of multipart uploads, 'encrypted'.
    """
    tokenmap = {
        node: {'tokens': [(i + 1) * 2**60], 'is_up': True, 'rack': 'r', 'dc': 'dc1'} for i, node in enumerate(snapshots)
    }
    for node, files in snapshots.items():
        schema = (files[0].parent / 'schema.cql').read_text()
        keyspace, table = schema.partition('CREATE TABLE IF NOT EXISTS ')[2].split(' ')[0].split('.')
        keyspace_cql = (
            f"CREATE KEYSPACE {keyspace} WITH replication = {{'class': 'SimpleStrategy', "
            f"'replication_factor': '{factor or len(snapshots)}'}}  AND durable_writes = true;\n\n"
            f'CREATE TABLE {keyspace}.other (k int PRIMARY KEY, n counter);\n\n'
        )
        meta = root / node / name / 'meta'
        index = root / 'index' / 'backup_index' / name
        folder = root / node / ('data' if differential else f'{name}/data') / keyspace / f'{table}-{ID}'
        for path in (meta, index, folder):
            path.mkdir(parents=True, exist_ok=True)
        (meta / 'server_version.json').write_text('{"server_type": "cassandra", "release_version": "5.0.8"}')
        for file, text in (('tokenmap', json.dumps(tokenmap)), ('schema', keyspace_cql + schema)):
            ending = 'json' if file == 'tokenmap' else 'cql'
            (meta / f'{file}.{ending}').write_text(text)
            (index / f'{file}_{node}.{ending}').write_text(text)
        (index / f'started_{node}_{started}.timestamp').write_text(str(started))
        if differential:
            (meta / 'differential').write_text('differential')
            (index / f'differential_{node}').write_text('differential')
        objects = []
        for data in files:
            for path in data.parent.glob(data.name.removesuffix('Data.db') + '*'):
                (folder / path.name).write_bytes(path.read_bytes())
                objects.append(
                    {
                        'path': str((folder / path.name).relative_to(root.parent)),  # with the prefix
                        'MD5': _sum(path.read_bytes(), md5),
                        'size': path.stat().st_size,
                    }
                )
        index_file = f'{folder.relative_to(root.parent)}/.by_value/nb-1-big-Data.db'
        objects.append({'path': index_file, 'MD5': '0' * 32, 'size': 1})
        if finished or node != list(snapshots)[-1]:
            text = json.dumps([{'keyspace': keyspace, 'columnfamily': f'{table}-{ID}', 'objects': objects}])
            (meta / 'manifest.json').write_text(text)
            (index / f'manifest_{node}.json').write_text(text)
            (index / f'finished_{node}_{started + 60}.timestamp').write_text(str(started + 60))


def _sum(content: bytes, form: str) -> str:
    md5 = hashlib.md5(content).hexdigest()
    return {'hex': md5, 'etag': f'{md5}-2', 'encrypted': hashlib.md5(content + b'key').hexdigest()}[form]
