"""Record batches -> files of one format, in a folder that appears only when it is complete."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.parquet as pq

from tfx_cassandra.components.dataset.files import examples
from tfx_cassandra.components.dataset.files.encode import encode
from tfx_cassandra.components.errors import invalid

FORMATS = ('parquet', 'arrow', 'tfrecord', 'count')
_GROUP_BYTES = 64 << 20  # in memory, of a Parquet row group
_FILE_ROWS = 20_000_000  # of one file


class Writer(Protocol):
    """Takes record batches of one schema; `close` completes the file."""

    def write(self, batch: pa.RecordBatch) -> None: ...
    def close(self) -> None: ...


@contextlib.contextmanager
def folder(path: Path) -> Iterator[Path]:
    """Gives a folder to write into that becomes `path` when the block ends, and is removed if it fails.

    Raises:
      ValueError: `path` exists and is no empty folder, or its parent is no folder.
    """
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise invalid('out', str(path), 'a folder that does not exist yet or is empty')
    if not path.absolute().parent.is_dir():
        raise invalid('out', str(path), 'inside a folder that exists')
    partial = path.absolute().parent / f'.{path.name}.{uuid.uuid4().hex[:8]}.partial'
    partial.mkdir()
    try:
        yield partial
        os.replace(partial, path)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


class Files:
    """Writes batches to numbered files of a format.

    Args:
      target: Folder for the files.
      kind: 'parquet', 'arrow' or 'tfrecord'.
      schema: Schema of every batch.
    """

    def __init__(self, target: Path, kind: str, schema: pa.Schema) -> None:
        self._target, self._kind, self._schema = target, kind, schema
        self._writer = self._next(0)
        self._rows, self._number = 0, 0

    def write(self, batch: pa.RecordBatch) -> None:
        if self._rows >= _FILE_ROWS:
            self._writer.close()
            self._rows, self._number = 0, self._number + 1
            self._writer = self._next(self._number)
        self._writer.write(batch)
        self._rows += batch.num_rows

    def close(self) -> None:
        self._writer.close()

    def _next(self, number: int) -> Writer:
        if self._kind == 'parquet':
            return _Parquet(self._target / f'part-{number:05d}.parquet', self._schema)
        if self._kind == 'arrow':
            return _Arrow(self._target / f'part-{number:05d}.arrow', self._schema)
        return _Examples(self._target / f'data_tfrecord-{number:05d}.gz', self._schema)


class _Parquet:
    """Gathers batches to row groups of a size that readers like.

    Texts and bytes have dictionaries, for they often repeat; numbers and times seldom do, and only cost the attempt.
    """

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        self._writer, self._schema = pq.ParquetWriter(path, schema, use_dictionary=_texts(schema)), schema
        self._gathered: list[pa.RecordBatch] = []
        self._bytes = 0

    def write(self, batch: pa.RecordBatch) -> None:
        self._gathered.append(batch)
        self._bytes += batch.nbytes
        if self._bytes >= _GROUP_BYTES:
            self._flush()

    def close(self) -> None:
        self._flush()
        self._writer.close()

    def _flush(self) -> None:
        table = pa.Table.from_batches(self._gathered, self._schema)
        self._gathered, self._bytes = [], 0
        if table.num_rows:
            self._writer.write_table(table, row_group_size=table.num_rows)


def _texts(schema: pa.Schema) -> list[str]:
    """Returns the paths of the columns, parts of nested ones too, that hold texts or bytes."""
    empty = pa.BufferOutputStream()
    pq.write_table(schema.empty_table(), empty)
    columns = pq.ParquetFile(pa.BufferReader(empty.getvalue())).schema
    return [column.path for column in columns if column.physical_type == 'BYTE_ARRAY']


class _Arrow:
    def __init__(self, path: Path, schema: pa.Schema) -> None:
        self._writer = pa.ipc.new_file(str(path), schema)

    def write(self, batch: pa.RecordBatch) -> None:
        self._writer.write_batch(batch)

    def close(self) -> None:
        self._writer.close()


class _Examples:
    """Gzipped TFRecords of tf.Example, each column a feature of its name."""

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        self._kinds = {
            field.name: examples.kind_of(
                'columns', field.name, field.metadata[b'cql'].decode(), varints_as_text='string' in str(field.type)
            )
            for field in schema
        }
        self._file: Any = path.open('wb')

    def write(self, batch: pa.RecordBatch) -> None:
        # TensorFlow takes a gzip member without content for the end of the file.
        if batch.num_rows:
            self._file.write(examples.compressed(encode(batch, self._kinds).buffer))

    def close(self) -> None:
        if not self._file.tell():
            self._file.write(examples.compressed(b''))
        self._file.close()


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Writes a dictionary as a JSON file for people."""
    path.write_text(json.dumps(content, indent=2) + '\n')
