"""The folder of a snapshot of a table: what its manifest says, and its SSTables."""

from __future__ import annotations

import datetime
import json
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from tfx_cassandra.components.errors import ReadError
from tfx_cassandra.components.sstable import schema_file
from tfx_cassandra.components.sstable.files import local_files
from tfx_cassandra.components.sstable.schema_file import SchemaFile
from tfx_cassandra.components.sstable.sstable import SSTable, open_sstable

MANIFEST, SCHEMA = 'manifest.json', 'schema.cql'


class Manifest(NamedTuple):
    """What a snapshot's manifest says: the names of its Data.db files, and its moment (Cassandra 4.1 and later)."""

    files: list[str]
    created_at: datetime.datetime | None


def manifest(content: bytes, name: str) -> Manifest:
    """Parses a manifest.json; `name` is that of the file, for messages.

    Raises:
      ReadError: It is damaged.
    """
    try:
        values = json.loads(content)
        # What lies in a folder of its own belongs to an index.
        listed = sorted(file for file in _texts(values['files']) if '/' not in file)
        text = values.get('created_at')
        return Manifest(listed, None if text is None else _moment(text))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ReadError(f'{name}: got {error!r}, rule: the manifest of a snapshot') from error


def open_snapshot(folder: Path) -> tuple[SchemaFile, list[SSTable]]:
    """Returns the table and the SSTables of a folder that `nodetool snapshot` has made: those that its manifest lists.

    Raises:
      ReadError: The folder has no manifest.json or schema.cql, lacks a file, or an SSTable is damaged.
      SchemaError: schema.cql is not that of a table that can be read.
    """
    for name in (MANIFEST, SCHEMA):
        if not (folder / name).is_file():
            rule = 'the folder of a snapshot, not one that Cassandra writes to'
            raise ReadError(f'{folder}: got no {name}, rule: {rule}')
    listed = manifest((folder / MANIFEST).read_bytes(), str(folder / MANIFEST)).files
    sstables = [open_sstable(local_files(folder / name)) for name in listed]
    schema = schema_file.parse((folder / SCHEMA).read_text('utf-8'))
    names = {name for sstable in sstables for name in sstable.statistics.header.types}
    return schema_file.completed(schema, sorted(names)), sstables


def _texts(values: Iterable[object]) -> list[str]:
    if not all(isinstance(value, str) for value in values):
        raise TypeError('files that are not texts')
    return [str(value) for value in values]


def _moment(text: str) -> datetime.datetime:
    """Parses a moment of UTC such as 2026-01-01T00:00:00.123Z."""
    digits, _, fraction = text.removesuffix('Z').partition('.')
    moment = datetime.datetime.strptime(digits, '%Y-%m-%dT%H:%M:%S').replace(tzinfo=datetime.timezone.utc)
    return moment + datetime.timedelta(microseconds=int(fraction[:6].ljust(6, '0')))
