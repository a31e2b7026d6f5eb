"""Parquet and Arrow files -> records: batches of typed columns."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tfx_cassandra.components.dataset.files.gather import gathered
from tfx_cassandra.components.errors import InputError
from tfx_cassandra.components.ingest.inputs import Input, Stream
from tfx_cassandra.components.ingest.records import START, Position, Records

BATCH = 20_000  # rows that are written at once
_FILE_MAGIC = b'ARROW1'


class BatchReader:
    """Reads the rows of a Parquet or Arrow file.

    Args:
      path: Its path, for messages.
      schema: The schema of its rows.
      batches: Gives its batches: of the wanted columns, without so many first rows as it can easily skip; yields
        (number of the rows before the batch, batch).
      share: How much has been read after so many rows, from 0 to 1; None if that is not known.
    """

    def __init__(
        self,
        path: str,
        schema: pa.Schema,
        batches: Callable[[Sequence[str], int], Iterable[tuple[int, pa.RecordBatch]]],
        share: Callable[[int], float | None],
    ) -> None:
        self._path, self.schema, self._batches, self._share = path, schema, batches, share
        self.fields = list(schema.names)

    def read(self, wanted: Sequence[str], start: Position = START) -> Iterator[Records]:
        """Yields the records behind a place that an earlier run has reached, as typed columns.

        Raises:
          InputError: The file is damaged.
        """
        after = start.records
        try:
            for before, batch in self._batches(wanted, start.records):
                for first in range(max(start.records - before, 0), batch.num_rows, BATCH):
                    piece = batch.slice(first, BATCH)
                    after = before + first + piece.num_rows
                    numbers = np.arange(before + first, after) + 1
                    columns = {name: piece.column(piece.schema.get_field_index(name)) for name in wanted}
                    yield Records(columns, numbers, None, [], Position(after), self._share(after))
        except (pa.ArrowException, OSError) as error:
            reason = ' '.join(str(error).split())[:200]
            rule = f'a whole file ({reason})'
            raise InputError(f'{self._path}: got an error after row {after:,}, rule: {rule}') from error


def parquet(path: str, file: Any) -> BatchReader:
    """Opens a Parquet file; raises InputError if it is none."""
    try:
        opened = pq.ParquetFile(file)
    except (pa.ArrowException, OSError) as error:
        raise _no_file(path, 'Parquet', error) from error
    sizes = [opened.metadata.row_group(i).num_rows for i in range(opened.metadata.num_row_groups)]
    total = max(sum(sizes), 1)

    def batches(wanted: Sequence[str], skipped: int) -> Iterator[tuple[int, pa.RecordBatch]]:
        first, before = 0, 0
        while first < len(sizes) and before + sizes[first] <= skipped:
            before, first = before + sizes[first], first + 1
        groups = list(range(first, len(sizes)))
        for batch in opened.iter_batches(BATCH, row_groups=groups, columns=list(wanted)) if groups else ():
            yield before, batch
            before += batch.num_rows

    return BatchReader(path, opened.schema_arrow, batches, lambda after: after / total)


def arrow(source: Input, stream: Stream, file: Any) -> BatchReader:
    """Opens an Arrow file or stream; raises InputError if it is neither.

    Args:
      source: The input.
      stream: It, opened: an Arrow stream is read from here.
      file: The file that an Arrow file is read from; None for an Arrow stream.
    """
    try:
        opened: Any = pa.ipc.open_stream(pa.PythonFile(_Taken(stream), 'r')) if file is None else pa.ipc.open_file(file)
    except (pa.ArrowException, OSError) as error:
        raise _no_file(source.path, 'Arrow', error) from error

    count = 0 if file is None else opened.num_record_batches
    shares = [0.0]

    def selected(wanted: Sequence[str]) -> Iterator[pa.RecordBatch]:
        each = opened if file is None else (opened.get_batch(i) for i in range(count))
        for number, batch in enumerate(each):
            shares[0] = (number + 1) / max(count, 1)
            columns = [batch.column(batch.schema.get_field_index(name)) for name in wanted]
            yield pa.RecordBatch.from_arrays(columns, list(wanted))

    def batches(wanted: Sequence[str], skipped: int) -> Iterator[tuple[int, pa.RecordBatch]]:
        before = 0
        # Rows of one partition are written together only where they are in one batch.
        for batch in gathered(selected(wanted), BATCH):
            yield before, batch
            before += batch.num_rows

    return BatchReader(source.path, opened.schema, batches, lambda _: shares[0] if count else stream.share)


def is_arrow_file(stream: Stream) -> bool:
    """Says whether a stream begins as an Arrow file does, which has to be sought in."""
    return stream.peek(len(_FILE_MAGIC)) == _FILE_MAGIC


class _Taken:
    """The decompressed bytes of a stream, as a file that Arrow reads."""

    closed = False

    def __init__(self, stream: Stream) -> None:
        self._stream = stream

    def read(self, size: int = -1) -> bytes:
        parts = []
        while size and (data := self._stream.take(size if size > 0 else 1 << 22)):
            parts.append(data)
            size -= len(data) if size > 0 else 0
        return b''.join(parts)

    def close(self) -> None:
        self.closed = True


def _no_file(path: str, kind: str, error: Exception) -> InputError:
    return InputError(f'{path}: got another content, rule: a whole {kind} file ({" ".join(str(error).split())[:200]})')
