"""SSTables of one table -> record batches, as a scan of the table would give them at a moment.

Rows come in the order of their tokens, keys and clustering. What several SSTables have of a row is merged by
Cassandra's rules: of each cell the newest write remains, unless a deletion of the cell, the row, a range, the partition
or the whole collection is as new; what expired before the moment is gone.
"""

from __future__ import annotations

import datetime
import itertools
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pyarrow as pa
from cassandra.cqltypes import Int32Type, LongType

from tfx_cassandra.components.cql import rows, types
from tfx_cassandra.components.cql.table import ttl_name, writetime_name
from tfx_cassandra.components.cql.types import DEFAULT, Decoding
from tfx_cassandra.components.errors import DatasetError, ReadError, SchemaError, invalid
from tfx_cassandra.components.sstable import data, layout
from tfx_cassandra.components.sstable.files import LocalFile, Ranges
from tfx_cassandra.components.sstable.layout import RING, Part
from tfx_cassandra.components.sstable.schema_file import SchemaFile
from tfx_cassandra.components.sstable.sstable import SSTable, Tokens, ranges_in_order
from tfx_cassandra.components.window import EPOCH, aware

BATCH_ROWS = 32_768
_BATCH_BYTES = 1 << 24  # of values
_THREADS = 16  # SSTables of an object store whose small files are read at a time
_NULL_TIME = np.iinfo(np.int64).min
_SECOND = datetime.timedelta(seconds=1)


class Reading:
    """SSTables of one table as record batches: iterate over it once.

    Args:
      schema: The table.
      sstables: Its SSTables: all that hold what is to be read, of one node or several.
      now: The moment at which the table is read: what has expired then is gone.
      columns: Names of the columns, in this order; None for all, keys first.
      writetimes: Names of columns outside of the primary key whose write times are wanted, each as an int64 column
        `writetime(column)` behind the others: microseconds since 1970, of the newest part of a collection.
      decoding: How to decode values that Arrow cannot represent.
      batch_rows: Rows of a record batch at most.
      tokens: Only partitions whose tokens are in this range `(start, end]`; None for the whole ring.
      owned: For each SSTable the ranges `(start, end]` of tokens that its node owned: what else it holds is left out,
        for other nodes hold it, and may know that it was deleted since. None for all, of one SSTable or of all of them.
      ttls: Names of columns outside of the primary key, of one cell each, whose times to live are wanted: each an int32
        column `ttl(column)` behind the write times, in seconds that remain; null for what does not expire.

    Attributes:
      schema: Arrow schema of the batches.
      counts: For each SSTable its partitions within `tokens` that have been read, owned or not, and their rows; a
        static row counts if it is not empty. Ranges that tile the ring have as many rows together as `statistics.rows`.
      bytes: Bytes of Data.db files that have been read.

    Raises:
      SchemaError: The table or an SSTable lacks a column, or a type has no Arrow form.
      ValueError: `now` has no time zone; a range of tokens is empty, or ranges overlap.
    """

    def __init__(
        self,
        schema: SchemaFile,
        sstables: Sequence[SSTable],
        now: datetime.datetime,
        columns: Sequence[str] | None = None,
        writetimes: Sequence[str] = (),
        decoding: Decoding = DEFAULT,
        batch_rows: int = BATCH_ROWS,
        *,
        tokens: Tokens | None = None,
        owned: Sequence[Sequence[Tokens] | None] | None = None,
        ttls: Sequence[str] = (),
    ) -> None:
        self._sstables, self._whole = list(sstables), tokens is None
        names = schema.table.readable if columns is None else tuple(columns)
        self.schema, self._kinds = _columns(schema, names, writetimes, ttls, decoding)
        parts = _parts(sstables, tokens, owned)
        self._files = [_Counted(sstable.files.ranges('Data.db')) for sstable in sstables]
        headers = [sstable.statistics.header for sstable in sstables]
        streams = [
            layout.stream_of(schema, one.statistics.header, one.files.version, one.name, part)
            for one, part in zip(sstables, parts, strict=True)
        ]
        feeds = [_feeder(*one) for one in zip(sstables, self._files, parts, strict=True)]
        moment = (aware('now', now) - EPOCH) // _SECOND
        plan = layout.plan_of(schema, headers, names, writetimes, ttls)
        self._merger = data.Merger(plan, streams, feeds, moment, batch_rows, _BATCH_BYTES)

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        for cells in self.cells():
            arrays = [self.decoded(i, column) for i, column in enumerate(cells)]
            yield pa.RecordBatch.from_arrays(arrays, schema=self.schema)

    def cells(self) -> Iterator[list[rows.Cells]]:
        """Yields the rows of each batch undecoded: their values by column, as a page of CQL has them."""
        while True:
            count, cells, times = self._merger.batch()
            if not count:
                break
            fields = list(self.schema)[len(cells) :]
            yield [*cells, *(_times(field, of_cells) for field, of_cells in zip(fields, times, strict=True))]
        if self._whole:
            self._check_counts()

    def decoded(self, place: int, cells: rows.Cells) -> pa.Array:
        """Returns the values of the column at a place.

        Raises:
          ReadError, DatasetError: A value is damaged or has no Arrow form; the message names the column.
        """
        try:
            return rows.decode(self._kinds[place], cells)
        except (ReadError, DatasetError) as error:
            raise type(error)(f'column {self.schema.names[place]}: {error}') from error

    @property
    def counts(self) -> list[tuple[int, int]]:
        """For each SSTable the numbers of partitions and rows that have been read of it; see above."""
        return self._merger.counts

    @property
    def bytes(self) -> int:
        """Bytes of Data.db files that have been read."""
        return sum(file.bytes for file in self._files)

    def _check_counts(self) -> None:
        """Checks that of each SSTable as many rows were read as its statistics name."""
        for sstable, (_, found) in zip(self._sstables, self._merger.counts, strict=True):
            if found != sstable.statistics.rows:
                raise ReadError(
                    f'{sstable.name}: got {found} rows, rule: {sstable.statistics.rows}, as its statistics say'
                )


