"""Pages as they arrive: undecoded bodies of ROWS results, and how they become record batches.

The driver parses a result where its socket thread stands. `RawHandler` makes it keep the body instead, so that
whoever takes a page decodes it.
"""

from __future__ import annotations

import bisect
import functools
import struct
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
from cassandra.metadata import Murmur3Token
from cassandra.protocol import ResultMessage, _ProtocolHandler, read_int

from tfx_cassandra.components.cql import rows, types
from tfx_cassandra.components.errors import DatasetError
from tfx_cassandra.components.scan.area import Position
from tfx_cassandra.components.scan.query import Scan


class Page(NamedTuple):
    """One undecoded page.

    Attributes:
      body: The body of the result message.
      offset: Where the first row begins in it.
      rows: Number of rows; the last one ends where the body ends.
      names: Column names.
      kinds: The columns' types, as the driver's classes.
    """

    body: bytes
    offset: int
    rows: int
    names: tuple[str, ...]
    kinds: tuple[Any, ...]


class Keys(NamedTuple):
    """Where in a result the partition key's columns stand, in their order, and the column a partition is sliced by."""

    partition: tuple[int, ...]
    time: int | None
    descending: bool = False


class Decoded(NamedTuple):
    """A decoded page.

    Attributes:
      content: Record batch of shape (rows, columns).
      checksum: Sum over its rows of a 64-bit hash of the row's bytes, modulo 2^64.
      size: Size of the page in bytes.
      first, last: Where the first row stands, and how far the rows have come; None where there are no rows or keys were
        not asked for.
      last_key: The partition key of the last row, as its columns came.
    """

    content: Any
    checksum: int
    size: int = 0
    first: Position | None = None
    last: Position | None = None
    last_key: tuple[bytes, ...] | None = None


class _RawResult(ResultMessage):
    """A result whose rows stay as they came."""

    def recv_results_rows(self, f: Any, protocol_version: int, user_type_map: Any, metadata: Any, _: Any) -> None:
        self.recv_results_metadata(f, user_type_map)
        columns = self.column_metadata or metadata
        self.column_names = [column[2] for column in columns]
        self.column_types = [column[3] for column in columns]
        count = read_int(f)
        self.parsed_rows = Page(f.getvalue(), f.tell(), count, tuple(self.column_names), tuple(self.column_types))


class RawHandler(_ProtocolHandler):
    """The driver's protocol, but with undecoded rows."""

    message_types_by_opcode = {**_ProtocolHandler.message_types_by_opcode, ResultMessage.opcode: _RawResult}


def raw_rows(names: Any, page: Page) -> list[Page]:
    """The row factory that goes with RawHandler: a result is a list of its one page."""
    return [page]


def key_columns(scan: Scan) -> Keys:
    """Returns where a scan's results have the columns that tell how far it has come."""
    time = None if scan.sliced_column is None else scan.index(scan.sliced_column)
    return Keys(tuple(map(scan.index, scan.table.partition_key)), time, scan.table.descending)


def decode(page: Page, keys: Keys | None = None) -> Decoded:
    """Turns a page into a record batch.

    Args:
      page: The page.
      keys: Where its keys stand, for the positions of its first and last row; None if they are not wanted.

    Raises:
      ReadError: The page is damaged.
      DatasetError: A varint does not fit 64 bits; the message names the column.
    """
    schema, kinds = _decoders(page.names, page.kinds)
    cells, checksum = rows.cells(page.body, page.offset, page.rows, len(kinds))
    arrays = []
    for name, kind, column in zip(page.names, kinds, cells, strict=True):
        try:
            arrays.append(rows.decode(kind, column))
        except DatasetError as error:
            raise DatasetError(f'column {name}: {error}') from error
    batch = pa.RecordBatch.from_arrays(arrays, schema=schema)
    if keys is None or not page.rows:
        return Decoded(batch, checksum, len(page.body))
    last_key = tuple(cells[i].value(page.rows - 1) or b'' for i in keys.partition)
    return Decoded(batch, checksum, len(page.body), *_positions(batch, cells, keys), last_key)


def _positions(batch: pa.RecordBatch, cells: list[rows.Cells], keys: Keys) -> tuple[Position, Position]:
    """Returns where the first row stands, and how far the rows have come; there is a row at least."""

    def token_at(row: int) -> int:
        return token_of([cells[i].value(row) or b'' for i in keys.partition])

    first, last = token_at(0), token_at(batch.num_rows - 1)
    if keys.time is None:
        return Position(first, None), Position(last, None)
    times = batch.column(keys.time)
    # Rows come by token. Those of the last one may be of two partitions, of which the first one went further.
    of_last = times.slice(0 if first == last else bisect.bisect_left(range(batch.num_rows), last, key=token_at))
    furthest = pc.min_max(of_last)['min' if keys.descending else 'max']
    return Position(first, times[0].value), Position(last, furthest.value)


def token_of(key: list[bytes]) -> int:
    """Returns the Murmur3 token of a partition key, given the values of its columns as they are stored.

    A key of several columns is hashed as org.apache.cassandra.db.marshal.CompositeType lays it out: of each value its
    length in two bytes, itself, and a zero byte.
    """
    whole = key[0] if len(key) == 1 else b''.join(struct.pack('>H', len(v)) + v + b'\0' for v in key)
    return Murmur3Token.hash_fn(whole)


@functools.lru_cache(maxsize=256)
def _decoders(names: tuple[str, ...], kinds: tuple[Any, ...]) -> tuple[pa.Schema, list[rows.Kind]]:
    return types.schema_of(names, kinds), [types.kind_of(kind) for kind in kinds]
