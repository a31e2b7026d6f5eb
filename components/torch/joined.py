"""A training set as units of rows: joined once, by the pipeline of CassandraExampleGen, and then read from files.

    prepare   tables -> ReadTrainingSet (Beam): the same scans, join and audit -> pieces of rows in spool files
              -> manifest.json, written last: where each piece is, what was read, when labels had to be known
    read      piece by piece; a piece is a unit, and its CRC must be that of the manifest

So all epochs and all readers see the same rows, and memory grows with the pieces alone.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import hashlib
import json
import os
import zlib
from collections.abc import Iterator
from typing import Any

import pyarrow as pa

from tfx_cassandra.components.errors import DatasetError
from tfx_cassandra.components.scan.source import kept, source_of
from tfx_cassandra.components.torch.interleave import UnitRead
from tfx_cassandra.components.torch.sources import Rows
from tfx_cassandra.components.training_set.options import TrainingSetOptions

MANIFEST = 'manifest.json'
_FILES = 'rows'  # folder of the spool files
VERSION = 1


@dataclasses.dataclass(frozen=True)
class TrainingSetSource:
    """The rows of a training set.

    Attributes:
      settings: What is joined.
      folder: Where its rows are kept: a path or URI that all readers reach.
      columns: The columns wanted; None for all.
      beam_args: Options of the Beam pipeline that joins.
    """

    settings: TrainingSetOptions
    folder: str
    columns: tuple[str, ...] | None = None
    beam_args: tuple[str, ...] = ()

    @property
    def units(self) -> int:
        return len(self._manifest['pieces'])

    @property
    def digest(self) -> str:
        return hashlib.sha256(f'{self._joined}\n{self.columns}'.encode()).hexdigest()

    @property
    def _joined(self) -> str:
        """A hash of what is joined, from wherever it is read."""
        settings = {field.name: getattr(self.settings, field.name) for field in dataclasses.fields(self.settings)}
        keyspace = source_of(self.settings.origin).keyspace
        left_out = [name for name in ('connection', 'source') if name == 'connection' or settings[name] is None]
        named = {name: value for name, value in settings.items() if name not in left_out}
        return hashlib.sha256(repr((keyspace, named)).encode()).hexdigest()

    def describe(self, unit: int) -> str:
        return f'part {unit} of {self.folder}'

    def selecting(self, columns: tuple[str, ...]) -> TrainingSetSource:
        return dataclasses.replace(self, columns=columns)

    def prepare(self) -> None:
        """Joins the training set, unless the folder holds it already.

        Raises:
          DatasetError: The folder holds another training set, or a feature exceeds a limit of the audit.
          SchemaError, ReadError, CoverageError: The tables could not be read.
        """
        if _exists(os.path.join(self.folder, MANIFEST)):
            _ = self._manifest  # checks whose it is
            return
        from tfx_cassandra.components.torch import joining  # brings Beam along, which a reader does not need

        with kept(self.settings.origin):
            joining.join(self.settings, self.folder, os.path.join(self.folder, _FILES), self._joined, self.beam_args)

    @functools.cached_property
    def _manifest(self) -> dict[str, Any]:
        path = os.path.join(self.folder, MANIFEST)
        if not _exists(path):
            rule = 'a training set that was prepared: call prepare() once, before any worker starts'
            raise DatasetError(f'folder: got {self.folder!r} without {MANIFEST}, rule: {rule}')
        manifest: dict[str, Any] = json.loads(read_file(path))
        if (manifest['version'], manifest['joined']) != (VERSION, self._joined):
            raise DatasetError(f'folder: got {self.folder!r} with another training set, rule: a folder of its own')
        return manifest

    def report(self) -> dict[str, Any]:
        """Returns what was joined: rows, window, when labels had to be known, tables read, and the audit."""
        shown = ('rows', 'window', 'labels_known_at', 'columns', 'tables', 'audit')
        return {name: self._manifest[name] for name in shown}

    @contextlib.contextmanager
    def open(self) -> Iterator[_OpenTrainingSet]:
        yield _OpenTrainingSet(self._manifest, self.columns)


class _OpenTrainingSet:
    def __init__(self, manifest: dict[str, Any], columns: tuple[str, ...] | None) -> None:
        self._pieces, self._columns = manifest['pieces'], columns
        names = manifest['columns']
        if unknown := [name for name in columns or () if name not in names]:
            raise DatasetError(f'columns: got {unknown}, rule: columns of the training set ({", ".join(names)})')
        self.rows = Rows(manifest['id'], frozenset(manifest['required']), frozenset(manifest['decimals']))

    def read(self, unit: int) -> Iterator[pa.RecordBatch | UnitRead]:
        from tfx_cassandra.components.dataset.files import spool

        path, offset, size, rows, crc = self._pieces[unit]
        (content,) = spool.read([spool.Place(path, offset, size)])
        if zlib.crc32(content) != crc:
            raise DatasetError(f'{path}: got other content at {offset}, rule: what was joined')
        for batch in pa.ipc.open_stream(content):
            yield batch if self._columns is None else _selected(batch, self._columns)
        yield UnitRead(unit, rows, rows, size, crc)

    def check(self) -> None:
        """Does nothing: each piece was checked when it was read."""


def _selected(batch: pa.RecordBatch, columns: tuple[str, ...]) -> pa.RecordBatch:
    return pa.RecordBatch.from_arrays([batch.column(batch.schema.get_field_index(c)) for c in columns], list(columns))


def _exists(path: str) -> bool:
    from apache_beam.io.filesystems import FileSystems

    found: bool = FileSystems.exists(path)
    return found


def read_file(path: str) -> bytes:
    """Returns the content of a file."""
    from apache_beam.io.filesystem import CompressionTypes
    from apache_beam.io.filesystems import FileSystems

    with FileSystems.open(path, compression_type=CompressionTypes.UNCOMPRESSED) as file:
        content: bytes = file.read()
    return content


__all__ = ['MANIFEST', 'TrainingSetSource']