def _columns(
    schema: SchemaFile, names: Sequence[str], writetimes: Sequence[str], ttls: Sequence[str], decoding: Decoding
) -> tuple[pa.Schema, list[rows.Kind]]:
    """Returns the schema of a reading's batches, and how to decode each of their columns."""
    kinds = [schema.driver_type(schema.table.type_of('columns', name)) for name in names]
    _check_cells(schema, writetimes, ttls)
    found = [types.kind_of(kind, decoding) for kind in kinds]
    found += [types.kind_of(kind) for kind in (*[LongType] * len(writetimes), *[Int32Type] * len(ttls))]
    times = [pa.field(writetime_name(name), pa.int64(), metadata={b'cql': b'bigint'}) for name in writetimes]
    times += [pa.field(ttl_name(name), pa.int32(), metadata={b'cql': b'int'}) for name in ttls]
    return pa.schema([*types.schema_of(names, kinds, decoding), *times]), found


def _parts(
    sstables: Sequence[SSTable], tokens: Tokens | None, owned: Sequence[Sequence[Tokens] | None] | None
) -> list[Part | None]:
    """Returns what is to be read of each SSTable."""
    if owned is not None and len(owned) != len(sstables):
        raise invalid('owned', len(owned), f'ranges of each of the {len(sstables)} SSTables')
    within = RING if tokens is None else ranges_in_order('tokens', [tokens])[0]
    ranges = owned or [None] * len(sstables)
    if tokens is None or all(isinstance(one.files.ranges('Data.db'), LocalFile) for one in sstables):
        return [one.part(within, own) for one, own in zip(sstables, ranges, strict=True)]
    with ThreadPoolExecutor(_THREADS) as threads:  # each waits for the store
        return list(threads.map(SSTable.part, sstables, itertools.repeat(within), ranges))


def _times(field: pa.Field, content: bytes) -> rows.Cells:
    """Returns write times or times to live, native integers of 64 bits, as values of CQL."""
    numbers = np.frombuffer(content, np.int64)
    width = field.type.bit_width // 8
    starts = np.arange(0, len(numbers) * width, width, np.int32)
    lengths = np.where(numbers == _NULL_TIME, -1, width).astype(np.int32)
    return rows.located(numbers.astype(f'>i{width}').tobytes(), starts, lengths)


class _Counted:
    """A file, and the number of its bytes that have been read."""

    def __init__(self, file: Ranges) -> None:
        self._file, self.size, self.bytes = file, file.size, 0

    def read(self, start: int, length: int) -> bytes:
        content = self._file.read(start, length)
        self.bytes += len(content)
        return content

    def in_order(self, end: int) -> _Counted:
        """Returns itself, which from now on reads in order, probably up to byte `end`."""
        self._file = self._file.in_order(end)
        return self


def _feeder(sstable: SSTable, file: Ranges, part: Part | None) -> Any:
    """Returns a function that returns the next bytes of an SSTable's data, and b'' at its end."""
    feed: list[Iterator[bytes]] = []

    def following() -> bytes:
        # It is opened when its first partition is due, so that memory holds only what is merged.
        if not feed:
            start = part.place.position if part and part.place else 0
            feed.append(sstable.feed(file, start, sstable.expected_end(part) if part else None))
        return next(feed[0], b'')

    return following


def _check_cells(schema: SchemaFile, writetimes: Sequence[str], ttls: Sequence[str]) -> None:
    keys = (*schema.table.partition_key, *schema.table.clustering)
    for column in ttls:
        cql_type = schema.table.type_of('ttls', column)
        if column in keys or cql_type == 'counter' or layout.shape_of_column(schema, cql_type) != 'simple':
            raise SchemaError(f'ttls: got {column!r}, rule: a column of one cell, no key, collection or counter')
    for column in writetimes:
        if column in keys or schema.table.type_of('writetimes', column) == 'counter':
            raise SchemaError(f'writetimes: got {column!r}, rule: a column with a write time, no key and no counter')
